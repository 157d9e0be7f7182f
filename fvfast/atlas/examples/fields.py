"""Which part of the image a position of a layer depends on, measured by gradients."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch

from fvfast.atlas.examples.layers import Grid, LayerReader
from fvfast.ops.philox import Purpose, draw_normal

SHARE = 0.8
"""A crop holds this share of what the activation depends on, on average over noise images."""
SMALLEST = 1 / 7
"""Smallest side of a crop, in shorter sides of the image: a few pixels alone show nothing."""
_WHOLE = 0.9  # a crop that is larger than this share of the image is all of it

# Where positions are probed, as fractions of the grid: not at borders, where fields are cut off.
_PROBED = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75)
# Strides that are fitted to what was measured may differ by this factor from an even grid's.
_PLAUSIBLE = 1.35

Box = tuple[int, int, int, int]
"""top, left, bottom, right, in pixels of the network's input."""


@dataclasses.dataclass(frozen=True)
class Field:
    """The part of the image that a position sees: a square around a center.

    Attributes
    ----------
    size
        (H, W) of the image.
    side
        Side of the square, in pixels; None for the whole image.
    origin, stride
        The center of the position (y, x) is ``origin + stride * (y, x)``, in pixels.
    """

    size: tuple[int, int]
    side: int | None = None
    origin: tuple[float, float] = (0.0, 0.0)
    stride: tuple[float, float] = (1.0, 1.0)

    def box(self, place: tuple[int, int] | None) -> Box:
        """Return the square around a position, moved into the image where it reaches beyond.

        Parameters
        ----------
        place
            Row and column; None gives the whole image.
        """
        if place is None or self.side is None:
            return 0, 0, *self.size
        corner = []
        for axis in (0, 1):
            center = self.origin[axis] + self.stride[axis] * place[axis]
            # Half away from zero; Python's round would go to even numbers.
            low = math.floor(center - self.side / 2 + 0.5)
            corner.append(min(max(low, 0), self.size[axis] - self.side))
        top, left = corner
        return top, left, top + self.side, left + self.side


def measure_fields(
    network: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    readers: Sequence[LayerReader],
    input_shape: tuple[int, int, int],
    values_range: tuple[float, float],
    device: torch.device,
) -> list[Field]:
    """Measure the field of each layer, by one pass forward and one backward for each.

    Images of noise go through the network, each for another position near the middle of the layer.
    The gradient of a random combination of the channels there shows what the position depends on:
    where its center is, and how large a square holds `SHARE` of the gradient.

    Parameters
    ----------
    network
        Returns the output of each reader's layer, with gradients.
    readers
        The layers.
    input_shape, values_range, device
        Of images.

    Returns
    -------
    fields
        One for each reader; the whole image for layers without a grid, or through which no
        gradient passes.
    """
    size = input_shape[1:]
    if all(reader.grid is None for reader in readers):
        return [Field(size) for _ in readers]
    low, high = values_range
    noise = draw_normal(
        (len(_PROBED), *input_shape), seed=0, purpose=Purpose.STATE, identities=[0]
    )[0].sigmoid()
    with torch.enable_grad():
        images = (low + (high - low) * noise).to(device).requires_grad_()
        outputs = network(images)
        return [
            _measure(reader, output, images, keep=index < len(readers) - 1)
            for index, (reader, output) in enumerate(zip(readers, outputs, strict=True))
        ]


def _measure(
    reader: LayerReader, output: torch.Tensor, images: torch.Tensor, *, keep: bool
) -> Field:
    size = (images.shape[2], images.shape[3])
    grid = reader.grid
    if grid is None or grid.height * grid.width == 1 or not output.requires_grad:
        return Field(size)
    rows = [min(int(share * grid.height), grid.height - 1) for share in _PROBED]
    columns = [min(int(share * grid.width), grid.width - 1) for share in _PROBED]
    channels = reader.by_channel(output)
    weights = draw_normal(
        (channels.shape[1],), seed=0, purpose=Purpose.STATE, identities=[1], device=output.device
    )[0]
    positions = [grid.prefix + y * grid.width + x for y, x in zip(rows, columns, strict=True)]
    picked = channels[torch.arange(len(positions)), :, positions].float()
    (gradient,) = torch.autograd.grad(
        (picked * weights).sum(), images, retain_graph=keep, materialize_grads=True
    )
    mass = gradient.abs().sum(1).double().cpu()
    totals = mass.sum((1, 2), keepdim=True)
    if not bool(totals.isfinite().all() & (totals > 0).all()):
        return Field(size)
    return _fit(mass / totals, (rows, columns), grid)


def _fit(mass: torch.Tensor, places: tuple[list[int], list[int]], grid: Grid) -> Field:
    """Fit a field to shares (N, H, W) of gradients of N positions."""
    size = (mass.shape[1], mass.shape[2])
    lines = [
        _fit_line(mass.sum(2), places[0], size[0] / grid.height),
        _fit_line(mass.sum(1), places[1], size[1] / grid.width),
    ]
    (origin_y, stride_y), (origin_x, stride_x) = lines
    distances = []
    for y, x in zip(*places, strict=True):
        from_center = [
            (torch.arange(length) + 0.5 - (origin + stride * place)).abs()
            for length, (origin, stride), place in zip(size, lines, (y, x), strict=True)
        ]
        distances.append(torch.maximum(from_center[0][:, None], from_center[1][None, :]))
    # All images together: a share of their mean.
    order = torch.stack(distances).flatten().sort()
    collected = mass.flatten()[order.indices].cumsum(0) / len(mass)
    index = int(torch.searchsorted(collected, SHARE).clamp(max=len(collected) - 1))
    # A pixel at this distance has its far edge half a pixel further.
    side = math.ceil(2 * (float(order.values[index]) + 0.5) - 1e-6)
    shorter = min(size)
    if side > _WHOLE * shorter:
        return Field(size)
    side = max(side, math.ceil(SMALLEST * shorter))
    return Field(size, side, (origin_y, origin_x), (stride_y, stride_x))


def _fit_line(profiles: torch.Tensor, places: list[int], even: float) -> tuple[float, float]:
    """Return the center of place 0 and the distance of places, along one axis.

    Parameters
    ----------
    profiles
        (N, L): what each of N places depends on, along the axis.
    places
        The N places.
    even
        Distance of places that are spread evenly over the axis.
    """
    seen = profiles > 0
    first = seen.int().argmax(1)
    last = profiles.shape[1] - 1 - seen.flip(1).int().argmax(1)
    is_inside = (first > 0) & (last < profiles.shape[1] - 1)
    if len({place for place, inside in zip(places, is_inside, strict=True) if inside}) > 1:
        chosen = is_inside
        centers = (first + last + 1) / 2
    else:  # all fields reach a border: where half of the gradient lies on each side
        chosen = torch.ones_like(is_inside)
        half = profiles.cumsum(1)
        centers = (half >= 0.5).int().argmax(1) + 0.5
    x = torch.tensor(places, dtype=torch.float64)[chosen]
    y = centers.double()[chosen]
    spread = (x - x.mean()).square().sum()
    stride = even
    if spread > 0:
        stride = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    if not even / _PLAUSIBLE < stride < even * _PLAUSIBLE:
        return even / 2, even
    return float(y.mean() - stride * x.mean()), stride
