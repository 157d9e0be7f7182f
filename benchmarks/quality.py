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
import contextlib
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.harness import RESULTS, machine
from benchmarks.quality_artists import Artist, artist_of, class_name
from benchmarks.quality_pictures import Kept
from benchmarks.quality_recipes import (
    CLASS_LISTS,
    RECIPES,
    Recipe,
    find_recipe,
    parse_recipe,
)
from benchmarks.quality_report import curves_of, plot_curves, print_summary, shared
from fvfast.cli.stopping import stop_on_signals
from fvfast.cli.terminal import console
from fvfast.evaluation.metrics import evaluation_boxes, mean_logit, transferability
from fvfast.models import LoadedModel, load_model
from fvfast.plot.png import check_writable

ARTIST = "efficientnet_lite0"
JUDGES = ("efficientnet_lite1", "efficientnet_lite2")

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

Row = dict[str, Any]


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


def key_of(row: Row) -> tuple[str, ...]:
    """Return what distinguishes a row's run; the same before it is written and after."""
    return tuple(str(row[column]) for column in KEY)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of the results in order; none if there is no file.

    Raises
    ------
    ValueError
        The file has other columns.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(
                f"{path} has other columns than this benchmark writes: move it away, or name "
                "another file with --results."
            )
        return list(reader)


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to the results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


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
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--recipes", nargs="*", help=f"default: {' '.join(RECIPES)}")
    parser.add_argument(
        "--recipe",
        action="append",
        default=[],
        metavar="NAME:ARGUMENT=VALUE,...",
        help="a recipe of your own, such as 'short:nb_steps=128,box_size=linear(0.5, 0.1),"
        "optimizer=nadam(0.5)'; may be repeated",
    )
    parser.add_argument("--precision", help="for all recipes, given to fvfast.maco: float32, ...")
    parser.add_argument("--checkpoints", type=int, default=8, help="pictures along a run")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=RESULTS / "quality.csv")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="write the last picture of each run into this folder, as RECIPE-CLASS-sSEED.png",
    )
    parser.add_argument("--again", action="store_true", help="repeat runs that are in the results")
    parser.add_argument("--report", action="store_true", help="run nothing: report the results")
    parser.add_argument("--plot", type=Path, help="draw the curves into this file")
    arguments = parser.parse_args(argv)
    for option in ("checkpoints", "threads"):
        if getattr(arguments, option) < 1:
            parser.error(f"--{option} must be at least 1, got {getattr(arguments, option)}")
    kinds = Figure().canvas.get_supported_filetypes()
    if arguments.plot is not None and arguments.plot.suffix[1:].lower() not in kinds:
        # Before hours of work, not after them.
        parser.error(
            f"--plot: expected a file that ends in {', '.join(kinds)}; got {arguments.plot}"
        )
    if arguments.pictures is not None and not arguments.report:
        try:
            check_writable(arguments.pictures)
        except OSError as error:
            parser.error(f"--pictures: {error}")
    try:
        arguments.all_recipes = chosen_recipes(arguments)
        arguments.rows = read_rows(arguments.results)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def chosen_recipes(arguments: argparse.Namespace) -> list[Recipe]:
    """Return the recipes that the command line names.

    Raises
    ------
    ValueError
        A recipe is not known, not understood, or named twice.
    """
    own = [parse_recipe(text) for text in arguments.recipe]
    names = arguments.recipes
    if names is None:
        names = list(RECIPES)
    recipes = [*(find_recipe(name) for name in names), *own]
    twice = {recipe.name for recipe in recipes if [r.name for r in recipes].count(recipe.name) > 1}
    if twice:
        raise ValueError(f"several recipes are named {', '.join(sorted(twice))}.")
    if not recipes:
        raise ValueError("there is no recipe to run; name some with --recipes or --recipe.")
    return recipes


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
    out = console()
    rows: list[Row] = arguments.rows
    if not arguments.report:
        torch.set_num_threads(arguments.threads)
        wanted = run_all(arguments, rows)
        rows = [row for row in rows if key_of(row) in wanted]
    if not rows:
        out.print(f"{arguments.results} holds no finished run to report.")
        return
    # A repeated run replaces the earlier ones.
    latest = list({(key_of(row), row["step"]): row for row in rows}.values())
    curves = shared(curves_of(latest))
    print_summary(curves)
    out.print(f"results: {arguments.results}", soft_wrap=True)
    if arguments.plot is not None:
        plot_curves(curves, arguments.plot)
        out.print(f"written to {arguments.plot}", soft_wrap=True)


def run_all(arguments: argparse.Namespace, rows: list[Row]) -> set[tuple[str, ...]]:
    """Do the runs that are not in the rows yet; return the keys of all requested runs."""
    out = console()
    artist = load_model(ARTIST)
    # Other copies of the networks: a run may keep the artist's in another precision.
    judges = [load_model(name) for name in (ARTIST, *JUDGES)]
    done = {key_of(row) for row in rows}
    artists: dict[str, Artist] = {}
    # The recipes take turns, so that a busy hour of the machine affects all of them alike.
    try:
        classes = class_indices(arguments.classes, artist)
    except ValueError as error:
        raise SystemExit(f"--classes: {error}") from None
    plan = [
        (index, seed, recipe)
        for index in classes
        for seed in arguments.seeds
        for recipe in arguments.all_recipes
    ]
    wanted: set[tuple[str, ...]] = set()
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        stack.enter_context(stop.after_the_step())
        for number, (index, seed, recipe) in enumerate(plan, 1):
            run: Row = {
                **machine(),
                "network": ARTIST,
                "recipe": recipe.name,
                "precision": arguments.precision or "",
                "settings": recipe.settings(),
                "class_index": index,
                "class_name": class_name(artist, index),
                "seed": seed,
                "checkpoints": arguments.checkpoints,
                "evaluation_crops": len(evaluation_boxes()),
                "nb_steps": recipe.nb_steps,
            }
            wanted.add(key_of(run))
            label = f"{number} of {len(plan)}: {recipe.name}, {run['class_name']}, seed {seed}"
            kept = Kept(recipe.name, run["class_name"], seed)
            if key_of(run) in done and not arguments.again:
                out.print(f"{label}: in the results already{_without(kept, arguments.pictures)}")
                continue
            if stop:
                continue
            if recipe.name not in artists:
                artists[recipe.name] = stack.enter_context(
                    artist_of(
                        recipe, artist, checkpoints=arguments.checkpoints,
                        precision=arguments.precision, threads=arguments.threads,
                    )
                )  # fmt: skip
            pictures = artists[recipe.name].draw(index, seed, lambda: bool(stop))
            taken = pictures[-1][0]["step"] if pictures else 0
            if taken < recipe.nb_steps:
                out.print(f"{label}: ended before its last step, not recorded")
                continue
            finished = [
                {**run, **times, **judge(image, index, artist.values_range, judges)}
                for times, image in pictures
            ]
            if arguments.pictures is not None:
                kept.save(pictures[-1][1][0], arguments.pictures)
            append_rows(arguments.results, finished)
            rows += finished
            last = finished[-1]
            out.print(
                f"{label}: {last['seconds']:.1f} s, logit {last['mean_logit']:.2f}, probability "
                f"{last['lite1_probability']:.3f} and {last['lite2_probability']:.3f}"
            )
    return wanted


def _without(kept: Kept, folder: Path | None) -> str:
    """Say that the picture of a finished run is missing."""
    if folder is None or kept.path(folder).exists():
        return ""
    return ", but its picture is not in the folder (--again draws it)"


if __name__ == "__main__":
    main()
