"""The settings of `fvfast.optimize`: Fourier coefficients or pixels, and their transformations."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch

from fvfast._shared.checks import check_count, check_finite
from fvfast.ops.colors import decorrelate_colors
from fvfast.parametrizations.base import Parametrization
from fvfast.parametrizations.fourier import FourierCoefficients
from fvfast.parametrizations.pixels import Pixels, to_valid_grayscale, to_valid_rgb
from fvfast.parametrizations.starts import unbounded_pixels
from fvfast.run.presets import OPTIMIZE_PRESETS, OptimizePresetName, Preset
from fvfast.run.settings import ImageShape, Parametrize, Settings
from fvfast.run.views import TransformedImages
from fvfast.spectrum.photograph import PhotographSource, check_photograph, read_photograph
from fvfast.transformations import (
    Transformation,
    compose_transformations,
    generate_lucid_transformations,
    generate_standard_transformations,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizeSettings(Settings):
    """What a picture of `fvfast.optimize` depends on besides its objective.

    Each field is the argument of `fvfast.optimize` with its name.
    """

    use_fft: bool = True
    fft_decay: float = 0.85
    std: float = 0.01
    image_normalizer: str | Callable[[torch.Tensor], torch.Tensor] = "sigmoid"
    transformations: Transformation | Sequence[Transformation] | str | None = "standard"
    warmup_steps: int = False
    preset: OptimizePresetName = "xplique"
    initial: PhotographSource | None = None

    function: ClassVar[str] = "optimize"
    presets: ClassVar[Mapping[Any, Preset]] = OPTIMIZE_PRESETS
    has_transparency: ClassVar[bool] = False
    regularizes_views: ClassVar[bool] = True
    _left_out: ClassVar[frozenset[str]] = frozenset({"initial"})  # as maco_dataset of MaCo

    def __post_init__(self) -> None:
        super().__post_init__()
        warmup_steps = self.warmup_steps
        if isinstance(warmup_steps, bool):  # False is the default, as in Xplique
            warmup_steps = int(warmup_steps)
        self._set(
            warmup_steps=check_count(warmup_steps, "warmup_steps", 0),
            std=check_finite(self.std, "std"),
            fft_decay=check_finite(self.fft_decay, "fft_decay"),
        )
        _check_normalizer(self.image_normalizer)
        _check_transformations(self.transformations)
        if self.initial is None:
            return
        check_photograph(self.initial, self.function)
        if self.image_normalizer not in ("sigmoid", "clip"):
            raise ValueError(
                "optimize: initial needs the image_normalizer 'sigmoid' or 'clip', which have an "
                f"inverse; got {self.image_normalizer!r}."
            )

    def advice_on_positions(self) -> str:
        """Say that the standard transformations move what is compared with a photograph."""
        if self.transformations != "standard":
            return ""
        return (
            f"{self.function}: the objective compares the picture with a photograph, position by "
            "position, but the standard transformations scale and shift the picture a lot. Use "
            'transformations="lucid", which do so a little, or None.'
        )

    def parametrize(self, shape: ImageShape, *, progress: bool) -> Parametrize:  # noqa: ARG002
        """Return a function that makes coefficients or pixels of images of this shape."""
        to_valid = functools.partial(
            to_valid_rgb if shape[0] == 3 else to_valid_grayscale,
            normalizer=self.image_normalizer,
            values_range=self.values_range,
        )

        start = self._start(shape)

        def make(identities: Sequence[int], device: torch.device) -> Parametrization:
            common: dict[str, Any] = {
                "shape": (len(identities), *shape), "identities": identities, "seed": self.seed,
                "std": self.std, "to_valid": to_valid, "optimizer": self.optimizer,
                "device": device, "start": start,
            }  # fmt: skip
            parametrization = (
                FourierCoefficients(**common, decay=self.fft_decay)
                if self.use_fft
                else Pixels(**common)
            )
            with torch.no_grad():
                is_finite = bool(parametrization.pixels().isfinite().all())
            if not is_finite:
                raise ValueError(
                    f"optimize: the first image is not finite with std={self.std:g} and "
                    f"fft_decay={self.fft_decay:g}: make them smaller."
                )
            return parametrization

        return make

    def _start(self, shape: ImageShape) -> torch.Tensor | None:
        """Return the pixels (C, H, W) of the photograph, of which ``to_valid`` makes it."""
        if self.initial is None:
            return None
        photograph = read_photograph(self.initial, shape, self.values_range, self.function)
        if self.image_normalizer == "sigmoid":
            return unbounded_pixels(photograph, self.values_range)
        return decorrelate_colors(photograph) if shape[0] == 3 else photograph

    def views(self, shape: ImageShape, size: tuple[int, int]) -> TransformedImages:
        """Return the transformed images."""
        return TransformedImages(size, _as_transformation(self.transformations, shape))


_NAMED = {
    "standard": generate_standard_transformations,
    "lucid": generate_lucid_transformations,
}


def _check_normalizer(normalizer: Any) -> None:
    if not callable(normalizer) and normalizer not in ("sigmoid", "clip"):
        raise ValueError(
            f"image_normalizer must be 'sigmoid', 'clip' or a function, got {normalizer!r}."
        )


def _check_transformations(transformations: Any) -> None:
    named = isinstance(transformations, str) and transformations in _NAMED
    if transformations is None or named or callable(transformations):
        return
    if isinstance(transformations, str) or not all(callable(step) for step in transformations):
        raise TypeError(
            f"transformations must be {' or '.join(map(repr, _NAMED))}, None, a function or a list "
            f"of functions; got "
            f"{transformations!r}."
        )


def _as_transformation(
    transformations: Transformation | Sequence[Transformation] | str | None, shape: ImageShape
) -> Transformation:
    if transformations is None:
        return lambda images: images
    if isinstance(transformations, str):
        channels, height, width = shape
        return _NAMED[transformations](min(height, width), channels)
    if callable(transformations):
        return transformations
    return compose_transformations(list(transformations))
