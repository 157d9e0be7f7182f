"""Random valid arguments for the functions of a native module with CUDA kernels.

Those that the CPU has too get what only CUDA takes besides: counters, tables, flags of images.
Each function of `CASES` makes the arguments of the function of its name.
"""

import functools
import inspect
import math
import random
from collections.abc import Callable
from typing import Any

import cases
from cases import REAL, STATISTICS, WORD, Arguments, bins, colors, count, length, scale
from memory import NOWHERE, Buffer, Memory

UPDATE_PARTS = 256  # of the module, which has it as a constant
COUNTERS = [0, 3, WORD - 1, WORD, 2**62, -1, -5]  # the memory of a device is not checked
COLUMNS = {"std_table": 1, "uniform_width_table": 1, "box_size_table": 1, "rates": 3}
# Lengths of transforms that the kernels do themselves, in shared memory and in registers.
TRANSFORMED = [1, 2, 3, 4, 5, 7, 8, 16, 20, 21, 30, 128]
ON_THE_CPU = {"phase_spectrum", "phase_gradient", "winograd_convolution"}
Table = tuple[Buffer, int, int]


def table(rng: random.Random, memory: Memory, columns: int) -> Table:
    """Memory, rows, and the stride between them."""
    rows, stride = rng.choice([1, 3, 7]), rng.choice([columns, columns + 2, 0])
    return memory.array((rows - 1) * stride + columns, "float64"), rows, stride


def identity_table(rng: random.Random, memory: Memory, images: int) -> Table:
    stride = rng.choice([1, 3, 0])
    words = [rng.choice([0, -1, 2**63 - 1, rng.randrange(WORD)]) for _ in range(images * 3)]
    return memory.integers(words), images, stride


def counter(rng: random.Random, memory: Memory) -> Buffer:
    return memory.integers([rng.choice(COUNTERS)])


def truth(rng: random.Random, memory: Memory, images: int) -> Buffer:
    return memory.integers([rng.randrange(2) for _ in range(images)], bits=8)


def flags(rng: random.Random, memory: Memory, images: int) -> Buffer:
    return memory.integers([rng.choice([0, 1, 2, 3, -1]) for _ in range(images)], bits=32)


def add_tables(rng: random.Random, memory: Memory, arguments: Arguments) -> None:
    """Let a call count steps by the memory of the device, and read their numbers there."""
    if rng.random() < 0.3 and "identity_table" in arguments:
        arguments["identity_table"] = identity_table(rng, memory, len(arguments["identities"]))
        arguments["identities"] = []
    if rng.random() < 0.5 or "counter" not in arguments:
        return
    arguments["counter"] = counter(rng, memory)
    for name in COLUMNS.keys() & arguments.keys():
        if rng.random() < 0.7:
            arguments[name] = table(rng, memory, COLUMNS[name])


def with_more(case: Callable[..., Arguments]) -> Callable[..., Arguments]:
    """The case of a function that the CPU has too, with what only CUDA takes."""

    @functools.wraps(case)
    def more(rng: random.Random, memory: Memory, module: Any) -> Arguments:
        extra = [module] if "module" in inspect.signature(case).parameters else []
        arguments = case(rng, memory, *extra)
        add_tables(rng, memory, arguments)
        if case is cases.crop_gradient:
            images = arguments["sizes"][0]
            arguments["running"] = rng.choice([NOWHERE, truth(rng, memory, images)])
            arguments["flags"] = rng.choice([NOWHERE, flags(rng, memory, images)])
        if case is cases.phase_update:
            if rng.random() < 0.5:
                leave_unfinished(rng, memory, module, arguments)
            add_gate(rng, memory, arguments)
        return arguments

    more.__signature__ = inspect.signature(more, follow_wrapped=False)  # type: ignore[attr-defined]
    return more


def add_gate(rng: random.Random, memory: Memory, arguments: Arguments) -> None:
    """Where the new phase goes, and which images have one."""
    images, elements = arguments["sizes"]
    arguments["sums"] = memory.array(2 * UPDATE_PARTS * images, "float64")
    arguments["out"] = rng.choice([NOWHERE, memory.array(images * elements, arguments["dtype"])])
    if rng.random() < 0.6:
        arguments["scores"] = memory.array(images, "float32")
        arguments["flags"] = flags(rng, memory, images)
        arguments["running"] = truth(rng, memory, images)


def leave_unfinished(rng: random.Random, memory: Memory, module: Any, arguments: Arguments) -> None:
    """Sizes of a phase whose gradient the update finishes."""
    sizes, dtype = transformed_sizes(rng), arguments["dtype"]
    arguments["sizes"] = [sizes[0], bins(sizes)]
    for name in ("phase", "exp_avg", "exp_avg_sq"):
        arguments[name] = memory.array(sizes[0] * bins(sizes), dtype)
    arguments["gradient"] = NOWHERE
    scratch = module.phase_image_gradient_scratch(dtype=dtype, sizes=sizes)
    statistics = memory.array(STATISTICS * sizes[0], "float64")
    arguments["unfinished"] = (memory.allocate(bytes(scratch)), statistics, sizes, scale(rng))


