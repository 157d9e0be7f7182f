"""Presets of MaCo: settings under a name."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, ParamSpec, TypeVar, cast

import numpy as np
import torch

from fvfast.ops.boxes import BoxDistribution
from fvfast.run.argument_names import check_names
from fvfast.run.schedules import Geometric, Linear

P = ParamSpec("P")
R = TypeVar("R")

PresetName = Literal["xplique", "horama", "paper", "fast", "quick", "small", "pyramid"]
OptimizePresetName = Literal["xplique", "lucid"]
AccentuatePresetName = Literal["gentle", "strong"]

DEFAULT_BOX_SIZE = Linear(0.5, 0.05)
"""What box_size=None stands for."""

FALLING_NOISE = Geometric(1, 1e-4)
"""What noise_intensity=None stands for, as in Xplique."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """What the name of a preset stands for.

    Attributes
    ----------
    arguments
        Values of arguments that the caller leaves out.
    boxes
        How boxes scatter around the box size.
    parametrization
        What is optimized: a "phase" under a fixed magnitude, or a "pyramid" of levels.
    phase
        Distribution of the initial phase: "normal" (standard) or "uniform" (-pi to pi).
    normal_noise, uniform_noise
        Standard deviation of the normal part and full width of the uniform part of the noise, each
        as a multiple of the noise intensity.
    """

    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    boxes: BoxDistribution = dataclasses.field(default_factory=BoxDistribution)
    parametrization: Literal["phase", "pyramid"] = "phase"
    phase: str = "normal"
    normal_noise: float = 1.0
    uniform_noise: float = 1.0

    def arguments_with(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that a caller has given, and the preset's for those left out."""
        own = dict(self.arguments)
        if given.get("optimizer") is not None:
            # A learning rate of the default optimizer says nothing about another one.
            own.pop("learning_rate", None)
        return {**own, **given}


def _torch_nadam(parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    return torch.optim.NAdam(parameters, lr=1.0)


PRESETS: dict[PresetName, Preset] = {
    # The defaults of fvfast.maco are those of Xplique 2.0.
    "xplique": Preset(),
    # Horama 0.3's maco, with the box sizes that its documentation gives: uniform in [0.20, 0.25].
    "horama": Preset(
        arguments={
            "optimizer": _torch_nadam,
            "nb_steps": 1000,
            "noise_intensity": 0.05,
            "box_size": 0.225,
            "nb_crops": 6,
            "values_range": (-2.5, 2.5),
            "custom_shape": (1280, 1280),
        },
        boxes=BoxDistribution(shape="uniform", spread=0.025),
    ),
    # Fel et al., NeurIPS 2023: uniform phase, crops of N(0.25, 0.1), noise U(-0.1, 0.1).
    "paper": Preset(
        arguments={"noise_intensity": 0.1, "box_size": 0.25},
        boxes=BoxDistribution(spread=0.1),
        phase="uniform",
        normal_noise=0.0,
        uniform_noise=2.0,
    ),
    # Measured, not published (docs/quality.md): an early step needs few crops, and those large, of
    # which the network may be shown small views.
    "fast": Preset(
        arguments={
            "nb_steps": 140,
            "nb_crops": 4,
            "box_size": Linear(0.9, 0.3),
            "noise_intensity": Linear(0.2, 0.02),
            "learning_rate": Linear(1.5, 0.05),
            "view_size": Linear(4 / 7, 1),
        },
    ),
    # The same in a quarter of the steps.
    "quick": Preset(
        arguments={
            "nb_steps": 36,
            "nb_crops": 4,
            "box_size": Linear(0.9, 0.3),
            "noise_intensity": Linear(0.2, 0.02),
            "learning_rate": Linear(1.5, 0.05),
            "view_size": Linear(4 / 7, 1),
        },
    ),
    # Measured on networks of 8 x 8 and 28 x 28 digits: those have never seen a part of an image.
    "small": Preset(
        arguments={
            "nb_steps": 128,
            "nb_crops": 0,
            "noise_intensity": Linear(0.2, 0.02),
            "learning_rate": Linear(1.5, 0.05),
            "custom_shape": "2x",
        },
    ),
    # Measured, not published: the boxes and the noise of "fast" on a pyramid.
    "pyramid": Preset(
        arguments={
            "nb_steps": 128,
            "nb_crops": 4,
            "box_size": Linear(0.9, 0.3),
            "noise_intensity": Linear(0.2, 0.02),
            "learning_rate": Linear(0.1, 0.01),
        },
        parametrization="pyramid",
    ),
}


OPTIMIZE_PRESETS: dict[OptimizePresetName, Preset] = {
    # The defaults of fvfast.optimize are those of Xplique 2.0.
    "xplique": Preset(),
    # Measured, not published (docs/quality.md): Lucid's decay of frequencies, and its
    # transformations without rotation. Images of the network's own size are not enlarged.
    "lucid": Preset(
        arguments={"transformations": "lucid", "fft_decay": 1.0, "custom_shape": None},
    ),
}


ACCENTUATE_PRESETS: dict[AccentuatePresetName, Preset] = {
    # The defaults of fvfast.accentuate.
    "gentle": Preset(),
    # The photograph is a start, and little more.
    "strong": Preset(arguments={"nb_steps": 128, "penalty": 0.0}),
}


def find_preset(name: str, presets: Mapping[Any, Preset] = PRESETS) -> Preset:
    """Return the preset of this name; raise ValueError with the known names otherwise."""
    if name not in presets:
        raise ValueError(f"preset must be one of {sorted(presets)}, got {name!r}.")
    return presets[name]


def takes_preset(presets: Mapping[Any, Preset]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a preset replace the arguments that a caller of a function leaves out."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            check_names(function.__name__, kwargs, signature.parameters)
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                raise TypeError(f"{function.__name__}(): {error}") from None
            name = given.get("preset", signature.parameters["preset"].default)
            preset = find_preset(name, presets)
            return cast(Any, function)(**preset.arguments_with(given))

        return call

    return decorate


def takes_steps_third(function: Callable[P, R]) -> Callable[P, R]:
    """Accept the positional order of Xplique 1.1 to 1.3, where nb_steps came third.

    A number there cannot be a data set.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if len(args) > 2 and isinstance(args[2], (int, np.integer)):
            args = cast(Any, (*args[:2], None, *args[2:]))
        return function(*args, **kwargs)

    return call
