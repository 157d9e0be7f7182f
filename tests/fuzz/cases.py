"""Random valid arguments for every function of the native module that takes memory.

Each function of `CASES` makes the arguments of the function of its name.
"""

import math
import random
import struct
from typing import Any

from memory import NOWHERE, Buffer, Memory

WORD = 2**32
REAL = ["float32", "float64"]
DTYPES = [*REAL, "bfloat16", "float16"]
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31, 33]
SUM_PARTS, SUMS_PER_PART = 64, 4  # of the module, which has them as constants
PANEL = 32  # outputs whose weights stand together
STATISTICS = 4  # numbers for each image
Arguments = dict[str, Any]


def length(rng: random.Random, longest: int) -> int:
    """A length of an axis: most are short, a few cross the block sizes of the kernels."""
    return rng.choice(LENGTHS) if rng.random() < 0.93 else rng.randint(1, longest)


def count(rng: random.Random, largest: int) -> int:
    """A number of things, sometimes 0."""
    return 0 if rng.random() < 0.05 else rng.randint(1, largest)


def scale(rng: random.Random) -> float:
    return rng.choice([0.0, 0.08, 3.0])


def place(memory: Memory) -> Arguments:
    """What else a function takes that counts steps."""
    return {"counter": NOWHERE, "target": memory.target}


def noise(rng: random.Random, memory: Memory, images: int) -> Arguments:
    return {
        **place(memory),
        **dict.fromkeys(("std_table", "uniform_width_table", "identity_table")),
        "identities": [rng.choice([0, WORD - 1, rng.randrange(WORD)]) for _ in range(images)],
        "std": scale(rng),
        "uniform_width": scale(rng),
        "seed": rng.randrange(2**64),
        "step": rng.choice([0, WORD - 1, rng.randrange(WORD)]),
    }


def inject_noise(rng: random.Random, memory: Memory) -> Arguments:
    if rng.random() < 0.1:
        sizes = [count(rng, 2), rng.randint(1000, 5000)]
    else:
        sizes = [count(rng, 4) for _ in range(rng.randint(1, 4))]
        sizes.append(length(rng, 300))
    dtype = rng.choice(DTYPES)
    out, out_strides = memory.strided(sizes, dtype)
    if rng.random() < 0.5:
        images, image_strides = out, out_strides
    else:
        images, image_strides = memory.strided(sizes, dtype, shared=True)
    return {
        "images": images,
        "out": out,
        "dtype": dtype,
        "sizes": sizes,
        "image_strides": image_strides,
        "out_strides": out_strides,
        **noise(rng, memory, sizes[0]),
    }


def crop_sizes(rng: random.Random) -> list[int]:
    """Batch, crops, channels, height and width of the images, and of the crops."""
    longest = 300 if rng.random() < 0.3 else 40
    pixels = [length(rng, longest), length(rng, longest)]
    return [
        *(count(rng, 2), count(rng, 3), rng.choice([0, 1, 1, 2, 3, 3, 4, 5]), *pixels),
        *(rng.choice([0, *LENGTHS]), length(rng, longest)),
    ]


def boxes(rng: random.Random, memory: Memory, number: int, dtype: str) -> Buffer:
    """Boxes inside, across, outside, turned over, degenerate and absurdly large."""

    def end() -> float:
        return rng.choice(
            [0.0, 0.5, 1.0, rng.random(), rng.gauss(0.5, 1), 1e-300, -1e18, 1e300, 1 + 2**-52]
        )

    numbers: list[float] = []
    for _ in range(number):
        if rng.random() < 0.6:
            y, x, side = rng.random(), rng.random(), rng.choice([0.5, 0.05, 1.0, 1e-9])
            numbers += [y - side / 2, x - side / 2, y + side / 2, x + side / 2]
        else:
            numbers += [end() for _ in range(4)]
    if dtype == "float64":
        return memory.allocate(struct.pack(f"{len(numbers)}d", *numbers), 8)
    largest = struct.unpack("f", bytes.fromhex("ffff7f7f"))[0]
    floats = [min(max(number, -largest), largest) for number in numbers]
    return memory.allocate(struct.pack(f"{len(floats)}f", *floats), 4)