def transformed_sizes(rng: random.Random) -> list[int]:
    """Sizes of images whose transforms fit the kernels."""
    pixels = [rng.choice(TRANSFORMED), rng.choice(TRANSFORMED)]
    return [count(rng, 2), rng.choice([1, 2, 3, 3]), *pixels]


def forward(rng: random.Random, memory: Memory, module: Any, sizes: list[int]) -> Arguments:
    """What both ways from the phase to the image take."""
    dtype, images, parts = rng.choice(REAL), sizes[0], rng.choice([1, 5])
    scratch = module.phase_image_scratch(dtype=dtype, sizes=sizes)
    return {
        "magnitude": memory.array(bins(sizes), dtype),
        "phase": memory.array(images * bins(sizes), dtype),
        "phase_sums": rng.choice([NOWHERE, memory.array(2 * parts * images, "float64")]),
        "sum_parts": parts,
        "statistics": memory.array(STATISTICS * images, "float64"),
        "scratch": memory.allocate(bytes(scratch)),
        "dtype": dtype,
        "sizes": sizes,
        "epsilon": scale(rng),
        "target": memory.target,
    }


def backward(rng: random.Random, memory: Memory, module: Any, sizes: list[int]) -> Arguments:
    """What both ways back take."""
    dtype, images = rng.choice(REAL), sizes[0]
    scratch = module.phase_image_gradient_scratch(dtype=dtype, sizes=sizes)
    return {
        "magnitude": memory.array(bins(sizes), dtype),
        "phase": memory.array(images * bins(sizes), dtype),
        "statistics": memory.array(STATISTICS * images, "float64"),
        "out": memory.array(images * bins(sizes), dtype),
        "scratch": memory.allocate(bytes(scratch)),
        "dtype": dtype,
        "sizes": sizes,
        "epsilon": scale(rng),
        "target": memory.target,
    }


def phase_image(rng: random.Random, memory: Memory, module: Any) -> Arguments:
    sizes = transformed_sizes(rng)
    arguments = {**forward(rng, memory, module, sizes), **colors(rng, sizes[1])}
    return {**arguments, "image": memory.array(math.prod(sizes), arguments["dtype"])}


def phase_image_gradient(rng: random.Random, memory: Memory, module: Any) -> Arguments:
    sizes = transformed_sizes(rng)
    arguments = {**backward(rng, memory, module, sizes), **colors(rng, sizes[1])}
    for name in ("gradient", "image"):
        arguments[name] = memory.array(math.prod(sizes), arguments["dtype"])
    return {**arguments, "finish": rng.random() < 0.5}


def cuda_phase_spectrum(rng: random.Random, memory: Memory, module: Any) -> Arguments:
    sizes = cases.spectrum_sizes(rng)
    arguments = forward(rng, memory, module, sizes)
    elements = 2 * sizes[0] * bins(sizes)
    return {**arguments, "spectrum": memory.array(elements, arguments["dtype"])}


def cuda_phase_gradient(rng: random.Random, memory: Memory, module: Any) -> Arguments:
    sizes = cases.spectrum_sizes(rng)
    arguments = backward(rng, memory, module, sizes)
    elements = 2 * sizes[0] * bins(sizes)
    return {**arguments, "transform": memory.array(elements, arguments["dtype"])}


def end_step(rng: random.Random, memory: Memory, module: Any) -> Arguments:
    del module
    images, elements, dtype = rng.randint(1, 20), length(rng, 700), rng.choice(REAL)
    parts, recent, crops = rng.choice([1, 3, 256]), rng.choice([1, 5]), count(rng, 40)
    if rng.random() < 0.2:
        crops = 0
    boxes = cases.draw_boxes(rng, memory)
    names = ("shape", "spread", "center_spread", "smallest", "largest", "seed")
    return {
        "scores": memory.array(images, "float32"),
        "flags": flags(rng, memory, images),
        **{name: memory.array(images * elements, dtype) for name in ("phase", "next_phase")},
        "sums": memory.array(2 * parts * images, "float64"),
        "sum_parts": parts,
        **{name: truth(rng, memory, images) for name in ("running", "by_update", "has_gradient")},
        "ended_in": memory.integers([-1] * images),
        "recent_scores": memory.array(recent * images, "float32"),
        "recent": recent,
        "counter": counter(rng, memory),
        "patience": rng.choice([0, 10, 2**31]),
        "dtype": dtype,
        "sizes": [images, elements],
        "boxes": memory.array(4 * images * crops, "float32"),
        "crops": crops,
        **{name: boxes[name] for name in names},
        "box_size_table": table(rng, memory, 1),
        "identity_table": identity_table(rng, memory, images),
        "target": memory.target,
    }


CASES = [
    *(with_more(case) for case in cases.CASES if case.__name__ not in ON_THE_CPU),
    phase_image,
    phase_image_gradient,
    cuda_phase_spectrum,
    cuda_phase_gradient,
    end_step,
]
