"""Means over runs, and how far they may be off."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike


def standard_error(values: ArrayLike, subjects: Sequence[Hashable]) -> float | None:
    """Return the standard error of a mean over runs of several subjects.

    Runs of the same subject with other seeds are alike, so it is the subjects that count: the error
    is that of the mean of their means.

    Parameters
    ----------
    values
        One for each run.
    subjects
        What each run drew.

    Returns
    -------
    error
        None if there is one subject alone.
    """
    runs: dict[Hashable, list[float]] = {}
    for value, subject in zip(np.asarray(values, dtype=float), subjects, strict=True):
        runs.setdefault(subject, []).append(float(value))
    means = [np.mean(values_) for values_ in runs.values()]
    if len(means) < 2:
        return None
    return float(np.std(means, ddof=1) / np.sqrt(len(means)))


def with_error(values: ArrayLike, subjects: Sequence[Hashable], digits: int) -> str:
    """Return a mean and its standard error, such as "0.52 ± 0.03"."""
    error = standard_error(values, subjects)
    mean = f"{np.mean(np.asarray(values)):.{digits}f}"
    return mean if error is None else f"{mean} ± {error:.{digits}f}"
