"""The recipes that `benchmarks.quality` compares, and how they are written on a command line."""

import ast
import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fvfast import Geometric, Linear, maco, optimize
from fvfast.parametrizations.optimizers import KerasNadam
from fvfast.run.presets import OPTIMIZE_PRESETS, PRESETS, Preset, find_preset

# Recipes are tuned on the first list and judged on the second, so no class may be in both.
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
# Every twentieth class, for tables whose numbers are to mean something.
FIFTY_CLASSES = tuple(str(index) for index in range(9, 1000, 20))
CLASS_LISTS = {"tuning": TUNING_CLASSES, "unseen": UNSEEN_CLASSES, "fifty": FIFTY_CLASSES}

BASELINE = "xplique"
"""The recipe with which the others are compared."""

FUNCTIONS: Mapping[str, Callable[..., Any]] = {"maco": maco, "optimize": optimize}
"""Methods of fvfast, which take all arguments."""
PEERS = ("xplique", "horama")
"""Libraries whose own code draws by their own recipe, in a number of steps."""
_PRESETS: Mapping[str, Mapping[Any, Preset]] = {"maco": PRESETS, "optimize": OPTIMIZE_PRESETS}

# Arguments that the benchmark sets itself.
_RESERVED = {"objective", "seed", "progress", "callback", "save_every", "values_range", "device"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of a method under a name.

    Attributes
    ----------
    arguments
        Keyword arguments of the method; the preset gives the others.
    method
        One of `FUNCTIONS` or `PEERS`.
    """

    name: str
    arguments: Mapping[str, Any]
    method: str = "maco"

    @property
    def preset(self) -> str:
        """Name of the preset."""
        return str(self.arguments.get("preset", "xplique"))

    @property
    def nb_steps(self) -> int:
        """Number of steps of a run."""
        return number_of_steps(self.arguments, self.method)

    def settings(self) -> str:
        """Return all settings as JSON, with those of the preset, to tell versions apart."""
        if self.method in PEERS:
            return json.dumps({"method": self.method, "nb_steps": self.nb_steps})
        preset = find_preset(self.preset, _PRESETS[self.method])
        usual = Preset()
        rest = {
            field.name: getattr(preset, field.name)
            for field in dataclasses.fields(preset)
            # Without defaults: a field that is added later must not make old runs count as new.
            if getattr(preset, field.name) != getattr(usual, field.name)
        }
        rest.pop("arguments", None)
        settings = {**rest, **preset.arguments_with(self.arguments)}
        settings.pop("values_range", None)  # the network's own is used instead
        if self.method != "maco":
            settings["method"] = self.method
        return json.dumps({key: _plain(settings[key]) for key in sorted(settings)})


RECIPES: dict[str, Mapping[str, Any]] = {
    BASELINE: {"preset": "xplique"},
    "horama": {"preset": "horama"},
    "fast": {"preset": "fast"},
    "quick": {"preset": "quick"},
    "optimize": {"method": "optimize"},
    "lucid": {"method": "optimize", "preset": "lucid"},
    "pyramid": {"preset": "pyramid"},
    "small": {"preset": "small"},
}
"""Known recipes. All of them, even Horama's, are run with the network's own values_range."""


@dataclasses.dataclass(frozen=True)
class Nadam:
    """`fvfast.parametrizations.optimizers.KerasNadam` with a learning rate."""

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
        There is no recipe of this name.
    """
    if name not in RECIPES:
        raise ValueError(
            f"there is no recipe {name!r}; expected {', '.join(RECIPES)}, or one of your own: "
            "--recipe 'NAME:nb_steps=128,nb_crops=16'."
        )
    return _recipe(name, RECIPES[name])


def parse_recipe(text: str) -> Recipe:
    """Read a recipe such as ``short:nb_steps=128,nb_crops=16,box_size=linear(0.5, 0.1)``.

    Parameters
    ----------
    text
        A name, a colon, and arguments of `fvfast.maco` in Python's syntax: numbers, tuples, words
        (a preset, a precision), method=optimize for arguments of `fvfast.optimize`, method=xplique
        or method=horama for that library's own code, which takes nb_steps alone,
        ``linear(first, last)`` and ``geometric(first, last)`` for schedules over all steps,
        ``nadam(lr)`` and ``adam(lr)`` for optimizers.

    Raises
    ------
    ValueError
        The text is not written like that, or names an unknown argument or preset.
    """
    name, colon, arguments = text.partition(":")
    name = name.strip()
    if not colon or not name:
        raise ValueError(f"the recipe {text!r} has no name; expected 'NAME:nb_steps=128,...'.")
    if name in RECIPES:
        raise ValueError(f"{name!r} is the name of a known recipe; expected another name.")
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
    except SyntaxError:
        call = None
    if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
        raise ValueError(f"the recipe {text!r} is not understood; expected NAME:argument=value,...")
    nodes = {str(keyword.arg): keyword.value for keyword in call.keywords}
    method = _value(name, "method", nodes["method"]) if "method" in nodes else "maco"
    if method not in (*FUNCTIONS, *PEERS):
        raise ValueError(
            f"recipe {name!r} has the method {method!r}; expected one of "
            f"{', '.join((*FUNCTIONS, *PEERS))}."
        )
    known = ["method", *_arguments_of(method)]
    for key in nodes:
        if key not in known:
            raise ValueError(f"recipe {name!r} sets {key!r}; expected any of {', '.join(known)}.")
    recipe = _recipe(name, {key: _value(name, key, node) for key, node in nodes.items()})
    if method in PEERS and "nb_steps" not in recipe.arguments:
        raise ValueError(f"recipe {name!r} needs nb_steps: {method} takes long for its default.")
    if method in FUNCTIONS:
        find_preset(recipe.preset, _PRESETS[method])
    return recipe


def _recipe(name: str, settings: Mapping[str, Any]) -> Recipe:
    arguments = {key: value for key, value in settings.items() if key != "method"}
    return Recipe(name, arguments, str(settings.get("method", "maco")))


def _arguments_of(method: str) -> list[str]:
    if method in PEERS:
        return ["nb_steps"]
    return [key for key in inspect.signature(FUNCTIONS[method]).parameters if key not in _RESERVED]


def number_of_steps(arguments: Mapping[str, Any], method: str = "maco") -> int:
    """Return the number of steps that a method takes with these arguments."""
    if method in PEERS:
        return int(arguments["nb_steps"])
    default = inspect.signature(FUNCTIONS[method]).parameters["nb_steps"].default
    preset = find_preset(str(arguments.get("preset", "xplique")), _PRESETS[method])
    return int(arguments.get("nb_steps", preset.arguments.get("nb_steps", default)))


def _value(recipe: str, argument: str, node: ast.expr) -> Any:
    """Evaluate a literal, ``linear(...)`` or the like; a bare word is a string."""
    if isinstance(node, ast.Call):
        return _called(recipe, argument, node)
    if isinstance(node, ast.Name):
        return node.id
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(
            f"recipe {recipe!r}: the value of {argument} is not understood; expected a number, a "
            "tuple or a word."
        ) from None


def _called(recipe: str, argument: str, node: ast.Call) -> Any:
    """Evaluate ``linear(...)`` or the like."""
    values = [_value(recipe, argument, entry) for entry in node.args]
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    makers: dict[str, Callable[..., Any]] = {
        "optimizer": _OPTIMIZERS,
        "box_size": _SCHEDULES,
        "noise_intensity": _SCHEDULES,
        "learning_rate": _SCHEDULES,
        "view_size": _SCHEDULES,
    }.get(argument, {})  # type: ignore[assignment]
    numbers = all(isinstance(value, (int, float)) for value in values)
    expected = 1 if makers is _OPTIMIZERS else 2
    if name not in makers or node.keywords or len(values) != expected or not numbers:
        raise ValueError(
            f"recipe {recipe!r}: {argument}={ast.unparse(node)} is not understood; expected "
            "linear(first, last) or geometric(first, last) for box_size, noise_intensity, "
            "learning_rate and view_size, nadam(lr) or adam(lr) for the optimizer."
        )
    return makers[name](*values)


def _plain(value: Any) -> Any:
    """Convert a value to something that JSON can write, the same in each process."""
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
