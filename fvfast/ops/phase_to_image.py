"""Phase to image under a fixed magnitude, and back.

On the CPU the transforms are torch's. The work before and after them is fused: one kernel makes the
half spectrum and the statistics of its image, one turns the transform into the image, and two are
the backward pass. `fvfast.ops.phase_cuda` does the same on CUDA.
The parts are in the order of `fvfast.ops.noise`.
"""

from collections.abc import Sequence
from typing import Any

import torch

from fvfast.ops._checks import (
    REAL,
    check_alike,
    check_layout,
    check_range,
    check_type,
    reject,
    require_tensor,
)
from fvfast.ops._kernels import kernels_for
from fvfast.ops._memory import buffer, check_memory
from fvfast.ops._register import register
from fvfast.ops.phase_cuda import (
    colors_of,
    complex_of,
    phase_gradient_cuda,
    phase_to_image_cuda,
)
from fvfast.ops.phase_update import sum_scratch
from fvfast.ops.reference.phase import (
    STANDARDIZATION_EPSILON,
    phase_to_image_reference,
    standardize,
)

_MOST_PARTS = 2**16  # of the sums of a phase: an update makes 256 at most

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


def _saved_shape(phase: torch.Tensor) -> Sequence[int]:
    """Shape of the spectrum, which the backward pass needs on the CPU. CUDA computes it again."""
    kernels = kernels_for(phase.device)
    on_cuda = kernels is not None and kernels.target is not None
    return (0,) if on_cuda else phase.shape


def _saved_spectrum(phase: torch.Tensor) -> torch.Tensor:
    """Memory for the spectrum that the backward pass needs."""
    return phase.new_empty(_saved_shape(phase), dtype=complex_of(phase.dtype))


def _reference(
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    low: float,
    high: float,
    width: int,
    phase_sums: torch.Tensor | None,  # the reference computes its own
) -> _Forward:
    if phase.shape[0] == 0:  # torch does not transform an empty batch
        return _fake(magnitude, phase, low, high, width, phase_sums)
    image = phase_to_image_reference(magnitude, phase, low, high, width)
    spectrum = torch.polar(magnitude.expand_as(phase), standardize(phase))
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


def backward_reference(
    gradient: torch.Tensor,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    image: torch.Tensor,
    spectrum: torch.Tensor,  # noqa: ARG001 - computed again
    statistics: torch.Tensor,  # noqa: ARG001
    low: float,
    high: float,
) -> torch.Tensor:
    """Do what the operation `phase_to_image_backward` does, in PyTorch, without its checks."""
    if phase.shape[0] == 0:
        return phase.new_empty(phase.shape)
    with torch.enable_grad():
        leaf = phase.detach().requires_grad_()
        again = phase_to_image_reference(magnitude.detach(), leaf, low, high, image.shape[-1])
        (result,) = torch.autograd.grad(again, leaf, gradient)
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
        magnitude=buffer(magnitude),
        phase=buffer(phase),
        phase_sums=buffer(phase_sums),
        spectrum=buffer(spectrum),
        statistics=buffer(statistics),
        scratch=buffer(scratch),
        epsilon=STANDARDIZATION_EPSILON,
        **common,
    )
    if images == 0:  # torch does not transform an empty batch
        return phase.new_empty(0, channels, height, width), spectrum, statistics
    image = _inverse_transform(spectrum, width)
    module.spectrum_image(
        image=buffer(image),
        statistics=buffer(statistics),
        epsilon=STANDARDIZATION_EPSILON,
        low=low,
        high=high,
        colors=colors_of(channels),
        target=None,
        **common,
    )
    return image, spectrum, statistics


def _inverse_transform(spectrum: torch.Tensor, width: int) -> torch.Tensor:
    """Return what `torch.fft.irfft2` returns for half spectra (N, C, H, W // 2 + 1).

    For columns of 512 numbers it takes a fifth longer than this. Here the columns are transformed
    next to each other, and brought back plane by plane, because torch copies in blocks only if it
    has a matrix and its transpose. Number after number, the accesses would lie a power of two
    apart, in few sets of the cache. Shorter columns, and other lengths, have nothing to gain.
    """
    height = spectrum.shape[2]
    if height < 512 or height & (height - 1):
        return torch.fft.irfft2(spectrum, s=(height, width)).contiguous()
    columns = torch.fft.ifft(spectrum, dim=2)
    rows = torch.empty_like(spectrum)
    for to, plane in zip(rows.flatten(0, 1), columns.flatten(0, 1), strict=True):
        to.copy_(plane)
    return torch.fft.irfft(rows, n=width).contiguous()


