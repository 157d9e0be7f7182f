"""The stage that compares each operation with its reference in float64, at the sizes of a run.

The inputs are new in every run, and new memory is filled with NaN, so that elements that are not
written show. Tolerances are those of the tests, whose functions are used.
"""

import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import torch

from benchmarks.gpu.job import Job
from benchmarks.gpu.place import Place, measuring_place
from benchmarks.gpu.processes import ROOT
from benchmarks.gpu.work import BOX_SIZES, CROP_FORMATS, NOISE, Sizes, name_of
from fvfast.ops import random_crops
from fvfast.ops.boxes import BoxDistribution, draw_boxes, draw_boxes_reference
from fvfast.ops.reference.noise import inject_noise_reference

REHEARSED_SEED = 1
EPILOGUE_CHANNELS = 64
TESTS = (
    "boxes", "noise", "random_crops", "phase_to_image", "phase_update", "phase_ascent", "pyramid",
    "convolution_epilogue",
)  # fmt: skip


def run(job: Job) -> None:
    """Check every operation; small batches first."""
    seed = REHEARSED_SEED if job.rehearsed else int(time.time()) % 2**31
    job.records.add("inputs", seed=seed)
    for name in TESTS:  # imported here, so that their constants are on the CPU
        tests_of(name)
    with measuring_place(job.rehearsed) as place, place.device:
        for sizes in place.sizes:
            for check in CHECKS:
                with job.records.attempt(f"{check.__name__}, {sizes}"):
                    check(Comparison(job, place, sizes, seed))
                place.free_memory()


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Fill new memory with NaN, or the largest integer."""
    before = torch.are_deterministic_algorithms_enabled()
    before_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=before_warns)
        torch.utils.deterministic.fill_uninitialized_memory = fills


def tests_of(operation: str) -> ModuleType:
    """Import a file of tests, for its tolerances."""
    for folder in (ROOT / "tests", ROOT / "tests" / "ops"):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    return importlib.import_module(f"test_{operation}")


class Comparison:
    """Compares results at one size, and records the errors.

    Parameters
    ----------
    job, place
        Where the results are recorded, and where they are computed.
    sizes
        The size of the work.
    seed
        Decides the inputs.
    """

    def __init__(self, job: Job, place: Place, sizes: Sizes, seed: int) -> None:
        self.job = job
        self.place = place
        self.sizes = sizes
        self.seed = seed + sizes.images
        self.identities = [seed % 1000 + 7 * image for image in range(sizes.images)]
        size = sizes.image
        self.shape = (sizes.images, sizes.channels, size, size)
        self.half = (sizes.images, sizes.channels, size, size // 2 + 1)

    def normal(self, *shape: int, number: int = 0) -> torch.Tensor:
        """Make normal float32 numbers, different ones for each ``number``."""
        generator = torch.Generator("cpu").manual_seed(self.seed + 1009 * number)
        return torch.randn(shape, generator=generator, device="cpu").to(self.place.device)

    def key(self) -> dict[str, Any]:
        """Return seed and step, as the operations take them."""
        return {"seed": self.seed, "step": self.seed % 251}

    def result(
        self, operation: str, actual: torch.Tensor, exact: torch.Tensor, allowed: float, **what: Any
    ) -> None:
        """Record an error; one that is too large, or NaN, also as a failure."""
        assert actual.shape == exact.shape, f"{operation}: {actual.shape} for {exact.shape}"
        error = (actual.double() - exact).abs().max().item()
        values = {"operation": operation, "images": self.sizes.images, **what}
        share = error / allowed if allowed else float("inf" if error else 0)
        self.job.records.add(
            "error", **values, error=error, allowed=allowed, **{"of allowed": share}
        )
        if not error <= allowed:  # NaN too
            self.job.records.fail(
                str(values), f"the error is {error:.3g}, {allowed:.3g} is allowed"
            )


def boxes(comparison: Comparison) -> None:
    """Check boxes of each size."""
    distribution = BoxDistribution()
    key = {
        **comparison.key(),
        "identities": comparison.identities,
        "device": comparison.place.device,
    }
    for box in BOX_SIZES:
        with poisoned():
            actual = draw_boxes(box, comparison.sizes.crops, distribution=distribution, **key)
        exact = draw_boxes_reference(
            box, comparison.sizes.crops, distribution=distribution, dtype=torch.float64, **key
        )
        allowed = tests_of("boxes").tolerance(distribution, box)
        comparison.result("boxes", actual, exact, allowed, box=box)


def noise(comparison: Comparison) -> None:
    """Check noise on images of the crops' size."""
    tests, sizes = tests_of("noise"), comparison.sizes
    for dtype, memory_format in CROP_FORMATS:
        shape = (sizes.images, sizes.channels, sizes.crop, sizes.crop)
        images = comparison.normal(*shape).to(dtype).contiguous(memory_format=memory_format)
        key = {**comparison.key(), "identities": comparison.identities}
        with poisoned():
            actual = tests.noisy(images, **key)
        exact = tests.noisy(images.double(), function=inject_noise_reference, **key)
        form = name_of(dtype, memory_format)
        comparison.result("noise", actual, exact, tests.tolerance(dtype, 0.5), form=form)


