"""Few groups in place of many channels, by a decomposition of scikit-learn."""

import importlib
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class ChannelReducer:
    """A decomposition along the last axis of an array, whatever the other axes are.

    What a fitted decomposition of scikit-learn has with an underscore, such as ``components_``, can
    be read without.

    Parameters
    ----------
    n_components
        Number of groups, at least 1.
    reduction_alg
        Name of a class of `sklearn.decomposition`, such as "NMF", "PCA" or "FastICA", or a class.
    kwargs
        Its other arguments.

    Raises
    ------
    ModuleNotFoundError
        scikit-learn is not installed.
    ValueError
        The number or the name is none of these.
    """

    def __init__(
        self, n_components: int = 3, reduction_alg: str | type = "NMF", **kwargs: Any
    ) -> None:
        if not isinstance(n_components, int) or n_components < 1:
            raise ValueError(
                f"n_components must be an integer of at least 1, got {n_components!r}."
            )
        make = _named(reduction_alg) if isinstance(reduction_alg, str) else reduction_alg
        self.n_components = n_components
        self._reducer = make(n_components=n_components, **kwargs)
        self._is_fit = False

    def fit(self, acts: Array) -> Any:
        """Find the groups of activations (..., C); return the decomposition."""
        self._is_fit = True
        return self._reducer.fit(_rows(acts))

    def fit_transform(self, acts: Array) -> Array:
        """Find the groups of activations (..., C), and return their weights (..., n_components)."""
        self._is_fit = True
        return _like(self._reducer.fit_transform(_rows(acts)), acts)

    def transform(self, acts: Array) -> Array:
        """Return the weights (..., n_components) of the groups for activations (..., C)."""
        return _like(self._reducer.transform(_rows(acts)), acts)

    def __call__(self, acts: Array) -> Array:
        """Return weights; the first call finds the groups."""
        return self.transform(acts) if self._is_fit else self.fit_transform(acts)

    def __getattr__(self, name: str) -> Any:
        reducer = self.__dict__.get("_reducer")
        if reducer is None or name.startswith("_") or not hasattr(reducer, f"{name}_"):
            raise AttributeError(f"ChannelReducer has no attribute {name!r}")
        return getattr(reducer, f"{name}_")


def _named(name: str) -> Any:
    try:
        found = getattr(importlib.import_module("sklearn.decomposition"), name, None)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "ChannelReducer uses scikit-learn, which is not installed: pip install scikit-learn.",
            name=error.name,
        ) from error
    if not isinstance(found, type):
        raise ValueError(
            f"reduction_alg is {name!r}; expected the name of a class of sklearn.decomposition, "
            "such as 'NMF' or 'PCA'."
        )
    return found


def _rows(acts: Array) -> Array:
    return acts.reshape(-1, acts.shape[-1])


def _like(rows: Array, acts: Array) -> Array:
    return rows.reshape(*acts.shape[:-1], -1)
