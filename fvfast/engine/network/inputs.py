"""Finds the shape of the images that a model expects, if the model declares it."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

DEFAULT_INPUT_SHAPE = (3, 224, 224)


def find_input_shape(model: nn.Module | None) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of one input image.

    Read, in this order, from: ``model.input_shape``; timm's ``patch_embed.img_size``, which a user
    may have set, ``pretrained_cfg`` or ``default_cfg``; a ``config`` with ``image_size``
    (transformers); ``image_size``, ``input_image_size`` or ``img_size``; the first convolution
    (number of channels only). What none of them says is taken from (3, 224, 224).
    """
    if model is None:
        return DEFAULT_INPUT_SHAPE
    declared = getattr(model, "input_shape", None)
    if isinstance(declared, Sequence) and _is_shape(tuple(declared)[-3:]):
        channels, height, width = (int(size) for size in tuple(declared)[-3:])
        return channels, height, width
    channels = _first_channels(model)
    patches = _declared_size(getattr(model, "patch_embed", None))
    if patches is not None:
        return channels, *patches
    for attribute in ("pretrained_cfg", "default_cfg"):
        settings = getattr(model, attribute, None)
        size = settings.get("input_size") if isinstance(settings, Mapping) else None
        if size is not None and _is_shape(tuple(size)):
            # This describes the weights; the user may have chosen another number of channels.
            return channels, int(size[1]), int(size[2])
    height, width = _declared_size(model) or DEFAULT_INPUT_SHAPE[1:]
    return channels, height, width


def _is_shape(shape: tuple[Any, ...]) -> bool:
    return len(shape) == 3 and all(isinstance(size, int) and size > 0 for size in shape)


def _first_channels(model: nn.Module) -> int:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return DEFAULT_INPUT_SHAPE[0]


def _declared_size(model: object) -> tuple[int, int] | None:
    for holder in (getattr(model, "config", None), model):
        for attribute in ("image_size", "input_image_size", "img_size"):
            size = getattr(holder, attribute, None)
            if isinstance(size, int) and size > 0:
                return size, size
            if isinstance(size, Sequence) and len(size) == 2:
                return int(size[0]), int(size[1])
    return None
