"""The floors of the traffic are those of a plain count, and what exceeds them fails."""

import types

import pytest
import torch
from cuda_check.crop_cases import pixels_read, samples_inside
from cuda_check.floors import Floor
from cuda_check.replay import Totals
from cuda_check.traffic import CASES, Measurement, assign
from cuda_emulator import build

from fvfast.ops._kernels import use_emulated

FLOOR = Floor("kernel", bytes=3200, elements=100)


def count_by_hand(boxes, crop, image):
    """Pixels and samples, sample by sample, in Python's own arithmetic."""
    pixels, samples = 0, 0
    for y1, x1, y2, x2 in boxes.tolist():
        read = set()
        for i in range(crop[0]):
            for j in range(crop[1]):
                place = []
                for start, stop, k, size, length in (
                    (y1, y2, i, crop[0], image[0]),
                    (x1, x2, j, crop[1], image[1]),
                ):
                    fraction = k / (size - 1) if size > 1 else 0.5
                    place.append(start * (length - 1) + fraction * (stop - start) * (length - 1))
                if not all(0 <= p <= n - 1 for p, n in zip(place, image, strict=True)):
                    continue
                samples += 1
                for y in {int(place[0]), int(place[0]) + (place[0] % 1 > 0)}:
                    for x in {int(place[1]), int(place[1]) + (place[1] % 1 > 0)}:
                        read.add((y, x))
        pixels += len(read)
    return pixels, samples


@pytest.mark.parametrize("crop", [(5, 7), (1, 4), (40, 3)])
def test_floors_of_crops(crop):
    boxes = torch.tensor(
        [
            [0.0, 0.0, 1.0, 1.0],
            [0.25, 0.25, 0.5, 0.5],
            [-0.3, 0.1, 0.4, 1.2],  # partly outside
            [1.1, 1.1, 1.5, 1.5],  # wholly outside
            [0.9, 0.8, 0.1, 0.2],  # upside down
        ],
        dtype=torch.float64,
    )
    image = (17, 23)
    found = pixels_read(boxes, crop, image), samples_inside(boxes, crop, image)
    assert found == count_by_hand(boxes, crop, image)


@pytest.mark.parametrize(
    ("sectors", "conflicts", "expected"),
    [
        (130, 4, []),
        (131, 4, ["asks for 1.31 times the compulsory 3200 bytes"]),
        (130, 5, ["5.0% of the wavefronts of shared memory are bank conflicts"]),
        (200, 50, ["asks for 2.00 times", "50.0% of the wavefronts"]),
    ],
)
def test_limits(sectors, conflicts, expected):
    totals = Totals(launches=1, sectors=sectors, wavefronts=100, conflicts=conflicts)
    failures = Measurement("case", "kernel", totals, FLOOR).failures()
    assert len(failures) == len(expected)
    for failure, text in zip(failures, expected, strict=True):
        assert failure.startswith("case: kernel: ")
        assert text in failure


def test_kernels_and_floors_belong_together():
    totals = {
        "kernel<float>": Totals(launches=1, sectors=1),
        "kernel<double>": Totals(launches=2, sectors=10),
        "other": Totals(launches=1),
    }
    measurements, failures = assign("case", totals, [FLOOR, Floor("absent", 1, 1)])
    (one,) = measurements
    assert (one.kernel, one.totals.launches, one.totals.sectors) == ("kernel", 3, 11)
    assert failures == [
        "case: the kernel absent did not run; those that ran: kernel<float>, kernel<double>, other",
        "case: there is no floor for the kernel other, which ran",
    ]
    (exact,), _ = assign("case", totals, [Floor("kernel<double>", 1, 1)])
    assert exact.totals.sectors == 10
    assert totals["kernel<float>"].sectors == 1  # adding up changes no total


def test_a_case_that_measures_nothing_fails():
    assert assign("case", {}, []) == ([], ["case: gave no floors, so that nothing was measured"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_calls_the_kernels_as_they_are(case):
    """In the emulator alone, with one crop: `make cuda-check` replays the same calls as PTX."""
    module = build.load(build.build())
    with use_emulated(module):
        floors = case.run(types.SimpleNamespace(launches=[], capability=90), 1)
    assert floors
    assert all(floor.bytes > 0 for floor in floors)
