"""The operations of a step as calls on existing arrays, and the bytes that each must move."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch

from benchmarks.gpu.records import Record
from benchmarks.gpu.timing import Clock
from benchmarks.gpu.work import RANGE, SEED, Work
from benchmarks.step_parts import Part
from fvfast.ops import inject_noise, phase_update_, random_crops
from fvfast.ops.boxes import draw_boxes
from fvfast.ops.nadam import Rates
from fvfast.ops.phase_ascent import phase_ascent_, render_phase

# Rates with which the phase does not change, however often a step is measured.
STILL = Rates(0.9, 0.999, 0.0, 0.0, 1.0, 1e-7)

MOST_COPIES = 48
"""Most copies of the arrays for calls in turns, which keep the arrays out of all caches."""

LEAST_BYTES = 2**20
"""With fewer bytes, an operation takes the time of a launch, with any cache."""

MakeParts = Callable[[Work], Sequence[Part]]


def phase_parts(work: Work) -> list[Part]:
    """Return the operations on the phase, the boxes, and torch's transforms for comparison."""
    sizes, magnitude, phase = work.sizes, work.magnitude, work.phase
    moments = (work.exp_avg, work.exp_avg_sq)
    needed = sizes.kernel_bytes(torch.float32)
    sums = phase_update_(phase, torch.zeros_like(phase), *moments, step=10, lr=0.0)
    rendered = render_phase(magnitude, phase, RANGE, sizes.image, phase_sums=sums)
    gradient = torch.ones_like(rendered.image)
    slope = torch.zeros_like(phase)
    half = torch.fft.rfft2(rendered.image)

    forward = needed["columns_kernel"] + needed["image_rows_kernel"]
    backward = needed["gradient_rows_kernel"] + needed["gradient_columns_kernel"]
    transformed = sizes.image_bytes + sizes.half_image_bytes
    return [
        Part(
            "phase to image",
            lambda: render_phase(magnitude, phase, RANGE, sizes.image, phase_sums=sums),
            forward,
        ),
        Part(
            "image gradient to phase gradient",
            lambda: torch.ops.fvfast.phase_to_image_backward(
                gradient, magnitude, phase, *rendered, *RANGE
            ),
            backward + 3 * sizes.phase_bytes,
        ),
        Part(
            "phase update",
            lambda: torch.ops.fvfast.phase_update_(phase, slope, *moments, *STILL),
            needed["phase_update_kernel"],
        ),
        Part(
            "image gradient to updated phase",
            lambda: phase_ascent_(
                gradient, rendered, magnitude, phase, *moments, RANGE, step=10, lr=0.0
            ),
            backward + needed["phase_update_kernel"],
        ),
        Part(
            "boxes",
            lambda: draw_boxes(
                work.box, sizes.crops, seed=SEED, identities=work.identities, step=work.step,
                device=phase.device,
            ),
            needed["boxes_kernel"],
        ),
        Part("torch.fft.rfft2", lambda: torch.fft.rfft2(gradient), transformed),
        Part(
            "torch.fft.irfft2",
            lambda: torch.fft.irfft2(half, s=(sizes.image, sizes.image)),
            transformed,
        ),
    ]  # fmt: skip


def crop_parts(work: Work) -> list[Part]:
    """Return the operations on the crops, which have a type, a memory format and a box size."""
    sizes = work.sizes
    needed = sizes.kernel_bytes(work.crops["dtype"])
    image = torch.ones_like(work.transparency)
    boxes = draw_boxes(
        work.box, sizes.crops, seed=SEED, identities=work.identities, step=0, device=image.device
    )

    def cropped(settings: dict[str, object]) -> Callable[[], object]:
        return lambda: random_crops(image, boxes, sizes.crop, **work.crops, **settings)

    parts = [
        Part("crop, resize, noise", cropped(work.noise), needed["crop_kernel"]),
        Part("crop, resize", cropped({}), needed["crop_kernel"]),
        Part(
            "crop gradient, transparency",
            lambda: torch.ops.fvfast.crop_gradient(
                work.cotangent,
                boxes,
                sizes.image,
                sizes.image,
                torch.float32,
                work.transparency,
                None,
                None,
            ),
            needed["crop_gradient_kernel"],
        ),
    ]
    if work.crops["memory_format"] is torch.contiguous_format:
        # All crops of an image have the image's noise.
        per_image = work.cotangent.view(sizes.images, -1)
        moved = 2 * sizes.crop_bytes(work.crops["dtype"])
        parts.append(Part("noise alone", lambda: inject_noise(per_image, **work.noise), moved))
    return parts


@dataclasses.dataclass(frozen=True)
class Meter:
    """Measures operations with warm and with cold caches.

    Attributes
    ----------
    clock
        See `benchmarks.gpu.timing`.
    bandwidth
        Bandwidth of a copy, in bytes per second.
    """

    clock: Clock
    bandwidth: float

    def warm(self, part: Part) -> Record:
        """Measure an operation that runs on the same arrays again and again."""
        calls = self.clock.warm_calls
        seconds = self.clock.seconds([part.run] * calls, rounds=15) / calls
        return self._row(part, "warm", seconds)

    def cold(self, parts: Sequence[Part]) -> Record:
        """Measure an operation that finds nothing in a cache, on arrays that take turns.

        Parameters
        ----------
        parts
            The operation, on different arrays each.
        """
        seconds = self.clock.seconds([part.run for part in parts], rounds=7) / len(parts)
        return self._row(parts[0], "cold", seconds)

    def copies_needed(self, part: Part) -> int:
        """Return how many copies of the arrays are too many for any cache."""
        if part.bytes < LEAST_BYTES:
            return 2
        return min(MOST_COPIES, max(2, math.ceil(self.clock.cold_bytes / part.bytes)))

    def _row(self, part: Part, cache: str, seconds: float) -> Record:
        return {
            "operation": part.name,
            "cache": cache,
            "us": 1e6 * seconds,
            "MB": part.bytes / 1e6,
            "floor us": 1e6 * part.bytes / self.bandwidth,
            "% of copy": 100 * part.bytes / seconds / self.bandwidth,
        }
