"""Runs the compiler, and leaves torch as it was, also when interrupted."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch._functorch import config as of_graphs
from torch._inductor import config as of_inductor
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack, _pop_mode

from fvfast.engine.borrowing.interrupts import let_interrupts_through, opened
from fvfast.engine.compiled.inductor import Compile
from fvfast.engine.compiled.network import CompiledNetwork
from fvfast.engine.compiled.tracing import trace_pass
from fvfast.engine.locks import free_after_fork
from fvfast.engine.passes import Network

_PATIENCE = 0.1  # seconds after which a thread that waits for the compiler looks for an interrupt


class _Turn:
    """Only one thread records and compiles at a time: both change settings of the whole process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        free_after_fork(self)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn; Ctrl-C ends the wait."""
        lock = self._lock
        while not lock.acquire(timeout=_PATIENCE):
            let_interrupts_through()
        try:
            yield
        finally:
            lock.release()


_TURN = _Turn()


def compile_network(network: Network, views: torch.Tensor, compiler: Compile) -> CompiledNetwork:
    """Record a pass through a network and compile it.

    Parameters
    ----------
    network
        Maps views to outputs of layers.
    views
        (B, C, h, w), of the shape, type and memory format of all later ones.
    compiler
        Compiles a graph.

    Raises
    ------
    Exception
        Whatever torch raises where it can record or compile something not.
    KeyboardInterrupt
        The user interrupts.
    """
    with _TURN.taken(), compiler_state_kept(), torch.no_grad():
        traced = trace_pass(network, views)
        examples = [views.detach(), *traced.constants]
        forward = opened(compiler, _bare(traced.forward), examples)
        results = forward(*examples)
        kept = results[len(traced.cotangents) :]
        backward = opened(compiler, _bare(traced.backward), [*kept, *traced.cotangents])
    return CompiledNetwork(forward, backward, traced.constants, traced.cotangents, traced.places)


@contextlib.contextmanager
def compiler_state_kept() -> Iterator[None]:
    """Restore what an interrupt at any moment could leave changed: modes, methods and settings."""
    modes = len(_get_current_dispatch_mode_stack())
    methods = nn.Module.__call__, nn.Module.__getattr__
    settings = _settings()
    try:
        yield
    except KeyboardInterrupt:
        for config, before in settings:
            config.load_config(before)
        raise
    finally:
        while len(stack := _get_current_dispatch_mode_stack()) > modes:
            _end_mode(stack[-1])
        if (nn.Module.__call__, nn.Module.__getattr__) != methods:
            nn.Module.__call__, nn.Module.__getattr__ = methods  # type: ignore[method-assign]


def _end_mode(mode: Any) -> None:
    key = getattr(mode, "_mode_key", None)
    if key is None:
        _pop_mode()
    else:
        torch._C._unset_dispatch_mode(key)


def _settings() -> list[tuple[Any, dict[str, Any]]]:
    def copy(config: Any) -> dict[str, Any]:
        old = not hasattr(config, "get_config_copy")  # before torch 2.6
        settings: dict[str, Any] = config.shallow_copy_dict() if old else config.get_config_copy()
        return settings

    return [(one, copy(one)) for one in (of_graphs, of_inductor)]


def _bare(graph: fx.GraphModule) -> fx.GraphModule:
    """Remove what belongs to the recording from a graph: the compiler finds it out for itself."""
    for node in graph.graph.nodes:
        node.meta.clear()
    graph.recompile()
    return graph
