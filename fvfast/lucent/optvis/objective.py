"""Objectives as functions of a network's layers, and their arithmetic."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import torch

from fvfast._shared.checks import is_number
from fvfast.objectives.targets import check_index

P = ParamSpec("P")

Features = Callable[[str], Any]
"""T: returns the output of a layer, the images of "input", or the output of the last layer of
"labels"."""

ObjectiveFunction = Callable[[Features], Any]
"""From features to a loss, which is minimized."""

_LONGEST_ARGUMENT = 15


class Objective:
    """A loss of a network's layers, which is minimized.

    Objectives are added to each other and to numbers, and multiplied and divided by numbers.

    Parameters
    ----------
    objective_func
        Function of T, where ``T(layer)`` is the output of a layer.
    name, description
        What people read.
    runs_user_code
        Whether it calls functions of the user, which may do more than compute.
    """

    def __init__(
        self,
        objective_func: ObjectiveFunction,
        name: str = "",
        description: str = "",
        *,
        runs_user_code: bool = True,
    ) -> None:
        if not callable(objective_func):
            raise TypeError(f"objective_func must be a function of T, got {objective_func!r}.")
        self.objective_func = objective_func
        self.name = name
        self.description = description
        self.runs_user_code = runs_user_code

    def __call__(self, model: Features) -> Any:
        """Compute the loss of features."""
        return self.objective_func(model)

    def __add__(self, other: Any) -> "Objective":
        if is_number(other):
            return self._changed(lambda T: other + self(T))  # noqa: N803 (Lucent's name)
        if callable(other):
            return Objective.sum([self, other])
        return NotImplemented

    __radd__ = __add__

    @staticmethod
    def sum(objs: Sequence[ObjectiveFunction]) -> "Objective":
        """Add objectives.

        Parameters
        ----------
        objs
            Objectives, or functions of T.

        Returns
        -------
        objective
            Their sum.
        """
        terms = [_as_term(one) for one in objs]
        if not terms:
            raise ValueError("Objective.sum: expected at least one objective, got none.")
        return Objective(
            lambda T: sum(term(T) for term in terms),  # noqa: N803
            name=", ".join(term.name for term in terms),
            description="Sum(" + " +\n".join(term.description for term in terms) + ")",
            runs_user_code=any(term.runs_user_code for term in terms),
        )

    def __neg__(self) -> "Objective":
        return -1 * self

    def __sub__(self, other: Any) -> "Objective":
        return self + (-1 * (other if is_number(other) else _as_term(other)))

    def __rsub__(self, other: Any) -> "Objective":
        return -self + other

    def __mul__(self, other: Any) -> "Objective":
        if not is_number(other):
            raise TypeError(
                "an objective can only be multiplied by an int or a float, got "
                f"{type(other).__name__}. For a product of two, write a function: "
                "lambda T: a(T) * b(T)."
            )
        return self._changed(lambda T: other * self(T))  # noqa: N803

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "Objective":
        if not is_number(other):
            raise TypeError(
                "an objective can only be divided by an int or a float, got "
                f"{type(other).__name__}. For a quotient of two, write a function: "
                "lambda T: a(T) / b(T)."
            )
        return self * (1 / other)

    def __repr__(self) -> str:
        return f"Objective({self.description or self.name or self.objective_func!r})"

    def _changed(self, function: ObjectiveFunction) -> "Objective":
        return Objective(function, self.name, self.description, runs_user_code=self.runs_user_code)


def _as_term(term: Any) -> Objective:
    if isinstance(term, Objective):
        return term
    if callable(term):
        name = getattr(term, "__name__", type(term).__name__)
        return Objective(term, name, name)
    raise TypeError(f"a term of a sum must be an objective or a function of T, got {term!r}.")


def wrap_objective() -> Callable[[Callable[P, ObjectiveFunction]], Callable[P, Objective]]:
    """Turn a function that returns a function of T into one that returns an `Objective`.

    Returns
    -------
    decorator
        For a function with the arguments of an objective. Its name, and what its arguments print,
        make the objective's description.
    """
    return functools.partial(_wrapped, runs_user_code=True)


def own_objective(make: Callable[P, ObjectiveFunction]) -> Callable[P, Objective]:
    """Turn a function of fvfast that returns a function of T into one that returns an objective.

    The function of T only computes: it may be replayed without Python.
    """
    return _wrapped(make, runs_user_code=False)


def _wrapped(
    make: Callable[P, ObjectiveFunction], *, runs_user_code: bool
) -> Callable[P, Objective]:
    signature = inspect.signature(make)

    @functools.wraps(make)
    def made(*args: P.args, **settings: P.kwargs) -> Objective:
        bound = signature.bind(*args, **settings)
        bound.apply_defaults()
        function = make(*bound.args, **bound.kwargs)
        name = make.__name__
        described = ", ".join(map(_printed, bound.args))
        return Objective(
            function, name, f"{name.title()} [{described}]", runs_user_code=runs_user_code
        )

    return made


def _printed(argument: object) -> str:
    text = str(argument)
    return "..." if len(text) > _LONGEST_ARGUMENT or "\n" in text else text


def handle_batch(
    batch: int | None = None,
) -> Callable[[ObjectiveFunction], ObjectiveFunction]:
    """Let a function of T see one image of the batch.

    Parameters
    ----------
    batch
        Its index; None for all images.

    Returns
    -------
    decorator
        For a function of T.
    """
    return lambda function: lambda T: function(of_image(T, batch))  # noqa: N803


def of_image(features: Features, batch: int | None) -> Features:
    """Return features of one image of the batch, (1, ...); of all images for None."""
    if batch is None:
        return features

    def chosen(layer: str) -> torch.Tensor:
        tensor: torch.Tensor = features(layer)
        index = check_index(batch, len(tensor), f"batch, of the images of layer {layer!r}")
        return tensor[index : index + 1]

    return chosen
