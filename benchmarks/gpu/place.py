"""Where a stage measures: on a GPU, or with the emulated kernels on the CPU."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator

import torch

from benchmarks.gpu.machine import find_gpu
from benchmarks.gpu.processes import ROOT
from benchmarks.gpu.timing import Clock, GraphClock, WallClock
from benchmarks.gpu.work import Sizes
from fvfast.ops._kernels import use_emulated


@dataclasses.dataclass(frozen=True)
class Place:
    """A device and how to measure on it.

    Attributes
    ----------
    device
        Of all tensors.
    clock
        Measures calls.
    sizes
        Sizes of a run, with one image and with several.
    """

    device: torch.device
    clock: Clock
    sizes: tuple[Sizes, ...]

    @property
    def is_gpu(self) -> bool:
        """Whether this is a GPU, not a rehearsal."""
        return self.device.type == "cuda"

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    def free_memory(self) -> None:
        """Free the memory that the allocator keeps for later."""
        if self.is_gpu:
            torch.cuda.empty_cache()


TINY = (Sizes(1, 24, 2, 12), Sizes(2, 24, 2, 12))
WHOLE = (Sizes(images=1), Sizes(images=8))


@contextlib.contextmanager
def measuring_place(rehearsed: bool) -> Iterator[Place]:
    """Yield the device to measure on; in a rehearsal, operations run on the emulated kernels."""
    if not rehearsed:
        device = find_gpu()
        yield Place(device, GraphClock(device), WHOLE)
        return
    torch.set_num_threads(1)
    with use_emulated(emulated_module()):
        yield Place(torch.device("cpu"), WallClock(), TINY)


def emulated_module():  # noqa: ANN201 - a module that is made here
    """Build the emulated module, which is also the test suite's, and load it."""
    folder = str(ROOT / "tools")
    if folder not in sys.path:
        sys.path.append(folder)
    from cuda_emulator import build

    return build.load(build.build())
