"""Finds the shape of the images that a model expects, if the model declares it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

DEFAULT_INPUT_SHAPE = (3, 224, 224)

USUAL_SIDES = (28, 32, 64, 8, 16, 48, 96, 128, 160, 192, 256, 299, 384, 448, 512)
"""Sides of images to try, where 224 does not fit: of MNIST, CIFAR, Tiny ImageNet, and others."""


def find_input_shape(model: nn.Module | None) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of one input image.

    Read, in this order, from: ``model.input_shape``; timm's ``patch_embed.img_size``, which a user
    may have set, ``pretrained_cfg`` or ``default_cfg``; a ``config`` with ``image_size``
    (transformers); ``image_size``, ``input_image_size`` or ``img_size``; the first convolution
    (number of channels only). What none of them says is taken from (3, 224, 224).
    """
    if model is None:
        return DEFAULT_INPUT_SHAPE
    declared = _declared_shape(model)
    if declared is not None:
        return declared
    height, width = declared_size(model) or DEFAULT_INPUT_SHAPE[1:]
    return _first_channels(model), height, width


def declared_size(model: nn.Module) -> tuple[int, int] | None:
    """Return the (H, W) that a network declares: see `find_input_shape`; None if it is silent."""
    declared = _declared_shape(model)
    if declared is not None:
        return declared[1:]
    patches = _size_attribute(getattr(model, "patch_embed", None))
    if patches is not None:
        return patches
    for attribute in ("pretrained_cfg", "default_cfg"):
        settings = getattr(model, attribute, None)
        size = settings.get("input_size") if isinstance(settings, Mapping) else None
        if size is not None and _is_shape(tuple(size)):
            # Its channels describe the weights; the user may have chosen another number.
            return int(size[1]), int(size[2])
    return _size_attribute(model)


def usual_shapes(model: nn.Module) -> list[tuple[int, int, int]]:
    """List shapes of images that a network may take if it declares none, the likeliest first.

    A linear layer before any convolution says how many numbers it takes: those of a square image,
    in gray or in color. Otherwise the sides are those of well-known data sets.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return [(module.in_channels, side, side) for side in USUAL_SIDES]
        if isinstance(module, nn.Linear):
            flat = [(c, math.isqrt(module.in_features // c)) for c in (1, 3)]
            return [(c, s, s) for c, s in flat if c * s * s == module.in_features]
    return []


def _declared_shape(model: nn.Module) -> tuple[int, int, int] | None:
    declared = getattr(model, "input_shape", None)
    if isinstance(declared, Sequence) and _is_shape(tuple(declared)[-3:]):
        channels, height, width = (int(size) for size in tuple(declared)[-3:])
        return channels, height, width
    return None


def _is_shape(shape: tuple[Any, ...]) -> bool:
    return len(shape) == 3 and all(isinstance(size, int) and size > 0 for size in shape)


def _first_channels(model: nn.Module) -> int:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return DEFAULT_INPUT_SHAPE[0]


def _size_attribute(model: object) -> tuple[int, int] | None:
    for holder in (getattr(model, "config", None), model):
        for attribute in ("image_size", "input_image_size", "img_size"):
            size = getattr(holder, attribute, None)
            if isinstance(size, int) and size > 0:
                return size, size
            if isinstance(size, Sequence) and len(size) == 2:
                return int(size[0]), int(size[1])
    return None
