"""Finds what a network reads from tensors while it is recorded, since code would have it for ever.

torch refuses to record some of it (`Tensor.item`), unless the network catches the error. It does
not see what numpy reads, or how many numbers a mask selects.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten
_OUT_OF_TORCH = {
    torch.Tensor.numpy: "numpy",
    torch.Tensor.__array__: "numpy",
    torch.Tensor.tolist: "tolist",
    torch.Tensor.__dlpack__: "__dlpack__",
}
_DATA = torch.Tensor.data.__get__  # type: ignore[attr-defined]


class ReadsNumbersError(RuntimeError):
    """The network reads numbers that are others in the next pass."""


@contextlib.contextmanager
def reads_refused() -> Iterator[None]:
    """Record what is run within, but nothing that depends on the numbers in the images.

    Raises
    ------
    ReadsNumbersError
        A number was read that depends on an input of the recorded function, or that torch has
        refused to read.
    """
    found: list[str] = []
    try:
        with _FunctionWatch(found), _OperationWatch(found):
            yield
    except Exception as error:
        if found:
            raise ReadsNumbersError(_message(found)) from error
        raise
    if found:
        raise ReadsNumbersError(_message(found))


def _message(found: list[str]) -> str:
    return f"the network reads numbers from tensors ({found[0]})"


class _FunctionWatch(TorchFunctionMode):
    """Notes what leaves torch, and records what `Tensor.data` would hide from the recording."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch."""
        if func == _DATA:
            return args[0].detach() if _depends_on_inputs(args[0]) else func(*args)
        if func in _OUT_OF_TORCH and _depends_on_inputs(args[0]):
            self._found.append(f"Tensor.{_OUT_OF_TORCH[func]}")
        return func(*args, **(kwargs or {}))


class _OperationWatch(TorchDispatchMode):
    """Notes operations whose result is a number, or has a shape that depends on numbers."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation."""
        reads = _reads(func, args)
        if reads and any(map(_depends_on_inputs, tree_leaves((args, kwargs)))):
            self._found.append(str(func))
        try:
            return func(*args, **(kwargs or {}))
        except RuntimeError:
            if reads:
                self._found.append(str(func))
            raise


def _reads(operation: Any, args: tuple[Any, ...]) -> bool:
    if operation is _aten.index.Tensor:  # where a mask decides how many numbers there are
        masks = (torch.bool, torch.uint8)
        return any(index is not None and index.dtype in masks for index in args[1])
    tags = operation.tags
    return torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags


def _depends_on_inputs(value: Any) -> bool:
    """Whether a tensor was computed from an input of the function that is being recorded."""
    # Here, because it takes seconds, which a run that compiles nothing saves.
    from torch.fx.experimental.proxy_tensor import get_innermost_proxy_mode, get_proxy_slot

    mode = get_innermost_proxy_mode()
    if mode is None or not isinstance(value, torch.Tensor):
        return False
    slot: Any = get_proxy_slot(value, mode.tracer, None)
    if slot is None:
        return False
    seen = {slot.proxy.node}
    nodes = [slot.proxy.node]
    while nodes:
        node = nodes.pop()
        if node.op == "placeholder":
            return True
        new = set(node.all_input_nodes) - seen
        seen |= new
        nodes += new
    return False
