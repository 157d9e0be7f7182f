"""Phase to image under a fixed magnitude, and back.

On the CPU the transforms are torch's. What lies around them is fused: one kernel makes the half
spectrum and the statistics of its image, one turns the transform into the image, and two do the way
back. `fvfast.ops.phase_cuda` has the way of CUDA.
The parts are in the order of `fvfast.ops.noise`.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from fvfast.ops._native import kernels_for
from fvfast.ops.phase_cuda import (
    colors_of,
    complex_of,
    phase_gradient_cuda,
    phase_to_image_cuda,
)
from fvfast.ops.phase_update import sum_scratch
from fvfast.ops.reference_phase import (
    STANDARDISATION_EPSILON,
    phase_to_image_reference,
    standardise,
)

_DTYPES = (torch.float32, torch.float64)

_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(
    "phase_to_image(Tensor magnitude, Tensor phase, float low, float high, SymInt width, "
    "Tensor? phase_sums) -> (Tensor image, Tensor spectrum, Tensor statistics)"
)
_library.define(
    "phase_to_image_backward(Tensor gradient, Tensor magnitude, Tensor phase, Tensor image, "
    "Tensor spectrum, Tensor statistics, float low, float high) -> Tensor"
)

_Forward = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _common(sizes: Sequence[int], dtype: torch.dtype) -> dict[str, Any]:
    """Arguments that all kernels take."""
    return {"sizes": list(sizes), "dtype": str(dtype).removeprefix("torch.")}


def _saved_spectrum(phase: torch.Tensor) -> torch.Tensor:
    """Memory for the spectrum, which the way back needs on the CPU. CUDA computes it again."""
    kernels = kernels_for(phase.device)
    on_cuda = kernels is not None and kernels.target is not None
    return phase.new_empty(0 if on_cuda else phase.shape, dtype=complex_of(phase.dtype))


def _reference(
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    low: float,
    high: float,
    width: int,
    phase_sums: torch.Tensor | None,  # noqa: ARG001 - the reference makes its own
) -> _Forward:
    image = phase_to_image_reference(magnitude, phase, low, high, width)
    spectrum = torch.polar(magnitude.expand_as(phase), standardise(phase))
    plain = torch.fft.irfft2(spectrum, s=(phase.shape[-2], width))
    statistics = torch.stack(
        [
            moment
            for values in (phase.double().flatten(1), plain.double().flatten(1))
            for moment in (values.mean(1), values.std(1, correction=0))
        ],
        dim=1,
    )
    return image.contiguous(), spectrum.contiguous(), statistics


def _reference_backward(
    gradient: torch.Tensor,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    image: torch.Tensor,
    spectrum: torch.Tensor,  # noqa: ARG001 - made again
    statistics: torch.Tensor,  # noqa: ARG001
    low: float,
    high: float,
) -> torch.Tensor:
    with torch.enable_grad():
        variable = phase.detach().requires_grad_()
        again = phase_to_image_reference(magnitude.detach(), variable, low, high, image.shape[-1])
        (result,) = torch.autograd.grad(again, variable, gradient)
    return result.contiguous()


def _native(
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    low: float,
    high: float,
    width: int,
    phase_sums: torch.Tensor | None,
) -> _Forward:
    kernels = kernels_for(phase.device)
    if kernels is None:
        return _reference(magnitude, phase, low, high, width, phase_sums)
    magnitude, phase = magnitude.contiguous(), phase.contiguous()
    if kernels.target is not None:
        sums = None if phase_sums is None else phase_sums.contiguous()
        image, statistics = phase_to_image_cuda(kernels, magnitude, phase, (low, high), width, sums)
        return image, _saved_spectrum(phase), statistics
    module = kernels.module
    if phase_sums is not None:
        phase_sums = phase_sums.sum(1)
    images, channels, height, _ = phase.shape
    common = _common((images, channels, height, width), phase.dtype)
    spectrum = _saved_spectrum(phase)
    statistics = torch.empty(images, 4, dtype=torch.float64, device="cpu")
    scratch = sum_scratch(module, images)
    module.phase_spectrum(
        magnitude=magnitude.data_ptr(),
        phase=phase.data_ptr(),
        phase_sums=0 if phase_sums is None else phase_sums.data_ptr(),
        spectrum=spectrum.data_ptr(),
        statistics=statistics.data_ptr(),
        scratch=scratch.data_ptr(),
        epsilon=STANDARDISATION_EPSILON,
        **common,
    )
    if images == 0:  # torch has no transform of nothing
        return phase.new_empty(0, channels, height, width), spectrum, statistics
    image = torch.fft.irfft2(spectrum, s=(height, width)).contiguous()
    module.spectrum_image(
        image=image.data_ptr(),
        statistics=statistics.data_ptr(),
        epsilon=STANDARDISATION_EPSILON,
        low=low,
        high=high,
        colors=colors_of(channels),
        target=None,
        **common,
    )
    return image, spectrum, statistics


def _native_backward(
    gradient: torch.Tensor,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    image: torch.Tensor,
    spectrum: torch.Tensor,
    statistics: torch.Tensor,
    low: float,
    high: float,
) -> torch.Tensor:
    kernels = kernels_for(phase.device)
    if kernels is None:
        return _reference_backward(
            gradient, magnitude, phase, image, spectrum, statistics, low, high
        )
    gradient, phase, image = gradient.contiguous(), phase.contiguous(), image.contiguous()
    magnitude, statistics = magnitude.contiguous(), statistics.contiguous()
    if kernels.target is not None:
        return phase_gradient_cuda(
            kernels, gradient, magnitude, phase, image, statistics, (low, high)
        )[0]
    module = kernels.module
    spectrum = spectrum.contiguous()
    common = _common(image.shape, image.dtype)
    out = torch.empty_like(phase)
    if image.shape[0] == 0:
        return out
    before_colors = torch.empty_like(image)
    module.spectrum_image_gradient(
        gradient=gradient.data_ptr(),
        image=image.data_ptr(),
        out=before_colors.data_ptr(),
        low=low,
        high=high,
        colors=colors_of(image.shape[1]),
        target=None,
        **common,
    )
    transform = torch.fft.rfft2(before_colors).contiguous()
    scratch = sum_scratch(module, image.shape[0])
    module.phase_gradient(
        transform=transform.data_ptr(),
        spectrum=spectrum.data_ptr(),
        phase=phase.data_ptr(),
        statistics=statistics.data_ptr(),
        out=out.data_ptr(),
        scratch=scratch.data_ptr(),
        epsilon=STANDARDISATION_EPSILON,
        **common,
    )
    return out


def _fake(
    magnitude: torch.Tensor,  # noqa: ARG001
    phase: torch.Tensor,
    low: float,  # noqa: ARG001
    high: float,  # noqa: ARG001
    width: int,
    phase_sums: torch.Tensor | None,  # noqa: ARG001
) -> _Forward:
    images, channels, height, _ = phase.shape
    return (
        phase.new_empty(images, channels, height, width),
        _saved_spectrum(phase),
        phase.new_empty(images, 4, dtype=torch.float64),
    )


def _fake_backward(_gradient: Any, _magnitude: Any, phase: torch.Tensor, *_: Any) -> torch.Tensor:
    return phase.new_empty(phase.shape)


for _key in ("CPU", "CUDA"):
    _library.impl("phase_to_image", _native, _key)
    _library.impl("phase_to_image_backward", _native_backward, _key)
_library.impl("phase_to_image", _reference, "CompositeExplicitAutograd")
_library.impl("phase_to_image_backward", _reference_backward, "CompositeExplicitAutograd")
torch.library.register_fake("fvfast::phase_to_image", _fake, lib=_library)
torch.library.register_fake("fvfast::phase_to_image_backward", _fake_backward, lib=_library)


class _PhaseToImage(torch.autograd.Function):
    """The gradient with respect to the phase: by the kernels, and by the reference from then on."""

    @staticmethod
    def forward(
        ctx: Any,
        magnitude: torch.Tensor,
        phase: torch.Tensor,
        low: float,
        high: float,
        width: int,
        phase_sums: torch.Tensor | None,
    ) -> torch.Tensor:
        image, spectrum, statistics = torch.ops.fvfast.phase_to_image(
            magnitude, phase, low, high, width, phase_sums
        )
        ctx.save_for_backward(magnitude, phase, image, spectrum, statistics)
        ctx.values_range = (low, high)
        return image

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        magnitude, phase, image, spectrum, statistics = ctx.saved_tensors
        low, high = ctx.values_range
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            again = phase_to_image_reference(magnitude, phase, low, high, image.shape[-1])
            (result,) = torch.autograd.grad(again, phase, gradients[0], create_graph=True)
        else:
            result = torch.ops.fvfast.phase_to_image_backward(
                gradients[0], magnitude, phase, image, spectrum, statistics, low, high
            )
        return None, result, None, None, None, None


def _check(
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    values_range: Sequence[float],
    width: int,
    phase_sums: torch.Tensor | None,
) -> tuple[float, float]:
    for argument, tensor in (("magnitude", magnitude), ("phase", phase)):
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(
                f"phase_to_image(): {argument}: expected a tensor, got {type(tensor).__name__}"
            )
        if tensor.dtype not in _DTYPES:
            raise TypeError(
                f"phase_to_image(): {argument}: expected torch.float32 or torch.float64, got "
                f"{tensor.dtype}"
            )
    if magnitude.dtype != phase.dtype or magnitude.device != phase.device:
        raise TypeError(
            f"phase_to_image(): magnitude: expected {phase.dtype} on {phase.device} as the phase, "
            f"got {magnitude.dtype} on {magnitude.device}"
        )
    if phase.ndim != 4 or 0 in phase.shape[1:]:
        raise ValueError(
            "phase_to_image(): phase: expected (N, C, H, W // 2 + 1), got a tensor "
            f"{tuple(phase.shape)}"
        )
    if magnitude.shape != phase.shape[1:]:
        raise ValueError(
            f"phase_to_image(): magnitude: expected the shape {tuple(phase.shape[1:])}, got "
            f"{tuple(magnitude.shape)}"
        )
    half = phase.shape[-1]
    if width // 2 + 1 != half or width < 1:
        raise ValueError(
            f"phase_to_image(): width: expected {2 * half - 2} or {2 * half - 1} for {half} "
            f"columns, got {width}"
        )
    if len(values_range) != 2 or not all(math.isfinite(value) for value in values_range):
        raise ValueError(
            "phase_to_image(): values_range: expected two finite numbers (low, high), got "
            f"{tuple(values_range)}"
        )
    low, high = float(values_range[0]), float(values_range[1])
    if not low < high:
        raise ValueError(
            f"phase_to_image(): values_range: expected low < high, got ({low}, {high})"
        )
    if phase_sums is not None and (
        phase_sums.ndim != 3
        or phase_sums.shape[0] != phase.shape[0]
        or phase_sums.shape[1] < 1
        or phase_sums.shape[2] != 2
        or phase_sums.dtype != torch.float64
        or phase_sums.device != phase.device
    ):
        raise ValueError(
            f"phase_to_image(): phase_sums: expected torch.float64 ({phase.shape[0]}, P, 2) on "
            f"{phase.device}, got {phase_sums.dtype} {tuple(phase_sums.shape)} on "
            f"{phase_sums.device}"
        )
    return low, high


def rounds_coarsely(low: float, high: float) -> bool:
    """Tell whether a range is so far from 0 that an image in it keeps too few digits.

    The kernels go back from the rounded image; the reference does not.
    """
    return max(abs(low), abs(high)) > 16 * (high - low)


def phase_to_image(
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    values_range: Sequence[float],
    width: int,
    *,
    phase_sums: torch.Tensor | None = None,
) -> torch.Tensor:
    """Image of a phase under a fixed magnitude (MaCo).

    The phase is standardised, the spectrum transformed back, the image standardised, its colours
    recorrelated where it has 3 channels, and squeezed into ``values_range`` by a sigmoid.

    Parameters
    ----------
    magnitude
        (C, H, W // 2 + 1), float32 or float64, any strides, not negative.
    phase
        (N, C, H, W // 2 + 1), same type, any strides. Radians.
    values_range
        (low, high), finite.
    width
        W.
    phase_sums
        (N, P, 2) float64: P numbers that add up to the sum of each phase, and to that of its
        squares, as `phase_update_` returns them, which saves a pass over the phase. They are
        trusted. Good while the mean of a phase is not much larger than its deviation, as it is from
        the start of a run to its end.

    Returns
    -------
    image
        (N, C, H, W). Its gradient with respect to the phase may be taken any number of times; only
        the first one has a kernel.

    Raises
    ------
    TypeError
        If the magnitude or the phase is not a tensor of a supported type, or they differ in it.
    ValueError
        If a shape, the width or the range does not fit, or if the magnitude requires a gradient:
        that is what `fvfast.preconditioning.maco_image_parametrization` gives it.
    """
    low, high = _check(magnitude, phase, values_range, width, phase_sums)
    differentiable = torch.is_grad_enabled() and phase.requires_grad
    if torch.is_grad_enabled() and magnitude.requires_grad:
        raise ValueError(
            "phase_to_image(): magnitude: expected a constant, got a tensor that requires a "
            "gradient"
        )
    if phase.device.type not in ("cpu", "cuda") or (differentiable and rounds_coarsely(low, high)):
        return phase_to_image_reference(magnitude, phase, low, high, width)
    if differentiable:
        image: torch.Tensor = _PhaseToImage.apply(magnitude, phase, low, high, width, phase_sums)
        return image
    arguments = (magnitude, phase, low, high, width, phase_sums)
    result: torch.Tensor = torch.ops.fvfast.phase_to_image(*arguments)[0]
    return result