def crop_resize(rng: random.Random, memory: Memory) -> Arguments:
    sizes = crop_sizes(rng)
    batch, crops, channels, image_height, image_width, height, width = sizes
    image_dtype, box_dtype, out_dtype = rng.choice(REAL), rng.choice(REAL), rng.choice(DTYPES)
    images, image_strides = memory.strided(
        [batch, channels, image_height, image_width], image_dtype, shared=True
    )
    out, out_strides = memory.strided([batch, crops, channels, height, width], out_dtype)
    return {
        "images": images,
        "boxes": boxes(rng, memory, batch * crops, box_dtype),
        "out": out,
        "image_dtype": image_dtype,
        "box_dtype": box_dtype,
        "out_dtype": out_dtype,
        "sizes": sizes,
        "image_strides": image_strides,
        "out_strides": out_strides,
        **noise(rng, memory, batch),
    }


def crop_gradient_scratch(rng: random.Random, memory: Memory) -> Arguments:
    return {"image_dtype": rng.choice(REAL), "sizes": crop_sizes(rng), "target": memory.target}


def crop_gradient(rng: random.Random, memory: Memory, module: Any) -> Arguments:
    sizes = crop_sizes(rng)
    if rng.random() < 0.3:
        sizes[1] = rng.randint(8, 40)  # crops, of which kernels take 32 at a time
        sizes[3:] = [min(size, 40) for size in sizes[3:]]
    batch, crops, channels, image_height, image_width, height, width = sizes
    gradient_dtype, image_dtype, box_dtype = rng.choice(DTYPES), rng.choice(REAL), rng.choice(REAL)
    gradient, gradient_strides = memory.strided(
        [batch, crops, channels, height, width], gradient_dtype, shared=True
    )
    image = [batch, channels, image_height, image_width]
    transparency, transparency_strides = memory.strided(image, image_dtype)
    scratch_bytes = module.crop_gradient_scratch(
        image_dtype=image_dtype, sizes=sizes, target=memory.target
    )
    return {
        "gradient": gradient,
        "boxes": boxes(rng, memory, batch * crops, box_dtype),
        "image_gradient": memory.array(math.prod(image), image_dtype),
        "transparency": rng.choice([NOWHERE, transparency]),
        "scratch": memory.allocate(bytes(scratch_bytes)),
        "gradient_dtype": gradient_dtype,
        "image_dtype": image_dtype,
        "box_dtype": box_dtype,
        "sizes": sizes,
        "gradient_strides": gradient_strides,
        "transparency_strides": transparency_strides,
        "running": NOWHERE,  # on CUDA alone
        "flags": NOWHERE,
        "target": memory.target,
    }


def spectrum_sizes(rng: random.Random) -> list[int]:
    longest = 90 if rng.random() < 0.3 else 33
    return [count(rng, 3), rng.choice([1, 2, 3, 3, 4]), length(rng, longest), length(rng, longest)]


