"""Finds the layers of a network whose activations say most about an image's look."""

import torch
from torch import nn

from fvfast.engine.network.layers import LayerInfo, Preprocess, trace_layers


def first_and_last_block(
    model: nn.Module, input_shape: tuple[int, ...], preprocess: Preprocess | None
) -> list[str]:
    """Return the names of a network's first and last block, as they stand in it.

    Blocks are the modules with children that stand in a list or sequence, and are not lists of
    blocks themselves; where a network has none, its leaf modules take their place. Only outputs
    with an axis of channels and several positions count.

    Raises
    ------
    ValueError
        The network has no such module.
    """
    layers = trace_layers(model, input_shape, preprocess)
    known = {layer.name: layer for layer in layers if _has_positions(layer)}
    blocks = [
        f"{name}.{child}".lstrip(".")
        for name, module in model.named_modules()
        if isinstance(module, (nn.Sequential, nn.ModuleList))
        for child, inside in module.named_children()
        if _is_block(inside)
    ]
    named = [name for name in blocks if name in known and not _is_inside(name, blocks)]
    if not named:
        called = [layer for layer in known.values() if layer.index is not None]
        named = [layer.name for layer in sorted(called, key=lambda layer: layer.index or 0)]
    if not named:
        raise ValueError(
            f"the model ({type(model).__name__}) has no layer whose output has channels at several "
            "positions, so an image's look cannot be read from it."
        )
    return list(dict.fromkeys([named[0], named[-1]]))


def batch_normalizations(
    model: nn.Module, input_shape: tuple[int, ...], preprocess: Preprocess | None
) -> dict[str, nn.Module]:
    """Return a network's batch normalizations with running statistics, by name."""
    called = {layer.name for layer in trace_layers(model, input_shape, preprocess) if layer.calls}
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and isinstance(module.running_var, torch.Tensor)
        and name in called
    }


def _is_block(module: nn.Module) -> bool:
    children = list(module.children())
    is_plain_list = type(module) in (nn.Sequential, nn.ModuleList)
    return bool(children) and not (is_plain_list and all(any(c.children()) for c in children))


def _is_inside(name: str, others: list[str]) -> bool:
    return any(name.startswith(f"{other}.") for other in others)


def _has_positions(layer: LayerInfo) -> bool:
    if layer.shape is None or layer.channel_axis is None or len(layer.shape) < 2:
        return False
    count = 1
    for size in layer.shape:
        count *= size
    return count > layer.shape[layer.channel_axis]
