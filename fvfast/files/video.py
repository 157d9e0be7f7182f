"""Writes pictures as a film, MP4 or GIF, one after the other."""

import importlib
import io
import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvfast.files.writing import check_replaceable, replacing

SUFFIXES = (".mp4", ".gif")
_INSTALL = "pip install 'fvfast[video]'"


def check_video(path: str | os.PathLike[str]) -> Path:
    """Return the path of a film that can be written.

    Raises
    ------
    ValueError
        The name ends in none of `SUFFIXES`.
    ImportError
        What writes them is not installed.
    """
    path = check_replaceable(Path(path))
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} is no name of a film; expected one that ends in .mp4 or .gif.")
    _imageio()
    if path.suffix.lower() == ".mp4":
        _module("imageio_ffmpeg")
    return path


class VideoWriter:
    """Writes frames to a film, which appears under its name when it is complete.

    Use it in a ``with`` statement. At its end, also after an exception, the frames so far make a
    film; without a frame there is none, and a film that was there stays.

    Parameters
    ----------
    path
        Path of the file, which ends in .mp4 (H.264) or .gif.
    fps
        Frames per second.

    Raises
    ------
    ValueError, ImportError
        See `check_video`.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float = 24.0) -> None:
        self.path = check_video(path)
        self.fps = fps
        self._writer: Any = None
        self._unfinished: Path | None = None
        self._encoded = io.BytesIO()

    def __enter__(self) -> "VideoWriter":
        return self

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Add a frame (H, W, 3); all have the same size."""
        if self._writer is None:
            self._start()
        self._writer.append_data(_with_even_sides(frame))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Bring the frames so far under the film's name.

        Raises
        ------
        OSError
            They cannot be written. A film that was there stays.
        """
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            writer.close()
            if self._unfinished is not None:
                _check_whole(self._unfinished)
                self._unfinished.replace(self.path)
            else:
                with replacing(self.path) as file:
                    file.write(self._encoded.getvalue())
        finally:
            if self._unfinished is not None:
                self._unfinished.unlink(missing_ok=True)

    def _start(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.suffix.lower() == ".gif":
            # Pillow writes at the end, from frames that it has kept.
            how = {"duration": 1000 / self.fps, "loop": 0}  # milliseconds; again and again
            self._writer = _imageio().get_writer(self._encoded, format=".gif", **how)
            return
        # Beside the film, under a name of the same ending, which tells the format.
        unfinished = self.path.with_name(f".fvfast-{uuid.uuid4().hex}{self.path.suffix}")
        unfinished.open("xb").close()  # whoever may read other new files may read this one
        self._unfinished = unfinished
        self._writer = _imageio().get_writer(
            str(unfinished), fps=self.fps, quality=8, macro_block_size=2, ffmpeg_log_level="error"
        )


def _check_whole(film: Path) -> None:
    """Raise OSError if ffmpeg, whose exit status is lost, has not come to the end of a film."""
    try:
        _module("imageio_ffmpeg").count_frames_and_secs(str(film))
    except RuntimeError as error:
        raise OSError("ffmpeg could not write all of it; is the disk full?") from error


def _with_even_sides(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row or column of odd sides, which H.264 does not have."""
    height, width, _ = frame.shape
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _imageio() -> Any:
    return _module("imageio.v2")


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise ImportError(
            f"films need the package {package.replace('_', '-')}, which is not installed; run: "
            f"{_INSTALL}"
        ) from error