def bins(sizes: list[int]) -> int:
    """Elements of one image's half spectrum."""
    return sizes[1] * sizes[2] * (sizes[3] // 2 + 1)


def parts(memory: Memory, images: int) -> Buffer:
    return memory.array(images * SUM_PARTS * SUMS_PER_PART, "float64")


def colors(rng: random.Random, channels: int) -> Arguments:
    rows = [[rng.gauss(0, 1) for _ in range(3)] for _ in range(3)]
    low, high = rng.choice([(0.0, 1.0), (-2.5, 2.5), (-1e300, 1e300)])
    return {
        "low": low,
        "high": high,
        "colors": rows if channels == 3 and rng.random() < 0.7 else [],
    }


def phase_spectrum(rng: random.Random, memory: Memory) -> Arguments:
    sizes, dtype = spectrum_sizes(rng), rng.choice(REAL)
    elements = sizes[0] * bins(sizes)
    return {
        "magnitude": memory.array(bins(sizes), dtype),
        "phase": memory.array(elements, dtype),
        "phase_sums": rng.choice([NOWHERE, memory.array(2 * sizes[0], "float64")]),
        "spectrum": memory.array(2 * elements, dtype),
        "statistics": memory.array(STATISTICS * sizes[0], "float64"),
        "scratch": parts(memory, sizes[0]),
        "dtype": dtype,
        "sizes": sizes,
        "epsilon": scale(rng),
    }


def spectrum_image(rng: random.Random, memory: Memory) -> Arguments:
    sizes, dtype = spectrum_sizes(rng), rng.choice(REAL)
    return {
        "image": memory.array(math.prod(sizes), dtype),
        "statistics": memory.array(STATISTICS * sizes[0], "float64"),
        "dtype": dtype,
        "sizes": sizes,
        "epsilon": scale(rng),
        **colors(rng, sizes[1]),
        "target": memory.target,
    }


def spectrum_image_gradient(rng: random.Random, memory: Memory) -> Arguments:
    sizes, dtype = spectrum_sizes(rng), rng.choice(REAL)
    return {
        **{name: memory.array(math.prod(sizes), dtype) for name in ("gradient", "image", "out")},
        "dtype": dtype,
        "sizes": sizes,
        **colors(rng, sizes[1]),
        "target": memory.target,
    }


def phase_gradient(rng: random.Random, memory: Memory) -> Arguments:
    sizes, dtype = spectrum_sizes(rng), rng.choice(REAL)
    elements = sizes[0] * bins(sizes)
    return {
        "transform": memory.array(2 * elements, dtype),
        "spectrum": memory.array(2 * elements, dtype),
        "phase": memory.array(elements, dtype),
        "statistics": memory.array(STATISTICS * sizes[0], "float64"),
        "out": memory.array(elements, dtype),
        "scratch": parts(memory, sizes[0]),
        "dtype": dtype,
        "sizes": sizes,
        "epsilon": scale(rng),
    }


def phase_update(rng: random.Random, memory: Memory) -> Arguments:
    sizes, dtype = [count(rng, 4), length(rng, 5000)], rng.choice(REAL)
    arrays = ("phase", "gradient", "exp_avg", "exp_avg_sq")
    return {
        **{name: memory.array(math.prod(sizes), dtype) for name in arrays},
        **dict.fromkeys(("out", "scores", "flags", "running"), NOWHERE),  # on CUDA alone
        "sums": memory.array(2 * sizes[0], "float64"),
        "scratch": parts(memory, sizes[0]),
        "dtype": dtype,
        "sizes": sizes,
        "betas": [rng.choice([0.0, 0.9, rng.random()]) for _ in range(2)],
        "gradient_rate": rng.gauss(0, 1),
        "momentum_rate": rng.gauss(0, 1),
        "correction": rng.choice([1e-3, 1.0]),
        "epsilon": scale(rng),
        "rates": None,
        "unfinished": None,
        **place(memory),
    }


def draw_boxes(rng: random.Random, memory: Memory) -> Arguments:
    images, crops = count(rng, 4), count(rng, 40)
    return {
        "boxes": memory.array(4 * images * crops, "float32"),
        "crops": crops,
        "box_size": rng.choice([0.0, 0.25, -1.0, 1e38]),
        "shape": rng.choice(["normal", "uniform"]),
        "spread": scale(rng),
        "center_spread": scale(rng),
        "smallest": rng.choice([0.05, -1.0]),
        "largest": rng.choice([0.05, 1.0]),
        **{name: noise(rng, memory, images)[name] for name in ("identities", "seed", "step")},
        "box_size_table": None,
        "identity_table": None,
        **place(memory),
    }


def pyramid_sizes(rng: random.Random) -> Arguments:
    """Sizes of images, and how many levels of their pyramids take part."""
    sizes = spectrum_sizes(rng)
    count_of_levels = 1 + (max(sizes[2:]) - 1).bit_length()
    return {"sizes": sizes, "levels": rng.randint(1, count_of_levels)}


def pyramid_elements(sizes: list[int]) -> int:
    height, width = sizes[2:]
    elements = height * width
    while max(height, width) > 1:
        height, width = (height + 1) // 2, (width + 1) // 2
        elements += height * width
    return sizes[0] * sizes[1] * elements


def pyramid_image(rng: random.Random, memory: Memory) -> Arguments:
    asked, dtype = pyramid_sizes(rng), rng.choice(REAL)
    return {
        "pyramid": memory.array(pyramid_elements(asked["sizes"]), dtype),
        "image": memory.array(math.prod(asked["sizes"]), dtype),
        "dtype": dtype,
        "gain": rng.choice([2.0, -1.0, 0.0]),
        **asked,
        **colors(rng, asked["sizes"][1]),
        "target": memory.target,
    }


def pyramid_gradient_scratch(rng: random.Random, memory: Memory) -> Arguments:
    return {"dtype": rng.choice(REAL), **pyramid_sizes(rng), "target": memory.target}


def pyramid_gradient(rng: random.Random, memory: Memory, module: Any) -> Arguments:
    asked, dtype = pyramid_sizes(rng), rng.choice(REAL)
    pixels = math.prod(asked["sizes"])
    scratch_bytes = module.pyramid_gradient_scratch(dtype=dtype, **asked, target=memory.target)
    return {
        **{name: memory.array(pixels, dtype) for name in ("gradient", "image")},
        "out": memory.array(pyramid_elements(asked["sizes"]), dtype),
        "scratch": memory.allocate(bytes(scratch_bytes)),
        "dtype": dtype,
        "gain": rng.choice([2.0, -1.0, 0.0]),
        **asked,
        **colors(rng, asked["sizes"][1]),
        "target": memory.target,
    }


def winograd_convolution(rng: random.Random, memory: Memory) -> Arguments:
    padding = [rng.randint(0, 2), rng.randint(0, 2)]
    # With its padding, an image has 3 pixels at least.
    height, width = (max(rng.choice([*LENGTHS, 50]), 3 - 2 * pad) for pad in padding)
    batch, inputs, outputs = count(rng, 3), length(rng, 150), count(rng, 70)
    out = batch * (height + 2 * padding[0] - 2) * (width + 2 * padding[1] - 2) * outputs
    panels = -(-outputs // PANEL)
    return {
        "images": memory.array(batch * height * width * inputs, "float32"),
        "weights": memory.array(panels * 16 * inputs * PANEL, "float32"),
        "bias": memory.array(outputs, "float32") if rng.random() < 0.5 else NOWHERE,
        "term": memory.array(out, "float32") if rng.random() < 0.5 else NOWHERE,
        "out": memory.array(out, "float32"),
        "sizes": [batch, height, width, inputs],
        "outputs": outputs,
        "padding": padding,
        "limits": rng.choice([None, [0.0, math.inf], [0.0, 6.0], [-1.0, -1.0]]),
    }


def convolution_epilogue(rng: random.Random, memory: Memory) -> Arguments:
    sizes = [count(rng, 3), length(rng, 300), rng.choice([0, 1, 1, length(rng, 300)])]
    dtype, elements = rng.choice(DTYPES), math.prod(sizes)
    return {
        "output": memory.array(elements, dtype),
        "bias": memory.array(sizes[1], dtype) if rng.random() < 0.5 else NOWHERE,
        "term": memory.array(elements, dtype) if rng.random() < 0.5 else NOWHERE,
        "dtype": dtype,
        "sizes": sizes,
        "limits": rng.choice([None, [0.0, math.inf], [0.0, 6.0], [-1.0, -1.0]]),
        "target": memory.target,
    }


CASES = [
    inject_noise,
    crop_resize,
    crop_gradient_scratch,
    crop_gradient,
    phase_spectrum,
    spectrum_image,
    spectrum_image_gradient,
    phase_gradient,
    phase_update,
    draw_boxes,
    pyramid_image,
    pyramid_gradient_scratch,
    pyramid_gradient,
    winograd_convolution,
    convolution_epilogue,
]
