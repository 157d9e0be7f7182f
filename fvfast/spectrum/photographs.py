"""Reading a folder of photographs as batches of tensors of one size."""

import itertools
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fvfast._shared.progress_bars import tqdm
from fvfast.files.images import MEMORY, decode, pillow_for_many
from fvfast.files.memory_budget import MemoryBudget
from fvfast.files.reading import files_below

SUFFIXES = (
    ".avif",
    ".bmp",
    ".gif",
    ".jp2",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
CHANNELS = (1, 3)
"""Numbers of channels that files can be read with: gray, and RGB."""
_BATCH = 16
_NAMED_FILES = 20  # in a warning


class PhotographFolder:
    """The photographs in a folder and its subfolders, in the order of their paths.

    Iterating reads them: batches (N, C, H, W) of float32 values in [0, 1]. Each image is rotated as
    its EXIF data says, converted to RGB (or gray), cropped around its center to the aspect that is
    asked for, and resized.

    Files that cannot be decoded are skipped, and named at the end: damaged ones, links that lead
    nowhere, pixels of more than 8 bits, formats other than AVIF, BMP, GIF, JPEG, JPEG 2000, PNG,
    PPM, TIFF and WebP, whatever the names of the files say, and images that take more than 0.75 GiB
    to decode. That is also the most that the images decoded at the same time may take together. Of
    several frames or pages the first one is read.

    Parameters
    ----------
    folder
        Path of the folder. Files whose names do not end in one of `SUFFIXES` are left alone, and
        links to other folders are not followed.
    size
        (H, W) of the tensors.
    channels
        3 for RGB, 1 for gray.
    progress
        Show a progress bar.

    Attributes
    ----------
    paths : list of Path
        The files that look like images.
    unlisted : list of str
        Subfolders that could not be listed, with the reason.
    skipped : list of str
        After iterating: the files that could not be read, with the reason.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    OSError
        If it cannot be listed.
    ValueError
        If ``channels`` is neither 1 nor 3 or the folder has no image files; when iterating, if
        none of them can be read.

    Warns
    -----
    UserWarning
        Once, at the end, with the names of the files and subfolders that could not be read.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        size: tuple[int, int],
        channels: int = 3,
        progress: bool = True,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise NotADirectoryError(
                f"PhotographFolder: {self.folder} is not a folder; expected a folder of images."
            )
        if channels not in CHANNELS:
            raise ValueError(
                f"PhotographFolder: channels is {channels}; expected 3 (RGB) or 1 (gray). "
                "Pass tensors for other channels."
            )
        self.size = size
        self.mode = "RGB" if channels == 3 else "L"
        self.progress = progress
        self.skipped: list[str] = []
        self.unlisted: list[str] = []
        self.paths = sorted(
            path
            for path in files_below(self.folder, self._add_unlisted)
            if path.suffix.lower() in SUFFIXES
        )
        self._budget = MemoryBudget(MEMORY)
        if not self.paths:
            raise ValueError(
                f"PhotographFolder: {self.folder} has no image files; expected files that end in "
                f"{', '.join(SUFFIXES)}." + "".join(f"\n  {text}" for text in self.unlisted)
            )

    def __iter__(self) -> Iterator[torch.Tensor]:
        self.skipped = []
        paths = iter(self.paths)
        with (
            ThreadPoolExecutor() as pool,  # Pillow decodes without holding the interpreter's lock
            tqdm(total=len(self.paths), desc="photographs", disable=not self.progress) as bar,
        ):
            # One batch at a time, so that a large folder does not fill the memory.
            while batch := list(itertools.islice(paths, _BATCH)):
                with pillow_for_many():
                    results = list(pool.map(self._read, batch))
                self.skipped += [result for result in results if isinstance(result, str)]
                images = [result for result in results if not isinstance(result, str)]
                if images:
                    yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
                bar.update(len(batch))
        self._report_skipped()

    def _read(self, path: Path) -> NDArray[np.uint8] | str:
        """Values (H, W, C) in 0 to 255, or why the file cannot be read."""
        try:
            return decode(path, self.size, self.mode, self._budget)
        except ValueError as error:
            return f"{path}: {error}"

    def _add_unlisted(self, error: OSError) -> None:
        self.unlisted.append(f"{error.filename}: {error.strerror}")

    def _report_skipped(self) -> None:
        parts = []
        if self.skipped:
            count = f"{len(self.skipped)} of {len(self.paths)} image files"
            parts.append(f"{count} could not be read:{_first(self.skipped)}")
        if self.unlisted:
            count = f"{len(self.unlisted)} folder{'s' if len(self.unlisted) > 1 else ''}"
            parts.append(f"{count} could not be listed:{_first(self.unlisted)}")
        if not parts:
            return
        message = "\n".join(parts)
        if len(self.skipped) == len(self.paths):
            raise ValueError(f"PhotographFolder: {message}")
        warnings.warn(f"{message}\nThey were skipped.", stacklevel=3)


def _first(texts: list[str]) -> str:
    """Return the first few of a list, each on a line of its own, and how many more there are."""
    more = len(texts) - _NAMED_FILES
    listed = "".join(f"\n  {text}" for text in texts[:_NAMED_FILES])
    return listed + (f"\n  and {more} more" if more > 0 else "")
