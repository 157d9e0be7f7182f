"""Counts workers that end before their time, so that a hopeless job does not go on for ever."""

from fvfast.atlas.executors.base import WorkersFailedError

MOST_ENDINGS = 10
"""Ends of workers, one after the other and for each worker, without a unit drawn in between."""


class Endings:
    """How often workers have ended since a unit was drawn.

    Parameters
    ----------
    workers
        How many there are at the same time.
    most
        How often each of them may end.
    """

    def __init__(self, workers: int, most: int = MOST_ENDINGS) -> None:
        self._most = most * workers
        self._count = 0

    def progress(self) -> None:
        """Note that a unit was drawn, or an attempt has failed, which is counted elsewhere."""
        self._count = 0

    def count(self, how: str) -> None:
        """Note that a worker has ended.

        Raises
        ------
        WorkersFailedError
            This has happened too often.
        """
        self._count += 1
        if self._count >= self._most:
            raise WorkersFailedError(
                f"workers have ended {self._count} times without drawing a unit; the last one "
                f"{how}. If the system ended them for want of memory, fewer workers need less, or "
                "a new atlas with a smaller --batch-size. What was drawn is there."
            )
