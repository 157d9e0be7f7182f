"""A convolution with frozen weights, fused with its activation; only images get a gradient."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from fvfast.engine.rewrite.epilogues import (
    LIMITS,
    Activation,
    Epilogue,
    convolve_and_finish,
    convolve_with_cudnn,
)
from fvfast.ops.winograd import has_winograd_kernel, winograd_convolution, winograd_weight

FEW_CHANNELS = 4
"""Up to this many input channels the ordinary backward pass of a strided convolution is slow.

It uses a whole vector register for the channels of one pixel.
"""

WINOGRAD_CHANNELS = 32
"""Harmonic mean of input and output channels from which a Winograd convolution is faster.

It saves multiplications in proportion to the product of the two numbers, and adds transforms in
proportion to their sum.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class FrozenConvolution:
    """A two-dimensional convolution with constant weights, and the operations that follow it.

    Attributes
    ----------
    weight
        (out, in / groups, height, width).
    bias
        (out,), or None.
    stride, padding, dilation, groups
        As `torch.nn.functional.conv2d` takes them; pairs (rows, columns).
    has_norm
        Whether weight and bias include a batch normalization that follows.
    adds
        Whether it also adds a tensor of the output's shape, before the activation.
    activation
        "relu", "relu6" or "none".
    feeds_padding
        Whether the next convolution does the padding for which the network makes a separate call.
    owns_gradient
        Whether nothing else reads the incoming gradient, so that it may be overwritten.
    epilogue
        What computes bias, sum and activation on a GPU.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    has_norm: bool = False
    adds: bool = False
    activation: Activation = "none"
    feeds_padding: bool = False
    owns_gradient: bool = False
    epilogue: Epilogue = Epilogue()  # noqa: RUF009 (frozen)

    def __call__(self, images: torch.Tensor, term: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve images (B, in, H, W), and add a term of the output's shape."""
        return _Frozen.apply(images.to(self.weight.dtype), term, self)

    def output_shape(self, images: torch.Tensor) -> list[int]:
        """Shape of the output for images (B, in, H, W)."""
        sizes = [
            (size + 2 * pad - reach - 1) // step + 1
            for size, pad, reach, step in zip(
                images.shape[2:], self.padding, self._reach, self.stride, strict=True
            )
        ]
        return [images.shape[0], self.weight.shape[0], *sizes]

    def forward(self, images: torch.Tensor, term: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the output without recording anything for autograd."""
        if self.uses_winograd and _is_plain(images) and (term is None or _is_plain(term)):
            return winograd_convolution(
                images, self._winograd_weight, self.bias, outputs=len(self.weight),
                padding=self.padding, term=term, limits=LIMITS[self.activation],
            )  # fmt: skip
        settings = (self.stride, self.padding, self.dilation, self.groups)
        match self.epilogue.kind_for(images, self.activation):
            case "fvfast":
                return convolve_and_finish(
                    images, self.weight, self.bias, term, self.activation, settings
                )
            case "cudnn":
                return convolve_with_cudnn(images, self.weight, self.bias, term, settings)
        if _has_fused_operation(images):
            return self._forward_fused(images, term)
        output = F.conv2d(images, self.weight, self.bias, *settings)
        output = output if term is None else output.add_(term)
        if self.activation == "relu":
            return output.relu_()
        return output.clamp_(0, 6) if self.activation == "relu6" else output

    def _forward_fused(self, images: torch.Tensor, term: torch.Tensor | None) -> torch.Tensor:
        settings = (self.padding, self.stride, self.dilation, self.groups)
        if term is None:
            return torch.ops.mkldnn._convolution_pointwise(
                images, self.weight, self.bias, *settings, *_FUSED[self.activation], ""
            )
        # After a sum, oneDNN's operation supports no activation but ReLU.
        fused = "relu" if self.activation == "relu" else None
        output = torch.ops.mkldnn._convolution_pointwise.binary(
            images, term, self.weight, self.bias, *settings, "add", 1.0, fused, [], ""
        )
        return output.clamp_(0, 6) if self.activation == "relu6" else output

    def backward(self, gradient: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """Compute the gradient of images of a shape, from that of the output before activation."""
        if self._is_strided_on_few_channels and gradient.device.type == "cpu":
            return self._backward_by_shuffle(gradient, shape)
        if self.uses_winograd and _is_plain(gradient):
            (pad_y, pad_x), inputs = self.padding, self.weight.shape[1]
            return winograd_convolution(
                gradient, self._winograd_gradient_weight, None, outputs=inputs,
                padding=(2 - pad_y, 2 - pad_x),
            )  # fmt: skip
        within = all(pad <= reach for pad, reach in zip(self.padding, self._reach, strict=True))
        if self._is_depthwise and within and _prefers_forward(gradient):
            return self._backward_by_forward(gradient, shape)
        if self._is_pointwise and _has_fused_operation(gradient):
            return torch.ops.mkldnn._convolution_pointwise(
                gradient, self._transposed_weight, None, (0, 0), (1, 1), (1, 1), 1,
                *_FUSED["none"], "",
            )  # fmt: skip
        # The gradient depends only on the shape of the images: these are never filled.
        images = torch.empty(
            shape, dtype=gradient.dtype, device=gradient.device, memory_format=_format_of(gradient)
        )
        return torch.ops.aten.convolution_backward(
            gradient, images, self.weight, None, self.stride, self.padding, self.dilation,
            False, (0, 0), self.groups, (True, False, False),
        )[0]  # fmt: skip

    def through_activation(self, gradient: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Compute the gradient before the activation from that after it and the output (B, ...)."""
        if self.activation == "none":
            return gradient
        in_place = self.owns_gradient and gradient.stride() == output.stride()
        target = gradient if in_place else torch.empty_like(output)
        if self.activation == "relu":
            return torch.ops.aten.threshold_backward.grad_input(
                gradient, output, 0, grad_input=target
            )
        return torch.ops.aten.hardtanh_backward.grad_input(
            gradient, output, 0, 6, grad_input=target
        )

    @property
    def _is_pointwise(self) -> bool:
        same_size = self.stride == (1, 1) and self.padding == (0, 0)
        return self.groups == 1 and same_size and self.weight.shape[2:] == (1, 1)

    @functools.cached_property
    def _transposed_weight(self) -> torch.Tensor:
        weight = self.weight.transpose(0, 1)
        return weight.contiguous(memory_format=_format_of(self.weight))

    @functools.cached_property
    def uses_winograd(self) -> bool:
        """Whether `fvfast.ops.winograd` computes it for images with channels last."""
        outputs, inputs = self.weight.shape[:2]
        plain = self.stride == self.dilation == (1, 1) and self.groups == 1
        small = self.weight.shape[2:] == (3, 3) and max(self.padding) <= 2
        many = 2 * inputs * outputs >= WINOGRAD_CHANNELS * (inputs + outputs)
        last = _format_of(self.weight) == torch.channels_last
        return plain and small and many and last and has_winograd_kernel(self.weight)

    @functools.cached_property
    def _winograd_weight(self) -> torch.Tensor:
        return winograd_weight(self.weight)

    @functools.cached_property
    def _winograd_gradient_weight(self) -> torch.Tensor:
        return winograd_weight(self.weight.flip(2, 3).transpose(0, 1))

    @property
    def _is_depthwise(self) -> bool:
        outputs, inputs = self.weight.shape[:2]
        return inputs == 1 and self.groups == outputs > 1

    @property
    def _reach(self) -> list[int]:
        """Distance from the first to the last tap in pixels, down and across."""
        sizes = self.weight.shape[2:]
        return [step * (size - 1) for size, step in zip(sizes, self.dilation, strict=True)]

    @property
    def _is_strided_on_few_channels(self) -> bool:
        few = self.groups == 1 and self.weight.shape[1] <= FEW_CHANNELS
        return few and max(self.stride) > 1 and self.dilation == (1, 1)

    @functools.cached_property
    def _shuffle_weight(self) -> torch.Tensor:
        """Weights that give, at each output position, the gradients of one stride's pixels.

        A pixel at ``stride * q + r`` is read through the taps ``stride * j + r`` by the outputs
        ``q - j``: a convolution of the output's gradient with one channel for each remainder r.
        """
        outputs, inputs, *_ = self.weight.shape
        taps = [
            math.ceil(size / step)
            for size, step in zip(self.weight.shape[2:], self.stride, strict=True)
        ]
        sizes = [count * step for count, step in zip(taps, self.stride, strict=True)]
        height, width = (size - own for size, own in zip(sizes, self.weight.shape[2:], strict=True))
        padded = F.pad(self.weight, (0, width, 0, height))
        split = padded.reshape(outputs, inputs, taps[0], self.stride[0], taps[1], self.stride[1])
        channels = split.permute(3, 5, 1, 0, 2, 4).flip(4, 5)  # (ry, rx, in, out, jy, jx)
        weight = channels.reshape(-1, outputs, *taps)
        return weight.contiguous(memory_format=_format_of(self.weight))

    def _backward_by_shuffle(self, gradient: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        taps = self._shuffle_weight.shape[2:]
        convolved = F.conv2d(gradient, self._shuffle_weight, padding=[tap - 1 for tap in taps])
        batch, _, rows, columns = convolved.shape
        (step_y, step_x), (pad_y, pad_x) = self.stride, self.padding
        # With channels last on both sides, adjacent pixels of a row are copied together.
        split = convolved.permute(0, 2, 3, 1).reshape(
            batch, rows, columns, step_y, step_x, shape[1]
        )
        whole = split.transpose(2, 3).reshape(batch, rows * step_y, columns * step_x, shape[1])
        whole = whole.permute(0, 3, 1, 2)
        # Pixels at the end that no output reads have a gradient of zero.
        missing_y = max(0, pad_y + shape[2] - whole.shape[2])
        missing_x = max(0, pad_x + shape[3] - whole.shape[3])
        if missing_y or missing_x:
            whole = F.pad(whole, (0, missing_x, 0, missing_y))
        return whole[:, :, pad_y : pad_y + shape[2], pad_x : pad_x + shape[3]]

    @functools.cached_property
    def _flipped_weight(self) -> torch.Tensor:
        return self.weight.flip(2, 3).contiguous(memory_format=_format_of(self.weight))

    def _backward_by_forward(self, gradient: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """Compute the gradient of a depthwise convolution by convolving the stretched gradient."""
        reach = self._reach
        sizes = [size + r for size, r in zip(shape[2:], reach, strict=True)]
        stretched = torch.zeros(
            (*gradient.shape[:2], *sizes), dtype=gradient.dtype, device=gradient.device
        ).contiguous(memory_format=_format_of(gradient))
        first_y, first_x = (r - pad for r, pad in zip(reach, self.padding, strict=True))
        step_y, step_x = self.stride
        rows, columns = gradient.shape[2:]
        stretched[:, :, first_y::step_y, first_x::step_x][:, :, :rows, :columns] = gradient
        return F.conv2d(stretched, self._flipped_weight, dilation=self.dilation, groups=self.groups)


# oneDNN's names of the activations that it fuses with a convolution, and their limits.
_FUSED: dict[Activation, tuple[str, list[float]]] = {
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0, 6]),
}


def _is_plain(images: torch.Tensor) -> bool:
    """Whether images have the type and memory format that the Winograd kernel takes."""
    last = images.is_contiguous(memory_format=torch.channels_last)
    return last and images.dtype == torch.float32


def _has_fused_operation(images: torch.Tensor) -> bool:
    """Whether oneDNN can convolve the images.

    It is called directly because torch itself uses a slower function for small convolutions on one
    thread.
    """
    return (
        images.device.type == "cpu"
        and images.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, term: torch.Tensor | None, convolution: FrozenConvolution
    ) -> torch.Tensor:
        output = convolution.forward(images, term)
        ctx.convolution, ctx.shape = convolution, images.shape
        ctx.save_for_backward(output if convolution.activation != "none" else None)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        (output,) = ctx.saved_tensors
        if output is not None:
            gradient = ctx.convolution.through_activation(gradient, output)
        needs_images, needs_term, _ = ctx.needs_input_grad
        return (
            ctx.convolution.backward(gradient, ctx.shape) if needs_images else None,
            gradient if needs_term else None,
            None,
        )


def _format_of(tensor: torch.Tensor) -> torch.memory_format:
    last = tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _prefers_forward(gradient: torch.Tensor) -> bool:
    """Whether to compute the gradient of a depthwise convolution as a forward convolution.

    True for bfloat16 on processors with matrix units, where torch's backward pass is reported to be
    slow. This was not timed there; on other processors the forward convolution is not faster.
    """
    on_processor = gradient.device.type == "cpu" and gradient.dtype == torch.bfloat16
    has_tiles = getattr(torch.cpu, "_is_amx_tile_supported", None)  # since torch 2.5
    return on_processor and has_tiles is not None and has_tiles()