def crops(comparison: Comparison) -> None:
    """Check crops with noise, and the gradient of the image with its transparency."""
    tests, sizes = tests_of("random_crops"), comparison.sizes
    size, image_size = (sizes.crop, sizes.crop), (sizes.image, sizes.image)
    images = comparison.normal(*comparison.shape)
    key = {**comparison.key(), "identities": comparison.identities, "std": NOISE}
    key["uniform_width"] = NOISE
    # Made once: drawing them on the CPU takes longer than everything else on the device.
    count = sizes.images * sizes.crops
    cotangent = comparison.normal(count, sizes.channels, *size, number=1)
    for box in BOX_SIZES:
        drawn = draw_boxes(
            box, sizes.crops, identities=comparison.identities, device=images.device,
            **comparison.key(),
        )  # fmt: skip
        for dtype, memory_format in CROP_FORMATS:
            form = {"box": box, "form": name_of(dtype, memory_format)}
            with poisoned():
                actual = random_crops(
                    images, drawn, size, dtype=dtype, memory_format=memory_format, **key
                )
            exact, allowed = tests.crops_allowed(images, drawn, size, dtype, **key)
            comparison.result("crops", actual, exact, allowed, **form)
            del actual, exact
            incoming = cotangent.to(dtype).contiguous(memory_format=memory_format)
            transparency = torch.zeros_like(images)
            with poisoned():
                gradient = tests.gradient_of(
                    incoming, drawn, image_size, torch.float32, transparency
                )
            exact, allowed = tests.gradient_allowed(incoming, drawn, image_size, torch.float32)
            comparison.result("crop gradient", gradient, exact, allowed, **form)
            comparison.result("transparency", transparency, gradient.double().abs(), 0.0, **form)
            comparison.place.free_memory()


