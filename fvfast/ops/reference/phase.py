"""The phase's operations in plain PyTorch.

Source of the parametrization: T. Fel et al., "Unlocking Feature Visualization for Deeper Networks
with MAgnitude Constrained Optimization" (NeurIPS 2023).
"""

import torch

from fvfast.ops.colors import recorrelate_colors

# Keeps a constant phase or a constant image finite when it is standardized (as in Xplique).
STANDARDIZATION_EPSILON = 1e-5


def standardize(values: torch.Tensor) -> torch.Tensor:
    """Mean 0 and population standard deviation 1 over the last three dimensions, jointly.

    Parameters
    ----------
    values
        (..., C, H, W). Leading dimensions are images, each with its own statistics.

    Returns
    -------
    values
        Same shape and dtype. Constant values become 0.
    """
    axes = (-3, -2, -1)
    centered = values - values.mean(axes, keepdim=True)
    # std() rather than sqrt(mean(x^2)): its gradient is 0, not NaN, where the values are constant.
    deviation = centered.std(axes, correction=0, keepdim=True)
    return centered / (deviation + STANDARDIZATION_EPSILON)


def half_spectrum_image(magnitude: torch.Tensor, phase: torch.Tensor, width: int) -> torch.Tensor:
    """Image of a half spectrum, with mean 0 and population standard deviation 1.

    Parameters
    ----------
    magnitude
        (..., C, H, W // 2 + 1), not negative; broadcasts with ``phase``.
    phase
        (..., C, H, W // 2 + 1), radians, used as it is.
    width
        W. The half spectrum alone does not tell an even width from the odd one above it.

    Returns
    -------
    image
        (..., C, H, W), standardized over all pixels and channels of each image jointly.
    """
    spectrum = torch.polar(magnitude.expand_as(phase), phase)
    if width == 1:
        # cuFFT takes the only column for conjugate symmetric, which it need not be.
        return standardize(torch.fft.ifft(spectrum, dim=-2).real)
    return standardize(torch.fft.irfft2(spectrum, s=(phase.shape[-2], width)))


def phase_to_image_reference(
    magnitude: torch.Tensor, phase: torch.Tensor, low: float, high: float, width: int
) -> torch.Tensor:
    """Image of a phase under a fixed magnitude: see `fvfast.ops.phase_to_image`.

    Parameters
    ----------
    magnitude
        (C, H, W // 2 + 1), float32 or float64.
    phase
        (..., C, H, W // 2 + 1), the same type.
    low, high
        Range of the image.
    width
        W.

    Returns
    -------
    image
        (..., C, H, W), differentiable any number of times with respect to both.
    """
    image = half_spectrum_image(magnitude, standardize(phase), width)
    if image.shape[-3] == 3:
        image = recorrelate_colors(image)
    return image.sigmoid() * (high - low) + low


def phase_update_reference_(
    phase: torch.Tensor,
    gradient: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *,
    betas: tuple[float, float],
    gradient_rate: float | torch.Tensor,
    momentum_rate: float | torch.Tensor,
    correction: float | torch.Tensor,
    epsilon: float,
) -> torch.Tensor:
    """Take one step of NAdam in place: see `fvfast.ops.phase_update_`.

    Parameters
    ----------
    phase, gradient, exp_avg, exp_avg_sq
        (N, ...) of one type. All but the gradient are updated.
    betas
        Decay of the two averages.
    gradient_rate, momentum_rate
        Steps along the gradient and along its average: numbers, or float64 scalars on the device.
    correction
        Divides the average of the squares; as these.
    epsilon
        Added to the root of that.

    Returns
    -------
    phase_sums
        (N, 1, 2) float64: sum of each new phase, and of its squares.
    """
    exp_avg.lerp_(gradient, 1 - betas[0])
    exp_avg_sq.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    size = (exp_avg_sq / correction).sqrt() + epsilon
    phase.add_((gradient_rate * gradient + momentum_rate * exp_avg) / size)
    new = phase.double().flatten(1)
    return torch.stack((new.sum(1), new.square().sum(1)), dim=1)[:, None]
