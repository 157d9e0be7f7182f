"""The settings of a MaCo run: phases under a fixed magnitude, seen through noisy crops."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from fvfast.engine.borrowing.interrupts import opened
from fvfast.parametrizations.phase import Phase, init_maco_buffer
from fvfast.parametrizations.photograph_phase import PhotographPhase
from fvfast.parametrizations.starts import unbounded_pixels
from fvfast.run.crop_settings import CropSettings
from fvfast.run.photograph import PhotographSource, check_photograph, read_photograph
from fvfast.run.presets import PRESETS, Preset, PresetName, find_preset
from fvfast.run.settings import ImageShape, Parametrize
from fvfast.spectrum import Spectrum, SpectrumSource


@dataclasses.dataclass(frozen=True, kw_only=True)
class MacoSettings(CropSettings):
    """What a MaCo picture depends on besides its objective.

    Each field is the argument of `fvfast.maco` with its name. Here, a preset only says how boxes,
    phases and noise are distributed: `with_preset` fills in its values of the other settings.
    """

    maco_dataset: SpectrumSource = None
    values_range: Sequence[float] = (-1, 1)
    preset: PresetName = "xplique"
    initial: PhotographSource | None = None

    function: ClassVar[str] = "maco"
    presets: ClassVar[Mapping[Any, Preset]] = PRESETS
    _left_out: ClassVar[frozenset[str]] = frozenset(
        {"maco_dataset", "initial"}
    )  # the command line records them itself

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.initial is not None:
            check_photograph(self.initial, self.function)

    def parametrize(self, shape: ImageShape, *, progress: bool) -> Parametrize:
        """Return a function that makes phases of this shape; measures their magnitude first."""
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
