"""How many images are drawn together on a GPU: more, as long as that saves time and fits."""

import dataclasses
import math

import torch

from fvfast.engine.memory import available_memory

SAVES = 0.95
"""A larger batch pays if a step takes at most this share of the time for each image."""

SHARE = 0.6
"""Of the free memory, that a larger batch may be expected to take.

Networks keep what they compute on the way forward, and algorithms with more memory than that of the
batch before may be chosen.
"""


@dataclasses.dataclass(frozen=True)
class BatchCost:
    """What a batch has cost.

    Attributes
    ----------
    images
        How many there were.
    seconds_per_step
        Of all of them; NaN if it was not measured.
    peak_bytes
        The most memory of the device that tensors took during the batch; 0 if that is unknown.
    free_bytes
        What could be allocated besides what was there before the batch; None if that is unknown.
    """

    images: int
    seconds_per_step: float
    peak_bytes: int
    free_bytes: int | None


class BatchSizes:
    """Chooses the next batch from what the last ones have cost.

    It is doubled until a step takes no less time for each image, or until the next batch might not
    fit the memory; the pictures are the same, up to rounding.

    Parameters
    ----------
    first
        Images of the first batch.
    grows
        Whether to try larger ones.

    Attributes
    ----------
    size
        Images of the next batch.
    """

    def __init__(self, first: int, *, grows: bool) -> None:
        self.size = first
        self._grows = grows
        self._best = math.inf  # seconds of an image in a step
        self._best_size = first

    def learn(self, cost: BatchCost) -> None:
        """Choose the size of the next batch."""
        if not self._grows or cost.images != self.size or math.isnan(cost.seconds_per_step):
            return
        each = cost.seconds_per_step / cost.images
        if each > SAVES * self._best:
            self.size, self._grows = self._best_size, False
            return
        self._best, self._best_size = each, self.size
        needed = cost.peak_bytes / cost.images * 2 * self.size
        if cost.free_bytes is None or needed > SHARE * cost.free_bytes:
            self._grows = False
            return
        self.size *= 2


class CostMeter:
    """Measures the cost of batches on a device.

    Parameters
    ----------
    device
        Where they are drawn; costs are only measured on GPUs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = 0
        self._free: int | None = None

    def begin(self) -> None:
        """Begin a batch."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
            self._free = available_memory(self._device)

    def end(self, images: int, seconds_per_step: float) -> BatchCost:
        """Return what the batch has cost."""
        peak = 0
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device) - self._before
        return BatchCost(images, seconds_per_step, peak, self._free)
