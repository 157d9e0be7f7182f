"""Checks the user's preprocessing, which images pass through before the network."""

from collections.abc import Callable
from typing import Any

import torch

from fvfast.engine.borrowing.randomness import drawn_from

Preprocess = Callable[[torch.Tensor], torch.Tensor]

_ADVICE = (
    "preprocess= takes a float tensor (N, C, H, W) with values in values_range and returns one, by "
    "operations of torch that pass gradients on, such as torchvision.transforms.Normalize(mean, "
    "std) or lambda images: (images - mean) / std. Transforms for files (ToTensor, PIL), "
    "processors that return dictionaries, and numpy do not fit: leave their normalization only."
)


def check_preprocess(
    preprocess: Preprocess, input_shape: tuple[int, ...], device: torch.device
) -> None:
    """Run the preprocessing on one image of zeros.

    Parameters
    ----------
    preprocess
        What the user gave.
    input_shape
        (C, H, W) of one image.
    device
        Where the image is.

    Raises
    ------
    ValueError
        The preprocessing fails, returns anything but a tensor of floating-point numbers, or passes
        no gradient.
    """
    # Not a leaf tensor, so that the preprocessing may change it in place.
    with torch.enable_grad():
        image = torch.zeros(1, *input_shape, device=device).requires_grad_() * 1
        try:
            with drawn_from(0, 0, device):
                result: Any = preprocess(image)
        except Exception as error:
            raise ValueError(
                f"preprocess ({_name(preprocess)}) failed on one image of zeros, a float tensor of "
                f"shape (1, {', '.join(map(str, input_shape))}): {type(error).__name__}: {error} "
                f"{_ADVICE}"
            ) from error
    found = None
    if not isinstance(result, torch.Tensor):
        found = f"returned a {type(result).__name__}"
    elif not result.is_floating_point():
        found = f"returned a tensor of {result.dtype}, which carries no gradient"
    elif not result.requires_grad:
        found = "returned a tensor that no gradient passes through (numpy, detach() or no_grad())"
    if found is not None:
        raise ValueError(
            f"preprocess ({_name(preprocess)}) {found}; expected a float tensor. {_ADVICE}"
        )


def _name(preprocess: Preprocess) -> str:
    """Return the name of a function, or of an object's class, since a repr may be long."""
    return getattr(preprocess, "__name__", type(preprocess).__name__)
