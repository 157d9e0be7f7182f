"""Records the operations of a forward pass that can be joined."""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves

from fvfast.engine.borrowing.fingerprint import HOOKS, has_global_hooks
from fvfast.engine.borrowing.modes import Mode
from fvfast.engine.borrowing.threads import in_this_thread
from fvfast.engine.rewrite.epilogues import Activation
from fvfast.engine.rewrite.relu import RELU_CEILINGS

_CONVOLUTION_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_NORM_ARGUMENTS = tuple(inspect.signature(F.batch_norm).parameters)
# Reading an attribute (shape, dtype, device) does not use the values.
_NO_USE = ("__get__", "size", "dim", "stride", "is_contiguous", "numel")

Zeros = tuple[int, int, int, int]
"""Left, right, top, bottom."""


@dataclasses.dataclass(eq=False)
class Convolution:
    """A two-dimensional convolution with constant weights, as a forward pass called it.

    Attributes
    ----------
    weight, bias
        Parameters of the network.
    settings
        stride, padding, dilation and groups.
    norm
        Arguments of the batch normalization, without its input, if a batch normalization is the
        only reader of the output; None otherwise.
    adds
        Whether the only reader of the output (of the normalization, if there is one) is a sum with
        a tensor of the same shape: the end of a residual branch.
    activation
        The activation that is the only reader of the output so far, if there is one.
    feeds_convolution
        Whether a recorded convolution is the only reader of the final output, after the padding of
        `feeds_padding`.
    feeds_padding
        Whether the only reader of the final output is a padding that a recorded convolution takes
        over.
    zeros
        Zeros that a separate call puts around the images before this convolution: left, right, top,
        bottom.
    padded
        The convolution whose final output that call pads; None if there is no such call.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    settings: Mapping[str, Any]
    norm: Mapping[str, Any] | None = None
    adds: bool = False
    activation: Activation = "none"
    feeds_convolution: bool = False
    feeds_padding: bool = False
    zeros: Zeros = (0, 0, 0, 0)
    padded: "Convolution | None" = None


def activation_of(func: Callable[..., Any], args: Any, settings: Mapping[str, Any]) -> Activation:
    """Return the activation that a function call computes."""
    if func in RELU_CEILINGS:
        return "relu" if RELU_CEILINGS[func] is None else "relu6"
    if func in (F.hardtanh, F.hardtanh_):
        limits = {"min_val": -1.0, "max_val": 1.0, **settings}
        limits.update(zip(("min_val", "max_val"), args[1:3], strict=False))
        if (limits["min_val"], limits["max_val"]) == (0, 6):
            return "relu6"
    return "none"


def convolution_arguments(
    func: Callable[..., Any], args: Any, settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the arguments by name if a call is a two-dimensional convolution; else None."""
    if func is not torch.conv2d:
        return None
    defaults = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    given = dict(zip(_CONVOLUTION_ARGUMENTS, args, strict=False))
    return {**defaults, **given, **settings}


