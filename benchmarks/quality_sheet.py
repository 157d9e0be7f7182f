"""Puts pictures that a benchmark of quality kept side by side: a row for each recipe.

    python -m benchmarks.quality --pictures FOLDER ...
    python -m benchmarks.quality_sheet FOLDER

Columns are classes (or channels, or photographs): those that all recipes have, the first ten of
them unless --subjects names others.
"""

import argparse
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.quality_pictures import Kept, kept_pictures
from fvfast.cli.terminal import console

SHEET = Path(__file__).resolve().parents[1] / "docs" / "images" / "quality_sheet.webp"
SIDE = 1.1
"""Inches of a picture."""
TITLE = 16
"""Characters in a line above a picture: more would reach into its neighbor's."""
RESOLUTION = 150
LARGEST = 400_000
"""Bytes of the file: documents load it."""


def arguments_of(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipes", nargs="+", help="rows, from above; default: all, by name")
    parser.add_argument("--subjects", nargs="+", help="columns, from the left")
    parser.add_argument("--sheet", type=Path, default=SHEET, help="file to write, a .webp")
    arguments = parser.parse_args(argv)
    if arguments.sheet.suffix != ".webp":
        parser.error(f"--sheet: expected a file that ends in .webp, got {arguments.sheet}")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = arguments_of(argv)
    kept = {one: path for one, path in kept_pictures(arguments.folder).items()
            if one.seed == arguments.seed}  # fmt: skip
    if not kept:
        raise SystemExit(
            f"{arguments.folder} holds no picture of seed {arguments.seed}: keep some with python "
            f"-m benchmarks.quality --pictures {arguments.folder}"
        )
    recipes = arguments.recipes or sorted({one.recipe for one in kept})
    subjects = arguments.subjects or shared_subjects(kept, recipes)[:10]
    if not subjects:
        raise SystemExit(f"{', '.join(recipes)} have no subject in common: name some recipes.")
    figure = sheet(kept, recipes, subjects, arguments.seed)
    quality = write(figure, arguments.sheet)
    console().print(f"written to {arguments.sheet}, with quality {quality}", soft_wrap=True)


def shared_subjects(kept: Mapping[Kept, Path], recipes: Sequence[str]) -> list[str]:
    """Return the subjects of which there is a picture by each of the recipes."""
    sets = [{one.subject for one in kept if one.recipe == recipe} for recipe in recipes]
    return sorted(set.intersection(*sets))


def sheet(
    kept: Mapping[Kept, Path], recipes: Sequence[str], subjects: Sequence[str], seed: int
) -> Figure:
    """Draw the pictures, with the recipes' names on the left and the subjects' above.

    Raises
    ------
    SystemExit
        A picture is missing.
    """
    figure = Figure(figsize=(SIDE * (len(subjects) + 0.8), SIDE * (len(recipes) + 0.3)),
                    layout="constrained")  # fmt: skip
    axes = figure.subplots(len(recipes), len(subjects), squeeze=False)
    for row, recipe in enumerate(recipes):
        for column, subject in enumerate(subjects):
            path = kept.get(Kept(recipe, subject, seed))
            if path is None:
                raise SystemExit(f"there is no picture of {subject} by {recipe} with seed {seed}.")
            ax = axes[row, column]
            with Image.open(path) as picture:
                ax.imshow(np.asarray(picture.convert("RGB")))
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            if row == 0:
                ax.set_title(textwrap.fill(subject, TITLE), fontsize="x-small")
            if column == 0:
                ax.set_ylabel(recipe, rotation=0, ha="right", va="center", fontsize="small")
    return figure


def write(figure: Figure, path: Path, largest: int = LARGEST) -> int:
    """Write a figure as WebP, with the best quality that keeps it small; return the quality.

    Raises
    ------
    ValueError
        It is too large even with the lowest quality.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=RESOLUTION)
    for quality in range(90, 20, -5):
        content = io.BytesIO()
        with Image.open(drawn) as picture:
            picture.convert("RGB").save(content, "WEBP", quality=quality, method=6)
        if content.tell() < largest:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.getvalue())
            return quality
    raise ValueError(f"{path}: the sheet is larger than {largest} bytes; show fewer pictures.")


if __name__ == "__main__":
    main()
