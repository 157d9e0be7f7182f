"""Random valid arguments for each operation of ``torch.ops.fvfast``, and for Winograd convolutions.

Each function of `CASES` makes the arguments of the operation of its name, in the schema's order.
What is random about contents is well conditioned, so that kernels and references must agree.
"""

import math
import random
from collections.abc import Callable
from typing import Any

import torch

from fvfast.ops.phase_step import new_sums
from fvfast.ops.winograd import PANEL

WORD = 2**32
REAL = [torch.float32, torch.float64]
FLOATING = [*REAL, torch.bfloat16, torch.float16]
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 13, 16, 17]
Arguments = dict[str, Any]


def count(rng: random.Random, largest: int) -> int:
    """A number of things, sometimes 0."""
    return 0 if rng.random() < 0.05 else rng.randint(1, largest)


def numbers(rng: random.Random, shape: Any, dtype: torch.dtype) -> torch.Tensor:
    """Normal numbers."""
    generator = torch.Generator().manual_seed(rng.randrange(WORD))
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(dtype)


def table(rng: random.Random, counter: torch.Tensor | None, choices: list[Any]) -> Any:
    """Numbers of some steps, or none: a table needs a counter, which says the row."""
    if counter is None or rng.random() < 0.5:
        return None
    rows = [rng.choice(choices) for _ in range(rng.choice([1, 3, 4, 7]))]
    return torch.tensor(rows, dtype=torch.float64)


def noise(rng: random.Random, images: int) -> Arguments:
    counter = torch.tensor([3]) if rng.random() < 0.3 else None
    words = [rng.choice([0, WORD - 1, rng.randrange(WORD)]) for _ in range(images)]
    on_device = rng.random() < 0.2
    scales = [0.0, 0.08, 1.5]
    return {
        "std": rng.choice(scales),
        "uniform_width": rng.choice(scales),
        "seed": rng.randrange(-(2**63), 2**63),
        "identities": [] if on_device else words,
        "step": rng.choice([0, WORD - 4, rng.randrange(WORD - 3)]),
        "counter": counter,
        "std_table": table(rng, counter, scales),
        "uniform_width_table": table(rng, counter, scales),
        "identity_table": torch.tensor(words, dtype=torch.int64) if on_device else None,
    }


def inject_noise(rng: random.Random) -> Arguments:
    sizes = [count(rng, 3) for _ in range(rng.randint(1, 4))]
    images = numbers(rng, [*sizes, rng.choice(LENGTHS)], rng.choice(FLOATING))
    return {"images": images, **noise(rng, sizes[0])}


def draw_boxes(rng: random.Random) -> Arguments:
    images = count(rng, 3)
    drawn = noise(rng, images)
    smallest, largest = sorted([rng.random(), rng.random()])
    return {
        "box_size": rng.choice([0.0, 0.25, -1.0]),
        "nb_crops": count(rng, 40),
        "shape": rng.choice(["normal", "uniform"]),
        "spread": rng.choice([0.0, 0.05]),
        "center_spread": rng.choice([0.0, 0.15]),
        "smallest": smallest,
        "largest": largest,
        "seed": drawn["seed"],
        "identities": drawn["identities"],
        "step": drawn["step"],
        "counter": drawn["counter"],
        "box_size_table": table(rng, drawn["counter"], [0.0, 0.25, -1.0]),
        "identity_table": drawn["identity_table"],
        "device": torch.device("cpu"),
    }


def boxes(rng: random.Random, images: int, crops: int) -> torch.Tensor:
    """Boxes inside, across and outside, in float64 or float32."""
    corners = numbers(rng, (images, crops, 4), torch.float64) * 0.4 + 0.5
    return corners.to(rng.choice(REAL))


def crop_resize(rng: random.Random) -> Arguments:
    images, crops, channels = count(rng, 2), count(rng, 3), rng.choice([0, 1, 3, 3, 4])
    pixels = [rng.choice(LENGTHS), rng.choice(LENGTHS)]
    return {
        "images": numbers(rng, [images, channels, *pixels], rng.choice(REAL)),
        "boxes": boxes(rng, images, crops),
        "height": rng.choice(LENGTHS),
        "width": rng.choice(LENGTHS),
        "dtype": rng.choice(FLOATING),
        "channels_last": rng.random() < 0.5,
        **noise(rng, images),
    }


def flags_of_images(rng: random.Random, images: int, dtype: torch.dtype) -> torch.Tensor:
    """Numbers of two bits, or truth values."""
    return torch.tensor([rng.randrange(4) for _ in range(images)], dtype=torch.int32).to(dtype)