def backward(
    gradient: torch.Tensor,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    image: torch.Tensor,
    spectrum: torch.Tensor,
    statistics: torch.Tensor,
    low: float,
    high: float,
) -> torch.Tensor:
    """Do what the operation `phase_to_image_backward` does, without its checks."""
    kernels = kernels_for(phase.device)
    if kernels is None:
        return backward_reference(
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
        gradient=buffer(gradient),
        image=buffer(image),
        out=buffer(before_colors),
        low=low,
        high=high,
        colors=colors_of(image.shape[1]),
        target=None,
        **common,
    )
    transform = torch.fft.rfft2(before_colors).contiguous()
    scratch = sum_scratch(module, image.shape[0])
    module.phase_gradient(
        transform=buffer(transform),
        spectrum=buffer(spectrum),
        phase=buffer(phase),
        statistics=buffer(statistics),
        out=buffer(out),
        scratch=buffer(scratch),
        epsilon=STANDARDIZATION_EPSILON,
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


def check_phase(
    operation: str,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    low: float,
    high: float,
    width: int,
    phase_sums: torch.Tensor | None = None,
) -> None:
    """Raise TypeError or ValueError unless the image of a phase can be made.

    Parameters
    ----------
    operation
        For messages.
    magnitude, phase, low, high, width, phase_sums
        Of the operation.
    """
    check_type(operation, "phase", phase, REAL)
    check_type(operation, "magnitude", magnitude, REAL)
    if phase.ndim != 4 or 0 in phase.shape[1:]:
        shape = tuple(phase.shape)
        expected = "(N, C, H, W // 2 + 1), N at least 0 and the others at least 1"
        reject(operation, "phase", expected, f"a tensor {shape}")
    device = phase.device
    check_alike(operation, "magnitude", magnitude, phase.shape[1:], phase.dtype, device)
    half = phase.shape[-1]
    if width < 1 or width // 2 + 1 != half:
        expected = f"{max(2 * half - 2, 1)} or {2 * half - 1} for {half} columns"
        reject(operation, "width", expected, width)
    check_range(operation, "low, high", low, high)
    if phase_sums is None:
        return
    if phase_sums.ndim != 3 or not 1 <= phase_sums.shape[1] <= _MOST_PARTS:
        expected = f"torch.float64 ({phase.shape[0]}, P, 2) with P in [1, 2^16]"
        reject(operation, "phase_sums", expected, f"{phase_sums.dtype} {tuple(phase_sums.shape)}")
    shape = (phase.shape[0], phase_sums.shape[1], 2)
    check_alike(operation, "phase_sums", phase_sums, shape, torch.float64, device)


def _check_memory(
    operation: str,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    _low: float,
    _high: float,
    _width: int,
    phase_sums: torch.Tensor | None,
) -> None:
    read = [("magnitude", magnitude), ("phase", phase), ("phase_sums", phase_sums)]
    check_memory(operation, [], read)


def check_backward(
    operation: str,
    gradient: torch.Tensor,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    image: torch.Tensor,
    spectrum: torch.Tensor,
    statistics: torch.Tensor,
    low: float,
    high: float,
) -> None:
    """Raise TypeError or ValueError unless a gradient can go from an image back to its phase.

    Parameters
    ----------
    operation
        For messages.
    gradient, magnitude, phase, image, spectrum, statistics, low, high
        Of the operation.
    """
    check_layout(operation, "image", image)
    if image.ndim != 4:
        reject(operation, "image", "(N, C, H, W)", tuple(image.shape))
    width = image.shape[3]
    check_type(operation, "phase", phase, REAL)
    if phase.ndim != 4 or width // 2 + 1 != phase.shape[3]:
        expected = f"(N, C, H, {width // 2 + 1}) for an image of {width} columns"
        reject(operation, "phase", expected, tuple(phase.shape))
    check_phase(operation, magnitude, phase, low, high, width)
    dtype, device, images = phase.dtype, phase.device, phase.shape[0]
    sizes = (*phase.shape[:3], width)
    check_alike(operation, "image", image, sizes, dtype, device)
    check_alike(operation, "gradient", gradient, sizes, dtype, device)
    check_alike(operation, "spectrum", spectrum, _saved_shape(phase), complex_of(dtype), device)
    check_alike(operation, "statistics", statistics, (images, 4), torch.float64, device)


def _check_backward_memory(
    operation: str,
    gradient: torch.Tensor,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    image: torch.Tensor,
    spectrum: torch.Tensor,
    statistics: torch.Tensor,
    *_: float,
) -> None:
    read = [
        ("gradient", gradient), ("magnitude", magnitude), ("phase", phase), ("image", image),
        ("spectrum", spectrum), ("statistics", statistics),
    ]  # fmt: skip
    check_memory(operation, [], read)


register(
    _library,
    "phase_to_image",
    check=check_phase,
    check_memory=_check_memory,
    kernel=_native,
    reference=_reference,
    fake=_fake,
)
register(
    _library,
    "phase_to_image_backward",
    check=check_backward,
    check_memory=_check_backward_memory,
    kernel=backward,
    reference=backward_reference,
    fake=_fake_backward,
)


class _PhaseToImage(torch.autograd.Function):
    """The gradient with respect to the phase: by kernels; higher ones by the reference."""

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

    The phase is standardized, the spectrum transformed back, the image standardized, its colors
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
        (N, P, 2) float64: P numbers, at most 2^16, that add up to the sum of each phase, and to
        that of its squares, as `phase_update_` returns them, which saves a pass over the phase.
        They are not checked. They are accurate while the mean of a phase is not much larger than
        its deviation, which holds throughout a run.

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
        `fvfast.preconditioning.maco_image_parametrization` computes one.
    """
    require_tensor("phase_to_image", "magnitude", magnitude)
    require_tensor("phase_to_image", "phase", phase)
    if len(values_range) != 2:
        expected = "two finite numbers (low, high)"
        reject("phase_to_image", "values_range", expected, tuple(values_range))
    low, high = float(values_range[0]), float(values_range[1])
    check_range("phase_to_image", "values_range", low, high)
    differentiable = torch.is_grad_enabled() and phase.requires_grad
    if torch.is_grad_enabled() and magnitude.requires_grad:
        raise ValueError(
            "phase_to_image(): magnitude: expected a constant, got a tensor that requires a "
            "gradient"
        )
    if phase.device.type not in ("cpu", "cuda") or (differentiable and rounds_coarsely(low, high)):
        check_phase("phase_to_image", magnitude, phase, low, high, width, phase_sums)
        return phase_to_image_reference(magnitude, phase, low, high, width)
    if differentiable:
        image: torch.Tensor = _PhaseToImage.apply(magnitude, phase, low, high, width, phase_sums)
        return image
    arguments = (magnitude, phase, low, high, width, phase_sums)
    result: torch.Tensor = torch.ops.fvfast.phase_to_image(*arguments)[0]
    return result
