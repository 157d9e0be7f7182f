"""The table of `benchmarks.quality`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.quality_recipes import BASELINE
from benchmarks.quality_statistics import with_error
from fvfast.cli.terminal import console

Row = dict[str, Any]
Pair = tuple[str, str]
Array = NDArray[np.float64]

SCORES = {
    "mean_logit": "mean logit in Lite0",
    "lite1_probability": "probability in Lite1",
    "lite2_probability": "probability in Lite2",
}
"""Columns of the scores, and what they are called."""


@dataclasses.dataclass
class Curve:
    """The runs of one recipe, with the same checkpoints.

    Attributes
    ----------
    recipe
        Name of the recipe.
    label
        Name of the recipe, and what else distinguishes the curve.
    runs
        For each class and seed, the rows of its checkpoints in order.
    """

    recipe: str
    label: str
    runs: dict[Pair, list[Row]]

    def values(self, column: str) -> Array:
        """Return the values (runs, checkpoints) of a column."""
        return np.array([[float(row[column]) for row in rows] for rows in self.runs.values()])

    def mean(self, column: str) -> Array:
        """Return the mean over the runs at each checkpoint."""
        return self.values(column).mean(axis=0)

    def transferability(self) -> Array:
        """Return the mean probability in both networks at each checkpoint."""
        return (self.mean("lite1_probability") + self.mean("lite2_probability")) / 2

    def last(self, column: str) -> Array:
        """Return the values (runs,) of a column after the last step."""
        return self.values(column)[:, -1]

    def is_first(self, judge: str) -> Array:
        """Return for each run, after its last step, 1 if a judge ranks its class first, else 0."""
        return (self.last(f"{judge}_rank") == 1).astype(np.float64)

    def probability(self) -> Array:
        """Return for each run, after its last step, the mean probability in both networks."""
        return (self.last("lite1_probability") + self.last("lite2_probability")) / 2

    @property
    def subjects(self) -> list[str]:
        """The class of each run."""
        return [index for index, _ in self.runs]

    def only(self, pairs: set[Pair]) -> "Curve":
        """Return the curve with some of the runs only."""
        return Curve(
            self.recipe, self.label, {pair: self.runs[pair] for pair in self.runs if pair in pairs}
        )


def curves_of(rows: Sequence[Row]) -> list[Curve]:
    """Group rows into curves, one for each recipe; the baseline, if there is one, comes first.

    Rows with another machine, number of threads, precision or version of the settings make a curve
    of their own.
    """
    groups: dict[tuple[str, ...], dict[Pair, list[Row]]] = {}
    columns = ("recipe", "precision", "settings", "checkpoints", "evaluation_crops", "network",
               "processor", "threads")  # fmt: skip
    for row in rows:
        runs = groups.setdefault(tuple(str(row[column]) for column in columns), {})
        runs.setdefault((str(row["class_index"]), str(row["seed"])), []).append(row)
    curves = []
    labels: list[str] = []
    for (recipe, precision, *_), runs in groups.items():
        name = f"{recipe}, {precision}" if precision else recipe
        labels.append(name)
        again = labels.count(name)
        ordered = {
            pair: sorted(run, key=lambda row: int(row["step"])) for pair, run in runs.items()
        }
        label = name if again == 1 else f"{name} (settings {again})"
        curves.append(Curve(recipe, label, ordered))
    return sorted(curves, key=lambda curve: (curve.recipe != BASELINE, curve.label != BASELINE))


def shared(curves: Sequence[Curve]) -> list[Curve]:
    """Keep the classes and seeds that all recipes have, so that their means can be compared."""
    pairs = set.intersection(*(set(curve.runs) for curve in curves))
    if not pairs:
        console().print(
            "[yellow]The recipes have no class and seed in common: do not compare them.[/]"
        )
        return list(curves)
    dropped = sum(len(curve.runs) - len(pairs) for curve in curves)
    if dropped:
        console().print(
            f"left out: {dropped} of the runs, whose class and seed not all recipes have."
        )
    return [curve.only(pairs) for curve in curves]


def seconds_to_reach(seconds: Array, values: Array, goal: float) -> tuple[float, bool] | None:
    """Find when a curve first reaches a value.

    Parameters
    ----------
    seconds, values
        (checkpoints,), joined by straight lines.
    goal
        The value.

    Returns
    -------
    reached
        Seconds, and whether this is the first checkpoint, so that the value may have been reached
        even earlier. None if the curve stays below the value.
    """
    above = np.flatnonzero(values >= goal)
    if not len(above):
        return None
    index = int(above[0])
    if index == 0:
        return float(seconds[0]), True
    share = (goal - values[index - 1]) / (values[index] - values[index - 1])
    return float(seconds[index - 1] + share * (seconds[index] - seconds[index - 1])), False


def print_summary(curves: Sequence[Curve]) -> None:
    """Print a table with one line per recipe; compare with the first if it is the baseline."""
    baseline = curves[0] if curves[0].recipe == BASELINE else None
    rows = [row for curve in curves for run in curve.runs.values() for row in run]
    out = console()
    machines = sorted(
        {
            f"{row['processor']}, {row['cores']} cores, {row['threads']} threads, torch "
            f"{row['torch']}"
            for row in rows
        }
    )
    table = Table(
        title=f"Mean over {len(curves[0].runs)} runs each ± standard error, after the last step\n"
        + "\n".join(machines),
    )
    table.add_column("recipe")
    for header in (
        "score", "prob. Lite1", "prob. Lite2", "top-1 % Lite1", "top-1 % Lite2",
        "median rank Lite1", "median rank Lite2", "processor s", "seconds",
        f"/ {BASELINE}", "s to reach score", "s to reach transfer", "other load %",
    ):  # fmt: skip
        table.add_column(header, justify="right")
    for curve in curves:
        table.add_row(curve.label, *_cells(curve, baseline))
    out.print(table)
    out.print(
        "score: mean logit over the evaluation crops. standard error: over the classes. top-1: "
        "share of runs whose class the network ranks first. to reach: seconds until the mean curve "
        f"first reached the last value of {BASELINE}, in score and in the mean probability of "
        "Lite1 and Lite2. other load: the highest of all runs.",
        soft_wrap=True,
    )


def _cells(curve: Curve, baseline: Curve | None) -> list[str]:
    seconds, score = curve.mean("seconds"), curve.mean("mean_logit")
    ratio = score_time = transfer_time = ""
    if baseline is not None:
        ratio = f"{seconds[-1] / baseline.mean('seconds')[-1]:.3f}"
        score_time = _reached(seconds_to_reach(seconds, score, baseline.mean("mean_logit")[-1]))
        transfer_time = _reached(
            seconds_to_reach(seconds, curve.transferability(), baseline.transferability()[-1])
        )
    return [
        with_error(curve.last("mean_logit"), curve.subjects, 2),
        *(with_error(curve.last(f"lite{i}_probability"), curve.subjects, 3) for i in (1, 2)),
        *(with_error(100.0 * curve.is_first(f"lite{i}"), curve.subjects, 0) for i in (1, 2)),
        *(f"{np.median(curve.last(f'lite{i}_rank')):g}" for i in (1, 2)),
        f"{curve.last('cpu_seconds').mean():.1f}",
        f"{seconds[-1]:.1f}",
        ratio,
        score_time,
        transfer_time,
        f"{np.nanmax(curve.last('other_load_percent')):.0f}",
    ]


def _reached(reached: tuple[float, bool] | None) -> str:
    if reached is None:
        return "never"
    seconds, at_first = reached
    return f"{'<= ' if at_first else ''}{seconds:.1f}"
