"""Cases that measure the traffic of the pyramid's kernels."""

from collections.abc import Sequence

import torch
from cuda_check.floors import CHANNELS, IMAGE, SEED, Case, Floor
from cuda_check.replay import Replay

from fvfast.ops._kernels import kernels_for
from fvfast.ops.pyramid import pyramid_elements

REAL = 4  # bytes
RANGE = (-1.0, 1.0)
GAIN = 2.0
LEVELS = IMAGE.bit_length()
# A tile reads a few elements of each row of a level, which begin anywhere in a sector.
SHORT_ROWS = {"most_traffic": 1.7}
PIXELS = CHANNELS * IMAGE**2
ELEMENTS = CHANNELS * pyramid_elements(IMAGE, IMAGE)


def _image(replay: Replay) -> torch.Tensor:
    generator = torch.Generator().manual_seed(SEED)
    pyramid = 0.1 * torch.randn(1, CHANNELS, ELEMENTS // CHANNELS, generator=generator)
    replay.launches.clear()
    image: torch.Tensor = torch.ops.fvfast.pyramid_to_image(
        pyramid, IMAGE, IMAGE, LEVELS, *RANGE, GAIN
    )
    return image


def run_pyramid_to_image(replay: Replay, _: int) -> Sequence[Floor]:
    """Add up all levels: each is read once, and the image is written once."""
    _image(replay)
    floor = REAL * (ELEMENTS + PIXELS)
    return [Floor("pyramid_image_kernel", floor, PIXELS, **SHORT_ROWS, most_conflicts=0.08)]


def run_pyramid_gradient(replay: Replay, _: int) -> Sequence[Floor]:
    """Go back to all levels. The parts of the coarse ones are written once, and read once."""
    image = _image(replay)
    kernels = kernels_for(image.device)
    assert kernels is not None
    parts = kernels.module.pyramid_gradient_scratch(
        dtype="float32", sizes=list(image.shape), levels=LEVELS, target=kernels.target
    )
    replay.launches.clear()
    torch.ops.fvfast.pyramid_to_image_backward(
        torch.randn(image.shape), image, LEVELS, *RANGE, GAIN
    )
    coarse = ELEMENTS - PIXELS
    return [
        # Threads gather columns of the coarsest levels, which lie in the same banks.
        Floor("pyramid_gradient_kernel", REAL * 3 * PIXELS + parts, PIXELS, most_conflicts=0.15),
        Floor("add_pyramid_parts_kernel", parts + REAL * coarse, coarse, most_traffic=1.9),
    ]


CASES = [
    Case("pyramid to image", run_pyramid_to_image),
    Case("gradient of the pyramid", run_pyramid_gradient),
]
