"""Reads channels, positions and directions in the output of a layer, and checks them."""

from typing import Any, SupportsIndex

import torch

from fvfast.objectives.targets import check_index


def channel_of(activations: torch.Tensor, layer: str, channel: Any) -> torch.Tensor:
    """Return a channel (N, ...) of activations (N, C, ...), or several for a list or a slice.

    Raises
    ------
    ValueError
        The index is out of range, or the layer has no channels.
    """
    tensor = _checked(activations, layer, 2, "channels")
    if isinstance(channel, SupportsIndex):
        what = f"n_channel, of layer {layer!r} with an output of {tuple(tensor.shape[1:])}"
        channel = check_index(int(channel), tensor.shape[1], what)
    return tensor[:, channel]


def position(activations: torch.Tensor, layer: str, x: int | None, y: int | None) -> torch.Tensor:
    """Return activations (N, C, 1, 1) at a column and a row; by default those in the middle."""
    return area(activations, layer, x, y, 1, 1)


def area(
    activations: torch.Tensor, layer: str, x: int | None, y: int | None, width: int, height: int
) -> torch.Tensor:
    """Return activations (N, C, height, width) from a column and a row on, as far as there are any.

    Raises
    ------
    ValueError
        The position is out of range, or the layer has no height and width.
    """
    tensor = _checked(activations, layer, 4, "height and width")
    starts = [
        size // 2 if start is None else check_index(start, size, f"{name}, of layer {layer!r}")
        for name, start, size in (("y", y, tensor.shape[2]), ("x", x, tensor.shape[3]))
    ]
    top, left = starts
    return tensor[:, :, top : top + height, left : left + width]


def _checked(activations: Any, layer: str, axes: int, what: str) -> torch.Tensor:
    if not isinstance(activations, torch.Tensor):
        raise TypeError(
            f"layer {layer!r} puts out a {type(activations).__name__}, not a tensor: read a layer "
            "in it, or choose in a function of T: lambda T: -T(layer)[0].mean()."
        )
    if activations.ndim < axes:
        raise ValueError(
            f"layer {layer!r} puts out a tensor of shape {tuple(activations.shape)}, which has no "
            f"{what}: read another layer, or another objective of this one."
        )
    return activations


class ChannelVector:
    """A weight for each channel, copied once to each device that asks for it.

    Parameters
    ----------
    values
        (C,), or anything with as many numbers.
    name
        Of the argument, for messages.
    """

    def __init__(self, values: Any, name: str) -> None:
        try:
            # Not detached: a user may optimize it, too.
            self._own = torch.as_tensor(values).flatten()
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"{name} must be a tensor with a number for each channel, got "
                f"{type(values).__name__}."
            ) from error
        self._name = name
        self._copies: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}

    def beside(self, activations: torch.Tensor, layer: str) -> torch.Tensor:
        """Return the vector in a shape that broadcasts to activations (N, C, ...).

        Raises
        ------
        ValueError
            It has another number of channels.
        """
        tensor = _checked(activations, layer, 2, "channels")
        if len(self._own) != tensor.shape[1]:
            raise ValueError(
                f"{self._name} has {len(self._own)} numbers, and layer {layer!r} has "
                f"{tensor.shape[1]} channels (its output is {tuple(tensor.shape[1:])}); expected "
                "one for each channel."
            )
        # A copy in each step could not be captured in a CUDA graph.
        key = (tensor.device, tensor.dtype)
        if key not in self._copies or self._own.requires_grad:
            self._copies[key] = self._own.to(*key)
        return self._copies[key].view(1, -1, *[1] * (tensor.ndim - 2))
