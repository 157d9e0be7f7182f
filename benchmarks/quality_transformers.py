"""Measures pictures of a vision transformer, by convolutional networks that had no part in them.

    python -m benchmarks.photographs build/photographs
    python -m benchmarks.quality_transformers

The transformer is the DINOv2-small of `benchmarks.dinov2_small`, which see for how to get it. It
has no classes, so a picture is to have the feature of a photograph: the direction, among the
features of the class token, in which the photograph differs from the mean of all photographs. Those
photographs are taken whose class is the same in Lite1 and Lite2 (the top one, more probable than
--probability in both), one for each class.

A picture is judged over the evaluation crops by the rank and the probability of that class in Lite1
and Lite2, and of the next photograph's class as a control, whose probability must be near 0. The
transformer's own judgment is the cosine of the picture's feature with the direction. Each finished
run is appended to the results at once, and runs whose results exist are not repeated.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.table import Table

from benchmarks import dinov2_small
from benchmarks.harness import RESULTS
from benchmarks.quality_artists import artist_of
from benchmarks.quality_results import Row, in_common
from benchmarks.quality_runs import (
    MACHINE_COLUMNS,
    RECIPE_COLUMNS,
    TIME_COLUMNS,
    Run,
    add_photographs_option,
    add_run_options,
    check_methods,
    check_photographs,
    check_run_options,
    do_runs,
    run_and_report,
)
from benchmarks.quality_statistics import with_error
from fvfast import Objective
from fvfast.cli.terminal import console
from fvfast.evaluation.metrics import evaluation_boxes, evaluation_crops, transferability
from fvfast.models import LoadedModel, load_model
from fvfast.objectives.photographs import read_photographs

JUDGES = ("efficientnet_lite1", "efficientnet_lite2")
SHORT = ("lite1", "lite2")
DEFAULT_RECIPES = ("fast", "pyramid", "lucid")

COLUMNS = (
    *MACHINE_COLUMNS, "network", *RECIPE_COLUMNS, "photograph", "class_name", "control_name",
    "seed", "evaluation_crops", "nb_steps", "step", *TIME_COLUMNS, "cosine",
    *(f"{judge}_{column}" for judge in SHORT
      for column in ("rank", "probability", "control_rank", "control_probability")),
)  # fmt: skip
KEY = (
    "processor", "threads", "network", *RECIPE_COLUMNS, "photograph", "control_name", "seed",
    "evaluation_crops",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Photograph:
    """What a picture is to look like to the transformer.

    Attributes
    ----------
    path
        Its file.
    class_index, class_name
        Its class in Lite1 and Lite2.
    direction
        (384,): its feature minus the mean of all photographs.
    """

    path: Path
    class_index: int
    class_name: str
    direction: torch.Tensor


def arguments_of(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run_options(parser, RESULTS / "quality_transformers.csv", DEFAULT_RECIPES)
    add_photographs_option(parser)
    parser.add_argument("--count", type=int, default=20, help="of photographs")
    parser.add_argument(
        "--probability", type=float, default=0.5, help="least one of a photograph's class"
    )
    arguments = parser.parse_args(argv)
    check_run_options(parser, arguments, COLUMNS, KEY)
    if arguments.count < 2:
        parser.error(
            f"--count must be at least 2, so that there is a control; got {arguments.count}"
        )
    check_photographs(parser, arguments)
    check_methods(parser, arguments.all_recipes)
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = arguments_of(argv)
    run_and_report(arguments, lambda: run_all(arguments, dinov2_small.load()), print_summary)


def run_all(arguments: argparse.Namespace, artist: LoadedModel) -> list[Row]:
    """Do the runs that are not in the results yet; return the rows of all requested runs."""
    judges = [load_model(name) for name in JUDGES]
    paths = sorted(arguments.photographs.rglob("*.jpg"))
    chosen = choose(paths, artist, judges, arguments.count, arguments.probability)
    console().print(
        f"{len(chosen)} of {len(paths)} photographs: "
        + ", ".join(f"{one.path.stem} ({one.class_name})" for one in chosen),
        soft_wrap=True,
    )
    if len(chosen) < 2:
        raise SystemExit("there must be at least two photographs of classes that are agreed on.")
    controls = dict(zip(chosen, [*chosen[1:], chosen[0]], strict=True))
    plan = [
        Run(recipe, photograph, f"{photograph.class_name} ({photograph.path.stem})", seed, {
            "network": artist.name, "photograph": photograph.path.stem,
            "class_name": photograph.class_name,
            "control_name": controls[photograph].class_name,
            "evaluation_crops": len(evaluation_boxes()),
        })
        for photograph in chosen
        for seed in arguments.seeds
        for recipe in arguments.all_recipes
    ]  # fmt: skip
    return do_runs(
        plan, arguments,
        lambda recipe: artist_of(
            recipe, artist, checkpoints=1, precision=arguments.precision,
            threads=arguments.threads, objective_of=direction_objective,
        ),
        lambda run, image: judge(image, run.subject, controls[run.subject], artist, judges),
        lambda row: f"cosine {row['cosine']:.2f}, probability {row['lite1_probability']:.3f} and "
        f"{row['lite2_probability']:.3f}",
    )  # fmt: skip


def direction_objective(loaded: LoadedModel, photograph: Photograph) -> Objective:
    """Make the objective of a photograph's direction."""
    return Objective.direction(
        loaded.model, "feature", photograph.direction, names=photograph.class_name,
        input_shape=loaded.input_shape, preprocess=loaded.preprocess,
    )  # fmt: skip


