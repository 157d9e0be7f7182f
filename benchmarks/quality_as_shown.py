"""Judges the pictures that a benchmark of quality kept as people see them.

    python -m benchmarks.quality --pictures FOLDER ...
    python -m benchmarks.quality_as_shown FOLDER

`benchmarks.quality` judges the values of an image over 16 crops, most of which show a part of it,
so it favors pictures whose parts can be recognized. Here the judges see what is in the file: the
whole picture, with its contrast stretched for the eye. Both say of each class its rank and
probability in EfficientNet-Lite1 and Lite2.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.table import Table

from benchmarks.quality_pictures import Kept, kept_pictures
from benchmarks.quality_sheet import shared_subjects
from benchmarks.quality_statistics import with_error
from fvfast.cli.terminal import console
from fvfast.evaluation.metrics import Transferability, transferability
from fvfast.models import LoadedModel, load_model

JUDGES = ("efficientnet_lite1", "efficientnet_lite2")
WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipes", nargs="+", help="rows, from above; default: all, by name")
    arguments = parser.parse_args(argv)
    kept = kept_pictures(arguments.folder)
    if not kept:
        raise SystemExit(
            f"{arguments.folder} holds no picture: keep some with python -m benchmarks.quality "
            f"--pictures {arguments.folder}"
        )
    recipes = arguments.recipes or sorted({one.recipe for one in kept})
    wanted = wanted_pictures(kept, recipes)
    if not wanted[recipes[0]]:
        raise SystemExit(f"{', '.join(recipes)} have no picture in common: name some recipes.")
    judges = [load_model(name) for name in JUDGES]
    table = Table(title=f"Mean of {len(wanted[recipes[0]])} pictures each ± standard error")
    table.add_column("recipe")
    for judge in JUDGES:
        for header in ("top-1 %", "prob."):
            table.add_column(f"{header} {judge.rpartition('_')[2].capitalize()}", justify="right")
    for recipe in recipes:
        subjects = [one.subject for one in wanted[recipe]]
        seen = judged([(one.subject, kept[one]) for one in wanted[recipe]], judges)
        table.add_row(recipe, *cells(seen, subjects))
    console().print(table)


def wanted_pictures(kept: Mapping[Kept, Path], recipes: Sequence[str]) -> dict[str, list[Kept]]:
    """Return for each recipe the pictures of which all recipes have one, in the same order."""
    pairs = sorted(
        (subject, seed)
        for seed in {one.seed for one in kept}
        for subject in shared_subjects({k: p for k, p in kept.items() if k.seed == seed}, recipes)
    )
    return {recipe: [Kept(recipe, *pair) for pair in pairs] for recipe in recipes}


def judged(pictures: Sequence[tuple[str, Path]], judges: Sequence[LoadedModel]) -> Transferability:
    """Return what judges see in files of pictures, each the picture of a class of this name."""
    seen = []
    for subject, path in pictures:
        with Image.open(path) as file:
            pixels = torch.tensor(np.asarray(file.convert("RGB"))) / 255
        image = pixels.movedim(2, 0)[None]
        index = judges[0].class_index(subject)
        seen.append(transferability(image, index, judges, values_range=(0, 1), boxes=WHOLE))
    return Transferability(
        torch.cat([one.ranks for one in seen]),
        torch.cat([one.probabilities for one in seen]),
        seen[0].networks,
    )


def cells(seen: Transferability, subjects: Sequence[str]) -> list[str]:
    """Return the cells of a recipe: of each judge the share of first ranks and the probability."""
    texts = []
    for column in range(len(seen.networks)):
        first = (seen.ranks[:, column] == 1).numpy()
        texts.append(with_error(100.0 * first, subjects, 0))
        texts.append(with_error(seen.probabilities[:, column].numpy(), subjects, 3))
    return texts


if __name__ == "__main__":
    main()
