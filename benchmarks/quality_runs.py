"""What benchmarks of quality share: their options, and the loop over the runs that are missing."""

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import machine
from benchmarks.quality_artists import Artist
from benchmarks.quality_pictures import Kept
from benchmarks.quality_recipes import FUNCTIONS, Recipe, find_recipe, parse_recipe
from benchmarks.quality_results import Results, Row
from fvfast.cli.stopping import stop_on_signals
from fvfast.cli.terminal import console
from fvfast.plot.png import check_writable

MACHINE_COLUMNS = ("date", "processor", "cores", "threads", "torch", "python")
RECIPE_COLUMNS = ("recipe", "precision", "settings")
TIME_COLUMNS = ("seconds", "cpu_seconds", "other_load_percent")


@dataclasses.dataclass(frozen=True)
class Run:
    """A picture that is wanted.

    Attributes
    ----------
    recipe
        What to draw by.
    subject
        What to draw, as the artist understands it.
    name
        The subject for people.
    seed
        Seed of the run.
    columns
        Columns of its rows that are known before, besides those of the recipe and machine.
    """

    recipe: Recipe
    subject: Any
    name: str
    seed: int
    columns: Row


def add_run_options(parser: argparse.ArgumentParser, results: Path, recipes: Sequence[str]) -> None:
    """Add the options that all benchmarks of quality have.

    Parameters
    ----------
    parser
        Where to add them.
    results
        Default file of the results.
    recipes
        Names of the recipes that are run by default.
    """
    parser.set_defaults(default_recipes=recipes)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--recipes", nargs="*", help=f"default: {' '.join(recipes)}")
    parser.add_argument(
        "--recipe",
        action="append",
        default=[],
        metavar="NAME:ARGUMENT=VALUE,...",
        help="a recipe of your own, such as 'short:nb_steps=128,box_size=linear(0.5, 0.1),"
        "optimizer=nadam(0.5)'; may be repeated",
    )
    parser.add_argument("--precision", help="for all recipes, given to fvfast.maco: float32, ...")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=results)
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="write the last picture of each run into this folder, as RECIPE-CLASS-sSEED.png",
    )
    parser.add_argument("--again", action="store_true", help="repeat runs that are in the results")
    parser.add_argument("--report", action="store_true", help="run nothing: report the results")


def check_run_options(
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    columns: Sequence[str],
    key: Sequence[str],
) -> None:
    """End the command, before any work, if an option cannot be followed.

    Opens the results: ``arguments.table``, and ``arguments.rows``, what it holds. Sets
    ``arguments.all_recipes``.

    Parameters
    ----------
    parser
        Tells people what is wrong.
    arguments
        Of `add_run_options`.
    columns, key
        Of the results, see `benchmarks.quality_results.Results`.
    """
    arguments.table = Results(arguments.results, columns, key)
    if arguments.threads < 1:
        parser.error(f"--threads must be at least 1, got {arguments.threads}")
    if arguments.pictures is not None and not arguments.report:
        try:
            check_writable(arguments.pictures)
        except OSError as error:
            parser.error(f"--pictures: {error}")
    try:
        arguments.all_recipes = chosen_recipes(arguments)
        arguments.rows = arguments.table.read()
    except ValueError as error:
        parser.error(str(error))


def add_photographs_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of benchmarks that need photographs."""
    parser.add_argument(
        "--photographs", type=Path, default=Path("build/photographs"), metavar="FOLDER"
    )


def check_photographs(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End the command, before any work, if there are no photographs."""
    if not arguments.report and not any(arguments.photographs.rglob("*.jpg")):
        parser.error(
            f"there are no photographs (.jpg) in {arguments.photographs}: gather some with python "
            f"-m benchmarks.photographs {arguments.photographs}"
        )


