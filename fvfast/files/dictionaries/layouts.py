"""Where the directions are among the tensors that a library saves."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fvfast.files.dictionaries.values import as_directions

_LISTED = 10

Tensors = Mapping[str, Any]
"""Tensors or arrays by name; one that is not asked for need not be read."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way to save directions.

    Attributes
    ----------
    format
        The library that alone saves them so; None if several do.
    names
        Names of the tensors that they are computed from.
    compute
        Returns the directions (N, C) of these tensors.
    """

    format: str | None
    names: tuple[str, ...]
    compute: Callable[..., torch.Tensor]


def _archetypal(
    weights: torch.Tensor, points: torch.Tensor, relaxation: torch.Tensor, multiplier: torch.Tensor
) -> torch.Tensor:
    """Compute relaxed archetypes: convex combinations of points, moved a little."""
    convex = weights.float().relu()
    convex = convex / (convex.sum(1, keepdim=True) + 1e-8)
    return _scaled(convex @ points.float() + relaxation.float(), multiplier)


def _scaled(weights: torch.Tensor, multiplier: torch.Tensor) -> torch.Tensor:
    return weights.float() * multiplier.float().exp()


def _linear(weight: torch.Tensor) -> torch.Tensor:
    """Transpose the weight of torch.nn.Linear: from N activations to C channels it is (C, N)."""
    return weight.mT


LAYOUTS = (
    Layout("overcomplete", ("W", "C", "Relax", "multiplier"), _archetypal),
    Layout("overcomplete", ("_weights", "multiplier"), _scaled),
    Layout(None, ("W_dec",), lambda weights: weights),
    Layout("dictionary_learning", ("decoder.weight",), _linear),
)
_PREFIXES = ("", "dictionary.")
"""overcomplete's layers are saved alone, or as a part of an autoencoder."""


def find_directions(
    tensors: Tensors, name: str | None, what: str
) -> tuple[torch.Tensor, str | None]:
    """Return the directions among tensors, and the library that alone saves them so.

    Parameters
    ----------
    tensors
        Tensors by name.
    name
        Name of the tensor that holds the directions; None to find it.
    what
        What the tensors are of, for messages.

    Returns
    -------
    directions
        (N, C), float32, in memory of its own.
    format
        None if it could be of several.

    Raises
    ------
    ValueError
        It is not clear which tensor they are, or what is found are no directions.
    """
    if name is not None:
        return _named(tensors, name, what), None
    for layout in LAYOUTS:
        for prefix in _PREFIXES:
            full = [prefix + one for one in layout.names]
            if all(one in tensors for one in full):
                found = _computed(layout, [tensors[one] for one in full], what)
                return as_directions(found, what), layout.format
    if len(tensors) == 1:
        return as_directions(next(iter(tensors.values())), what), None
    raise ValueError(
        f"{what} has no tensor that is known to hold directions; expected W_dec (N, C), "
        "decoder.weight (C, N), dictionary._weights (N, C), or one tensor alone. Give its name, "
        f"name=...; there are {_listed(tensors)}."
    )


def _named(tensors: Tensors, name: str, what: str) -> torch.Tensor:
    if name not in tensors:
        raise ValueError(f"{what} has no tensor {name!r}; there are {_listed(tensors)}.")
    values = tensors[name]
    is_linear = name.split(".")[-2:] == ["decoder", "weight"] and _is_matrix(values)
    return as_directions(_linear(values) if is_linear else values, f"{what}, {name},")


def _computed(layout: Layout, parts: Sequence[Any], what: str) -> torch.Tensor:
    shapes = ", ".join(
        f"{name} {tuple(getattr(part, 'shape', ()))}"
        for name, part in zip(layout.names, parts, strict=True)
    )
    if not all(_is_matrix(part) or name == "multiplier"
               for name, part in zip(layout.names, parts, strict=True)):  # fmt: skip
        raise ValueError(f"{what} has no directions: {shapes}; expected matrices.")
    try:
        return layout.compute(*parts)
    except RuntimeError as error:
        raise ValueError(f"{what} has shapes that do not fit each other: {shapes}.") from error


def _is_matrix(values: Any) -> bool:
    return isinstance(values, torch.Tensor) and values.ndim == 2


def _listed(tensors: Tensors) -> str:
    names = [str(name) for name in tensors]
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
