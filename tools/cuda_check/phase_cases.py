"""Cases that measure the traffic of the phase's kernels; also counts the launches of a step."""

import ctypes
import types
from collections.abc import Sequence

import torch
from cuda_check.floors import CHANNELS, CROP, IMAGE, SEED, Case, Floor
from cuda_check.replay import Replay

from fvfast.ops._kernels import kernels_for, use_emulated
from fvfast.ops._memory import buffer
from fvfast.ops.boxes import BoxDistribution
from fvfast.ops.phase_ascent import RenderedPhase, phase_ascent_, render_phase
from fvfast.ops.phase_step import new_sums, phase_step_
from fvfast.ops.phase_update import phase_update_
from fvfast.ops.reference.phase import STANDARDIZATION_EPSILON
from fvfast.ops.step_end import NextBoxes, end_step_
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.whole_step import WholeStep

MOST_LAUNCHES = 8
PARTS, RECENT, NEXT_CROPS = 256, 64, 32  # sums of an image, scores that are kept, boxes
# Blocks of an image of this size have four lanes, so that there are enough of them: rows of four
# columns start anywhere in a sector.
FOUR_COLUMNS = {"most_traffic": 2.1}
# A size whose transforms are in shared memory. There threads that take different elements of four
# lanes also meet in a bank.
OTHER_IMAGE = 480
SHARED_COLUMNS = {"most_traffic": 2.1, "most_conflicts": 0.45}
SHARED_ROWS = {"most_conflicts": 0.37}
RANGE = (-2.5, 2.5)
SHAPE = (1, CHANNELS, IMAGE, IMAGE)
PIXELS, BINS = CHANNELS * IMAGE**2, CHANNELS * IMAGE * (IMAGE // 2 + 1)
REAL, COMPLEX = 4, 8  # bytes


def _spectrum(size: int = IMAGE) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a magnitude, and a phase (1, C, H, W // 2 + 1)."""
    half = (CHANNELS, size, size // 2 + 1)
    generator = torch.Generator().manual_seed(SEED)
    return torch.rand(half, generator=generator), torch.randn(1, *half, generator=generator)


def _averages(phase: torch.Tensor) -> list[torch.Tensor]:
    return [torch.zeros_like(phase), torch.ones_like(phase)]


def _rendered(replay: Replay) -> tuple[RenderedPhase, torch.Tensor, torch.Tensor]:
    magnitude, phase = _spectrum()
    rendered = render_phase(magnitude, phase, RANGE, IMAGE)
    replay.launches.clear()
    return rendered, magnitude, phase


def _finish_floor(size: int) -> Floor:
    """Make the floor of finish_gradient_kernel.

    Each of its blocks adds up the sums of all columns: three of 8 bytes for every four columns of a
    channel. With 512 x 512 that is a quarter of what the kernel must move, and comes on top of what
    every floor allows.
    """
    columns, bins = size // 2 + 1, CHANNELS * size * (size // 2 + 1)
    compulsory = 3 * REAL * bins
    sums = PARTS * 3 * 8 * CHANNELS * -(-columns // 4)
    return Floor(
        "finish_gradient_kernel",
        compulsory,
        bins,
        most_traffic=Floor.most_traffic + sums / compulsory,
    )


def run_phase_to_image(_: Replay, __: int) -> Sequence[Floor]:
    """Compute the image of a phase whose sums no update has made yet."""
    render_phase(*_spectrum(), RANGE, IMAGE)
    return [
        Floor("phase_sums_kernel", REAL * BINS, BINS),
        Floor("columns_kernel", (2 * REAL + COMPLEX) * BINS, BINS, **FOUR_COLUMNS),
        Floor("image_rows_kernel", COMPLEX * BINS + REAL * PIXELS, PIXELS),
    ]


def run_phase_gradient(replay: Replay, _: int) -> Sequence[Floor]:
    """Compute the gradient of the phase, with a separate pass that finishes it."""
    rendered, magnitude, phase = _rendered(replay)
    torch.ops.fvfast.phase_to_image_backward(
        torch.randn(SHAPE), magnitude, phase, *rendered, *RANGE
    )
    return [
        Floor("gradient_rows_kernel", 2 * REAL * PIXELS + COMPLEX * BINS, PIXELS),
        Floor("gradient_columns_kernel", (COMPLEX + 3 * REAL) * BINS, BINS, **FOUR_COLUMNS),
        _finish_floor(IMAGE),
    ]


def run_phase_ascent(replay: Replay, _: int) -> Sequence[Floor]:
    """Compute the gradient of the phase, and let the update finish it."""
    rendered, magnitude, phase = _rendered(replay)
    phase_ascent_(torch.randn(SHAPE), rendered, magnitude, phase, *_averages(phase), RANGE, step=1)
    return [
        Floor("gradient_rows_kernel", 2 * REAL * PIXELS + COMPLEX * BINS, PIXELS),
        Floor("gradient_columns_kernel", (COMPLEX + 3 * REAL) * BINS, BINS, **FOUR_COLUMNS),
        Floor("phase_update_kernel", 7 * REAL * BINS, BINS),
    ]


def run_phase_update(_: Replay, __: int) -> Sequence[Floor]:
    """Update the phase with a complete gradient."""
    _, phase = _spectrum()
    phase_update_(phase, torch.randn(phase.shape), *_averages(phase), step=1)
    return [Floor("phase_update_kernel", 7 * REAL * BINS, BINS)]


def run_step(replay: Replay, _: int) -> Sequence[Floor]:
    """Take a step to another phase, and end it; nothing is put back."""
    rendered, magnitude, phase = _rendered(replay)
    sums, following = new_sums(phase), torch.empty_like(phase)
    scores, flags = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    running, step = torch.tensor([True]), torch.tensor(0)
    phase_step_(
        torch.randn(SHAPE), rendered, magnitude, phase, following, *_averages(phase), RANGE,
        sums=sums, scores=scores, flags=flags, running=running, step=1,
    )  # fmt: skip
    boxes = NextBoxes(
        torch.zeros(1, NEXT_CROPS, 4), torch.tensor([0.25], dtype=torch.float64),
        torch.tensor([0]), SEED, BoxDistribution(),
    )  # fmt: skip
    end_step_(
        scores, flags, phase, following, sums, running=running, ended_in=torch.tensor([-1]),
        by_update=torch.tensor([False]), has_gradient=torch.tensor([False]),
        recent_scores=torch.zeros(1, RECENT), step=step, patience=10, boxes=boxes,
    )  # fmt: skip
    # Of a few numbers each takes a whole sector.
    return [
        Floor("gradient_rows_kernel", 2 * REAL * PIXELS + COMPLEX * BINS, PIXELS),
        Floor("gradient_columns_kernel", (COMPLEX + 3 * REAL) * BINS, BINS, **FOUR_COLUMNS),
        Floor("phase_update_kernel", 7 * REAL * BINS, BINS),
        Floor("step_end_kernel", 16 * PARTS + boxes.boxes.nbytes, NEXT_CROPS, most_traffic=2.0),
    ]


def run_other_lengths(_: Replay, __: int) -> Sequence[Floor]:
    """Compute image and gradient of a size that is no power of two."""
    magnitude, phase = _spectrum(OTHER_IMAGE)
    bins, pixels = magnitude.numel(), CHANNELS * OTHER_IMAGE**2
    rendered = render_phase(magnitude, phase, RANGE, OTHER_IMAGE)
    cotangent = torch.randn(1, CHANNELS, OTHER_IMAGE, OTHER_IMAGE)
    torch.ops.fvfast.phase_to_image_backward(cotangent, magnitude, phase, *rendered, *RANGE)
    return [
        Floor("phase_sums_kernel", REAL * bins, bins),
        Floor("columns_kernel", (2 * REAL + COMPLEX) * bins, bins, **SHARED_COLUMNS),
        Floor("image_rows_kernel", COMPLEX * bins + REAL * pixels, pixels, **SHARED_ROWS),
        Floor("gradient_rows_kernel", 2 * REAL * pixels + COMPLEX * bins, pixels, **SHARED_ROWS),
        Floor("gradient_columns_kernel", (COMPLEX + 3 * REAL) * bins, bins, **SHARED_COLUMNS),
        _finish_floor(OTHER_IMAGE),
    ]


def run_around_a_transform(replay: Replay, _: int) -> Sequence[Floor]:
    """Run the kernels around torch's transforms, for sizes with large prime factors."""
    rendered, magnitude, phase = _rendered(replay)
    kernels = kernels_for(phase.device)
    assert kernels is not None
    module, common = kernels.module, {"dtype": "float32", "sizes": list(SHAPE)}
    look = {"low": RANGE[0], "high": RANGE[1], "colors": [[1.0, 0.5, 0.0]] * 3}
    scratch = torch.empty(module.phase_image_gradient_scratch(**common), dtype=torch.uint8)
    image, out = rendered.image.clone(), torch.empty_like(rendered.image)
    spectrum = torch.randn(phase.shape, dtype=torch.complex64)
    spectral = {
        "magnitude": buffer(magnitude),
        "phase": buffer(phase),
        "statistics": buffer(rendered.statistics),
        "scratch": buffer(scratch),
        "epsilon": STANDARDIZATION_EPSILON,
        "target": kernels.target,
        **common,
    }
    module.cuda_phase_spectrum(
        phase_sums=buffer(None), sum_parts=0, spectrum=buffer(spectrum), **spectral
    )
    module.spectrum_image(
        image=buffer(image), statistics=buffer(rendered.statistics),
        epsilon=STANDARDIZATION_EPSILON, target=kernels.target, **look, **common,
    )  # fmt: skip
    module.spectrum_image_gradient(
        gradient=buffer(image), image=buffer(rendered.image), out=buffer(out),
        target=kernels.target, **look, **common,
    )  # fmt: skip
    slope = torch.empty_like(phase)
    module.cuda_phase_gradient(transform=buffer(spectrum), out=buffer(slope), **spectral)
    return [
        Floor("phase_sums_kernel", REAL * BINS, BINS),
        Floor("columns_kernel", (2 * REAL + COMPLEX) * BINS, BINS),
        # The energy of each four columns, and the constant of each channel twice.
        Floor("image_moments_kernel", CHANNELS * 8 * (-(-(IMAGE // 2 + 1) // 4) + 2), 1),
        Floor("spectrum_image_kernel", 2 * REAL * PIXELS, PIXELS),
        Floor("spectrum_image_gradient_kernel", 3 * REAL * PIXELS, PIXELS),
        Floor("gradient_columns_kernel", (COMPLEX + 3 * REAL) * BINS, BINS),
        _finish_floor(IMAGE),
    ]


CASES = [
    Case("phase to image", run_phase_to_image),
    Case("gradient of the phase", run_phase_gradient),
    Case("ascent", run_phase_ascent),
    Case("update", run_phase_update),
    Case("whole step", run_step),
    Case("phase of another size", run_other_lengths),
    Case("around torch's transform", run_around_a_transform),
]


def launches_of_a_step(module: types.ModuleType, crops: int) -> int:
    """Count the launches around the network in a step that is not the first.

    Parameters
    ----------
    module
        The emulated module.
    crops
        Of the image.
    """
    counts = (ctypes.c_ulonglong * 4)()
    library = ctypes.CDLL(module.__file__)

    def launches() -> int:
        library.cuda_emulator_statistics(counts)
        return int(counts[1])

    settings = MacoSettings(nb_steps=4, nb_crops=crops, custom_shape=SHAPE[2:])
    scores, cotangent = torch.ones(1), torch.ones(crops, CHANNELS, CROP, CROP)
    engine = types.SimpleNamespace(views_dtype=torch.float32, views_format=torch.contiguous_format)
    with use_emulated(module):
        phase = settings.parametrize(SHAPE[1:], progress=False)([0], torch.device("cpu"))
        step = WholeStep(phase, settings.views(SHAPE[1:], (CROP, CROP)), settings)
        step.begin(phase, [0], lambda _views: (scores, cotangent), engine)
        step(0)
        before = launches()
        step(1, 2)
    return (launches() - before) // 2


def check_launches(module: types.ModuleType) -> list[str]:
    """Print how many launches a step takes around the network, and return failures."""
    count = launches_of_a_step(module, crops=8)
    print(f"launches around the network in one step: {count}, at most {MOST_LAUNCHES} allowed")
    if count <= MOST_LAUNCHES:
        return []
    return [f"a step takes {count} launches around the network, more than {MOST_LAUNCHES}"]
