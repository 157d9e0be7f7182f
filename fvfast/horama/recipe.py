"""The arguments that Horama's methods share, checked once."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch

from fvfast._shared.checks import (
    check_count,
    check_finite,
    check_seed,
    check_size,
    check_values_range,
)
from fvfast.engine.devices import check_device
from fvfast.run.memory_checks import check_run_fits

Resampling = Literal["horama", "fvfast"]

ObjectiveFunction = Callable[[torch.Tensor], torch.Tensor]
"""From crops (K, 3, h, w) to a score."""

Size = int | Sequence[int]
"""Side of a square, or (height, width)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a picture of Horama's depends on besides its start.

    Each field is the argument of `fvfast.horama.maco` with its name.

    Attributes
    ----------
    function
        What the user called, for messages.
    fallback
        Where to run without a GPU, unless ``device`` says so.
    """

    function: str
    objective_function: ObjectiveFunction
    total_steps: int
    learning_rate: float
    image_size: Size
    model_input_size: Size
    noise: float
    values_range: Sequence[float]
    crops_per_iteration: int
    box_size: Sequence[float]
    device: Any
    seed: int | None
    resampling: Resampling
    progress: bool
    fallback: str = "cpu"

    def __post_init__(self) -> None:
        if not callable(self.objective_function):
            raise TypeError(
                f"{self.function}: objective_function must be a function from images to a score, "
                f"got {type(self.objective_function).__name__}."
            )
        if self.resampling not in get_args(Resampling):
            raise ValueError(
                f'{self.function}: resampling must be "horama" or "fvfast", got '
                f"{self.resampling!r}."
            )
        self._set(
            total_steps=check_count(self.total_steps, "total_steps", 1),
            learning_rate=check_finite(self.learning_rate, "learning_rate"),
            image_size=self._pair("image_size", self.image_size),
            model_input_size=self._pair("model_input_size", self.model_input_size),
            noise=check_finite(self.noise, "noise"),
            values_range=check_values_range(self.values_range, self.function),
            crops_per_iteration=check_count(self.crops_per_iteration, "crops_per_iteration", 1),
            box_size=self._box_size(),
            seed=None if self.seed is None else check_seed(self.seed),
        )
        check_size(*self.size, f"{self.function}: image_size")
        if self.noise < 0:
            raise ValueError(f"{self.function}: noise must not be negative, got {self.noise}.")
        device = self.device
        if device is None:
            device = "cuda" if torch.cuda.is_available() else self.fallback
        self._set(device=check_device(device))
        check_run_fits(
            self.function, self.device, 1, (3, *self.size), self.crops_per_iteration,
            (3, *self.crop_size),
            fewer="a smaller image (image_size) or fewer crops (crops_per_iteration)",
        )  # fmt: skip

    @classmethod
    def of(cls, function: str, arguments: Mapping[str, Any], **others: Any) -> "Recipe":
        """Make a recipe of the arguments of a function, of which some belong elsewhere."""
        names = [field.name for field in dataclasses.fields(cls)]
        given = {name: arguments[name] for name in names if name in arguments}
        return cls(function=function, **given, **others)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image."""
        height, width = self.image_size  # type: ignore[misc]
        return height, width

    @property
    def crop_size(self) -> tuple[int, int]:
        """(h, w) of the crops."""
        height, width = self.model_input_size  # type: ignore[misc]
        return height, width

    def _pair(self, name: str, value: Any) -> tuple[int, int]:
        sides = (value, value) if not isinstance(value, Sequence) else value
        if len(sides) != 2 or isinstance(sides, str):
            raise ValueError(
                f"{self.function}: {name} must be the side of a square or (height, width), got "
                f"{value!r}."
            )
        height, width = (check_count(side, f"{self.function}: {name}", 1) for side in sides)
        return height, width

    def _box_size(self) -> tuple[float, float]:
        if isinstance(self.box_size, Sequence) and len(self.box_size) == 2:
            low, high = (check_finite(end, "box_size") for end in self.box_size)
            if 0 <= low <= high and high > 0:
                return low, high
        raise ValueError(
            f"{self.function}: box_size must be (low, high), fractions of the image with "
            f"0 <= low <= high and high > 0, got {self.box_size!r}."
        )

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)
