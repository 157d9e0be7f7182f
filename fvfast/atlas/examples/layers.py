"""Reads the largest activation of each unit, and where it is, from the output of a layer."""

import dataclasses
import math

import torch

from fvfast.atlas.examples.units import ChosenUnits

_LARGEST_PRODUCT = 2**26  # activations of directions that are computed at once
_MOST_PREFIX_TOKENS = 9  # a class token and eight registers


@dataclasses.dataclass(frozen=True)
class Grid:
    """How the positions of a layer lie in the image.

    Attributes
    ----------
    height, width
        Rows and columns.
    prefix
        Tokens before those of the grid, such as a class token, which belong to no place.
    """

    height: int
    width: int
    prefix: int = 0

    def place(self, position: int) -> tuple[int, int] | None:
        """Return the row and column of a position; None for a token outside the grid."""
        index = position - self.prefix
        if not 0 <= index < self.height * self.width:
            return None
        return divmod(index, self.width)


class LayerReader:
    """Reads units of one layer.

    Attributes
    ----------
    units
        Which ones.
    grid
        How positions lie in the image; None where they do not.

    Parameters
    ----------
    units
        Which ones.
    input_size
        (H, W) of the network's input.
    largest_product
        How many activations of directions are computed at once, at most, if one direction of a
        batch has no more.
    """

    def __init__(
        self,
        units: ChosenUnits,
        input_size: tuple[int, int],
        *,
        largest_product: int = _LARGEST_PRODUCT,
    ) -> None:
        self.units = units
        self._largest_product = largest_product
        shape, axis = units.layer.shape, units.channel_axis
        beside = [size for i, size in enumerate(shape) if i != axis] if axis is not None else []
        self.grid = _grid(beside, input_size)
        self._indices = torch.tensor(units.indices, device="cpu")
        self._is_whole = units.indices == tuple(range(self._count()))

    def __len__(self) -> int:
        return len(self.units.indices)

    def place(self, unit: int, position: int) -> tuple[int, int] | None:
        """Return the row and column of a position in the layer's grid.

        Parameters
        ----------
        unit
            Which of the units, by its place among them.
        position
            What `largest` returned for it.
        """
        if self.grid is None:
            return None
        if self.units.kind in ("neuron", "class"):
            position = self._position_of_neuron(self.units.indices[unit])
        return self.grid.place(position)

    def largest(self, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the largest activation of each of the U units in each image.

        Parameters
        ----------
        output
            What the layer puts out for B images: (B, ...).

        Returns
        -------
        values
            float32 (U, B).
        positions
            int64 (U, B): of all positions with this activation the first, counted through the axes
            besides that of the channels; 0 for neurons.
        """
        if self.units.kind in ("neuron", "class"):
            values = self._chosen(output.flatten(1), 1).float().T
            return values, torch.zeros(values.shape, dtype=torch.int64, device=values.device)
        channels = self.by_channel(output)
        if self.units.directions is not None:
            return self._largest_along_directions(channels.float())
        values, positions = self._chosen(channels, 1).max(dim=2)
        return values.float().T, positions.T

    def _largest_along_directions(
        self, channels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.units.directions is not None
        self._directions = self.units.directions.to(channels.device)
        rows = max(1, self._largest_product // (channels.shape[0] * channels.shape[2]))
        found = [
            torch.matmul(part, channels).max(dim=2) for part in self._directions.split(rows)
        ]  # each (B, rows, P) before
        values, positions = zip(*found, strict=True)
        return torch.cat(values, dim=1).T, torch.cat(positions, dim=1).T

    def by_channel(self, output: torch.Tensor) -> torch.Tensor:
        """Return an output (B, ...) as (B, C, P): each channel at each position."""
        assert self.units.channel_axis is not None
        moved = output.movedim(self.units.channel_axis + 1, 1)
        return moved.reshape(*moved.shape[:2], -1)

    def _chosen(self, output: torch.Tensor, axis: int) -> torch.Tensor:
        if self._is_whole:
            return output
        self._indices = self._indices.to(output.device)
        return output.index_select(axis, self._indices)

    def _count(self) -> int:
        shape, axis = self.units.layer.shape, self.units.channel_axis
        if self.units.kind in ("neuron", "class"):
            return math.prod(shape)
        assert axis is not None
        return shape[axis]

    def _position_of_neuron(self, index: int) -> int:
        """Return the place of a neuron among the positions."""
        shape, axis = self.units.layer.shape, self.units.channel_axis
        coordinates: list[int] = []
        for size in reversed(shape):
            index, coordinate = divmod(index, size)
            coordinates.insert(0, coordinate)
        position = 0
        for i, (size, coordinate) in enumerate(zip(shape, coordinates, strict=True)):
            if i != axis:
                position = position * size + coordinate
        return position


def _grid(sizes: list[int], input_size: tuple[int, int]) -> Grid | None:
    """Find how positions along axes of these sizes lie in an image."""
    if len(sizes) == 2:
        return Grid(*sizes)
    return _token_grid(sizes[0], input_size) if len(sizes) == 1 else None


def _token_grid(tokens: int, input_size: tuple[int, int]) -> Grid | None:
    """Find the grid of a transformer's tokens: square patches that cover the image.

    The tokens that belong to no patch come first; there are as few of them as can be.
    """
    height, width = input_size
    for prefix in range(min(_MOST_PREFIX_TOKENS + 1, tokens)):
        side = math.isqrt(height * width // (tokens - prefix))
        fits = side > 0 and height % side == 0 and width % side == 0
        if fits and (height // side) * (width // side) == tokens - prefix:
            return Grid(height // side, width // side, prefix)
    return None