def check_methods(parser: argparse.ArgumentParser, recipes: Sequence[Recipe]) -> None:
    """End the command if a recipe is another library's, which draws classes of Lite0 alone."""
    for recipe in recipes:
        if recipe.method not in FUNCTIONS:
            parser.error(f"{recipe.name}: {recipe.method} draws classes of Lite0 alone.")


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
        names = list(arguments.default_recipes)
    recipes = [*(find_recipe(name) for name in names), *own]
    twice = {recipe.name for recipe in recipes if [r.name for r in recipes].count(recipe.name) > 1}
    if twice:
        raise ValueError(f"several recipes are named {', '.join(sorted(twice))}.")
    if not recipes:
        raise ValueError("there is no recipe to run; name some with --recipes or --recipe.")
    return recipes


def run_and_report(
    arguments: argparse.Namespace,
    run_all: Callable[[], list[Row]],
    report: Callable[[list[Row]], None],
) -> None:
    """Do what a command line asks for.

    Parameters
    ----------
    arguments
        Of `check_run_options`.
    run_all
        Does the missing runs and returns the rows of all that were asked for; not called with
        ``--report``, which reports all rows of the results.
    report
        Prints what came out, from the latest row of each run.
    """
    rows: list[Row] = arguments.rows
    if not arguments.report:
        torch.set_num_threads(arguments.threads)
        rows = run_all()
    if not rows:
        console().print(f"{arguments.results} holds no finished run to report.")
        return
    console().print(f"results: {arguments.results}", soft_wrap=True)
    report(arguments.table.latest(rows))


def do_runs(
    plan: Sequence[Run],
    arguments: argparse.Namespace,
    prepare: Callable[[Recipe], AbstractContextManager[Artist]],
    judge: Callable[[Run, torch.Tensor], Row],
    told: Callable[[Row], str],
) -> list[Row]:
    """Do the runs that are not in the results yet; return the rows of all that were planned.

    Parameters
    ----------
    plan
        The runs in order.
    arguments
        Of `check_run_options`; each finished run is appended to its results.
    prepare
        Makes the artist of a recipe, once.
    judge
        Returns the columns that a picture (1, C, H, W) gets from its judges.
    told
        Says in a few words what came out, from the last row of a run.
    """
    out = console()
    results: Results = arguments.table
    rows: list[Row] = list(arguments.rows)
    done = {results.key_of(row) for row in rows}
    artists: dict[str, Artist] = {}
    wanted: set[tuple[str, ...]] = set()
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        stack.enter_context(stop.after_the_step())
        for number, run in enumerate(plan, 1):
            known: Row = {
                **machine(),
                **run.columns,
                "recipe": run.recipe.name,
                "precision": arguments.precision or "",
                "settings": run.recipe.settings(),
                "seed": run.seed,
                "nb_steps": run.recipe.nb_steps,
            }
            wanted.add(results.key_of(known))
            label = f"{number} of {len(plan)}: {run.recipe.name}, {run.name}, seed {run.seed}"
            kept = Kept(run.recipe.name, run.name, run.seed)
            if results.key_of(known) in done and not arguments.again:
                out.print(f"{label}: in the results already{_without(kept, arguments.pictures)}")
                continue
            if stop:
                continue
            if run.recipe.name not in artists:
                artists[run.recipe.name] = stack.enter_context(prepare(run.recipe))
            pictures = artists[run.recipe.name].draw(run.subject, run.seed, lambda: bool(stop))
            taken = pictures[-1][0]["step"] if pictures else 0
            if taken < run.recipe.nb_steps:
                out.print(f"{label}: ended before its last step, not recorded")
                continue
            finished = [{**known, **times, **judge(run, image)} for times, image in pictures]
            if arguments.pictures is not None:
                kept.save(pictures[-1][1][0], arguments.pictures)
            results.append(finished)
            rows += finished
            out.print(f"{label}: {finished[-1]['seconds']:.1f} s, {told(finished[-1])}")
    return [row for row in rows if results.key_of(row) in wanted]


def _without(kept: Kept, folder: Path | None) -> str:
    """Say that the picture of a finished run is missing."""
    if folder is None or kept.path(folder).exists():
        return ""
    return ", but its picture is not in the folder (--again draws it)"
