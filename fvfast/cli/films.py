"""Writes films of runs: each step is a frame."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from fvfast.cli.previews import PICTURE_CHANNELS, preview_channels
from fvfast.cli.step_pictures import OnStep
from fvfast.cli.terminal import print_error
from fvfast.files.reading import reason
from fvfast.files.video import VideoWriter, check_video
from fvfast.plot.video import frame_of
from fvfast.run.loop import StepReport

VideoOption = Annotated[
    Path | None,
    typer.Option(
        "--video",
        metavar="FILE",
        help="Also write a film of the run, one frame a step: FILE ends in .mp4 or .gif. Of "
        "several pictures, each has a film of its own, and its name is added to that of the file.",
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
        Whether there is one picture in all, whose film has the given path.
    """

    path: Path
    values_range: tuple[float, float]
    is_only_one: bool

    def path_of(self, picture: Path) -> Path:
        """Return the path of the film of a picture."""
        if self.is_only_one:
            return self.path
        return self.path.with_name(f"{self.path.stem}_{picture.stem}{self.path.suffix}")

    @contextlib.contextmanager
    def of(self, pictures: Sequence[Path]) -> Iterator[OnStep]:
        """Write the films of a batch of pictures; yield what takes their frames."""
        with contextlib.ExitStack() as open_films:
            films = [open_films.enter_context(VideoWriter(self.path_of(path))) for path in pictures]
            yield _Frames(films, self.values_range)


def films_of(
    path: Path | None, names: Sequence[str], values_range: Sequence[float]
) -> Films | None:
    """Return the films that a command line asks for, of pictures of these names; None for none."""
    if path is None:
        return None
    low, high = values_range
    return Films(check_video(path), (low, high), is_only_one=len(names) == 1)


@dataclasses.dataclass
class _Frames:
    """Adds a frame to each film after a step; a film that cannot be written ends no run."""

    films: Sequence[VideoWriter]
    values_range: tuple[float, float]
    failed: bool = False

    def __call__(self, report: StepReport) -> None:
        if self.failed:
            return
        try:
            for film, image in zip(self.films, report.images, strict=True):
                count = len(image)
                shown = image if count in PICTURE_CHANNELS else image[preview_channels(count)]
                film.add(frame_of(shown, self.values_range))
        except OSError as error:
            self.failed = True
            print_error(
                f"the film cannot be written to {self.films[0].path} ({reason(error)}): going on "
                "without it."
            )
