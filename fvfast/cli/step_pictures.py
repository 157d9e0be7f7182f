"""Writes what images look like while they are being made."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from fvfast.cli.previews import PICTURE_CHANNELS, preview_channels
from fvfast.cli.terminal import print_error
from fvfast.files.reading import reason
from fvfast.plot.png import save_png
from fvfast.run.loop import StepReport

OnStep = Callable[[StepReport], None]
"""Called after each step."""

STEPS = "steps"
"""Name of the folder, within that of the pictures."""


@dataclasses.dataclass
class StepPictures:
    """Writes the images of a batch after every so many steps.

    Attributes
    ----------
    folder
        Where to write.
    names
        What the files of the N images are called, without the step.
    every
        Steps from one picture to the next. The last step is left out: that is the picture itself.
    failed
        Whether one could not be written: then no more are, and the run goes on.
    """

    folder: Path
    names: Sequence[str]
    every: int
    failed: bool = False

    def __call__(self, report: StepReport) -> None:
        """Write the images after a step, if it is one of those."""
        taken = report.step + 1
        if self.failed or taken % self.every or taken == report.nb_steps:
            return
        digits = len(str(report.nb_steps))
        for image, name, title in zip(report.images, self.names, report.names, strict=True):
            path = self.folder / f"{name}_{taken:0{digits}}.png"
            shown = image if len(image) in PICTURE_CHANNELS else image[preview_channels(len(image))]
            try:
                save_png(path, shown, None, metadata={"Title": title, "fvfast.step": taken})
            except OSError as error:
                self.failed = True
                print_error(
                    f"the images of single steps cannot be written to {self.folder} "
                    f"({reason(error)}): going on without them."
                )
                return
