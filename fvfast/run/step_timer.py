"""Times the steps of a run on the device, without making the host wait for it."""

import math

import torch

SETUP_STEPS = 16
"""Steps at the beginning that are not timed: in them graphs are captured and compared."""


class StepTimer:
    """Measures the time of a step on a GPU.

    Parameters
    ----------
    device
        Where the run takes place. Nothing is measured on others.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._first: tuple[int, torch.cuda.Event] | None = None
        self._last: tuple[int, torch.cuda.Event] | None = None

    def after(self, steps: int) -> None:
        """Note that so many steps have been given to the device."""
        if self._device.type == "cuda" and steps >= SETUP_STEPS:
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            if self._first is None:
                self._first = steps, event
            self._last = steps, event

    def seconds_per_step(self) -> float:
        """Return the mean over the steps that were timed, NaN if there are none; waits for them."""
        if self._first is None or self._last is None or self._first[0] == self._last[0]:
            return math.nan
        (first, began), (last, ended) = self._first, self._last
        ended.synchronize()
        return began.elapsed_time(ended) / 1e3 / (last - first)
