"""The settings of a run: one object, made once, checked, and passed whole."""

import abc
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch

from fvfast._shared.checks import (
    ImageSize,
    check_count,
    check_image_size,
    check_seed,
    check_sorted_range,
)
from fvfast.engine.compiled.choice import CompileChoice, check_compile
from fvfast.engine.precision import Precision, check_precision
from fvfast.objectives import Objective
from fvfast.objectives.guides import Guide
from fvfast.parametrizations.base import Parametrization
from fvfast.parametrizations.optimizers import OptimizerSpec, check_optimizer
from fvfast.regularizers import Regularizer
from fvfast.run.presets import Preset, find_preset
from fvfast.run.schedules import Schedule
from fvfast.run.views import Views

S = TypeVar("S", bound="Settings")

ImageShape = tuple[int, int, int]
"""(C, H, W)."""

Parametrize = Callable[[Sequence[int], torch.device], Parametrization]
"""Makes the parametrization of images of some identities, on a device."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(abc.ABC):
    """What a picture depends on besides its objective.

    Made of what a user gives, and checked at once, so that a wrong value is refused before any
    work. Each method has a subclass, with the fields that it adds. Each field is the argument of
    `fvfast.maco` or `fvfast.optimize` with its name, and is described there.

    Raises
    ------
    ValueError, TypeError
        As `fvfast.maco`.
    """

    optimizer: OptimizerSpec = None
    nb_steps: int = 256
    regularizers: Sequence[Regularizer] | Regularizer | None = None
    values_range: Sequence[float] = (0, 1)
    custom_shape: ImageSize = (512, 512)
    seed: int = 0
    precision: Precision = None
    compile: CompileChoice = False
    preset: str = "xplique"
    guide: Guide | None = None

    function: ClassVar[str]
    """What the user called, for messages."""
    presets: ClassVar[Mapping[Any, Preset]]
    """The presets of the method, by name."""
    has_transparency: ClassVar[bool]
    """Whether the absolute gradients of the images are added up."""
    regularizes_views: ClassVar[bool]
    """Whether regularizers look at what the network sees; otherwise at the images."""
    _left_out: ClassVar[frozenset[str]] = frozenset()
    """Fields that `described` leaves out."""

    def __post_init__(self) -> None:
        check_optimizer(self.optimizer)
        check_precision(self.precision)
        check_compile(self.compile)
        find_preset(self.preset, self.presets)
        if self.guide is not None and not isinstance(self.guide, Guide):
            raise TypeError(
                "guide must be a fvfast.Guide, such as Guide.from_images(objective, folder) gives; "
                f"got {type(self.guide).__name__}."
            )
        self._set(
            nb_steps=check_count(self.nb_steps, "nb_steps", 1),
            regularizers=tuple(_as_regularizers(self.regularizers)),  # an iterator is read once
            values_range=check_sorted_range(self.values_range, self.function),
            seed=check_seed(self.seed),
        )

    @classmethod
    def of(cls: type[S], arguments: Mapping[str, Any]) -> S:
        """Make settings of the arguments of a function, of which some may be no settings."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: arguments[name] for name in names if name in arguments})

    @classmethod
    def with_preset(cls: type[S], **given: Any) -> S:
        """Make settings of the given values, and those of the preset for the rest."""
        preset = find_preset(given.get("preset", cls.preset), cls.presets)
        return cls(**preset.arguments_with(given))

    def described(self) -> dict[str, Any]:
        """Return all settings, ready for JSON, for the record that goes with a picture.

        Functions appear by name, the default optimizer as "default".
        """
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in self._left_out
        }
        if values["optimizer"] is None:
            values["optimizer"] = "default"
        values["regularizers"] = [_plain(one) for one in _as_regularizers(self.regularizers)]
        if self.compile is False:
            del values["compile"]  # as before there was a choice
        if self.guide is None:
            del values["guide"]
        else:
            values["guide"] = self.guide.described()
        return {name: _plain(value) for name, value in values.items()}

    def image_shape(self, objective: Objective) -> ImageShape:
        """Return (C, H, W) of the images of an objective."""
        channels, *model_size = objective.image_shape
        return channels, *check_image_size(self.custom_shape, model_size, self.function)

    @property
    def penalties(self) -> tuple[Regularizer, ...]:
        """What is subtracted from the scores: functions of images."""
        return tuple(_as_regularizers(self.regularizers))

    @property
    def warmup_steps(self) -> int:
        """Steps that are taken first, with the gradients of ReLUs replaced by the identity."""
        return 0

    @property
    def learning_rate_at(self) -> Schedule | None:
        """Learning rate in each step; None for the optimizer's own."""
        return None

    @property
    def views_per_image(self) -> int:
        """Views that the network sees of each image in a step."""
        return 1

    @property
    def smallest_view_type(self) -> torch.dtype:
        """Type of the views; if several are possible, the one that takes the least memory."""
        return torch.float32

    def advice(self, view_size: tuple[int, int]) -> str:  # noqa: ARG002
        """Say what does not suit a network that takes images (h, w); empty if nothing."""
        return ""

    def advice_on_positions(self) -> str:
        """Say that views do not show the image as a photograph was; empty if they do."""
        return ""

    @abc.abstractmethod
    def parametrize(self, shape: ImageShape, *, progress: bool) -> Parametrize:
        """Return what makes the parametrization of images of this shape; may take long."""

    @abc.abstractmethod
    def views(self, shape: ImageShape, size: tuple[int, int]) -> Views:
        """Return the maker of views of this size of images of this shape."""

    def _set(self, **values: Any) -> None:
        """Replace given values by checked ones."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _as_regularizers(regularizers: Any) -> list[Regularizer]:
    given = [] if regularizers is None else regularizers
    given = [given] if callable(given) else list(given)
    for regularizer in given:
        if not callable(regularizer):
            raise TypeError(
                f"regularizers must be functions of images, such as fvfast.regularizers.l1_reg(); "
                f"got {regularizer!r}."
            )
    return given


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it; functions by their names."""
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return getattr(value, "__name__", repr(value)).strip("_")
