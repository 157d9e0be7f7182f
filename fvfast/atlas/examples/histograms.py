"""Histograms of numbers that come in batches, the same for all sizes of the batches."""

import torch

BINS = 32
# Bins are no narrower than the last bit of the largest number, so that every division is exact.
_MANTISSA_BITS = 24
_SMALLEST_EXPONENT = -1000  # of a bin's width, as long as all numbers are 0
_DISPLAYED_EXPONENT = 4  # a constant c is displayed with bins of about |c| / 2^4


class RunningHistograms:
    """The histograms of several rows of float32 numbers that come in batches.

    A bin is 2^e wide and begins at a multiple of its width. The exponent e of a row is the smallest
    with which 32 bins hold all its numbers, so these reach over half of them or more. Where a
    number lies outside, bins are joined in pairs until it fits. So the result is a function of the
    numbers alone, not of their order or of the batches, and no number is counted in the wrong bin.

    Parameters
    ----------
    rows
        Number U of histograms.
    device
        Where the counts are kept; it must have float64.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.counts = torch.zeros(rows, BINS, dtype=torch.int64, device=device)
        self.lowest = torch.full((rows,), torch.inf, dtype=torch.float64, device=device)
        self.highest = -self.lowest

    def add(self, values: torch.Tensor, finite: torch.Tensor) -> None:
        """Count numbers.

        Parameters
        ----------
        values
            float64 (U, B).
        finite
            bool (U, B): which of them count.
        """
        if not values.shape[1]:
            return
        exponent, origin = _layout(self.lowest, self.highest)
        self.lowest = self.lowest.minimum(values.where(finite, torch.inf).amin(1))
        self.highest = self.highest.maximum(values.where(finite, -torch.inf).amax(1))
        wider, start = _layout(self.lowest, self.highest)
        # Where the bins of before are now. Rows that were empty have only zeros to move.
        bins = origin[:, None] + torch.arange(BINS, device=values.device)
        moved = (bins >> (wider - exponent).clamp(0, 62)[:, None]) - start[:, None]
        counts = torch.zeros_like(self.counts)
        counts.scatter_add_(1, moved.clamp(0, BINS - 1), self.counts)
        places = _places(values.where(finite, 0.0), wider[:, None]) - start[:, None]
        counts.scatter_add_(1, places.clamp(0, BINS - 1), finite.to(torch.int64))
        self.counts = counts

    def edges(self) -> torch.Tensor:
        """Return the edges of the bins: float64 (U, 33); of an empty row, 0 to 1."""
        exponent, origin = _layout(self.lowest, self.highest)
        exponent, origin = self._widened(exponent, origin)
        steps = torch.arange(BINS + 1, device=origin.device)
        return (origin[:, None] + steps).double() * _power_of_two(exponent)[:, None]

    def _widened(
        self, exponent: torch.Tensor, origin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give rows with one number only, or none, bins that a person can read.

        All counts of such a row are in its first bin, so this changes its edges alone.
        """
        is_constant = self.lowest >= self.highest
        value = self.lowest.where(self.lowest.isfinite(), 0.0)
        size = torch.frexp(value.abs()).exponent.to(torch.int64) - 1
        display = size.where(value != 0, -1) - _DISPLAYED_EXPONENT
        exponent = torch.where(is_constant, display, exponent)
        return exponent, torch.where(is_constant, _places(value, exponent), origin)


def _layout(lowest: torch.Tensor, highest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return exponents (U,) of the widths, and the places (U,) of the first bins.

    A function of the smallest and largest number, and the wider their range, the wider the bins.
    """
    is_empty = lowest > highest
    low, high = lowest.where(~is_empty, 0.0), highest.where(~is_empty, 0.0)
    spread = torch.frexp(high - low).exponent.to(torch.int64)
    size = torch.frexp(torch.maximum(low.abs(), high.abs()))
    finest = (size.exponent.to(torch.int64) - _MANTISSA_BITS).where(
        size.mantissa != 0, _SMALLEST_EXPONENT
    )
    # 2^(spread - 1) <= range < 2^spread: 16 to 32 widths of 2^(spread - 5).
    narrow = torch.maximum(spread - 5, finest).where(high > low, finest)
    does_fit = _places(high, narrow) - _places(low, narrow) < BINS
    exponent = torch.where(does_fit, narrow, narrow + 1)
    return exponent, _places(low, exponent)


def _places(values: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Return which bins of width 2^exponent hold float32 values, counted from 0.0: int64."""
    return (values * _power_of_two(-exponent)).floor().to(torch.int64)


def _power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """Return 2^exponent as float64, exactly: a device's power function may round."""
    return ((exponent + 1023) << 52).view(torch.float64)
