"""Each operation of a step on a GPU: its time, and how close it comes to the speed of a copy."""

from collections.abc import Callable, Sequence

import torch

from benchmarks.gpu_report import Row
from benchmarks.gpu_timing import Sample, device_medians
from benchmarks.gpu_work import BOX_SIZE, CROP_FORMATS, RANGE, SEED, Sizes, make_work, name_of
from benchmarks.step_parts import Part
from fvfast.ops import inject_noise, phase_update_, random_crops
from fvfast.ops.boxes import draw_boxes
from fvfast.ops.phase_ascent import phase_ascent_, render_phase
from fvfast.ops.phase_update import Rates

# The phase stays what it is however often a step is measured.
STILL = Rates(0.9, 0.999, 0.0, 0.0, 1.0, 1e-7)


def phase_parts(sizes: Sizes, device: torch.device) -> list[Part]:
    """Return the operations on the phase, and the boxes."""
    work = make_work(sizes, device)
    magnitude, phase = work.magnitude, work.phase
    moments = (work.exp_avg, work.exp_avg_sq)
    needed = sizes.kernel_bytes(torch.float32)
    sums = phase_update_(phase, torch.zeros_like(phase), *moments, step=10, lr=0.0)
    rendered = render_phase(magnitude, phase, RANGE, sizes.image, phase_sums=sums)
    gradient = torch.ones_like(rendered.image)

    def render(given: torch.Tensor | None) -> object:
        return render_phase(magnitude, phase, RANGE, sizes.image, phase_sums=given)

    forward = needed["columns_kernel"] + needed["image_rows_kernel"]
    backward = needed["gradient_rows_kernel"] + needed["gradient_columns_kernel"]
    return [
        Part("phase to image", lambda: render(sums), forward),
        Part("phase to image, sums made", lambda: render(None), forward + sizes.phase_bytes),
        Part(
            "image gradient to phase gradient",
            lambda: torch.ops.fvfast.phase_to_image_backward(
                gradient, magnitude, phase, *rendered, *RANGE
            ),
            backward + 3 * sizes.phase_bytes,
        ),
        Part(
            "phase update",
            lambda: torch.ops.fvfast.phase_update_(phase, phase, *moments, *STILL),
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
                BOX_SIZE, sizes.crops, seed=SEED, images=work.streams, step=0, device=device
            ),
            needed["boxes_kernel"],
        ),
    ]


def crop_parts(
    sizes: Sizes, device: torch.device, dtype: torch.dtype, memory_format: torch.memory_format
) -> list[Part]:
    """Return the operations on the crops, which have a type and a memory format."""
    work = make_work(sizes, device, dtype, memory_format)
    needed = sizes.kernel_bytes(dtype)
    image = torch.ones_like(work.alpha)
    boxes = draw_boxes(BOX_SIZE, sizes.crops, seed=SEED, images=work.streams, step=0, device=device)
    noise = {**work.noise, "step": 0}

    def cropped(settings: dict[str, object]) -> Callable[[], object]:
        return lambda: random_crops(image, boxes, sizes.crop, **work.crops, **settings)

    parts = [
        Part("crop, resize, noise", cropped(noise), needed["crop_kernel"]),
        Part("crop, resize", cropped({}), needed["crop_kernel"]),
        Part(
            "crop gradient, transparency",
            lambda: torch.ops.fvfast.crop_gradient(
                work.cotangent, boxes, sizes.image, sizes.image, torch.float32, work.alpha
            ),
            needed["crop_gradient_kernel"],
        ),
    ]
    if memory_format is torch.contiguous_format:  # the noise of one image is that of all its crops
        per_image = work.cotangent.view(sizes.images, -1)
        moved = 2 * sizes.crop_bytes(dtype)
        parts.append(Part("noise alone", lambda: inject_noise(per_image, **noise), moved))
    return parts


def measure_parts(parts: Sequence[Part], sample: Sample, bandwidth: float) -> list[Row]:
    """Time operations with a warm and with a cold cache.

    Parameters
    ----------
    parts
        The operations.
    sample
        A clock: see `benchmarks.gpu_timing`.
    bandwidth
        Of a copy, in bytes per second.

    Returns
    -------
    rows
        One for each operation.
    """
    functions = {part.name: part.run for part in parts}
    warm = device_medians(functions, sample)
    cold = device_medians(functions, sample, cold=True)
    return [
        {
            "operation": part.name,
            "MB": part.bytes / 1e6,
            "warm us": 1e6 * warm[part.name],
            "warm % of copy": 100 * part.bytes / warm[part.name] / bandwidth,
            "cold us": 1e6 * cold[part.name],
            "cold % of copy": 100 * part.bytes / cold[part.name] / bandwidth,
        }
        for part in parts
    ]


def operation_tables(
    device: torch.device, sample: Sample, bandwidth: float, sizes: Sequence[Sizes]
) -> dict[str, list[Row]]:
    """Measure all operations, for each size: tables by their titles."""
    tables = {}
    for one in sizes:
        of = f"{one.images} image{'' if one.images == 1 else 's'} of {one.image} x {one.image}"
        tables[f"Phase and boxes, {of}"] = measure_parts(
            phase_parts(one, device), sample, bandwidth
        )
        for dtype, memory_format in CROP_FORMATS:
            rows = measure_parts(crop_parts(one, device, dtype, memory_format), sample, bandwidth)
            title = f"{one.crops} crops of {one.crop} x {one.crop} of each of {of}"
            tables[f"{title}, {name_of(dtype, memory_format)}"] = rows
    return tables
