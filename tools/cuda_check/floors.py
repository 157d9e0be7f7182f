"""The least memory that a kernel must move, and the cases that are measured."""

import dataclasses
import sys
from collections.abc import Callable, Sequence

from cuda_check.replay import ROOT, Replay

sys.path.append(str(ROOT))

IMAGE, CROP, CHANNELS = 512, 224, 3
SEED = 0


@dataclasses.dataclass(frozen=True)
class Floor:
    """The least work of a kernel in one run of a case.

    Attributes
    ----------
    kernel
        Its name, with template arguments, or without them for all its instances together.
    bytes
        The compulsory traffic.
    elements
        The number of elements that it makes; the table shows instructions per element.
    most_traffic
        How many times the compulsory traffic it may request, in sectors.
    most_conflicts
        The share of wavefronts in shared memory that may be due to bank conflicts.
    """

    kernel: str
    bytes: int
    elements: int
    most_traffic: float = 1.3
    most_conflicts: float = 0.05

    def is_of(self, name: str) -> bool:
        """Whether this is the floor of a kernel, whose name has template arguments."""
        return self.kernel in (name, name.partition("<")[0])


@dataclasses.dataclass(frozen=True)
class Case:
    """A measurement.

    Attributes
    ----------
    name
        Name of the operation.
    run
        Runs it with a number of crops, while a replay is active, and returns the floors.
    """

    name: str
    run: Callable[[Replay, int], Sequence[Floor]]
