"""Reading a folder of photographs as batches of equally large tensors."""

import itertools
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

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
"""Numbers of channels that files can be read with: grey, and RGB."""
_BATCH = 16
_NAMED_FILES = 20  # in a warning


class PhotographFolder:
    """The photographs in a folder and its subfolders, in the order of their paths.

    Iterating reads them: batches (N, C, H, W) of float32 values in [0, 1]. Each image is rotated as
    its EXIF data says, converted to RGB (or grey), cropped around its centre to the aspect that is
    asked for, and resized.

    Parameters
    ----------
    folder
        Path of the folder. Files whose names do not end in one of `SUFFIXES` are left alone.
    size
        (H, W) of the tensors.
    channels
        3 for RGB, 1 for grey.
    progress
        Show a progress bar.

    Attributes
    ----------
    paths : list of Path
        The files that look like images.
    skipped : list of str
        After iterating: the files that could not be read, with the reason.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    ValueError
        If ``channels`` is neither 1 nor 3 or the folder has no image files; when iterating, if
        none of them can be read.

    Warns
    -----
    UserWarning
        Once, at the end, with the names of the files that could not be read.
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
                f"PhotographFolder: channels is {channels}; files are read as 3 (RGB) or 1 (grey). "
                "Pass tensors for other channels."
            )
        self.size = size
        self.mode = "RGB" if channels == 3 else "L"
        self.progress = progress
        self.skipped: list[str] = []
        self.paths = sorted(
            path
            for path in self.folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not self.paths:
            raise ValueError(
                f"PhotographFolder: {self.folder} has no image files; expected files that end in "
                f"{', '.join(SUFFIXES)}."
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
                results = list(pool.map(self._read, batch))
                self.skipped += [result for result in results if isinstance(result, str)]
                images = [result for result in results if not isinstance(result, str)]
                if images:
                    yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
                bar.update(len(batch))
        self._report_skipped()

    def _read(self, path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | str":
        """Values (H, W, C) in 0 to 255, or why the file cannot be read."""
        try:
            with Image.open(path) as file:
                if file.mode.startswith(("I", "F")):
                    # Pillow would cut these off at 255 instead of scaling them.
                    return f"{path}: {file.mode} pixels have more than 8 bits"
                image = ImageOps.exif_transpose(file).convert(self.mode)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return f"{path}: {error}"
        height, width = self.size
        image = ImageOps.fit(image, (width, height), method=Image.Resampling.BICUBIC)
        return np.array(image, dtype=np.uint8).reshape(height, width, len(self.mode))

    def _report_skipped(self) -> None:
        if not self.skipped:
            return
        names = "\n  ".join(self.skipped[:_NAMED_FILES])
        more = len(self.skipped) - _NAMED_FILES
        summary = f"{len(self.skipped)} of {len(self.paths)} image files could not be read"
        message = f"{summary}:\n  {names}" + (f"\n  and {more} more" if more > 0 else "")
        if len(self.skipped) == len(self.paths):
            raise ValueError(f"PhotographFolder: {message}")
        warnings.warn(f"{message}\nThey were skipped.", stacklevel=3)
