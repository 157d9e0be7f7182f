"""The settings of a MaCo run: phases or pyramids, seen through noisy crops."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from fvfast._shared.checks import check_count, check_finite
from fvfast.engine.borrowing.interrupts import opened
from fvfast.ops.pyramid import LONGEST_SIDE
from fvfast.parametrizations.phase import Phase, init_maco_buffer
from fvfast.parametrizations.pyramid import Pyramid
from fvfast.run.presets import (
    DEFAULT_BOX_SIZE,
    FALLING_NOISE,
    PRESETS,
    Preset,
    PresetName,
    find_preset,
)
from fvfast.run.schedules import Schedule, ScheduleSpec, schedule_of
from fvfast.run.settings import ImageShape, Parametrize, Settings
from fvfast.run.views import Crops
from fvfast.spectrum import Spectrum, SpectrumSource

SMALL_INPUT = 64
"""Side of the images from which on networks are usually trained on crops of all sizes."""

LARGE_BOX = 0.8
"""Mean side of boxes, as a fraction of the image, from which on crops are shifts of the image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MacoSettings(Settings):
    """What a MaCo picture depends on besides its objective.

    Each field is the argument of `fvfast.maco` with its name. Here, a preset only says how boxes,
    phases and noise are distributed: `with_preset` fills in its values of the other settings.
    """

    maco_dataset: SpectrumSource = None
    noise_intensity: ScheduleSpec = 0.08
    box_size: ScheduleSpec = None
    nb_crops: int = 32
    values_range: Sequence[float] = (-1, 1)
    learning_rate: ScheduleSpec = None
    color_shift: float | None = None
    preset: PresetName = "xplique"

    function: ClassVar[str] = "maco"
    presets: ClassVar[Mapping[Any, Preset]] = PRESETS
    has_transparency: ClassVar[bool] = True
    regularizes_views: ClassVar[bool] = False
    _left_out: ClassVar[frozenset[str]] = frozenset(
        {"maco_dataset"}
    )  # the command line records it itself

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(
            nb_crops=check_count(self.nb_crops, "nb_crops", 0),
            color_shift=_as_color_shift(self.color_shift),
        )
        check_has_magnitudes(self.preset, self.maco_dataset)
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
        return (
            f"{self.function}: the network takes images of {height} x {width}, and is shown crops "
            f"of {boxes} of the image. Networks with inputs that small have "
            'rarely learned from crops, and may not recognize the result. Use preset="small" or '
            "nb_crops=0, which show the whole image."
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

    def parametrize(self, shape: ImageShape, *, progress: bool) -> Parametrize:
        """Return a function that makes phases or pyramids of this shape.

        The magnitude of phases is measured first.
        """
        if find_preset(self.preset).parametrization == "pyramid":
            return self._pyramids(shape)
        channels, height, width = shape
        # Measuring a folder of photographs may take long.
        spectrum = opened(
            Spectrum.of, self.maco_dataset, (height, width), channels, progress=progress
        )

        def phases(identities: Sequence[int], device: torch.device) -> Phase:
            magnitude, phase = init_maco_buffer(
                (height, width), spectrum, channels=channels, seed=self.seed, identities=identities,
                distribution=find_preset(self.preset).phase, device=device,
            )  # fmt: skip
            return Phase(magnitude, phase, self.optimizer, self.values_range, width)

        return phases

    def _pyramids(self, shape: ImageShape) -> Parametrize:
        _, height, width = shape
        if max(height, width) > LONGEST_SIDE:
            raise ValueError(
                f"{self.function}: custom_shape is {height} x {width}; with "
                f'preset="{self.preset}" an image has up to {LONGEST_SIDE} pixels on a side.'
            )

        def pyramids(identities: Sequence[int], device: torch.device) -> Pyramid:
            return Pyramid(
                shape, identities, seed=self.seed, nb_steps=self.nb_steps,
                values_range=self.values_range, optimizer=self.optimizer, device=device,
            )  # fmt: skip

        return pyramids

    def views(self, _shape: ImageShape, size: tuple[int, int]) -> Crops:
        """Return the crops."""
        preset = find_preset(self.preset)
        box_size_at, noise_at = self.schedule("box_size"), self.schedule("noise_intensity")
        assert box_size_at is not None
        assert noise_at is not None
        return Crops(
            size, self.nb_crops, box_size_at, noise_at, boxes=preset.boxes,
            normal_noise=preset.normal_noise, uniform_noise=preset.uniform_noise, seed=self.seed,
            color_shift=self.color_shift,
        )  # fmt: skip

    def schedule(self, name: str) -> Schedule | None:
        """Return the function from a step to a setting; None for the optimizer's own."""
        default = {"box_size": DEFAULT_BOX_SIZE, "noise_intensity": FALLING_NOISE}.get(name)
        value: ScheduleSpec = getattr(self, name)
        if value is None and default is None:
            return None
        return schedule_of(name, value, self.nb_steps, default)


def check_has_magnitudes(preset: str, maco_dataset: object) -> None:
    """Raise ValueError if a data set is given to a preset whose images have no fixed magnitudes."""
    if maco_dataset is not None and find_preset(preset).parametrization != "phase":
        raise ValueError(
            f'preset="{preset}" optimizes the levels of a pyramid, whose Fourier magnitudes are '
            "free: maco_dataset has no meaning there. Leave it out, or choose a preset that "
            'optimizes phases, such as "fast".'
        )


def _as_color_shift(value: Any) -> float | None:
    """Return the width of a color shift; None, which is how pictures without one are recorded."""
    if value is None:
        return None
    width = check_finite(value, "color_shift")
    if width < 0:
        raise ValueError(
            f"color_shift must be at least 0, got {width:g}: it scales colors by up to "
            "exp(color_shift) and moves them by up to color_shift."
        )
    return width or None
