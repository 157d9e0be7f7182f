"""Connects to a Ray cluster, or starts one on this machine."""

import contextlib
import importlib
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

LOCAL = "local"
"""Starts a cluster on this machine, and ends it."""

_CPUS_BESIDE_A_GPU = 4  # enough to encode pictures
_PATIENCE = 10.0  # seconds for a machine to answer


# Ray replaces 127.0.0.1 by the address that other machines see, except where this is off: that is
# meant for systems on which it has no clusters. Read when Ray is imported.
_REACHABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


class ActorShares(NamedTuple):
    """How many actors there are, and what each of them gets.

    Attributes
    ----------
    actors
        How many.
    gpus, cpus
        Of each. Ray takes the whole part of the processors for the number of threads.
    """

    actors: int
    gpus: float
    cpus: float


def shares_of(
    nodes: Sequence[Mapping[str, float]], workers: int | None, gpus: float | None
) -> ActorShares:
    """Share a cluster between actors.

    Parameters
    ----------
    nodes
        The resources of each machine, as Ray names them.
    workers
        How many actors; None for one on each GPU, or else on each machine.
    gpus
        GPUs of an actor; None for 1 if there are any.

    Raises
    ------
    ValueError
        No machine has as many GPUs as one actor needs.
    """
    there = [node.get("GPU", 0.0) for node in nodes]
    each = float(any(there)) if gpus is None else gpus
    if each > max(there, default=0.0):
        raise ValueError(
            f"--gpus-per-worker is {each:g}, but no machine of the cluster has more than "
            f"{max(there, default=0.0):g} GPUs."
        )
    if workers is None:
        # An actor has its GPUs on one machine.
        workers = sum(math.floor(found / each) for found in there) if each else len(nodes)
    workers = max(1, workers)
    cpus = sum(node.get("CPU", 0.0) for node in nodes)
    share = cpus / workers
    if each:
        share = min(share, _CPUS_BESIDE_A_GPU)
    return ActorShares(workers, each, math.floor(share) if share >= 1 else share)


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
