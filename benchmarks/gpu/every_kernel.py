"""Runs every CUDA kernel of fvfast on small arrays; for compute-sanitizer.

Run with ``python -m benchmarks.gpu.every_kernel [--rehearse]``. It checks no results: the tests do.
It prints each part that has run, so that the output of a killed run shows how far it came.
"""

import argparse
import itertools
import math

import torch

from benchmarks.gpu.place import Place, measuring_place
from benchmarks.gpu.sanitizers import DONE, RAN
from fvfast.ops import inject_noise, phase_update_, pyramid_to_image, random_crops
from fvfast.ops.boxes import BoxDistribution, draw_boxes
from fvfast.ops.convolution_epilogue import convolution_epilogue_
from fvfast.ops.nadam import nadam_table
from fvfast.ops.phase_ascent import phase_ascent_, render_phase
from fvfast.ops.phase_step import new_sums, phase_step_
from fvfast.ops.philox import Purpose, draw_normal
from fvfast.ops.pyramid import pyramid_elements
from fvfast.ops.step_end import NextBoxes, end_step_

RANGE = (-1.0, 1.0)
TRANSFORMED, OTHER = (24, 20), (97, 20)
"""A size whose transforms run in the kernels, and one whose transforms run in torch.fft."""

REAL = (torch.float32, torch.float64)
DTYPES = (*REAL, torch.bfloat16, torch.float16)


