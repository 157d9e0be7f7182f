"""The tables of `benchmarks.quality_channels`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.quality_results import Row
from benchmarks.quality_statistics import with_error
from fvfast.cli.terminal import console

JUDGES = ("lite1", "lite2")


def in_common(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group the rows of a layer by recipe, with the channels and seeds that all recipes have."""
    recipes: dict[str, dict[tuple[str, str], Row]] = {}
    for row in rows:
        name = f"{row['recipe']}, {row['precision']}" if row["precision"] else str(row["recipe"])
        label, again = name, 1
        while any(
            (other["settings"], other["processor"], str(other["threads"]), other["photographs"])
            != (row["settings"], row["processor"], str(row["threads"]), row["photographs"])
            for other in recipes.get(label, {}).values()
        ):
            again += 1
            label = f"{name} (settings {again})"
        recipes.setdefault(label, {})[str(row["channel"]), str(row["seed"])] = row
    pairs = set.intersection(*(set(runs) for runs in recipes.values()))
    return {label: [runs[pair] for pair in sorted(pairs)] for label, runs in recipes.items()}


def values(rows: Sequence[Row], column: str) -> NDArray[np.float64]:
    """Return the values of a column."""
    return np.array([float(row[column]) for row in rows])


def print_channels(rows: Sequence[Row]) -> None:
    """Print a table for each layer, with one line for each recipe."""
    out = console()
    for layer in dict.fromkeys(row["layer"] for row in rows):
        recipes = in_common([row for row in rows if row["layer"] == layer])
        count = min(map(len, recipes.values()))
        if not count:
            out.print(f"[yellow]{layer}: the recipes have no channel and seed in common.[/]")
            continue
        table = Table(title=f"{layer}: mean of {count} runs each ± standard error")
        table.add_column("recipe")
        for header in (
            "own multiple", "% above 1",
            *(f"{what} {judge.capitalize()}" for judge in JUDGES
              for what in ("percentile", "% above 99th", "multiple", "control")),
            "processor s",
        ):  # fmt: skip
            table.add_column(header, justify="right")
        for label, runs in recipes.items():
            drawn = [str(row["channel"]) for row in runs]
            own = values(runs, "own_multiple")
            cells = [with_error(own, drawn, 2), with_error(100.0 * (own > 1), drawn, 0)]
            for judge in JUDGES:
                percentiles = values(runs, f"{judge}_percentile")
                cells += [
                    with_error(percentiles, drawn, 1),
                    with_error(100.0 * (percentiles > 99), drawn, 0),
                    with_error(values(runs, f"{judge}_multiple"), drawn, 2),
                    with_error(values(runs, f"{judge}_control_percentile"), drawn, 1),
                ]
            table.add_row(label, *cells, f"{values(runs, 'cpu_seconds').mean():.1f}")
        out.print(table)
    out.print(
        "own multiple: mean activation in the artist's network, over the 99.9th percentile of "
        "crops of photographs. percentile, multiple: mean activation of the channel's twin, among "
        "crops of photographs that it was not found with, and over their 99th percentile. "
        "control: percentile of the twin of a channel that the picture was not made for.",
        soft_wrap=True,
    )
