"""The settings of `fvfast.accentuate`: a photograph's spectrum, seen through noisy crops."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch

from fvfast._shared.checks import check_finite
from fvfast.parametrizations.fourier import FourierCoefficients
from fvfast.parametrizations.photograph_phase import squeezed
from fvfast.parametrizations.starts import unbounded_pixels
from fvfast.regularizers import Regularizer
from fvfast.run.crop_settings import CropSettings
from fvfast.run.presets import ACCENTUATE_PRESETS, AccentuatePresetName, Preset
from fvfast.run.schedules import Linear, ScheduleSpec
from fvfast.run.settings import ImageShape, Parametrize
from fvfast.spectrum.photograph import PhotographSource, check_photograph, read_photograph


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccentuateSettings(CropSettings):
    """What an accentuated photograph depends on besides its objective.

    Each field is the argument of `fvfast.accentuate` with its name.
    """

    photograph: PhotographSource
    decay: float = 1.0
    penalty: float = 10.0
    nb_steps: int = 64
    noise_intensity: ScheduleSpec = 0.05
    box_size: ScheduleSpec = Linear(0.9, 0.4)  # noqa: RUF009 (it is frozen)
    nb_crops: int = 8
    values_range: Sequence[float] = (-1, 1)
    preset: AccentuatePresetName = "gentle"

    function: ClassVar[str] = "accentuate"
    presets: ClassVar[Mapping[Any, Preset]] = ACCENTUATE_PRESETS
    _left_out: ClassVar[frozenset[str]] = frozenset({"photograph"})  # as MacoSettings.initial

    def __post_init__(self) -> None:
        super().__post_init__()
        check_photograph(self.photograph, self.function)
        self._set(
            decay=check_finite(self.decay, "decay"), penalty=check_finite(self.penalty, "penalty")
        )
        if self.penalty < 0:
            raise ValueError(f"penalty must not be negative, got {self.penalty}.")

    @property
    def penalties(self) -> tuple[Regularizer, ...]:
        """The regularizers, and the distance to the photograph."""
        others = super().penalties
        return (*others, self._distance) if self.penalty else others

    @functools.cached_property
    def _distance(self) -> "Distance":
        low, high = self.values_range
        read = functools.partial(
            read_photograph, self.photograph, values_range=(low, high), function=self.function
        )
        return Distance(read, self.penalty / (high - low) ** 2)

    def parametrize(self, shape: ImageShape, *, progress: bool) -> Parametrize:  # noqa: ARG002
        """Return a function that makes the coefficients of the photograph."""
        image = read_photograph(self.photograph, shape, self.values_range, self.function)
        pixels = unbounded_pixels(image, self.values_range)
        to_valid = functools.partial(squeezed, values_range=self.values_range)

        def make(identities: Sequence[int], device: torch.device) -> FourierCoefficients:
            return FourierCoefficients(
                (len(identities), *shape), identities, seed=self.seed, std=0.0, decay=self.decay,
                to_valid=to_valid, optimizer=self.optimizer, device=device, start=pixels,
            )  # fmt: skip

        return make


class Distance:
    """Penalty: the mean squared difference to a photograph.

    Parameters
    ----------
    read
        Returns the photograph (C, H, W) of a shape.
    weight
        Of the mean square.
    """

    def __init__(self, read: Callable[..., torch.Tensor], weight: float) -> None:
        self._read = read
        self._weight = weight
        self._photograph: torch.Tensor | None = None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return penalties (N,) of images (N, C, H, W)."""
        if self._photograph is None:
            self._photograph = self._read(shape=tuple(images.shape[1:])).to(images.device)
        return (images - self._photograph).square().mean((1, 2, 3)) * self._weight
