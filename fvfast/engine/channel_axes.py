"""Finds which axis of an output holds the channels, from the functions that made or read it.

A convolution makes channels on the axis behind the batch, a linear layer or a layer normalisation
on the last one. What comes between - additions, activations, permutations, reshapes - is followed,
so that (7, 7, 768) of a Swin transformer and (768, 7, 7) of a ResNet are told apart.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

_FIRST = 1
"""Axis behind the batch."""

_MAKE_FIRST = frozenset(
    {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
     "batch_norm", "group_norm", "instance_norm", "pixel_shuffle", "pixel_unshuffle"}
)  # fmt: skip
"""Functions whose channels are behind the batch, in what they read and in what they make."""

_MAKE_LAST = frozenset({"linear", "bilinear", "layer_norm", "rms_norm", "embedding",
                        "multi_head_attention_forward"})  # fmt: skip
"""Functions whose channels are on the last axis, in what they read and in what they make."""

_PERMUTE = frozenset(
    {"permute", "transpose", "transpose_", "swapaxes", "swapdims", "movedim", "moveaxis", "t",
     "adjoint", "T", "mT", "H", "mH"}
)  # fmt: skip
"""Functions and attributes that permute axes."""

_RESHAPE = frozenset({"view", "reshape", "view_as", "reshape_as"})

_MIX = frozenset({"matmul", "__matmul__", "__rmatmul__", "bmm", "baddbmm", "mm", "addmm", "einsum",
                  "tensordot", "scaled_dot_product_attention"})  # fmt: skip
"""Functions of whose results nothing is known, unless a matrix of weights comes second."""


@dataclasses.dataclass
class ChannelAxis:
    """What is known of one tensor, and stays when the tensor is gone.

    Attributes
    ----------
    axis
        Axis of the channels, counted with the batch; None as long as it is unknown.
    """

    axis: int | None = None


class ChannelAxes(TorchFunctionMode):
    """Follows the axis of the channels through the functions that are called within a context."""

    def __init__(self) -> None:
        super().__init__()
        self._axes: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def watch(self, tensor: torch.Tensor) -> ChannelAxis:
        """Return what is known of a tensor, to which a function that reads it later may add."""
        watched: ChannelAxis = self._axes.setdefault(tensor, ChannelAxis())
        return watched

    def mark(self, tensor: torch.Tensor, axis: int | None) -> None:
        """Say which axis of a tensor, counted with the batch, holds the channels."""
        if axis is not None and 0 <= axis < tensor.ndim:
            self.watch(tensor).axis = axis

    def of(self, tensor: torch.Tensor) -> int | None:
        """Axis of the channels, counted with the batch; None where it is unknown."""
        watched: ChannelAxis | None = self._axes.get(tensor)
        return None if watched is None else watched.axis

    def pass_through(self, inputs: Any, output: torch.Tensor) -> None:
        """Note what a module did whose functions did not tell, such as an autograd function.

        An output has the axes of an input of its shape, or else of as many axes.
        """
        if self.of(output) is not None:
            return
        known = [
            tensor
            for tensor in _tensors(inputs)
            if tensor.ndim == output.ndim and self.of(tensor) is not None
        ]
        known.sort(key=lambda tensor: tensor.shape != output.shape)
        if known:
            self.mark(output, self.of(known[0]))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function and note the axis of what it returns."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = list(_tensors(result))
        if made:
            self._follow(func, args, kwargs, made)
        return result

    def _follow(
        self,
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        made: list[torch.Tensor],
    ) -> None:
        name = _name(func)
        read = list(_tensors([*args, *kwargs.values()]))
        if not read:
            return
        if name in _MAKE_FIRST or (name in _MAKE_LAST and not _normalises_planes(name, args)):
            self._make(_FIRST if name in _MAKE_FIRST else None, read[0], made[0])
        elif name in _PERMUTE:
            axis = self.of(read[0])
            if axis is not None:
                self.mark(made[0], _permuted(func, args, kwargs, read[0], axis))
        elif name in _MIX:
            if len(read) > 1 and read[1].ndim == 2 and made[0].ndim > 2:
                self._make(None, read[0], made[0])
        else:
            self._keep(name, read, made)

    def _make(self, axis: int | None, read: torch.Tensor, made: torch.Tensor) -> None:
        """Note a function with channels on an axis (None: the last) of what it reads and makes."""
        if self.of(read) is None:
            self.mark(read, read.ndim - 1 if axis is None else axis)
        self.mark(made, made.ndim - 1 if axis is None else axis)

    def _keep(self, name: str, read: list[torch.Tensor], made: list[torch.Tensor]) -> None:
        """Note a function that leaves the axes where they are, or reshapes."""
        known = [tensor for tensor in read if self.of(tensor) is not None]
        for tensor in made:
            alike = [other for other in known if other.ndim == tensor.ndim]
            if alike and name not in _RESHAPE:
                self.mark(tensor, self.of(alike[0]))
            elif known:
                axis = self.of(known[0])
                assert axis is not None
                self.mark(tensor, _reshaped(tuple(known[0].shape), tuple(tensor.shape), axis))


def _name(func: Callable[..., Any]) -> str:
    """Name of a function, or of the attribute that it gets."""
    name: str = getattr(func, "__name__", "")
    return getattr(getattr(func, "__self__", None), "__name__", "") if name == "__get__" else name


def _normalises_planes(name: str, args: Sequence[Any]) -> bool:
    """Whether a layer normalisation takes several axes together, and tells nothing of channels."""
    shape = args[1] if name in ("layer_norm", "rms_norm") and len(args) > 1 else ()
    return isinstance(shape, Sequence) and len(shape) > 1


def _permuted(
    func: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    read: torch.Tensor,
    axis: int,
) -> int:
    """Where a permutation moves an axis: seen on a tensor that has another size on each axis."""
    marked = torch.empty(tuple(range(2, read.ndim + 2)), device="meta")
    moved = func(
        *(marked if value is read else value for value in args),
        **{name: marked if value is read else value for name, value in kwargs.items()},
    )
    return list(moved.shape).index(axis + 2)


def _reshaped(old: tuple[int, ...], new: tuple[int, ...], axis: int) -> int | None:
    """Where an axis is after a reshape or reduction that left all before or behind it alone."""
    if new[: axis + 1] == old[: axis + 1]:
        return axis
    behind = len(old) - axis
    return len(new) - behind if new[-behind:] == old[-behind:] else None


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """Tensors of arguments and results, which functions of torch take in lists and tuples too."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
