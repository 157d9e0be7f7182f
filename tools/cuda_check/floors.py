"""What a kernel must move at the least, and the cases that are measured."""

import dataclasses
import sys
from collections.abc import Callable, Sequence

from cuda_check.replay import ROOT, Replay

sys.path.append(str(ROOT))

IMAGE, CROP, CHANNELS = 512, 224, 3
SEED = 0


@dataclasses.dataclass(frozen=True)
class Floor:
    """The least that a kernel can do, in one run of a case.

    Attributes
    ----------
    kernel
        Its name: with the arguments of its template, or without for all its instances together.
    bytes
        The compulsory traffic.
    elements
        What it makes: instructions are given for each of them.
    """

    kernel: str
    bytes: int
    elements: int

    def is_of(self, name: str) -> bool:
        """Whether a kernel, named with the arguments of its template, is meant."""
        return self.kernel in (name, name.partition("<")[0])


@dataclasses.dataclass(frozen=True)
class Case:
    """A measurement.

    Attributes
    ----------
    name
        Of the operation.
    run
        Runs it with so many crops, under a replay that is active, and returns the floors.
    """

    name: str
    run: Callable[[Replay, int], Sequence[Floor]]
