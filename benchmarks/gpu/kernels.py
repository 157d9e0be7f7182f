"""The stage that times each operation and each kernel, warm and cold, against a copy."""

import dataclasses
from collections.abc import Callable, Iterator

import torch

from benchmarks.gpu.around_network import fvfast_step
from benchmarks.gpu.epilogues import cudnn_parts, epilogue_parts
from benchmarks.gpu.job import Job
from benchmarks.gpu.operations import MakeParts, Meter, crop_parts, phase_parts
from benchmarks.gpu.place import Place, measuring_place
from benchmarks.gpu.profile import NothingSeenError, kernel_rows, profile_calls
from benchmarks.gpu.timing import copy_bandwidth
from benchmarks.gpu.work import BOX_SIZES, CROP_FORMATS, Sizes, Work, make_work, name_of

WARM_STEPS = 8
"""How many steps on the same arrays one graph contains."""

COLD_STEPS = 12
"""How many steps, each on its own arrays, one graph contains: they evict each other's data."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A size and format of the arrays.

    Attributes
    ----------
    sizes
        Sizes of the arrays.
    dtype, memory_format
        Of the crops.
    box
        Mean side of the boxes.
    """

    sizes: Sizes
    dtype: torch.dtype
    memory_format: torch.memory_format
    box: float

    @property
    def row(self) -> dict[str, object]:
        """How records describe the case."""
        crops = name_of(self.dtype, self.memory_format)
        return {"images": self.sizes.images, "crops are": crops, "box": self.box}

    def work(self, place: Place) -> Work:
        """Make the arrays."""
        return make_work(self.sizes, place.device, self.dtype, self.memory_format, self.box)


def cases(sizes: Sizes) -> Iterator[Case]:
    """Yield all cases of one size; those of the middle of a run first."""
    boxes = sorted(BOX_SIZES, key=lambda box: abs(box - BOX_SIZES[1]))
    for box in boxes:
        for dtype, memory_format in CROP_FORMATS:
            yield Case(sizes, dtype, memory_format, box)


def run(job: Job) -> None:
    """Measure the most important cases first."""
    with measuring_place(job.rehearsed) as place:
        bandwidth = copy_bandwidth(place.device, place.clock)
        job.records.add("copy", **{"GB/s": bandwidth / 1e9, "MB": place.clock.copy_bytes / 1e6})
        place.free_memory()
        meter = Meter(place.clock, bandwidth)
        for sizes in place.sizes:
            for case in cases(sizes):
                with job.records.attempt(f"kernels, {case.row}"):
                    time_kernels(job, place, meter, case)
            first = next(cases(sizes))
            with job.records.attempt(f"operations on the phase, {first.row}"):
                time_operations(job, place, meter, first, phase_parts)
            for case in cases(sizes):
                with job.records.attempt(f"operations on the crops, {case.row}"):
                    time_operations(job, place, meter, case, crop_parts)
            for case in cases(sizes):
                if case.box != first.box:  # which these do not depend on
                    continue
                with job.records.attempt(f"epilogues of convolutions, {case.row}"):
                    time_operations(job, place, meter, case, epilogue_parts)
                if place.is_gpu:
                    with job.records.attempt(f"epilogues by cuDNN, {case.row}"):
                        time_operations(job, place, meter, case, cudnn_parts)


def time_kernels(job: Job, place: Place, meter: Meter, case: Case) -> None:
    """Time the kernels of the step around the network, as the profiler sees them in a graph."""
    needed = case.sizes.kernel_bytes(case.dtype)
    first = case.work(place)
    for cache, count in (("warm", 1), ("cold", COLD_STEPS if place.is_gpu else 2)):
        works = [first, *(first.copy() for _ in range(count - 1))]
        steps = [fvfast_step(work) for work in works]
        for step in steps:  # in the first step there are no sums of an update yet
            step()
        calls = steps * (WARM_STEPS if count == 1 and place.is_gpu else 1)
        replay = place.clock.replay(calls)
        try:
            launches = profile_calls(place, replay, steps=len(calls))
        except NothingSeenError as error:
            job.records.leave_out(f"kernels, {case.row}", str(error))
            return
        for row in kernel_rows(launches, needed, meter.bandwidth):
            job.records.add("kernel", **case.row, cache=cache, **row)
        del replay, calls, steps, works
        place.free_memory()


def time_operations(job: Job, place: Place, meter: Meter, case: Case, make: MakeParts) -> None:
    """Time operations by replaying graphs."""
    first = case.work(place)
    parts = make(first)
    counts = [meter.copies_needed(part) for part in parts]
    if not place.is_gpu:
        counts = [2] * len(parts)
    others = [make(first.copy()) for _ in range(max(counts) - 1)]
    measures: list[Callable[[], dict[str, object]]] = []
    for index, (part, count) in enumerate(zip(parts, counts, strict=True)):
        turns = [part, *(other[index] for other in others[: count - 1])]
        measures += [lambda part=part: meter.warm(part), lambda turns=turns: meter.cold(turns)]
    for measure in measures:
        job.records.add("operation", **case.row, **measure())
        place.free_memory()