def crop_gradient(rng: random.Random) -> Arguments:
    images, channels = count(rng, 2), rng.choice([0, 1, 3, 3, 4])
    crops = rng.choice([count(rng, 3), count(rng, 3), rng.randint(8, 40)])  # 32 at a time
    pixels = [rng.choice(LENGTHS), rng.choice(LENGTHS)]
    size = [rng.choice(LENGTHS), rng.choice(LENGTHS)]
    dtype = rng.choice(REAL)
    transparency = numbers(rng, [images, channels, *pixels], dtype) if rng.random() < 0.6 else None
    running = rng.choice([None, flags_of_images(rng, images, torch.bool)])
    return {
        "gradient": numbers(rng, [images * crops, channels, *size], rng.choice(FLOATING)),
        "boxes": boxes(rng, images, crops),
        "image_height": pixels[0],
        "image_width": pixels[1],
        "dtype": dtype,
        "transparency": transparency,
        "running": running,
        "flags": rng.choice([None, flags_of_images(rng, images, torch.int32)]),
    }


def phase_to_image(rng: random.Random) -> Arguments:
    # A single bin has no spread that could be standardized.
    channels, height, width = rng.choice([1, 2, 3, 3, 4]), rng.randint(4, 17), rng.randint(4, 17)
    dtype, half = rng.choice(REAL), width // 2 + 1
    phase = numbers(rng, (count(rng, 2), channels, height, half), dtype)
    sums = None
    if rng.random() < 0.5:
        parts = phase.double().flatten(1).unflatten(1, (height, -1))
        sums = torch.stack((parts.sum(2), parts.square().sum(2)), 2)
    low, high = rng.choice([(0.0, 1.0), (-2.5, 2.5)])
    return {
        "magnitude": numbers(rng, (channels, height, half), dtype).abs() + 0.1,
        "phase": phase,
        "low": low,
        "high": high,
        "width": width,
        "phase_sums": sums,
    }


def phase_to_image_backward(rng: random.Random) -> Arguments:
    forward = phase_to_image(rng)
    image, spectrum, statistics = torch.ops.fvfast.phase_to_image(*forward.values())
    return {
        "gradient": numbers(rng, image.shape, image.dtype),
        "magnitude": forward["magnitude"],
        "phase": forward["phase"],
        "image": image,
        "spectrum": spectrum,
        "statistics": statistics,
        "low": forward["low"],
        "high": forward["high"],
    }


def rates(rng: random.Random) -> Arguments:
    counter = torch.tensor(2) if rng.random() < 0.3 else None
    rows = [[rng.gauss(0, 1), rng.gauss(0, 1), rng.choice([0.1, 1.0])] for _ in range(4)]
    return {
        "beta1": rng.choice([0.0, 0.9, rng.random()]),
        "beta2": rng.choice([0.5, 0.999, 1 - rng.random() / 2]),  # what is divided by is not 0
        "gradient_rate": rng.gauss(0, 1),
        "momentum_rate": rng.gauss(0, 1),
        "correction": rng.choice([0.1, 1.0]),
        "epsilon": rng.choice([1e-3, 0.1]),
        "rates": None if counter is None else torch.tensor(rows, dtype=torch.float64),
        "counter": counter,
    }


def averages(rng: random.Random, phase: torch.Tensor) -> Arguments:
    return {
        "exp_avg": numbers(rng, phase.shape, phase.dtype),
        "exp_avg_sq": numbers(rng, phase.shape, phase.dtype).square() + 0.1,
    }


def phase_update_(rng: random.Random) -> Arguments:
    sizes = [count(rng, 3), *(rng.choice(LENGTHS) for _ in range(rng.randint(1, 3)))]
    phase = numbers(rng, sizes, rng.choice(REAL))
    gradient = numbers(rng, sizes, phase.dtype)
    return {"phase": phase, "gradient": gradient, **averages(rng, phase), **rates(rng)}


def phase_ascent_(rng: random.Random) -> Arguments:
    given = phase_to_image_backward(rng)
    order = ("gradient", "image", "magnitude", "phase", "spectrum", "statistics", "low", "high")
    back = {name: given[name] for name in order}
    return {**back, **averages(rng, given["phase"]), **rates(rng)}


def phase_step_(rng: random.Random) -> Arguments:
    ascent = phase_ascent_(rng)
    phase = ascent["phase"]
    images = phase.shape[0]
    rest = {name: ascent.pop(name) for name in rates(random.Random(0))}
    moments = {name: ascent.pop(name) for name in ("exp_avg", "exp_avg_sq")}
    return {
        **ascent,
        "next_phase": torch.zeros_like(phase),
        **moments,
        "sums": new_sums(phase),
        "scores": scores(rng, images),
        "flags": flags_of_images(rng, images, torch.int32),
        "running": flags_of_images(rng, images, torch.bool),
        **rest,
    }


def scores(rng: random.Random, images: int) -> torch.Tensor:
    values = [rng.choice([0.5, -1.0, 1e30, float("nan"), float("inf")]) for _ in range(images)]
    return torch.tensor(values, dtype=torch.float32)


