"""The settings of a MaCo run: phases under a fixed magnitude, seen through noisy crops."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from fvfast._shared.checks import check_finite
from fvfast.engine.borrowing.interrupts import opened
from fvfast.ops.pyramid import LONGEST_SIDE
from fvfast.parametrizations.phase import Phase, init_maco_buffer
from fvfast.parametrizations.photograph_phase import PhotographPhase
from fvfast.parametrizations.pyramid import Pyramid
from fvfast.parametrizations.starts import unbounded_pixels
from fvfast.run.crop_settings import CropSettings
from fvfast.run.presets import PRESETS, Preset, PresetName, find_preset
from fvfast.run.schedules import ScheduleSpec
from fvfast.run.settings import ImageShape, Parametrize
from fvfast.run.view_sizes import STRIDE, ViewSizes
from fvfast.run.views import Crops
from fvfast.spectrum import Spectrum, SpectrumSource
from fvfast.spectrum.photograph import PhotographSource, check_photograph, read_photograph

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MacoSettings(CropSettings):
    """What a MaCo picture depends on besides its objective.

    Each field is the argument of `fvfast.maco` with its name. Here, a preset only says how boxes,
    phases and noise are distributed: `with_preset` fills in its values of the other settings.
    """

    maco_dataset: SpectrumSource = None
    values_range: Sequence[float] = (-1, 1)
    color_shift: float | None = None
    view_size: ScheduleSpec = None
    preset: PresetName = "xplique"
    initial: PhotographSource | None = None

    function: ClassVar[str] = "maco"
    presets: ClassVar[Mapping[Any, Preset]] = PRESETS
    _left_out: ClassVar[frozenset[str]] = frozenset(
        {"maco_dataset", "initial"}
    )  # the command line records them itself

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(color_shift=_as_color_shift(self.color_shift))
        self._check_view_size()
        check_has_phases(self.preset, maco_dataset=self.maco_dataset, initial=self.initial)
        if self.initial is not None:
            check_photograph(self.initial, self.function)

    def _check_view_size(self) -> None:
        at = self.schedule("view_size")
        if at is not None and not callable(self.view_size):  # a function is asked step by step
            _ = ViewSizes((STRIDE, STRIDE), at, self.nb_steps).ends

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

        if self.initial is not None:
            return self._phases_of(self.initial, shape, spectrum)

        def phases(identities: Sequence[int], device: torch.device) -> Phase:
            magnitude, phase = init_maco_buffer(
                (height, width), spectrum, channels=channels, seed=self.seed, identities=identities,
                distribution=find_preset(self.preset).phase, device=device,
            )  # fmt: skip
            return Phase(magnitude, phase, self.optimizer, self.values_range, width)

        return phases

    def _phases_of(
        self, photograph: PhotographSource, shape: ImageShape, spectrum: Spectrum
    ) -> Parametrize:
        """Return a function that makes phases which begin with those of a photograph."""
        channels, height, width = shape
        magnitude = spectrum.magnitude(height, width, channels)
        image = read_photograph(photograph, shape, self.values_range, self.function)
        pixels = unbounded_pixels(image, self.values_range)
        return lambda identities, device: PhotographPhase(
            magnitude.to(device), pixels, len(identities), self.optimizer, self.values_range
        )

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

    def views(self, shape: ImageShape, size: tuple[int, int]) -> Crops:
        """Return the crops."""
        at = self.schedule("view_size")
        sizes = None if at is None else ViewSizes(size, at, self.nb_steps)
        if sizes is not None and set(sizes.ends) == {size} and not callable(self.view_size):
            sizes = None
        return dataclasses.replace(
            super().views(shape, size), color_shift=self.color_shift, sizes=sizes
        )

    def described(self) -> dict[str, Any]:
        """Return all settings, ready for JSON; schedules as a number or [first, last]."""
        values = super().described()
        at = self.schedule("view_size")
        if at is not None:
            first, last = at(0), at(self.nb_steps - 1)
            values["view_size"] = first if first == last else [first, last]
        return values

    def refuse_smaller_views(self, reason: str, sizes: Sequence[tuple[int, int]]) -> None:
        """Raise ValueError if the user asked for smaller views, which are not possible.

        A preset does without them.
        """
        height, width = min(sizes)
        preset = find_preset(self.preset)
        if self.view_size != preset.arguments.get("view_size"):
            raise ValueError(
                f"{self.function}: view_size asks for views of {height} x {width}, but {reason}. "
                "Leave view_size out."
            )
        # The picture is none the worse for it.
        _log.info(
            'preset="%s" shows views of %d x %d in its first steps, which saves time, but %s: all '
            "views have the full size", self.preset, height, width, reason,
        )  # fmt: skip


def check_has_phases(preset: str, **given: object) -> None:
    """Raise ValueError if a preset whose images have no phases gets an argument that is about them.

    Parameters
    ----------
    preset
        Name of a preset.
    given
        Such arguments; None where they were not given.
    """
    if find_preset(preset).parametrization == "phase":
        return
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f'preset="{preset}" optimizes the levels of a pyramid, whose Fourier magnitudes '
                f"and phases are free: {name} has no meaning there. Leave it out, or choose a "
                'preset that optimizes phases, such as "fast".'
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