def norm_arguments(
    func: Callable[..., Any], args: Any, settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the arguments by name if a call is a batch normalization; else None."""
    if func is not F.batch_norm:
        return None
    defaults = {"weight": None, "bias": None, "training": False, "eps": 1e-5}
    return {**defaults, **dict(zip(_NORM_ARGUMENTS, args, strict=False)), **settings}


def same_convolutions(ones: Sequence[Convolution], others: Sequence[Convolution]) -> bool:
    """Whether two forward passes called the same convolutions with the same settings.

    They are the same if their tensors are the same objects; the values may have changed.
    """
    places = [
        {id(entry): index for index, entry in enumerate(entries)} for entries in (ones, others)
    ]

    def settings(entry: Convolution, place: Mapping[int, int]) -> dict[str, Any]:
        fields = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
        return {**fields, "padded": None if entry.padded is None else place[id(entry.padded)]}

    return len(ones) == len(others) and all(
        _same_values(settings(one, places[0]), settings(other, places[1]))
        for one, other in zip(ones, others, strict=True)
    )


def _same_values(one: Any, other: Any) -> bool:
    """Compare settings: tensors by their identity, all else by value."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same_values(one[k], other[k]) for k in one)
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return one is other
    return bool(one == other)


def zeros_around(func: Callable[..., Any], args: Any, settings: Mapping[str, Any]) -> Zeros | None:
    """Return the zeros if a call pads images (B, C, H, W) with zeros; else None."""
    if func is not F.pad:
        return None
    given = dict(zip(("input", "pad", "mode", "value"), args, strict=False))
    given = {"mode": "constant", "value": None, **given, **settings}
    counts = given["pad"]
    if given["mode"] != "constant" or given["value"] not in (None, 0) or given["input"].ndim != 4:
        return None
    if len(counts) != 4 or not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    left, right, top, bottom = counts
    return left, right, top, bottom


def sum_operands(
    func: Callable[..., Any], args: Any, settings: Mapping[str, Any]
) -> tuple[torch.Tensor, ...]:
    """Return the terms that may be a convolution's output if a call is a plain sum of tensors.

    For a sum in place this is the first term only, because the result is written there.
    """
    if func not in (torch.Tensor.add, torch.Tensor.add_, torch.add) or settings or len(args) != 2:
        return ()
    if not all(isinstance(term, torch.Tensor) for term in args):
        return ()
    if args[0].shape != args[1].shape or args[0].dtype != args[1].dtype or args[0].ndim != 4:
        return ()
    return args[:1] if func is torch.Tensor.add_ else args


def record_convolutions(
    model: nn.Module, run: Callable[[], Iterable[torch.Tensor]]
) -> list[Convolution]:
    """Find the convolutions of a forward pass and what can be joined to each.

    A convolution that is called several times, or whose weights are computed in the forward pass,
    is left out. Tensors that the user's hooks see are never joined away.

    Parameters
    ----------
    model
        The network, frozen and in evaluation mode.
    run
        Runs it once and returns the tensors that the caller needs.

    Returns
    -------
    convolutions
        In the order of the forward pass.
    """
    constants = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    recorder = _Recorder(constants)
    see = in_this_thread(recorder.use_all)
    handles = [
        module.register_forward_hook(see, with_kwargs=True)
        for module in model.modules()
        # Backward hooks, too: they leave no trace in a pass without gradients, such as this one.
        if has_global_hooks() or any(getattr(module, name) for name in HOOKS)
    ]
    try:
        with torch.no_grad(), recorder:
            results = run()
    finally:
        for handle in handles:
            handle.remove()
    recorder.use(results)
    return recorder.joined()


@dataclasses.dataclass
class _Call:
    """One function call that may be joined to others."""

    kind: str
    arguments: Mapping[str, Any]
    read: "tuple[_Value, ...]"  # inputs that may come from another call
    made: "_Value"


_Value = tuple[int, int]
"""Id and version of a tensor: together they identify the values that it had at one time."""


def _value(tensor: torch.Tensor) -> _Value:
    return id(tensor), tensor._version


class _Recorder(Mode):
    """Remembers convolutions, normalizations and activations, and counts the uses of tensors."""

    def __init__(self, constants: Collection[int]) -> None:
        super().__init__()
        self.constants = constants
        self.calls: list[_Call] = []
        self.uses: dict[_Value, int] = {}
        self._alive: list[Any] = []  # so that no two tensors have the same id

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        settings = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name not in _NO_USE:
            self.use((args, settings))
        kind, arguments = self._kind(func, args, settings)
        if kind == "sum":
            read = tuple(_value(term) for term in sum_operands(func, args, settings))
        else:
            read = (_value(args[0] if args else settings["input"]),) if kind else ()
        made = func(*args, **settings)
        if name == "__get__" and isinstance(made, torch.Tensor):
            self.use(args)  # a view, such as x.mT, or x.data
        self._alive.append(made)
        if kind:
            self.calls.append(_Call(kind, arguments, read, _value(made)))
        return made

    def use(self, tensors: Any) -> None:
        """Count tensors as read."""
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, torch.Tensor):
                self._alive.append(tensor)
                value = _value(tensor)
                self.uses[value] = self.uses.get(value, 0) + 1

    def use_all(self, _module: nn.Module, inputs: Any, named: Any, output: Any) -> None:
        """Count a module's inputs and output as read, by a hook of the user (a forward hook)."""
        self.use((inputs, named, output))

    def joined(self) -> list[Convolution]:
        """Return the convolutions, with what follows them."""
        readers = {
            value: call for call in self.calls for value in call.read if self.uses[value] == 1
        }
        calls = [call for call in self.calls if call.kind == "convolution"]
        times_called: dict[int, int] = {}
        for call in calls:
            weight = id(call.arguments["weight"])
            times_called[weight] = times_called.get(weight, 0) + 1
        found = []
        padded: dict[
            int, tuple[Zeros, Convolution]
        ] = {}  # by the id of the call that is padded for
        takers: dict[int, Convolution] = {}  # which convolution takes over a sum, by the sum's id
        for call in calls:
            if times_called[id(call.arguments["weight"])] > 1:
                continue
            settings = {
                name: call.arguments[name] for name in ("stride", "padding", "dilation", "groups")
            }
            convolution = Convolution(call.arguments["weight"], call.arguments["bias"], settings)
            if id(call) in padded:
                convolution.zeros, convolution.padded = padded[id(call)]
            reader = readers.get(call.made)
            if reader is not None and reader.kind == "norm":
                # Without the input: it would be kept as long as the weights.
                convolution.norm = {
                    name: value for name, value in reader.arguments.items() if name != "input"
                }
                reader = readers.get(reader.made)
            if reader is not None and reader.kind == "sum":
                # If both terms come from convolutions, the later one takes over the sum: then the
                # other term is there.
                if (earlier := takers.get(id(reader))) is not None:
                    earlier.adds, earlier.activation = False, "none"
                    earlier.feeds_convolution = earlier.feeds_padding = False
                takers[id(reader)] = convolution
                convolution.adds = True
                reader = readers.get(reader.made)
            if reader is not None and reader.kind in ("relu", "relu6"):
                convolution.activation = reader.kind  # type: ignore[assignment]
                reader = readers.get(reader.made)
            if reader is not None and reader.kind == "padding":
                padding, reader = reader, readers.get(reader.made)
                if reader is not None and self._takes_padding(reader, times_called):
                    convolution.feeds_padding = True
                    padded[id(reader)] = padding.arguments["zeros"], convolution
                else:
                    reader = padding
            convolution.feeds_convolution = reader is not None and reader.kind == "convolution"
            found.append(convolution)
        return found

    @staticmethod
    def _takes_padding(call: _Call, times_called: Mapping[int, int]) -> bool:
        """Whether a call is a convolution that can have more padding."""
        if call.kind != "convolution" or times_called[id(call.arguments["weight"])] > 1:
            return False
        # A difference between two sides becomes additional taps, which are adjacent.
        return call.arguments["dilation"] in (1, (1, 1), [1, 1])

    def _kind(
        self, func: Callable[..., Any], args: Any, settings: Mapping[str, Any]
    ) -> tuple[str, Mapping[str, Any]]:
        arguments = convolution_arguments(func, args, settings)
        if arguments is not None:
            constant = self._constant(arguments["weight"]) and self._constant(arguments["bias"])
            batched = arguments["input"].ndim == 4  # (B, C, H, W)
            known = constant and batched and not isinstance(arguments["padding"], str)
            return ("convolution" if known else ""), arguments
        arguments = norm_arguments(func, args, settings)
        if arguments is not None:
            names = ("running_mean", "running_var", "weight", "bias")
            constant = all(self._constant(arguments[name]) for name in names)
            usable = arguments["running_mean"] is not None and not arguments["training"]
            return ("norm" if constant and usable else ""), arguments
        if sum_operands(func, args, settings):
            return "sum", settings
        zeros = zeros_around(func, args, settings)
        if zeros is not None:
            return "padding", {"zeros": zeros}
        activation = activation_of(func, args, settings)
        return ("" if activation == "none" else activation), settings

    def _constant(self, tensor: torch.Tensor | None) -> bool:
        # Subclasses of tensors may not hold values that could be folded.
        plain = type(tensor) in (torch.Tensor, nn.Parameter)
        return tensor is None or (plain and id(tensor) in self.constants)
