"""Progress bars: of the steps of one run, or of the images of several runs one after the other."""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from fvfast._shared.messages import printable, shortened
from fvfast._shared.progress_bars import tqdm

_log = logging.getLogger(__name__)
_LABEL = 60  # characters of a name beside a progress bar
_IMAGES = "{l_bar}{bar}| {n:.1f}/{total:.0f} images [{elapsed}<{remaining}{postfix}]"


class StepBar(Protocol):
    """What a run tells of its steps."""

    def step(self, score: Callable[[], float]) -> None:
        """Tell that a step was taken, with a function that computes its mean score."""
        ...

    def close(self) -> None:
        """Tell that no more steps will be taken."""
        ...


def teller(*, progress: bool) -> Callable[[str], None]:
    """Return what tells people what takes long; on the screen where bars are shown."""

    def tell(text: str) -> None:
        tqdm.write(printable(text), file=sys.stderr)

    return tell if progress else _log.info


class BarOfSteps:
    """A bar of its own for one run.

    Parameters
    ----------
    names
        Names of the images of the run.
    nb_steps
        Steps of the run.
    progress
        Whether it is shown.
    label
        What it says. Default: the name, or the number of images.
    """

    def __init__(
        self, names: Sequence[str], nb_steps: int, *, progress: bool, label: str | None = None
    ) -> None:
        label = label or _label(names)
        self._bar = tqdm(total=nb_steps, desc=label, unit="step", disable=not progress)

    def step(self, score: Callable[[], float]) -> None:
        """Go on by one step."""
        _go_on(self._bar, 1, score)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class BarOfImages:
    """One bar for all batches of images that are drawn one after the other.

    Parameters
    ----------
    count
        Number of images.
    progress
        Whether it is shown.
    """

    def __init__(self, count: int, *, progress: bool) -> None:
        self._bar = tqdm(total=count, bar_format=_IMAGES, disable=not progress)
        self._done = 0

    def batch(self, names: Sequence[str], nb_steps: int) -> StepBar:
        """Begin a batch."""
        first = _label(names[:1]) + (", ..." if len(names) > 1 else "")
        self._bar.set_description_str(first, refresh=False)
        return _Batch(self._bar, len(names) / nb_steps)

    def end_batch(self, count: int) -> None:
        """Count the images of a batch as done, even if it ended before its last step."""
        self._done += count
        self._bar.update(self._done - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class _Batch:
    def __init__(self, bar: Any, images_per_step: float) -> None:
        self._bar = bar
        self._images_per_step = images_per_step

    def step(self, score: Callable[[], float]) -> None:
        _go_on(self._bar, self._images_per_step, score)

    def close(self) -> None:
        pass  # the next batch goes on with it


def _go_on(bar: Any, amount: float, score: Callable[[], float]) -> None:
    """Go on, with the score that the next refresh will show.

    It is read after a refresh, some ten times a second: a GPU may have to be waited for.
    """
    has_refreshed = bar.update(amount)
    if not bar.disable and (has_refreshed or bar.n >= bar.total):
        bar.set_postfix(score=f"{score():.4g}", refresh=False)


def _label(names: Sequence[str]) -> str:
    return shortened(printable(names[0]), _LABEL) if len(names) == 1 else f"{len(names)} images"
