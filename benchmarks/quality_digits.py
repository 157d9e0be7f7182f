"""Measures pictures of a small vision transformer, by a convolutional network and a perceptron.

    python -m benchmarks.quality_digits

All three are trained here on three quarters of scikit-learn's handwritten digits (real ones, of
8 x 8 pixels), each on its own; their accuracy on the last quarter is printed. The transformer draws
its ten classes and some of its hidden units. The judges see the whole picture: of a class, they say
rank and probability; of a hidden unit, the mean activation of its twin (see
`benchmarks.quality_twins`), as a percentile among digits that neither the networks were trained nor
the twins found with. As a control, the same is asked about the next class or unit. Each finished
run is appended to the results at once, and runs whose results exist are not repeated.
"""

import argparse
import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from rich.table import Table

from benchmarks.digit_networks import (
    Transformer,
    accuracy,
    convolutions,
    perceptron,
    split_digits,
    trained,
)
from benchmarks.harness import RESULTS
from benchmarks.quality_artists import artist_of
from benchmarks.quality_results import Row, in_common
from benchmarks.quality_runs import (
    MACHINE_COLUMNS,
    RECIPE_COLUMNS,
    TIME_COLUMNS,
    Run,
    add_run_options,
    check_methods,
    check_run_options,
    do_runs,
    run_and_report,
)
from benchmarks.quality_statistics import with_error
from benchmarks.quality_twins import Twin, channel_means, find_twins
from fvfast import Objective
from fvfast.cli.terminal import console
from fvfast.evaluation.metrics import evaluation_crops, transferability
from fvfast.models import LoadedModel

HIDDEN = "blocks.1.hidden"
JUDGE_LAYERS = {"convolutions": ("1", "3", "7"), "perceptron": ("2",)}
"""The judges, and their nonlinear outputs, among which twins are looked for."""
WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
DEFAULT_RECIPES = ("small", "fast", "lucid")

COLUMNS = (
    *MACHINE_COLUMNS, "network", *RECIPE_COLUMNS, "kind", "unit", "control", "seed", "nb_steps",
    "step", *TIME_COLUMNS,
    *(f"{judge}_{prefix}{column}" for judge in JUDGE_LAYERS for prefix in ("", "control_")
      for column in ("rank", "probability", "percentile")),
)  # fmt: skip
KEY = ("processor", "threads", "network", *RECIPE_COLUMNS, "kind", "unit", "control", "seed")


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
    """What is drawn.

    Attributes
    ----------
    kind
        "class" or "hidden".
    index
        Of the class, or of the channel of `HIDDEN`.
    twins
        Of a hidden unit, in each of the judges.
    """

    kind: str
    index: int
    twins: tuple[Twin, ...] = ()


