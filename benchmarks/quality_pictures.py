"""The pictures that `benchmarks.quality` keeps: their files, and what the files say of them."""

import dataclasses
import re
from pathlib import Path

import torch

from fvfast.plot.png import read_metadata, save_png

_ENTRIES = ("fvfast.recipe", "fvfast.class", "fvfast.seed")
"""Text entries of a file. Its name says the same, but recipes and classes may have hyphens."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """What a kept picture shows.

    Attributes
    ----------
    recipe
        Name of the recipe.
    subject
        Name of the class.
    seed
        Seed of the run.
    """

    recipe: str
    subject: str
    seed: int

    def path(self, folder: Path) -> Path:
        """Return the file: RECIPE-CLASS-sSEED.png, with _ for what file names may not have."""
        recipe, subject = (re.sub(r"[^\w.-]+", "_", name) for name in (self.recipe, self.subject))
        return folder / f"{recipe}-{subject}-s{self.seed}.png"

    def save(self, image: torch.Tensor, folder: Path) -> Path:
        """Write a picture (C, H, W) as `fvfast.plot` shows it, with its contrast stretched."""
        values = (self.recipe, self.subject, self.seed)
        return save_png(self.path(folder), image, metadata=dict(zip(_ENTRIES, values, strict=True)))


def kept_pictures(folder: Path) -> dict[Kept, Path]:
    """Return the pictures of a folder, in the order of their names; other files are left out."""
    found = {}
    for path in sorted(folder.glob("*.png")):
        entries = read_metadata(path)
        if all(entry in entries for entry in _ENTRIES):
            recipe, subject, seed = (entries[entry] for entry in _ENTRIES)
            found[Kept(recipe, subject, int(seed))] = path
    return found
