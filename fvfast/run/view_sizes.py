"""Views that are smaller than the network's input in a part of the steps."""

import dataclasses
from collections.abc import Sequence

import torch

from fvfast.engine.passes import Scorer
from fvfast.engine.taps import TappedModel
from fvfast.objectives import Objective
from fvfast.run.schedules import Schedule

STRIDE = 32
"""Sides are multiples of this, the stride of most networks, or the network's own."""


@dataclasses.dataclass(frozen=True)
class ViewSizes:
    """The size of the views in each step.

    Attributes
    ----------
    full
        (h, w) that the network takes.
    fraction_at
        Side of the views as a fraction of that, above 0 and at most 1.
    nb_steps
        Of the run.
    """

    full: tuple[int, int]
    fraction_at: Schedule
    nb_steps: int

    def at(self, step: int) -> tuple[int, int]:
        """Return (h, w) of the views of a step."""
        fraction = self.fraction_at(step)
        if not 0 < fraction <= 1:
            raise ValueError(
                f"view_size must be above 0 and at most 1, a fraction of the network's input; got "
                f"{fraction:g} in step {step}."
            )
        height, width = (_rounded(side, fraction) for side in self.full)
        return height, width

    @property
    def ends(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The sizes of the first and of the last step."""
        return self.at(0), self.at(self.nb_steps - 1)

    @property
    def largest_step(self) -> int:
        """The end of the run at which views are larger."""
        first, last = self.ends
        return 0 if first >= last else self.nb_steps - 1


def _rounded(side: int, fraction: float) -> int:
    if side <= STRIDE:
        return side
    return (
        min(side, max(STRIDE, round(side * fraction / STRIDE) * STRIDE)) if fraction < 1 else side
    )


def why_not_smaller(
    objective: Objective,
    tapped: TappedModel,
    scorer: Scorer,
    images: int,
    sizes: Sequence[tuple[int, int]],
    device: torch.device,
) -> str:
    """Say why a network cannot be shown smaller views; empty if it can.

    Parameters
    ----------
    objective
        What is scored.
    tapped, scorer
        Its network, and the scorer of all images.
    images
        How many.
    sizes
        (h, w) of the views that it will be shown.
    device
        Of the network.
    """
    channels, *full = objective.image_shape
    height, width = min(sizes)
    if [height, width] == full:
        return ""
    try:
        with torch.no_grad():
            whole = tapped(torch.zeros(images, channels, *full, device=device))
            small = tapped(torch.zeros(images, channels, height, width, device=device))
            for score, large, little in zip(objective.funcs, whole, small, strict=True):
                shape, usual = tuple(little.shape[1:]), tuple(large.shape[1:])
                if not score.takes_shape(shape, usual):
                    return (
                        f"the objective depends on the shape of a layer's output, which is then "
                        f"{_product(shape)} instead of {_product(usual)}"
                    )
            if not objective.runs_user_code:
                scorer(small)
    except Exception as error:  # noqa: BLE001 (whatever a network fails with)
        first_line = next(iter(str(error).strip().splitlines()), "")
        return f"the network fails with them ({type(error).__name__}: {first_line[:160]})"
    return ""


def _product(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