def choose(
    paths: Sequence[Path],
    artist: LoadedModel,
    judges: Sequence[LoadedModel],
    count: int,
    probability: float,
) -> list[Photograph]:
    """Choose photographs whose class the judges agree on, in an order that is drawn once."""
    features = torch.stack([outputs_for(path, artist) for path in paths])
    directions = features - features.mean(0)
    chosen: dict[int, Photograph] = {}
    for number in np.random.default_rng(0).permutation(len(paths)).tolist():
        seen = [outputs_for(paths[number], judge).softmax(0).max(0) for judge in judges]
        indices = {int(top.indices) for top in seen}
        index = min(indices)
        if len(indices) > 1 or index in chosen or min(top.values for top in seen) <= probability:
            continue
        name = (judges[0].categories or {})[index]  # type: ignore[index]
        chosen[index] = Photograph(paths[number], index, name, directions[number])
        if len(chosen) == count:
            break
    return list(chosen.values())


def outputs_for(path: Path, loaded: LoadedModel) -> torch.Tensor:
    """Return a network's outputs (K,) for the square in the middle of a photograph."""
    images, _ = read_photographs(path, loaded.input_shape, loaded.values_range, "choose")
    return outputs(images, loaded)[0]


def outputs(images: torch.Tensor, loaded: LoadedModel) -> torch.Tensor:
    """Return a network's outputs (N, K) for images in its range."""
    with torch.no_grad():
        return loaded.model(images if loaded.preprocess is None else loaded.preprocess(images))


def judge(
    image: torch.Tensor,
    photograph: Photograph,
    control: Photograph,
    artist: LoadedModel,
    judges: Sequence[LoadedModel],
) -> Row:
    """Compute the metrics of a picture (1, C, H, W) in the artist's range."""
    (crops,) = evaluation_crops(image, artist.input_shape[1:])
    cosines = F.cosine_similarity(outputs(crops, artist), photograph.direction, dim=1)
    row: Row = {"cosine": round(float(cosines.mean()), 4)}
    for prefix, wanted in (("", photograph), ("control_", control)):
        seen = transferability(image, wanted.class_index, judges, values_range=artist.values_range)
        for column, short in enumerate(SHORT):
            probability = float(seen.probabilities[0, column])
            row[f"{short}_{prefix}rank"] = int(seen.ranks[0, column])
            row[f"{short}_{prefix}probability"] = float(f"{probability:.5g}")
    return row


def print_summary(rows: Sequence[Row]) -> None:
    """Print a table with one line for each recipe."""
    recipes = in_common(rows, ("photograph", "control_name", "seed"))
    count = min(map(len, recipes.values()))
    if not count:
        console().print("[yellow]The recipes have no photograph and seed in common.[/]")
        return
    table = Table(title=f"Mean of {count} runs each ± standard error over the photographs")
    table.add_column("recipe")
    for header in (
        "cosine",
        *(f"{what} {judge.capitalize()}" for judge in SHORT
          for what in ("top-1 %", "top-5 %", "prob.", "control prob.", "control top-5 %")),
        "processor s",
    ):  # fmt: skip
        table.add_column(header, justify="right")
    for label, runs in recipes.items():
        drawn = [str(row["photograph"]) for row in runs]

        def values(column: str, runs: Sequence[Row] = runs) -> np.ndarray:
            return np.array([float(row[column]) for row in runs])

        cells = [with_error(values("cosine"), drawn, 2)]
        for judge_ in SHORT:
            ranks, controls = values(f"{judge_}_rank"), values(f"{judge_}_control_rank")
            cells += [
                with_error(100.0 * (ranks == 1), drawn, 0),
                with_error(100.0 * (ranks <= 5), drawn, 0),
                with_error(values(f"{judge_}_probability"), drawn, 3),
                with_error(values(f"{judge_}_control_probability"), drawn, 3),
                with_error(100.0 * (controls <= 5), drawn, 0),
            ]
        table.add_row(label, *cells, f"{values('cpu_seconds').mean():.1f}")
    console().print(table)


if __name__ == "__main__":
    main()
