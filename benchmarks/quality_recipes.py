"""The recipes that `benchmarks.quality` compares, and how a command line writes one down."""

import ast
import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fvfast import maco
from fvfast.optimizers import KerasNadam
from fvfast.presets import PRESETS, Preset, find_preset

# Recipes are tuned on the first and reported on the second: neither list may borrow from the other.
TUNING_CLASSES = ("goldfish", "castle", "daisy", "grand piano")
UNSEEN_CLASSES = (
    "flamingo",
    "golden retriever",
    "monarch",
    "volcano",
    "steam locomotive",
    "pineapple",
    "hourglass",
    "sports car",
)
CLASS_LISTS = {"tuning": TUNING_CLASSES, "unseen": UNSEEN_CLASSES}

BASELINE = "xplique"
"""The recipe that the others are compared with."""

# What the benchmark decides itself.
_RESERVED = {"objective", "seed", "progress", "callback", "save_every", "values_range"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of `fvfast.maco` under a name.

    Attributes
    ----------
    arguments
        Keyword arguments of `fvfast.maco`; what is left out is the preset's.
    """

    name: str
    arguments: Mapping[str, Any]

    @property
    def preset(self) -> str:
        """Name of the preset."""
        return str(self.arguments.get("preset", "xplique"))

    @property
    def nb_steps(self) -> int:
        """Number of steps of a run."""
        return number_of_steps(self.arguments)

    def settings(self) -> str:
        """All settings as JSON, those of the preset too: what tells one version from another."""
        preset = find_preset(self.preset)
        usual = Preset()
        rest = {
            field.name: getattr(preset, field.name)
            for field in dataclasses.fields(preset)
            # What is as usual says nothing, and a field added later must not repeat every run.
            if getattr(preset, field.name) != getattr(usual, field.name)
        }
        rest.pop("arguments", None)
        settings = {**rest, **preset.arguments, **self.arguments}
        settings.pop("values_range", None)  # the network's own, whatever the preset says
        return json.dumps({key: _plain(settings[key]) for key in sorted(settings)})


RECIPES: dict[str, Mapping[str, Any]] = {
    BASELINE: {"preset": "xplique"},
    "horama": {"preset": "horama"},
    "fast": {"preset": "fast"},
}
"""Known recipes. Their values_range is the network's own, also Horama's."""


@dataclasses.dataclass(frozen=True)
class Linear:
    """Falls or rises from one value to another in equal differences."""

    first: float
    last: float
    nb_steps: int

    def __call__(self, step: int) -> float:
        """Value at a step."""
        return self.first + (self.last - self.first) * step / max(self.nb_steps - 1, 1)


@dataclasses.dataclass(frozen=True)
class Geometric:
    """Falls or rises from one positive value to another in equal ratios."""

    first: float
    last: float
    nb_steps: int

    def __call__(self, step: int) -> float:
        """Value at a step."""
        return float(self.first * (self.last / self.first) ** (step / max(self.nb_steps - 1, 1)))


@dataclasses.dataclass(frozen=True)
class Nadam:
    """`fvfast.optimizers.KerasNadam` with a learning rate."""

    lr: float

    def __call__(self, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
        """Make the optimizer."""
        return KerasNadam(parameters, lr=self.lr, maximize=True)


@dataclasses.dataclass(frozen=True)
class Adam:
    """`torch.optim.Adam` with a learning rate."""

    lr: float

    def __call__(self, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
        """Make the optimizer."""
        return torch.optim.Adam(parameters, lr=self.lr, maximize=True)


_SCHEDULES = {"linear": Linear, "geometric": Geometric}
_OPTIMIZERS = {"nadam": Nadam, "adam": Adam}


def find_recipe(name: str) -> Recipe:
    """Return a known recipe.

    Raises
    ------
    ValueError
        There is none of this name, or this fvfast has no preset of it.
    """
    if name not in RECIPES:
        raise ValueError(
            f"there is no recipe {name!r}; expected {', '.join(RECIPES)}, or one of your own: "
            "--recipe 'NAME:nb_steps=128,nb_crops=16'."
        )
    recipe = Recipe(name, RECIPES[name])
    _check_preset(recipe)
    return recipe


def available_recipes() -> list[str]:
    """Names of the known recipes whose presets exist."""
    return [name for name in RECIPES if Recipe(name, RECIPES[name]).preset in PRESETS]


def parse_recipe(text: str) -> Recipe:
    """Read a recipe such as ``short:nb_steps=128,nb_crops=16,box_size=linear(0.5, 0.1)``.

    Parameters
    ----------
    text
        A name, a colon, and arguments of `fvfast.maco` as Python writes them: numbers, tuples,
        words (a preset, a precision), ``linear(first, last)`` and ``geometric(first, last)`` for
        schedules over all steps, ``nadam(lr)`` and ``adam(lr)`` for optimizers.

    Raises
    ------
    ValueError
        It is not written like that, or names an argument or preset that there is not.
    """
    name, colon, arguments = text.partition(":")
    name = name.strip()
    if not colon or not name:
        raise ValueError(f"the recipe {text!r} has no name; expected 'NAME:nb_steps=128,...'.")
    if name in RECIPES:
        raise ValueError(f"{name!r} is the name of a known recipe; give yours another.")
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
    except SyntaxError:
        call = None
    if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
        raise ValueError(f"the recipe {text!r} is not understood; expected NAME:argument=value,...")
    known = [key for key in inspect.signature(maco).parameters if key not in _RESERVED]
    nodes = {str(keyword.arg): keyword.value for keyword in call.keywords}
    for key in nodes:
        if key not in known:
            raise ValueError(f"recipe {name!r} sets {key!r}; expected any of {', '.join(known)}.")
    literals = {key: node for key, node in nodes.items() if not isinstance(node, ast.Call)}
    plain = {key: _value(name, key, node) for key, node in literals.items()}
    recipe = Recipe(name, plain)
    _check_preset(recipe)
    calls = {
        key: _called(name, key, node, recipe.nb_steps)
        for key, node in nodes.items()
        if isinstance(node, ast.Call)
    }
    return Recipe(name, {**plain, **calls})


def number_of_steps(arguments: Mapping[str, Any]) -> int:
    """Return the steps that `fvfast.maco` takes with these arguments."""
    default = inspect.signature(maco).parameters["nb_steps"].default
    preset = find_preset(str(arguments.get("preset", "xplique")))
    return int(arguments.get("nb_steps", preset.arguments.get("nb_steps", default)))


def takes_precision() -> bool:
    """Whether this version of `fvfast.maco` has an argument precision."""
    return "precision" in inspect.signature(maco).parameters


def _check_preset(recipe: Recipe) -> None:
    if recipe.preset not in PRESETS:
        raise ValueError(
            f"recipe {recipe.name!r} needs the preset {recipe.preset!r}, which this version of "
            f"fvfast does not have; its presets are {', '.join(PRESETS)}. Leave the recipe out, or "
            "add the preset to fvfast/presets.py."
        )


def _value(recipe: str, argument: str, node: ast.expr) -> Any:
    """Value of a literal; a bare word is a string."""
    if isinstance(node, ast.Name):
        return node.id
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(
            f"recipe {recipe!r}: the value of {argument} is not understood; expected a number, a "
            "tuple or a word."
        ) from None


def _called(recipe: str, argument: str, node: ast.Call, nb_steps: int) -> Any:
    """Value of ``linear(...)`` and the like."""
    values = [_value(recipe, argument, entry) for entry in node.args]
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    makers: dict[str, Callable[..., Any]] = {
        "optimizer": _OPTIMIZERS,
        "box_size": _SCHEDULES,
        "noise_intensity": _SCHEDULES,
    }.get(argument, {})  # type: ignore[assignment]
    numbers = all(isinstance(value, (int, float)) for value in values)
    expected = 1 if makers is _OPTIMIZERS else 2
    if name not in makers or node.keywords or len(values) != expected or not numbers:
        raise ValueError(
            f"recipe {recipe!r}: {argument}={ast.unparse(node)} is not understood; expected "
            "linear(first, last) or geometric(first, last) for box_size and noise_intensity, "
            "nadam(lr) or adam(lr) for the optimizer."
        )
    if makers is _OPTIMIZERS:
        return makers[name](*values)
    if name == "geometric" and min(values) <= 0:
        raise ValueError(f"recipe {recipe!r}: {argument} falls geometrically: expected ends > 0.")
    return makers[name](*values, nb_steps)


def _plain(value: Any) -> Any:
    """Something JSON can write that stays the same from one process to the next."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if dataclasses.is_dataclass(value):
        return repr(value)
    if callable(value):
        return (
            f"{value.__module__}.{value.__qualname__}"
            if hasattr(value, "__qualname__")
            else (type(value).__qualname__)
        )
    return repr(value)