def normal(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Numbers that are made on the CPU and copied: no other kernel has a part in them."""
    numbers = draw_normal(shape, seed=0, purpose=Purpose.STATE, identities=[0])[0]
    return numbers.to(dtype).to(device)


def run_phase(
    device: torch.device, dtype: torch.dtype, channels: int, height: int, width: int
) -> None:
    """Run phase to image, back, and the update: as separate operations, and as one."""
    half = (channels, height, width // 2 + 1)
    magnitude = normal(half, torch.device("cpu"), dtype).abs().to(device)
    phase, exp_avg = (normal((2, *half), device, dtype) for _ in range(2))
    exp_avg_sq = torch.ones(2, *half, dtype=dtype).to(device)
    gradient = normal((2, channels, height, width), device, dtype)
    sums = None
    for step in (1, 2):  # the second step has the sums of the first
        rendered = render_phase(magnitude, phase, RANGE, width, phase_sums=sums)
        slope = torch.ops.fvfast.phase_to_image_backward(
            gradient, magnitude, phase, *rendered, *RANGE
        )
        phase_update_(phase, slope, exp_avg, exp_avg_sq, step=step)
        rendered = render_phase(magnitude, phase, RANGE, width)
        sums = phase_ascent_(
            gradient, rendered, magnitude, phase, exp_avg, exp_avg_sq, RANGE, step=step
        )


def run_crops(device: torch.device, image_dtype: torch.dtype, crop_dtype: torch.dtype) -> None:
    """Run crops and gradients, for each number of channels and memory format with a kernel."""
    formats = (torch.contiguous_format, torch.channels_last)
    for channels, memory_format in itertools.product((1, 3, 4), formats):
        for box_dtype, (height, width) in itertools.product(REAL, ((9, 12), (40, 21))):
            image = normal((2, channels, 17, 70), device, image_dtype).requires_grad_()
            # On the CPU, so that their float64 is not made by another kernel.
            boxes = draw_boxes(0.5, 3, seed=1, identities=[0, 1], step=0).to(box_dtype).to(device)
            crops = random_crops(
                image, boxes, (height, width), std=0.1, dtype=crop_dtype,
                memory_format=memory_format,
                transparency=torch.zeros(image.shape, dtype=image_dtype).to(device),
            )  # fmt: skip
            cotangent = normal(tuple(crops.shape), device, crop_dtype)
            cotangent = cotangent.contiguous(memory_format=memory_format)
            torch.autograd.grad(crops, image, cotangent)
            torch.ops.fvfast.crop_gradient(
                cotangent, boxes, 17, 70, image_dtype,
                torch.zeros(image.shape, dtype=image_dtype).to(device),
                torch.tensor([True, False]).to(device),
                torch.zeros(2, dtype=torch.int32).to(device),
            )  # fmt: skip


def run_noise(device: torch.device, dtype: torch.dtype) -> None:
    """Run noise on contiguous memory, and on every second element."""
    for width, stride in ((64, 1), (33, 1), (33, 2)):
        images = normal((2, 3, 5, width * stride), device, dtype)[..., ::stride]
        inject_noise(images, 0.1, seed=1, identities=[0, 1], step=0)


def run_convolution_epilogue(device: torch.device, dtype: torch.dtype) -> None:
    """Run epilogues in both memory formats: whole packs of channels and others, odd addresses."""
    formats = (torch.contiguous_format, torch.channels_last)
    for channels, memory_format, adds in itertools.product((16, 7), formats, (True, False)):
        output, term = (
            normal((2, channels, 5, 9), device, dtype).contiguous(memory_format=memory_format)
            for _ in range(2)
        )
        bias = normal((channels,), device, dtype)
        convolution_epilogue_(output, bias, term=term if adds else None, limits=(0.0, 6.0))
        convolution_epilogue_(output[1:], bias, term=term[1:] if adds else None)


def run_pyramid(device: torch.device, dtype: torch.dtype, channels: int) -> None:
    """Run pyramid to image and back: with all levels and with a part of them, in several tiles."""
    for (height, width), levels in (((40, 70), None), ((40, 70), 3), ((1, 1), None)):
        shape = (2, channels, pyramid_elements(height, width))
        pyramid = normal(shape, device, dtype).requires_grad_()
        image = pyramid_to_image(pyramid, (height, width), RANGE, levels=levels)
        torch.autograd.grad(image, pyramid, normal(tuple(image.shape), device, dtype))


def run_step_ends(device: torch.device, dtype: torch.dtype, height: int, width: int) -> None:
    """Run steps to another phase and their ends: of images that go on, stay, and are put back."""
    half = (3, height, width // 2 + 1)
    magnitude = normal(half, torch.device("cpu"), dtype).abs().to(device)
    phase, exp_avg = (normal((3, *half), device, dtype) for _ in range(2))
    exp_avg_sq, following = torch.ones_like(phase), torch.zeros_like(phase)
    gradient, sums = normal((3, 3, height, width), device, dtype), new_sums(phase)
    scores = torch.tensor([1.0, math.nan, 1.0]).to(device)
    flags, running = torch.zeros(3, dtype=torch.int32).to(device), torch.ones(3).bool().to(device)
    counter, ended_in = torch.tensor(0).to(device), torch.full((3,), -1).to(device)
    boxes = NextBoxes(
        torch.zeros(3, 5, 4).to(device), torch.tensor([0.3], dtype=torch.float64).to(device),
        torch.tensor([0, 5, 7]).to(device), 1, BoxDistribution(),
    )  # fmt: skip
    phase_step_(
        gradient, render_phase(magnitude, phase, RANGE, width), magnitude, phase, following,
        exp_avg, exp_avg_sq, RANGE, sums=sums, scores=scores, flags=flags, running=running, step=1,
    )  # fmt: skip
    sums[2].fill_(math.inf)
    end_step_(
        scores, flags, phase, following, sums, running=running, ended_in=ended_in,
        by_update=torch.zeros(3).bool().to(device), has_gradient=torch.zeros(3).bool().to(device),
        recent_scores=torch.zeros(3, 64).to(device), step=counter, patience=10, boxes=boxes,
    )  # fmt: skip


def run_tables(device: torch.device) -> None:
    """Run the kernels that read tables, a counter and identities, up to the last row and beyond."""
    rates, identities = nadam_table(2).to(device), torch.tensor([0, 5]).to(device)
    numbers = torch.tensor([0.3, 0.1], dtype=torch.float64).to(device)
    images = normal((2, 3, 17, 20), device, torch.float32)
    phase, slope, exp_avg = (normal((2, 3, 9, 7), device, torch.float32) for _ in range(3))
    exp_avg_sq = torch.ones(2, 3, 9, 7).to(device)
    for number in (1, 2):
        key = {"seed": 1, "identities": identities, "step": torch.tensor(number).to(device)}
        boxes = draw_boxes(numbers, 3, device=device, **key)
        random_crops(images, boxes, 9, std=numbers, **key)
        inject_noise(images, numbers, **key)
        phase_update_(phase, slope, exp_avg, exp_avg_sq, step=key["step"], rates=rates)


def run_every_kernel(place: Place) -> None:
    """Run every kernel, and wait for each."""
    device = place.device
    step = torch.tensor(3).to(device)
    real = REAL[:1] if not place.is_gpu else REAL
    dtypes = DTYPES if place.is_gpu else DTYPES[:1]

    def ran(what: str) -> None:
        place.synchronize()
        print(f"{RAN}{what}", flush=True)

    for shape in ("normal", "uniform"):
        _draw(device, 3, shape)
        _draw(device, step, shape)
        ran(f"boxes {shape}")
    run_tables(device)
    ran("tables")
    for dtype, channels, size in itertools.product(real, (1, 3), (TRANSFORMED, OTHER)):
        run_phase(device, dtype, channels, *size)
        ran(f"phase {dtype} {channels} {size}")
    for dtype, size in itertools.product(real, (TRANSFORMED, OTHER)):
        run_step_ends(device, dtype, *size)
        ran(f"end of a step {dtype} {size}")
    for dtype, channels in itertools.product(real, (1, 3)):
        run_pyramid(device, dtype, channels)
        ran(f"pyramid {dtype} {channels}")
    for dtype in dtypes:
        run_noise(device, dtype)
        ran(f"noise {dtype}")
        run_convolution_epilogue(device, dtype)
        ran(f"convolution epilogue {dtype}")
    for image_dtype, crop_dtype in itertools.product(real, dtypes):
        run_crops(device, image_dtype, crop_dtype)
        ran(f"crops {image_dtype} {crop_dtype}")


def _draw(device: torch.device, step: int | torch.Tensor, shape: str) -> None:
    distribution = BoxDistribution(shape)
    draw_boxes(
        0.3, 130, seed=1, identities=[0, 5], step=step, distribution=distribution, device=device
    )


def main() -> None:
    """Run every kernel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rehearse", action="store_true")
    with measuring_place(parser.parse_args().rehearse) as place:
        run_every_kernel(place)
    print(DONE)


if __name__ == "__main__":
    main()
