"""Connects to a Ray cluster, or starts one on this machine."""

import contextlib
import importlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

LOCAL = "local"
"""Starts a cluster on this machine, and ends it."""

_PATIENCE = 10.0  # seconds for a machine to answer


# Ray replaces 127.0.0.1 by the address that other machines see, except where this is off: that is
# meant for systems on which it has no clusters. Read when Ray is imported.
_REACHABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def import_ray(address: str) -> Any:
    """Return the package.

    Parameters
    ----------
    address
        Where it is going to connect to.

    Raises
    ------
    ImportError
        It is not installed.
    """
    if address == LOCAL:
        os.environ.setdefault(_REACHABLE, "0")
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ImportError("Ray is not installed; run: pip install 'fvfast[ray]'") from error


@contextlib.contextmanager
def connected(ray: Any, address: str) -> Iterator[bool]:
    """Be connected to a cluster; a Ray that is initialized already is used as it is.

    Yields
    ------
    is_ours
        Whether the cluster was started here.

    Raises
    ------
    ConnectionError
        There is no such cluster.
    """
    if ray.is_initialized():
        yield False
        return
    _check_address(address)
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
    if address == LOCAL:
        # Nothing outside this machine reaches it.
        settings |= {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
    try:
        with _own_signals():
            ray.init(address=address, **settings)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise ConnectionError(_no_cluster(address, error)) from error
    try:
        yield address == LOCAL
    finally:
        with _own_signals():
            ray.shutdown()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces by one that ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _check_address(address: str) -> None:
    """Find out whether anything listens at HOST:PORT, for which Ray would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(_no_cluster(address, error)) from error


def _no_cluster(address: str, error: Exception) -> str:
    return (
        f"there is no Ray cluster at {address!r} that can be used ({error}). Give --ray the "
        "address that `ray status` shows, auto for the cluster of this machine, or local to start "
        "one here."
    )