def arguments_of(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run_options(parser, RESULTS / "quality_digits.csv", DEFAULT_RECIPES)
    parser.add_argument("--units", type=int, default=12, help="hidden units, at least 2")
    parser.add_argument("--correlation", type=float, default=0.5, help="least one of twins")
    parser.add_argument("--epochs", type=int, default=40, help="of the networks' training")
    arguments = parser.parse_args(argv)
    check_run_options(parser, arguments, COLUMNS, KEY)
    check_methods(parser, arguments.all_recipes)
    if arguments.units < 2:
        parser.error(f"--units must be at least 2, for a control; got {arguments.units}")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = arguments_of(argv)
    run_and_report(arguments, lambda: run_all(arguments), print_tables)


def run_all(arguments: argparse.Namespace) -> list[Row]:
    """Do the runs that are not in the results yet; return the rows of all requested runs."""
    images, labels, held_out, held_out_labels = split_digits()
    artist, *judges = (
        LoadedModel(
            trained(make, images, labels, epochs=arguments.epochs), name, (1, 8, 8), (0.0, 1.0)
        )
        for make, name in (
            (Transformer, f"transformer, {arguments.epochs} epochs"),
            (convolutions, "convolutions"),
            (perceptron, "perceptron"),
        )
    )
    for loaded in (artist, *judges):
        share = accuracy(loaded.model, held_out, held_out_labels)
        console().print(f"{loaded.name}: {100 * share:.1f} % of {len(held_out)} held-out digits")
    units = [
        *(Unit("class", index) for index in range(10)),
        *hidden_units(artist, judges, held_out, arguments.units, arguments.correlation),
    ]
    controls = {
        unit: same[(place + 1) % len(same)]
        for kind in ("class", "hidden")
        for same in [[unit for unit in units if unit.kind == kind]]
        for place, unit in enumerate(same)
    }
    plan = [
        Run(recipe, unit, f"{unit.kind} {unit.index}", seed, {
            "network": artist.name, "kind": unit.kind, "unit": unit.index,
            "control": controls[unit].index,
        })
        for unit in units
        for seed in arguments.seeds
        for recipe in arguments.all_recipes
    ]  # fmt: skip
    return do_runs(
        plan, arguments,
        lambda recipe: artist_of(
            recipe, artist, checkpoints=1, precision=arguments.precision,
            threads=arguments.threads, objective_of=unit_objective,
        ),
        lambda run, image: judge(image, run.subject, controls[run.subject], judges),
        told,
    )  # fmt: skip


def told(row: Row) -> str:
    """Say what came out of a run."""
    column = "probability" if row["kind"] == "class" else "percentile"
    return f"{column} " + " and ".join(f"{row[f'{judge}_{column}']:.3g}" for judge in JUDGE_LAYERS)


def hidden_units(
    artist: LoadedModel,
    judges: Sequence[LoadedModel],
    images: torch.Tensor,
    count: int,
    correlation: float,
) -> list[Unit]:
    """Choose hidden units with a twin in each judge, in an order that is drawn once."""

    def means(loaded: LoadedModel, layers: Sequence[str]) -> dict[str, np.ndarray]:
        found = channel_means(loaded.model, layers, images)
        return {name: values[:, None].numpy() for name, values in found.items()}

    own = means(artist, [HIDDEN])[HIDDEN]
    twins = [find_twins(own, means(judge, JUDGE_LAYERS[judge.name])) for judge in judges]
    chosen: list[Unit] = []
    left_out: list[str] = []
    for index in np.random.default_rng(0).permutation(own.shape[2]).tolist():
        if len(chosen) == count:
            break
        pair = tuple(found[index] for found in twins)
        least = min(twin.correlation for twin in pair)
        if least >= correlation:
            chosen.append(Unit("hidden", index, pair))
        else:
            left_out.append(f"{index} ({least:.2f})")
    console().print(
        f"hidden units: {', '.join(str(unit.index) for unit in chosen) or 'none'}. Left out, with "
        f"the lower correlation of their twins: {', '.join(left_out) or 'none'}.",
        soft_wrap=True,
    )
    return chosen


def unit_objective(loaded: LoadedModel, unit: Unit) -> Objective:
    """Make the objective of a class or hidden unit."""
    shape = loaded.input_shape
    if unit.kind == "class":
        return Objective.neuron(loaded.model, -1, unit.index, input_shape=shape)
    return Objective.channel(loaded.model, HIDDEN, unit.index, input_shape=shape, channel_axis=1)


def judge(image: torch.Tensor, unit: Unit, control: Unit, judges: Sequence[LoadedModel]) -> Row:
    """Compute the metrics of a picture (1, 1, H, W)."""
    row: Row = {}
    for prefix, wanted in (("", unit), ("control_", control)):
        if wanted.kind == "class":
            seen = transferability(image, wanted.index, judges, values_range=(0, 1), boxes=WHOLE)
            for column, network in enumerate(judges):
                row[f"{network.name}_{prefix}rank"] = int(seen.ranks[0, column])
                row[f"{network.name}_{prefix}probability"] = round(
                    float(seen.probabilities[0, column]), 5
                )
            continue
        for network, twin in zip(judges, wanted.twins, strict=True):
            (views,) = evaluation_crops(image, network.input_shape[1:], WHOLE)
            means = channel_means(network.model, [twin.layer], views)[twin.layer]
            percentile = twin.percentile(float(means[0, twin.channel]))
            row[f"{network.name}_{prefix}percentile"] = round(percentile, 3)
    return row


def print_tables(rows: Sequence[Row]) -> None:
    """Print a table of the classes, and one of the hidden units."""
    for kind in ("class", "hidden"):
        print_table(kind, [row for row in rows if row["kind"] == kind])


def print_table(kind: str, rows: Sequence[Row]) -> None:
    """Print a table with one line for each recipe."""
    if not rows:
        return
    recipes = in_common(rows, ("unit", "control", "seed"))
    count = min(map(len, recipes.values()))
    if not count:
        console().print(f"[yellow]The recipes have no {kind} and seed in common.[/]")
        return
    what = {"class": "classes", "hidden": "hidden units"}[kind]
    table = Table(title=f"{what}: mean of {count} runs each ± standard error")
    table.add_column("recipe")
    kinds = {"class": ("top-1 %", "prob."), "hidden": ("percentile", "% above 99th")}[kind]
    for judge_ in JUDGE_LAYERS:
        for header in (*kinds, *(f"{name}, control" for name in kinds)):
            table.add_column(f"{judge_}: {header}", justify="right")
    table.add_column("processor s", justify="right")
    for label, runs in recipes.items():
        drawn = [str(row["unit"]) for row in runs]

        def values(column: str, runs: Sequence[Row] = runs) -> np.ndarray:
            return np.array([float(row[column]) for row in runs])

        cells = []
        for start in (f"{name}_{prefix}" for name in JUDGE_LAYERS for prefix in ("", "control_")):
            if kind == "class":
                cells.append(with_error(100.0 * (values(f"{start}rank") == 1), drawn, 0))
                cells.append(with_error(values(f"{start}probability"), drawn, 3))
            else:
                percentiles = values(f"{start}percentile")
                cells.append(with_error(percentiles, drawn, 1))
                cells.append(with_error(100.0 * (percentiles > 99), drawn, 0))
        table.add_row(label, *cells, f"{values('cpu_seconds').mean():.1f}")
    console().print(table)


if __name__ == "__main__":
    main()
