"""Settings of the runs that show the network noisy crops of an image."""

import dataclasses
from typing import Any, ClassVar

import torch

from fvfast._shared.checks import check_count
from fvfast.run.presets import DEFAULT_BOX_SIZE, FALLING_NOISE, find_preset
from fvfast.run.schedules import Schedule, ScheduleSpec, schedule_of
from fvfast.run.settings import ImageShape, Settings
from fvfast.run.views import Crops

SMALL_INPUT = 64
"""Side of the images from which on networks are usually trained on crops of all sizes."""

LARGE_BOX = 0.8
"""Mean side of boxes, as a fraction of the image, from which on crops are shifts of the image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CropSettings(Settings):
    """What such a picture depends on besides its objective.

    Each field is the argument of `fvfast.maco` with its name. A preset only says how boxes and
    noise are distributed: `with_preset` fills in its values of the other settings.
    """

    noise_intensity: ScheduleSpec = 0.08
    box_size: ScheduleSpec = None
    nb_crops: int = 32
    learning_rate: ScheduleSpec = None

    has_transparency: ClassVar[bool] = True
    regularizes_views: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(nb_crops=check_count(self.nb_crops, "nb_crops", 0))
        for name in ("noise_intensity", "box_size", "learning_rate"):
            self.schedule(name)

    def described(self) -> dict[str, Any]:
        """Return all settings, ready for JSON; schedules as a number or [first, last]."""
        values = super().described()
        for name in ("box_size", "noise_intensity", "learning_rate"):
            at = self.schedule(name)
            if at is not None:
                first, last = at(0), at(self.nb_steps - 1)
                values[name] = first if first == last else [first, last]
        return values

    @property
    def learning_rate_at(self) -> Schedule | None:
        """Learning rate in each step; None for the optimizer's own."""
        return self.schedule("learning_rate")

    @property
    def views_per_image(self) -> int:
        """Crops of each image, or the image itself."""
        return max(self.nb_crops, 1)

    def advice(self, view_size: tuple[int, int]) -> str:
        """Say that a network with small inputs is shown crops; empty if it is not."""
        boxes = self._small_boxes()
        if not boxes or min(view_size) >= SMALL_INPUT:
            return ""
        height, width = view_size
        small = 'preset="small" or ' if "small" in self.presets else ""
        return (
            f"{self.function}: the network takes images of {height} x {width}, and is shown crops "
            f"of {boxes} of the image. Networks with inputs that small have "
            f"rarely learned from crops, and may not recognize the result. Use {small}"
            f"nb_crops=0, which show{'' if small else 's'} the whole image."
        )

    def advice_on_positions(self) -> str:
        """Say that crops are compared with a whole photograph; empty if they are not."""
        boxes = self._small_boxes()
        if not boxes:
            return ""
        return (
            f"{self.function}: the objective compares the picture with a whole photograph, "
            f"position by position, but the network is shown crops of {boxes} of the picture. Use "
            f"nb_crops=0, which shows the whole picture, or box_size of at least {LARGE_BOX:.0%}."
        )

    def _small_boxes(self) -> str:
        """Describe boxes that are smaller than the image; empty if there are none."""
        at = self.schedule("box_size")
        assert at is not None
        first, last = at(0), at(self.nb_steps - 1)
        if not self.nb_crops or (first + last) / 2 >= LARGE_BOX:
            return ""
        return f"{first:.0%}" if first == last else f"{first:.0%} to {last:.0%}"

    @property
    def smallest_view_type(self) -> torch.dtype:
        """Crops are made in the type that the network takes."""
        return torch.float32 if self.precision in (None, "float32") else torch.bfloat16

    def views(self, _shape: ImageShape, size: tuple[int, int]) -> Crops:
        """Return the crops."""
        preset = find_preset(self.preset, self.presets)
        box_size_at, noise_at = self.schedule("box_size"), self.schedule("noise_intensity")
        assert box_size_at is not None
        assert noise_at is not None
        return Crops(
            size, self.nb_crops, box_size_at, noise_at, boxes=preset.boxes,
            normal_noise=preset.normal_noise, uniform_noise=preset.uniform_noise, seed=self.seed,
        )  # fmt: skip

    def schedule(self, name: str) -> Schedule | None:
        """Return the function from a step to a setting; None for the optimizer's own."""
        default = {"box_size": DEFAULT_BOX_SIZE, "noise_intensity": FALLING_NOISE}.get(name)
        value: ScheduleSpec = getattr(self, name)
        if value is None and default is None:
            return None
        return schedule_of(name, value, self.nb_steps, default)