def end_step_(rng: random.Random) -> Arguments:
    boxes = draw_boxes(rng)
    images = count(rng, 3)
    sizes = [images, *(rng.choice(LENGTHS) for _ in range(rng.randint(1, 3)))]
    phase = numbers(rng, sizes, rng.choice(REAL))
    sums = numbers(rng, [images, rng.choice([1, 3]), 2], torch.float64)
    if sums.numel() and rng.random() < 0.5:
        sums.view(-1)[rng.randrange(sums.numel())] = float("nan")
    words = [rng.randrange(WORD) for _ in range(images)]
    drawn = rng.random() < 0.7
    names = ("shape", "spread", "center_spread", "smallest", "largest", "seed")
    names_of_truth = ("running", "by_update", "gradient")
    truth = {name: flags_of_images(rng, images, torch.bool) for name in names_of_truth}
    truth["by_update"] &= ~truth["running"]  # what runs has not ended
    return {
        "scores": scores(rng, images),
        "flags": flags_of_images(rng, images, torch.int32),
        "phase": phase,
        "next_phase": numbers(rng, sizes, phase.dtype),
        "sums": sums,
        "running": truth["running"],
        "ended_in": torch.full((images,), -1),
        "by_update": truth["by_update"],
        "has_gradient": truth["gradient"],
        "recent_scores": numbers(rng, [images, rng.choice([1, 5])], torch.float32),
        "counter": torch.tensor(rng.choice([0, 7, WORD - 2])),
        "patience": rng.choice([0, 5, 10]),
        "boxes": torch.zeros(images, count(rng, 5), 4) if drawn else None,
        **{name: boxes[name] for name in names},
        "box_size_table": torch.tensor([0.25, 0.5], dtype=torch.float64) if drawn else None,
        "identity_table": torch.tensor(words, dtype=torch.int64) if drawn else None,
    }


def pyramid_to_image(rng: random.Random) -> Arguments:
    height, width = rng.choice(LENGTHS), rng.choice(LENGTHS)
    sizes = [(height, width)]
    while max(sizes[-1]) > 1:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    shape = (
        count(rng, 2),
        rng.choice([1, 2, 3, 3, 4]),
        sum(rows * columns for rows, columns in sizes),
    )
    low, high = rng.choice([(0.0, 1.0), (-2.5, 2.5)])
    return {
        "pyramid": 0.3 * numbers(rng, shape, rng.choice(REAL)),
        "height": height,
        "width": width,
        "levels": rng.randint(1, len(sizes)),
        "low": low,
        "high": high,
        "gain": rng.choice([1.0, 2.0, -0.5]),
    }


def pyramid_to_image_backward(rng: random.Random) -> Arguments:
    forward = pyramid_to_image(rng)
    image = torch.ops.fvfast.pyramid_to_image(*forward.values())
    settings = {name: forward[name] for name in ("levels", "low", "high", "gain")}
    return {"gradient": numbers(rng, image.shape, image.dtype), "image": image, **settings}


def winograd_convolution(rng: random.Random) -> Arguments:
    padding = (rng.randint(0, 2), rng.randint(0, 2))
    pixels = [max(rng.choice(LENGTHS), 3 - 2 * pad) for pad in padding]
    batch, inputs, outputs = count(rng, 2), rng.choice([1, 3, 8, 33]), count(rng, 70)
    shape = [length + 2 * pad - 2 for length, pad in zip(pixels, padding, strict=True)]
    panels = -(-outputs // PANEL)
    dtype = rng.choice([torch.float32, torch.float32, torch.float64])
    images = numbers(rng, [batch, inputs, *pixels], dtype)
    return {
        "images": images.contiguous(memory_format=torch.channels_last),
        "weight": numbers(rng, [panels, 16, inputs, PANEL], dtype),
        "bias": rng.choice([None, numbers(rng, [outputs], dtype)]),
        "outputs": outputs,
        "padding": padding,
        "term": rng.choice([None, numbers(rng, [batch, outputs, *shape], dtype)]),
        "limits": rng.choice([None, (0.0, 6.0), (-1.0, -1.0)]),
    }


def convolution_epilogue_(rng: random.Random) -> Arguments:
    sizes = [
        count(rng, 3),
        rng.choice([0, 1, 3, 8, 16, 33]),
        rng.choice(LENGTHS),
        rng.choice(LENGTHS),
    ]
    dtype = rng.choice(FLOATING)

    def images() -> torch.Tensor:
        formats = [torch.contiguous_format, torch.channels_last]
        return numbers(rng, sizes, dtype).contiguous(memory_format=rng.choice(formats))

    return {
        "output": images(),
        "bias": rng.choice([None, numbers(rng, sizes[1:2], dtype)]),
        "term": rng.choice([None, images()]),
        "limits": rng.choice([None, (0.0, math.inf), (0.0, 6.0), (-1.0, -1.0)]),
    }


CASES: dict[str, Callable[[random.Random], Arguments]] = {
    "inject_noise": inject_noise,
    "inject_noise_": inject_noise,
    "draw_boxes": draw_boxes,
    "crop_resize": crop_resize,
    "crop_gradient": crop_gradient,
    "phase_to_image": phase_to_image,
    "phase_to_image_backward": phase_to_image_backward,
    "phase_update_": phase_update_,
    "phase_ascent_": phase_ascent_,
    "phase_step_": phase_step_,
    "end_step_": end_step_,
    "pyramid_to_image": pyramid_to_image,
    "pyramid_to_image_backward": pyramid_to_image_backward,
    "winograd_convolution": winograd_convolution,
    "convolution_epilogue_": convolution_epilogue_,
}
