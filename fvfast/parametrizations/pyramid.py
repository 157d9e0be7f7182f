"""A pyramid as what is optimized: the image is the sum of levels of all sizes.

A step along the gradient of a coarse level moves large parts of the image at once, so that large
forms come first; fine levels are added one by one over the first half of the run.

Sources: S. Fort and J. Whitaker, "Direct Ascent Synthesis: Revealing Hidden Generative
Capabilities in Discriminative Models" (2025); G. Cazenavette, A. Torralba, V. Sitzmann, "Dataset
Distillation for Pre-Trained Self-Supervised Vision Models" (NeurIPS 2025), which adds levels as the
run goes on.
"""

from collections.abc import Sequence

import torch

from fvfast.ops.philox import Purpose, draw_normal
from fvfast.ops.pyramid import pyramid_to_image
from fvfast.ops.reference.pyramid import pyramid_sizes
from fvfast.parametrizations.optimizers import OptimizerSpec, adam, ascend, bind_optimizer

START_STD = 0.3
"""Standard deviation of a level where it is the only one."""

GAIN = 2.0
"""Factor of the sum of all levels."""


class Pyramid:
    """The pyramids of N images.

    The state is (N, C, P): see `fvfast.ops.pyramid_to_image`. Levels that have not been added yet
    are 0, so an image that is put back to an earlier state is as it was then.

    Parameters
    ----------
    shape
        (C, H, W) of the images.
    identities
        Identities of the N images, which with the seed decide what a level starts from.
    seed
        Any integer.
    nb_steps
        Of the run: in its first half, levels are added at equal intervals.
    values_range
        (low, high) of the images.
    optimizer
        See `fvfast.maco`. Default: Adam with learning rate 0.1. It forgets its averages whenever a
        level is added.
    device
        Where the run takes place.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        identities: Sequence[int],
        *,
        seed: int,
        nb_steps: int,
        values_range: Sequence[float],
        optimizer: OptimizerSpec,
        device: torch.device,
    ) -> None:
        channels, *size = shape
        self._size = (size[0], size[1])
        self._sizes = pyramid_sizes(*self._size)
        self._identities = list(identities)
        self._seed = seed
        self._nb_steps = nb_steps
        self._values_range = values_range
        self._levels = self._grown_levels = 0
        self._ascents = 0
        self._grown: torch.Tensor | None = None  # the state with new levels, until the next step
        elements = sum(height * width for height, width in self._sizes)
        self.state = torch.zeros(len(identities), channels, elements, device=device)
        self._grow(1)
        self._take_over_growth()
        self.state.requires_grad_()
        self.optimizer = bind_optimizer(optimizer, self.state, adam)

    def image(self) -> torch.Tensor:
        """Return the images (N, C, H, W), attached to `source`."""
        levels = self._levels_at(self._ascents)
        if levels > self._levels:
            self._grow(levels)
        return self._image_of(self.source, levels)

    @property
    def source(self) -> torch.Tensor:
        """The state, or what it will be when it has taken the next step."""
        return self.state if self._grown is None else self._grown

    def render(self) -> torch.Tensor:
        """Return the images (N, C, H, W) of the state, without levels that are added later."""
        with torch.no_grad():
            return self._image_of(self.state, self._levels)

    def ascend(self, gradient: torch.Tensor) -> None:
        """Take one step up a gradient with respect to `source`."""
        if self._grown is not None:
            self._take_over_growth()
            self.optimizer.state.clear()
        ascend(self.optimizer, self.state, gradient)
        self._ascents += 1

    def _levels_at(self, step: int) -> int:
        count = len(self._sizes)
        return min(count, 1 + 2 * count * step // self._nb_steps)

    @torch.no_grad()
    def _grow(self, levels: int) -> None:
        """Make the state with more levels; the state itself changes only with the next step.

        If a run ends before that, its result is what the last step has made.
        """
        grown = self.state.detach().clone()
        parts = grown.split([height * width for height, width in self._sizes], dim=2)
        for level in range(self._levels, levels):
            for older in parts[:level]:
                older.mul_(level / (level + 1))
            drawn = draw_normal(
                (grown.shape[1], *self._sizes[level]), seed=self._seed, purpose=Purpose.LEVEL,
                identities=self._identities, step=level, device=grown.device,
            )  # fmt: skip
            parts[level].copy_(drawn.flatten(2).mul_(START_STD / (level + 1)))
        self._grown = grown.requires_grad_()
        self._grown_levels = levels

    def _take_over_growth(self) -> None:
        assert self._grown is not None
        with torch.no_grad():
            self.state.copy_(self._grown)
        self._grown, self._levels = None, self._grown_levels

    def _image_of(self, pyramid: torch.Tensor, levels: int) -> torch.Tensor:
        return pyramid_to_image(pyramid, self._size, self._values_range, levels=levels, gain=GAIN)
