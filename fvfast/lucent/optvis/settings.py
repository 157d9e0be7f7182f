"""The arguments of `fvfast.lucent.optvis.render.render_vis`, checked before any work."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from fvfast._shared.checks import check_count
from fvfast.lucent.optvis.display import DEFAULT_NAME, check_image_name
from fvfast.lucent.optvis.param.color import ImageFunction
from fvfast.lucent.optvis.transform import (
    Transformation,
    aligned_resize,
    normalize,
    preprocess_inceptionv1,
)

SMALLEST_SIDE = 224
"""Images with a shorter side are enlarged to this size."""

MakeOptimizer = Callable[[list[torch.Tensor]], torch.optim.Optimizer]


def default_optimizer(params: list[torch.Tensor]) -> torch.optim.Optimizer:
    """Make Lucent's optimizer."""
    return torch.optim.Adam(params, lr=5e-2)


@dataclasses.dataclass(frozen=True)
class Images:
    """What is optimized, and the images that it makes.

    Attributes
    ----------
    parameters
        The tensors.
    make
        Returns the images (N, C, H, W).
    """

    parameters: list[torch.Tensor]
    make: ImageFunction

    @staticmethod
    def of(made: Any) -> "Images":
        """Read what a user's ``param_f`` returned.

        Raises
        ------
        TypeError, ValueError
            It is not a pair of tensors that can be optimized, and a function.
        """
        if not (isinstance(made, (tuple, list)) and len(made) == 2 and callable(made[1])):
            raise TypeError(
                "param_f must return a list of tensors, and a function without arguments that "
                f"returns the images, such as param.image(128); it returned {_brief(made)}."
            )
        params, make = made
        tensors = [params] if isinstance(params, torch.Tensor) else list(params)
        if not tensors or not all(isinstance(one, torch.Tensor) for one in tensors):
            raise TypeError(
                f"param_f returned {_brief(tensors)} to be optimized; expected at least one tensor."
            )
        if not any(one.requires_grad for one in tensors):
            raise ValueError(
                "param_f returned tensors of which none requires a gradient: call "
                "requires_grad_(True) on those to be optimized."
            )
        return Images(tensors, make)

    def __call__(self) -> torch.Tensor:
        """Return the images.

        Raises
        ------
        ValueError
            They are no tensor (N, C, H, W).
        """
        images: Any = self.make()
        if not isinstance(images, torch.Tensor) or images.ndim != 4 or 0 in images.shape:
            found = tuple(images.shape) if isinstance(images, torch.Tensor) else _brief(images)
            raise ValueError(
                f"the image function of param_f returned {found}; expected a tensor (N, C, H, W)."
            )
        return images


def check_functions(**functions: Any) -> None:
    """Raise TypeError unless each argument is a function or None."""
    for name, function in functions.items():
        if function is not None and not callable(function):
            advice = {
                "param_f": "for example lambda: param.image(128)",
                "optimizer": "which makes one: lambda params: torch.optim.Adam(params, lr=0.05)",
            }[name]
            raise TypeError(f"{name} must be a function, {advice}; got {_brief(function)}.")


def checked_thresholds(thresholds: Any) -> list[int]:
    """Return the steps after which images are kept, in order.

    Raises
    ------
    TypeError, ValueError
        They are not integers of at least 1, or there are none.
    """
    if not isinstance(thresholds, Iterable) or isinstance(thresholds, str):
        raise TypeError(
            f"thresholds must be a list of numbers of steps, got {thresholds!r}; for one, write "
            "thresholds=(512,), with a comma."
        )
    steps = {check_count(step, "a step of thresholds", 1) for step in thresholds}
    if not steps:
        raise ValueError("thresholds is empty; expected at least one number of steps: (512,).")
    return sorted(steps)


def checked_transforms(transforms: Any) -> list[Transformation]:
    """Return a list of functions of images; raise TypeError if it is none."""
    if callable(transforms) or not isinstance(transforms, Sequence):
        raise TypeError(
            "transforms must be a list of functions of images, such as [transform.jitter(8)], got "
            f"{_brief(transforms)}."
        )
    for one in transforms:
        if not callable(one):
            raise TypeError(f"transforms must be functions of images, got {_brief(one)}.")
    return list(transforms)


def checked_size(fixed_image_size: Any) -> tuple[int, int] | None:
    """Return (H, W) of ``fixed_image_size``: one number is a square; None stays None."""
    if fixed_image_size is None:
        return None
    pair = fixed_image_size
    if not isinstance(pair, Sequence) or isinstance(pair, str):
        pair = [pair, pair]
    if len(pair) != 2:
        raise ValueError(
            f"fixed_image_size must be one number, or (height, width), got {fixed_image_size!r}."
        )
    height, width = (check_count(size, "fixed_image_size", 1) for size in pair)
    return height, width


def what_the_network_sees(
    model: nn.Module,
    transforms: Sequence[Transformation],
    images: torch.Tensor,
    *,
    preprocess: bool,
    fixed_image_size: tuple[int, int] | None,
) -> list[Transformation]:
    """Return all that happens to images before the network sees them.

    Parameters
    ----------
    model
        The network.
    transforms
        The transformations.
    images
        (N, C, H, W), of which the shape is read.
    preprocess, fixed_image_size
        See `fvfast.lucent.optvis.render.render_vis`.
    """
    steps = list(transforms)
    if preprocess:
        is_lucids = type(model).__name__ == "InceptionV1"
        steps.append(preprocess_inceptionv1() if is_lucids else normalize())
    if fixed_image_size is not None:
        steps.append(aligned_resize(fixed_image_size))
    elif min(images.shape[2:]) < SMALLEST_SIDE:
        steps.append(aligned_resize((SMALLEST_SIDE, SMALLEST_SIDE)))
    return steps


def checked_name(image_name: Any, *, save_image: bool) -> str:
    """Return the name of the file to save, which can be written if it is to be."""
    name = DEFAULT_NAME if image_name is None else image_name
    if save_image:
        check_image_name(name)
    return name


def checked_optimizer(made: Any) -> torch.optim.Optimizer:
    """Return what a user's function made; raise TypeError unless it is an optimizer."""
    if callable(getattr(made, "step", None)) and callable(getattr(made, "zero_grad", None)):
        optimizer: torch.optim.Optimizer = made
        return optimizer
    raise TypeError(
        f"optimizer returned {_brief(made)}; expected a function that returns an optimizer: "
        "lambda params: torch.optim.Adam(params, lr=0.05)."
    )


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
