"""The objective that draws images toward themselves blurred."""

# ruff: noqa: N803 (T is Lucent's name for the function that returns features)

import torch
from torch.nn import functional

from fvfast.lucent.optvis.objective import Features, ObjectiveFunction, own_objective


@own_objective
def blur_input_each_step() -> ObjectiveFunction:
    """Draw the images toward themselves blurred.

    With a gradient step of size 1, ``-k * blur_input_each_step()`` replaces an image by
    (1 - k) image + k blurred (Nguyen et al., 2015).

    Returns
    -------
    objective
        Minus half of the sum of squares of the difference between the images and the images blurred
        by 3 x 3 pixels. Only the images have a gradient, not those that are blurred.
    """

    def loss(T: Features) -> torch.Tensor:
        images = T("input")
        with torch.no_grad():
            blurred = _blurred(images)
        return -0.5 * ((images - blurred) ** 2).sum()

    return loss


def _blurred(images: torch.Tensor) -> torch.Tensor:
    """Average 3 x 3 pixels, the one in the middle counted twice, of those that there are."""
    channels = images.shape[1]
    kernel = torch.full((channels, 1, 3, 3), 0.5, dtype=images.dtype, device=images.device)
    kernel[:, :, 1, 1] = 1
    sums, weights = (
        functional.conv2d(one, kernel, padding=1, groups=channels)
        for one in (images, torch.ones_like(images))
    )
    return sums / weights
