"""Writes films: of runs, whose steps are the frames, and of paths from one unit to another."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from fvfast.cli.previews import PICTURE_CHANNELS, preview_channels
from fvfast.cli.requests import Request
from fvfast.cli.step_pictures import OnStep
from fvfast.cli.terminal import print_error
from fvfast.files.reading import reason
from fvfast.files.video import VideoWriter, check_video
from fvfast.plot.video import frame_of, save_video
from fvfast.run.loop import StepReport

_PATH_FPS = 8.0
"""Pictures of a path in a second: there are few, and each is to be seen."""

VideoOption = Annotated[
    Path | None,
    typer.Option(
        "--video",
        metavar="FILE",
        help="Also write a film of the run, one frame a step: FILE ends in .mp4 or .gif. Of "
        "several pictures, each has a film of its own, and its name is added to that of the file; "
        "the pictures of a path are one film.",
        show_default=False,
    ),
]


@dataclasses.dataclass(frozen=True)
class Films:
    """The films of several pictures.

    Attributes
    ----------
    path
        The path that the user gave.
    values_range
        (low, high) of the images.
    is_only_one
        Whether there is one film in all, which has the given path.
    is_path
        Whether the finished pictures are the frames.
    """

    path: Path
    values_range: tuple[float, float]
    is_only_one: bool
    is_path: bool

    def path_of(self, picture: Path) -> Path:
        """Return the path of the film of a picture."""
        if self.is_only_one:
            return self.path
        return self.path.with_name(f"{self.path.stem}_{picture.stem}{self.path.suffix}")

    def check_replaceable(self, pictures: Sequence[Path]) -> None:
        """Make sure that no film is replaced unless a picture beside it shows whose it is.

        Parameters
        ----------
        pictures
            Paths of all pictures. Those that exist are known to be the ones asked for.

        Raises
        ------
        FileExistsError
            There is a film of one of these names, and none of its pictures.
        """
        known = {self.path_of(picture) for picture in pictures if picture.exists()}
        for film in map(self.path_of, pictures):
            if film not in known and film.exists():
                raise FileExistsError(
                    f"{film} is there already, without the picture that it would be a film of. "
                    "Choose another name with --video, or replace what is there with --overwrite."
                )

    @contextlib.contextmanager
    def of(self, pictures: Sequence[Path]) -> Iterator[OnStep]:
        """Write the films of a batch of pictures; yield what takes their frames."""
        with contextlib.ExitStack() as open_films:
            pictures = [] if self.is_path else pictures
            films = [VideoWriter(self.path_of(path)) for path in pictures]
            for film in films:
                open_films.callback(_close, film)
            yield _Frames(films, self.values_range)

    def take(self, images: torch.Tensor) -> None:
        """Write the film of a path of its finished pictures (N, C, H, W); others have theirs."""
        if self.is_path:
            shown = [_in_colors(image) for image in images]
            try:
                save_video(self.path, shown, values_range=self.values_range, fps=_PATH_FPS)
            except OSError as error:
                _say_that_it_failed(self.path, error)


def films_of(path: Path | None, request: Request, values_range: Sequence[float]) -> Films | None:
    """Return the films that a command line asks for; None for none."""
    if path is None:
        return None
    low, high = values_range
    is_one = request.is_path or len(request.names) == 1
    return Films(check_video(path), (low, high), is_one, request.is_path)


def _in_colors(image: torch.Tensor) -> torch.Tensor:
    """Return an image (C, H, W) with channels that can be shown."""
    count = len(image)
    return image if count in PICTURE_CHANNELS else image[preview_channels(count)]


@dataclasses.dataclass
class _Frames:
    """Adds a frame to each film after a step; a film that cannot be written ends no run."""

    films: Sequence[VideoWriter]
    values_range: tuple[float, float]
    failed: bool = False

    def __call__(self, report: StepReport) -> None:
        if self.failed or not self.films:
            return
        try:
            for film, image in zip(self.films, report.images, strict=True):
                film.add(frame_of(_in_colors(image), self.values_range))
        except OSError as error:
            self.failed = True
            _say_that_it_failed(self.films[0].path, error)


def _close(film: VideoWriter) -> None:
    """Close a film; one that cannot be written takes no picture with it."""
    try:
        film.close()
    except OSError as error:
        _say_that_it_failed(film.path, error)


def _say_that_it_failed(film: Path, error: OSError) -> None:
    print_error(f"the film cannot be written to {film} ({reason(error)}): going on without it.")
