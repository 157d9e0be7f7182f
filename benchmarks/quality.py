"""Measures score and transferability of pictures against the seconds that they took.

Run with ``python -m benchmarks.quality``. Each class, seed and recipe is one run of `fvfast.maco`,
`fvfast.optimize`, or the own code of Xplique or Horama (method=xplique, method=horama; see ``make
bench-peers``) on EfficientNet-Lite0 with its ImageNet weights. Pictures are copied at several
steps, with the clock stopped, and judged afterwards over the evaluation crops of
`fvfast.evaluation.metrics`: by the mean logit of the class in Lite0, and its rank and probability
in Lite1 and Lite2, which had no part in it. A picture from the middle of a run is not what a
shorter run would give, because schedules span the whole run: for that, make a recipe with fewer
steps.

Each finished run is appended to the results at once. Runs whose results exist with the same
settings are not repeated.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from benchmarks.harness import RESULTS
from benchmarks.quality_artists import artist_of, class_name
from benchmarks.quality_plots import plot
from benchmarks.quality_recipes import CLASS_LISTS
from benchmarks.quality_report import curves_of, print_summary, shared
from benchmarks.quality_results import Row
from benchmarks.quality_runs import (
    Run,
    add_run_options,
    check_run_options,
    do_runs,
    run_and_report,
)
from fvfast.cli.terminal import console
from fvfast.evaluation.metrics import evaluation_boxes, mean_logit, transferability
from fvfast.models import LoadedModel, load_model

ARTIST = "efficientnet_lite0"
JUDGES = ("efficientnet_lite1", "efficientnet_lite2")
DEFAULT_RECIPES = ("xplique", "horama", "fast", "optimize", "lucid", "pyramid")

COLUMNS = (
    "date", "processor", "cores", "threads", "torch", "python",
    "network", "recipe", "precision", "settings", "class_index", "class_name", "seed",
    "checkpoints", "evaluation_crops", "nb_steps", "step", "seconds", "cpu_seconds",
    "other_load_percent", "mean_logit",
    "lite1_rank", "lite1_probability", "lite2_rank", "lite2_probability",
)  # fmt: skip
KEY = (
    "processor", "threads", "network", "recipe", "precision", "settings", "class_index", "seed",
    "checkpoints", "evaluation_crops",
)  # fmt: skip
"""Columns that distinguish runs. The processor is one: seconds differ from machine to machine."""


def judge(
    image: torch.Tensor,
    class_index: int,
    values_range: Sequence[float],
    judges: Sequence[LoadedModel],
) -> Row:
    """Compute the metrics of a picture (1, C, H, W); the first judge is the artist's network."""
    first, *others = judges
    logit = mean_logit(image, class_index, first, values_range=values_range)
    seen = transferability(image, class_index, others, values_range=values_range)
    row: Row = {"mean_logit": round(logit.item(), 5)}
    for column, name in enumerate(seen.networks):
        short = name.rpartition("_")[2]
        row[f"{short}_rank"] = int(seen.ranks[0, column])
        row[f"{short}_probability"] = float(f"{seen.probabilities[0, column].item():.5g}")
    return row


def arguments_of(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        default=["unseen"],
        help="names or indices of classes, or one of the lists: "
        + "; ".join(f"{name} ({', '.join(entries)})" for name, entries in CLASS_LISTS.items()),
    )
    add_run_options(parser, RESULTS / "quality.csv", DEFAULT_RECIPES)
    parser.add_argument("--checkpoints", type=int, default=8, help="pictures along a run")
    parser.add_argument(
        "--plot", type=Path, help="draw the curves (or, with one checkpoint, points) into this file"
    )
    arguments = parser.parse_args(argv)
    if arguments.checkpoints < 1:
        parser.error(f"--checkpoints must be at least 1, got {arguments.checkpoints}")
    kinds = Figure().canvas.get_supported_filetypes()
    if arguments.plot is not None and arguments.plot.suffix[1:].lower() not in kinds:
        # Before hours of work, not after them.
        parser.error(
            f"--plot: expected a file that ends in {', '.join(kinds)}; got {arguments.plot}"
        )
    check_run_options(parser, arguments, COLUMNS, KEY)
    return arguments


def class_indices(names: Sequence[str], loaded: LoadedModel) -> list[int]:
    """Return the indices of the classes, or lists of classes, of these names."""
    single = [entry for name in names for entry in CLASS_LISTS.get(name, (name,))]
    indices = list(dict.fromkeys(map(loaded.class_index, single)))
    count = len(loaded.categories or []) or 1000
    for index in indices:
        if index >= count:
            raise ValueError(f"there is no class {index}; expected 0 to {count - 1}.")
    return indices


def main(argv: Sequence[str] | None = None) -> None:
    arguments = arguments_of(argv)
    run_and_report(arguments, lambda: run_all(arguments), lambda rows: report(rows, arguments.plot))


def report(rows: Sequence[Row], chart: Path | None) -> None:
    """Print a table of the runs that all recipes have, and draw them, if there is a file for it."""
    curves = shared(curves_of(rows))
    print_summary(curves)
    if chart is not None:
        plot(curves, chart)
        console().print(f"written to {chart}", soft_wrap=True)


def run_all(arguments: argparse.Namespace) -> list[Row]:
    """Do the runs that are not in the results yet; return the rows of all requested runs."""
    artist = load_model(ARTIST)
    # Other copies of the networks: a run may keep the artist's in another precision.
    judges = [load_model(name) for name in (ARTIST, *JUDGES)]
    try:
        classes = class_indices(arguments.classes, artist)
    except ValueError as error:
        raise SystemExit(f"--classes: {error}") from None
    # The recipes take turns, so that a busy hour of the machine affects all of them alike.
    plan = [
        Run(recipe, index, class_name(artist, index), seed, columns_of(artist, index, arguments))
        for index in classes
        for seed in arguments.seeds
        for recipe in arguments.all_recipes
    ]
    return do_runs(
        plan, arguments,
        lambda recipe: artist_of(
            recipe, artist, checkpoints=arguments.checkpoints, precision=arguments.precision,
            threads=arguments.threads,
        ),
        lambda run, image: judge(image, run.subject, artist.values_range, judges),
        lambda row: f"logit {row['mean_logit']:.2f}, probability {row['lite1_probability']:.3f} "
        f"and {row['lite2_probability']:.3f}",
    )  # fmt: skip


def columns_of(artist: LoadedModel, index: int, arguments: argparse.Namespace) -> Row:
    """Return the columns that say what is drawn and how it is judged."""
    return {
        "network": ARTIST,
        "class_index": index,
        "class_name": class_name(artist, index),
        "checkpoints": arguments.checkpoints,
        "evaluation_crops": len(evaluation_boxes()),
    }


if __name__ == "__main__":
    main()
