"""Runs a pass as a capture would run it, to find what would make the capture fail.

A failed capture cannot be cleaned up (`fvfast.engine.captures`), so each pass is tried first.
"""

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import TMonitor

from fvfast.engine.captures import CAPTURES

Pass: TypeAlias = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Maps views (B, C, h, w) to scores (N,) and the gradient of the views (B, C, h, w)."""

Results = TypeVar("Results", bound=tuple[torch.Tensor, ...])

_aten = torch.ops.aten
_COPIES = (_aten._to_copy.default, _aten.copy_.default)
_INDEXING = (
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
)


def rehearse(run: Callable[[], Results], device: torch.device) -> tuple[Results, str]:
    """Run something on the stream of captures, and look for what a graph cannot contain.

    Parameters
    ----------
    run
        What a graph shall contain. Returns tensors.
    device
        Where it runs.

    Returns
    -------
    results
        What it returned.
    obstacle
        Why it cannot be captured; empty if no reason was found.

    Raises
    ------
    RuntimeError
        It waits for the GPU, or fails.

    Notes
    -----
    torch can turn all waiting into an error (``torch.cuda.set_sync_debug_mode("error")``), but only
    for all threads at once: a thread that has nothing to do with fvfast would fail. So that is done
    only if there is no other thread. Otherwise the operations of this thread and of its backward
    pass are checked one by one, which misses waits inside an operation, such as an extension's.
    """
    random_state = _generator(device).get_state()
    watch = WaitWatch()
    with _on_capture_stream(device), _waiting_raises(device) if is_only_thread() else watch:
        results = run()
    for result in results:
        if result.device.type == "cuda":
            # The memory belongs to the capture stream, which could otherwise reuse it too early.
            result.record_stream(torch.cuda.current_stream(device))
    if watch.obstacle:
        return results, watch.obstacle
    if not torch.equal(random_state, _generator(device).get_state()):
        return results, "it draws random numbers"
    return results, ""


def is_only_thread() -> bool:
    """Whether no other Python thread could wait for a GPU."""
    return all(
        # The thread of tqdm's progress bars only looks at the clock.
        thread is threading.current_thread() or isinstance(thread, TMonitor)
        for thread in threading.enumerate()
    )


class WaitWatch(TorchDispatchMode):
    """Looks for operations of this thread that make the CPU wait for the GPU.

    Attributes
    ----------
    obstacle
        Describes the first such operation; empty while there is none.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.obstacle = ""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation."""
        result = func(*args, **(kwargs or {}))
        if not self.obstacle and _waits(func, args, result):
            self.obstacle = f"it waits for the GPU in {func}"
        return result


def _waits(operation: Any, args: tuple[Any, ...], result: Any) -> bool:
    if operation in _INDEXING:
        # The size of the result of a mask is read from the GPU; indices on the CPU are copied.
        return any(
            index.dtype in (torch.bool, torch.uint8) or index.device != args[0].device
            for index in args[1]
            if index is not None
        )
    if operation in _COPIES:
        other = args[1] if operation is _aten.copy_.default else result
        return bool(args[0].device.type != other.device.type)
    if operation is _aten.lift_fresh.default:  # the last step of torch.tensor(numbers, device=...)
        return bool(result.device.type != "cpu")
    tags = operation.tags
    return torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags


@contextlib.contextmanager
def _waiting_raises(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls this mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextlib.contextmanager
def _on_capture_stream(device: torch.device) -> Iterator[None]:
    """Run a ``with`` block on the stream of captures, ordered with the current stream."""
    if device.type != "cuda":
        yield
        return
    outside = torch.cuda.current_stream(device)
    with CAPTURES.on_stream(device):
        inside = torch.cuda.current_stream(device)
        inside.wait_stream(outside)
        try:
            yield
        finally:
            outside.wait_stream(inside)


def _generator(device: torch.device) -> torch.Generator:
    """Return the generator that functions of torch draw from."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index]
    return torch.default_generator
