"""Finds which axis of an output holds the channels, from the functions that made or read it.

A convolution has its channels on the axis after the batch; a linear layer or a layer normalization
on the last axis. The functions in between (additions, activations, permutations, reshapes) are
followed, which tells (7, 7, 768) of a Swin transformer from (768, 7, 7) of a ResNet.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from fvfast.engine.borrowing.modes import Mode

_FIRST = 1
"""The axis after the batch."""

_MAKE_FIRST = frozenset(
    {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
     "batch_norm", "group_norm", "instance_norm", "pixel_shuffle", "pixel_unshuffle"}
)  # fmt: skip
"""Functions with the channels after the batch, in their inputs and outputs."""

_MAKE_LAST = frozenset({"linear", "bilinear", "layer_norm", "rms_norm", "embedding",
                        "multi_head_attention_forward"})  # fmt: skip
"""Functions with the channels on the last axis, in their inputs and outputs."""

_PERMUTE = frozenset(
    {"permute", "transpose", "transpose_", "swapaxes", "swapdims", "movedim", "moveaxis", "t",
     "adjoint", "T", "mT", "H", "mH"}
)  # fmt: skip
"""Functions and attributes that permute axes."""

_RESHAPE = frozenset({"view", "reshape", "view_as", "reshape_as"})

_MIX = frozenset({"matmul", "__matmul__", "__rmatmul__", "bmm", "baddbmm", "mm", "addmm", "einsum",
                  "tensordot", "scaled_dot_product_attention"})  # fmt: skip
"""Functions that tell nothing about their result, unless the second argument is a weight matrix."""


Axes = tuple[int, ...]


@dataclasses.dataclass
class ChannelAxis:
    """What is known about one tensor; outlives the tensor.

    Attributes
    ----------
    axes
        Axes of the channels, counted with the batch: several after a reshape has split them, as a
        channel shuffle does; none as long as they are unknown.
    """

    axes: Axes = ()

    @property
    def axis(self) -> int | None:
        """The axis, if there is exactly one."""
        return self.axes[0] if len(self.axes) == 1 else None


class ChannelAxes(Mode):
    """Follows the axis of the channels through the functions that are called within a context."""

    def __init__(self) -> None:
        super().__init__()
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def watch(self, tensor: torch.Tensor) -> ChannelAxis:
        """Return the record of a tensor; a function that reads the tensor later may fill it in."""
        watched: ChannelAxis = self._known.setdefault(tensor, ChannelAxis())
        return watched

    def mark(self, tensor: torch.Tensor, *axes: int) -> None:
        """Say which axes of a tensor, counted with the batch, hold the channels."""
        if axes and all(0 <= axis < tensor.ndim for axis in axes):
            self.watch(tensor).axes = axes

    def of(self, tensor: torch.Tensor) -> Axes:
        """Return the axes of the channels, counted with the batch; none if they are unknown."""
        watched: ChannelAxis | None = self._known.get(tensor)
        return () if watched is None else watched.axes

    def pass_through(self, inputs: Any, output: torch.Tensor) -> None:
        """Handle a module whose functions told nothing, such as an autograd function.

        Its output is taken to have the axes of an input of the same shape.
        """
        if not self.of(output):
            same = (tensor for tensor in _tensors(inputs) if tensor.shape == output.shape)
            self.mark(output, *next(filter(None, map(self.of, same)), ()))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function and note the channel axes of its results."""
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
        if name in _MAKE_FIRST or (name in _MAKE_LAST and not _normalizes_planes(name, args)):
            self._make(_FIRST if name in _MAKE_FIRST else None, read[0], made[0])
        elif name in _PERMUTE:
            if axes := self.of(read[0]):
                self.mark(made[0], *_permuted(func, args, kwargs, read[0], axes))
        elif name in _MIX:
            if len(read) > 1 and read[1].ndim == 2 and made[0].ndim > 2:
                self._make(None, read[0], made[0])
        else:
            self._keep(name, read, made)

    def _make(self, axis: int | None, read: torch.Tensor, made: torch.Tensor) -> None:
        """Note that input and output have their channels on an axis (None: the last)."""
        if not self.of(read):
            self.mark(read, read.ndim - 1 if axis is None else axis)
        self.mark(made, made.ndim - 1 if axis is None else axis)

    def _keep(self, name: str, read: list[torch.Tensor], made: list[torch.Tensor]) -> None:
        """Note the axes after a function that leaves them where they are, or that reshapes."""
        known = [tensor for tensor in read if self.of(tensor)]
        for tensor in made:
            alike = [other for other in known if other.ndim == tensor.ndim]
            if alike and name not in _RESHAPE:
                self.mark(tensor, *self.of(alike[0]))
            elif known:
                old, new = tuple(known[0].shape), tuple(tensor.shape)
                self.mark(tensor, *_reshaped(old, new, self.of(known[0])))


def axis_beside_square(shape: Sequence[int]) -> int | None:
    """Find the channel axis of an output (without the batch) whose other two axes are a square.

    Feature maps of a square image are square. This is for outputs about which the functions tell
    nothing, such as those of scripted modules.
    """
    odd = [axis for axis, size in enumerate(shape) if list(shape).count(size) == 1]
    return odd[0] if len(shape) == 3 and len(odd) == 1 else None


def _name(func: Callable[..., Any]) -> str:
    """Return the name of a function, or of the attribute that a getter reads."""
    name: str = getattr(func, "__name__", "")
    return getattr(getattr(func, "__self__", None), "__name__", "") if name == "__get__" else name


def _normalizes_planes(name: str, args: Sequence[Any]) -> bool:
    """Whether a layer normalization covers several axes, and so tells nothing about channels."""
    shape = args[1] if name in ("layer_norm", "rms_norm") and len(args) > 1 else ()
    return isinstance(shape, Sequence) and len(shape) > 1


def _permuted(
    func: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    read: torch.Tensor,
    axes: Axes,
) -> Axes:
    """Find where a permutation moves axes, with a tensor whose axes all have different sizes."""
    marked = torch.empty(tuple(range(2, read.ndim + 2)), device="meta")
    moved = func(
        *(marked if value is read else value for value in args),
        **{name: marked if value is read else value for name, value in kwargs.items()},
    )
    sizes = list(moved.shape)
    return tuple(sizes.index(axis + 2) for axis in axes)


def _reshaped(old: Axes, new: Axes, axes: Axes) -> Axes:
    """Find the axes after a reshape or reduction that kept all axes before or all axes after them.

    If it kept both, the axes are what lies between the two in the new shape.
    """
    first, behind = min(axes), len(old) - 1 - max(axes)
    if len(axes) != len(old) - first - behind:
        return ()  # there are other axes between them
    same_before = new[:first] == old[:first]
    same_behind = behind == 0 or new[-behind:] == old[-behind:]
    between = new[first : len(new) - behind]
    if same_before and same_behind and math.prod(between) == math.prod(old[i] for i in axes):
        return tuple(range(first, len(new) - behind))
    last = first + len(axes)
    if new[:last] == old[:last]:
        return axes
    shift = len(new) - len(old)
    return tuple(axis + shift for axis in axes) if new[first + shift :] == old[first:] else ()


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of arguments or results, also those in lists and tuples."""
    if isinstance(values, torch.Tensor):
        if not values.is_nested:  # nested tensors have no shape
            yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