def convolution_epilogue(comparison: Comparison) -> None:
    """Check bias, sum and activation of outputs of the views' size, with as many channels."""
    tests, sizes = tests_of("convolution_epilogue"), comparison.sizes
    shape = (sizes.images * sizes.crops, EPILOGUE_CHANNELS, sizes.crop // 4, sizes.crop // 4)
    for dtype, memory_format in CROP_FORMATS:
        output, term = (
            comparison.normal(*shape, number=number)
            .to(dtype)
            .contiguous(memory_format=memory_format)
            for number in (0, 1)
        )
        bias, limits = comparison.normal(EPILOGUE_CHANNELS, number=2).to(dtype), (0.0, 6.0)
        exact = tests.exact_epilogue(output, bias, term, limits)
        allowed = tests.tolerance(output, bias, term)
        torch.ops.fvfast.convolution_epilogue_(output, bias, term, limits)
        form = name_of(dtype, memory_format)
        comparison.result("convolution epilogue", output, exact, allowed, form=form)


def phase_to_image(comparison: Comparison) -> None:
    """Check the image of a phase, and the gradient of the phase."""
    tests, width = tests_of("phase_to_image"), comparison.sizes.image
    data = (
        comparison.normal(*comparison.half[1:], number=2).abs() + 0.1,
        comparison.normal(*comparison.half) + 0.3,
        comparison.normal(*comparison.shape, number=1),
    )
    with poisoned():
        actual = tests.image_and_gradient(tests.kernels, *data, width)
    exact = tests.image_and_gradient(tests.reference, *(d.double() for d in data), width)
    limits = tests.tolerances(torch.float32, *comparison.shape[1:])
    names = ("phase to image", "image gradient to phase gradient")
    for name, values, right, limit in zip(names, actual, exact, limits, strict=True):
        comparison.result(name, values, right, limit)


def phase_update(comparison: Comparison) -> None:
    """Check the step of the optimizer, given the gradient of the phase."""
    tests = tests_of("phase_update")
    gradient = comparison.normal(*comparison.half, number=1)
    state = [
        comparison.normal(*comparison.half),
        gradient,
        0.5 * comparison.normal(*comparison.half, number=2),
        0.01 * gradient.square() + 0.001,
    ]
    exact = [values.double().clone() for values in state]
    with poisoned():
        sums = tests.operation(*state)
    tests.reference(*exact)
    names = ("phase", None, "average", "average of squares")
    for name, values, right in zip(names, state, exact, strict=True):
        if name is not None:
            comparison.result(
                "phase update", values, right, tests.tolerance(torch.float32), of=name
            )
    check_sums(comparison, "phase update", state[0], sums.sum(1))


def phase_ascent(comparison: Comparison) -> None:
    """Check the operation that goes from an image's gradient to the updated phase."""
    tests = tests_of("phase_ascent")
    state = (
        comparison.normal(*comparison.half[1:], number=1).abs() + 0.1,
        comparison.normal(*comparison.half),
        0.1 * comparison.normal(*comparison.half, number=2),
        0.5 + comparison.normal(*comparison.half, number=3) ** 2,
        comparison.normal(*comparison.shape, number=4),
    )
    exact = tests.reference(*(values.double().clone() for values in state))
    with poisoned():
        *actual, sums = tests.ascended(*state)
    limits = tests.allowed(comparison.shape, torch.float32)
    names = ("phase", "average", "average of squares")
    for name, values, right, limit in zip(names, actual, exact, limits, strict=True):
        comparison.result("image gradient to updated phase", values, right, limit, of=name)
    check_sums(comparison, "image gradient to updated phase", actual[0], sums)


def pyramid_to_image(comparison: Comparison) -> None:
    """Check the image of a pyramid, and the gradient of each of its levels."""
    tests, size = tests_of("pyramid"), (comparison.sizes.image,) * 2
    images, channels = comparison.shape[:2]
    levels = len(tests.pyramid_sizes(*size))
    pyramid = comparison.normal(images, channels, tests.elements_of(size)) / levels**0.5
    cotangent = comparison.normal(*comparison.shape, number=1)
    with poisoned():
        actual = tests.image_and_gradient(tests.kernels, pyramid, cotangent, size)
    exact = tests.image_and_gradient(tests.reference, pyramid.double(), cotangent.double(), size)
    limit = tests.image_tolerance(torch.float32, channels, size)
    comparison.result("pyramid to image", actual[0], exact[0], limit)
    for level, (values, right, allowed) in enumerate(
        tests.levels_allowed(actual[1], exact[1], cotangent, size)
    ):
        comparison.result("image gradient to pyramid", values, right, allowed, level=level)


def check_sums(
    comparison: Comparison, operation: str, phase: torch.Tensor, sums: torch.Tensor
) -> None:
    """Compare the sums that an operation returned with those of the phase that it wrote."""
    flat = phase.double().flatten(1)
    exact = torch.stack((flat.sum(1), flat.square().sum(1)), dim=1)
    # The sum of n terms of size 1 in float64 has a rounding error far below n eps.
    allowed = flat.shape[1] * torch.finfo(torch.float64).eps * 16
    comparison.result(operation, sums, exact, allowed, of="sums")


CHECKS: Sequence[Callable[[Comparison], None]] = (
    boxes, crops, phase_to_image, phase_ascent, phase_update, pyramid_to_image, noise,
    convolution_epilogue,
)  # fmt: skip
