"""Runs a network with its convolutions joined to the operations that follow them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from fvfast.engine.borrowing.modes import Mode
from fvfast.engine.rewrite.epilogues import Epilogue
from fvfast.engine.rewrite.frozen_convolution import FrozenConvolution
from fvfast.engine.rewrite.recording import (
    Convolution,
    Zeros,
    activation_of,
    convolution_arguments,
    norm_arguments,
    sum_operands,
    zeros_around,
)

# Attributes that mark tensors: the calls to come that must do nothing, because a convolution has
# done their work; and the convolution, with its images, that waits for the other term of a sum.
_TAKEN_OVER = "_fvfast_taken_over"
_WAITING = "_fvfast_waiting"

Note = Callable[[FrozenConvolution, torch.Tensor, torch.Tensor | None], None]
"""Takes a convolution, the images (B, in, H, W) that it runs on, and the term that it adds."""


def freeze(
    convolution: Convolution,
    *,
    dtype: torch.dtype | None,
    channels_last: bool,
    join_sum: bool = True,
    join_activation: bool = True,
    epilogue: Epilogue | None = None,
) -> FrozenConvolution:
    """Make a convolution that does the work of a recorded one and of the operations after it.

    Parameters
    ----------
    convolution
        The recorded convolution.
    dtype
        Type of the weights; None: that of the recorded ones.
    channels_last
        Memory format of the weights.
    join_sum, join_activation
        Whether it takes over the sum and the activation, too.
    epilogue
        How bias, sum and activation are run on a GPU; None: by torch's own calls.

    References
    ----------
    Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference" (2018), section 3.2: folding batch normalization.
    """
    weight = convolution.weight.detach().double()  # (out, in / groups, height, width)
    bias = None if convolution.bias is None else convolution.bias.detach().double()
    if (norm := convolution.norm) is not None:
        scale = (norm["running_var"].double() + norm["eps"]).rsqrt()  # (out,)
        scale = scale if norm["weight"] is None else scale * norm["weight"].detach().double()
        centered = -norm["running_mean"].double() + (0 if bias is None else bias)
        shift = 0 if norm["bias"] is None else norm["bias"].detach().double()
        weight, bias = weight * scale[:, None, None, None], centered * scale + shift
    dtype = convolution.weight.dtype if dtype is None else dtype
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    settings = convolution.settings
    adds = convolution.adds and join_sum
    # An activation after a sum can only be taken over together with the sum.
    is_last = convolution.adds and not adds
    activation = convolution.activation if join_activation and not is_last else "none"

    def joins_all(other: Convolution | None) -> bool:
        """Whether nothing is left between a convolution and the padding after it."""
        return other is not None and not (
            (other.adds and not join_sum) or (other.activation != "none" and not join_activation)
        )

    padding = _pair(settings["padding"])
    if joins_all(convolution.padded):
        weight, padding = _with_zeros(weight, padding, convolution.zeros)
    return FrozenConvolution(
        weight.to(dtype).contiguous(memory_format=memory_format),
        None if bias is None else bias.to(dtype),
        stride=_pair(settings["stride"]),
        padding=padding,
        dilation=_pair(settings["dilation"]),
        groups=settings["groups"],
        has_norm=norm is not None,
        adds=adds,
        activation=activation,
        feeds_padding=convolution.feeds_padding and joins_all(convolution),
        # A convolution alone reads the output, and its backward pass makes a new tensor.
        owns_gradient=convolution.feeds_convolution and activation == convolution.activation,
        epilogue=Epilogue() if epilogue is None else epilogue,
    )


def _with_zeros(
    weight: torch.Tensor, padding: tuple[int, int], zeros: Zeros
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return weight (out, in, height, width) and padding of a convolution that includes the zeros.

    A convolution pads both sides alike. If one side has fewer zeros, it gets taps of weight 0.
    """
    left, right, top, bottom = zeros
    extra = (max(right - left, 0), max(left - right, 0), max(bottom - top, 0), max(top - bottom, 0))
    rows, columns = padding
    return F.pad(weight, extra), (rows + max(top, bottom), columns + max(left, right))


class Rewriting(Mode):
    """Within this context, a network's convolutions run as frozen convolutions.

    Calls of operations that these have taken over return their input.

    Parameters
    ----------
    convolutions
        By the ``id`` of the weight that the network calls them with.

    Attributes
    ----------
    note
        Called with each convolution that runs, its images and its term; None: not called.
    """

    def __init__(self, convolutions: Mapping[int, FrozenConvolution]) -> None:
        super().__init__()
        self.convolutions = convolutions
        self.note: Note | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one function."""
        settings = dict(kwargs or {})
        arguments = convolution_arguments(func, args, settings)
        frozen = None if arguments is None else self.convolutions.get(id(arguments["weight"]))
        if frozen is not None:
            assert arguments is not None
            return self._run(frozen, arguments["input"])
        for index, term in enumerate(sum_operands(func, args, settings)):
            if hasattr(term, _WAITING):
                frozen, images = getattr(term, _WAITING)
                output = self._convolve(frozen, images, args[1 - index])
                _set_taken_over(output, _taken_over_behind_sum(frozen))
                return output
        if norm_arguments(func, args, settings) is not None:
            kind = "norm"
        elif zeros_around(func, args, settings) is not None:
            kind = "padding"
        else:
            kind = activation_of(func, args, settings)
        if kind != "none":
            x = args[0] if args else settings["input"]
            taken_over = getattr(x, _TAKEN_OVER, [])
            if taken_over and taken_over[0] == kind:
                _set_taken_over(x, taken_over[1:])
                return x
        return func(*args, **settings)

    def _run(self, frozen: FrozenConvolution, images: torch.Tensor) -> torch.Tensor:
        """Run a convolution; one that takes over a sum runs later, when the other term is there."""
        taken_over = ["norm"] if frozen.has_norm else []
        if frozen.adds:
            # A placeholder that takes no memory. It is NaN, so that any other use of it shows.
            nothing = images.new_full((1,), float("nan"), dtype=frozen.weight.dtype)
            output = nothing.expand(frozen.output_shape(images))
            setattr(output, _WAITING, (frozen, images))
        else:
            output = self._convolve(frozen, images, None)
            taken_over += _taken_over_behind_sum(frozen)
        _set_taken_over(output, taken_over)
        return output

    def _convolve(
        self, frozen: FrozenConvolution, images: torch.Tensor, term: torch.Tensor | None
    ) -> torch.Tensor:
        if self.note is not None:
            self.note(frozen, images, term)
        return frozen(images, term)


def _taken_over_behind_sum(frozen: FrozenConvolution) -> list[str]:
    kinds: list[str] = [] if frozen.activation == "none" else [frozen.activation]
    return [*kinds, "padding"] if frozen.feeds_padding else kinds


def _set_taken_over(x: torch.Tensor, kinds: list[str]) -> None:
    """Mark a tensor with the calls to come whose work is already done."""
    setattr(x, _TAKEN_OVER, kinds)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    rows, columns = (value, value) if isinstance(value, int) else (value[0], value[-1])
    return rows, columns
