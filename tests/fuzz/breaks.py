"""Breaks one argument of a call, in a way that the callee can detect.

The module cannot know how many elements there are at an address, so that must stay right. All else
is allowed: numbers out of range, lists of any length and content, null pointers, shapes that need
more memory than there is, arguments that overlap, wrong types.
"""

import math
import random
import struct
from typing import Any

from cases import Arguments
from memory import Memory

HUGE = [2**62, 2**63 - 1, 2**63, 2**64, 2**100, -1, -(2**63)]
TYPES = [None, "1", 1.5, b"1", {}, object(), [[]]]
# Addresses of memory that is written to, and what else that memory must not be.
APART = {
    "inject_noise": [],
    "crop_resize": [("out", "images"), ("images", "out")],
    "crop_gradient": [
        ("image_gradient", "gradient"),
        ("image_gradient", "scratch"),
        ("scratch", "gradient"),
        ("transparency", "gradient"),
        ("transparency", "image_gradient"),
    ],
    "pyramid_image": [("image", "pyramid")],
    "pyramid_gradient": [
        ("out", "gradient"),
        ("out", "image"),
        ("out", "scratch"),
        ("scratch", "gradient"),
    ],
    "winograd_convolution": [
        ("out", "images"),
        ("out", "weights"),
        ("out", "bias"),
        ("term", "out"),
    ],
    "convolution_epilogue": [("output", "bias"), ("output", "term"), ("term", "output")],
    "phase_image": [("image", "phase"), ("scratch", "image")],
    "phase_image_gradient": [("out", "phase"), ("gradient", "out"), ("scratch", "gradient")],
    "cuda_phase_spectrum": [("spectrum", "phase"), ("statistics", "phase_sums")],
    "cuda_phase_gradient": [("out", "transform"), ("scratch", "transform")],
    "end_step": [
        ("next_phase", "phase"),
        ("running", "by_update"),
        ("boxes", "recent_scores"),
        ("ended_in", "counter"),
    ],
}


def break_buffer(rng: random.Random, buffer: tuple[int, int]) -> Any:
    """No memory, less of it, or memory that is not aligned."""
    address, count = buffer
    less = (address, rng.choice([count - 1, count // 2, 0, -1, -(2**63)]))
    odd = (address + 1, count - 1)
    return rng.choice([(0, 0), (0, count), less, less, less, odd, (-1, count), (2**64, count)])


def break_list(rng: random.Random, value: list[Any]) -> Any:
    """A list of another length, or with another content."""
    shorter, longer, changed = value[:-1], [*value, 1], list(value)
    if changed:
        place = rng.randrange(len(changed))
        # A size that is a little larger needs memory that is not there.
        old = changed[place]
        larger = [old + 1, 2 * old] if isinstance(old, int) else []
        changed[place] = rng.choice([*HUGE, *larger, None, "1", 0.5, math.nan])
    return rng.choice(
        [[], longer, shorter, changed, changed, [2**62] * len(value), [-1] * len(value)]
    )


def break_table(rng: random.Random, value: tuple[tuple[int, int], int, int]) -> Any:
    """A table with other memory, rows or strides, or none."""
    buffer, rows, stride = value
    other_rows = rng.choice([0, -1, rows + 1, 2**33, *HUGE])
    other_stride = rng.choice([-1, stride + 1, 2**40, *HUGE])
    return rng.choice(
        [
            None,
            (break_buffer(rng, buffer), rows, stride),
            (buffer, other_rows, stride),
            (buffer, rows, other_stride),
        ]
    )


def break_unfinished(
    rng: random.Random, memory: Memory, value: tuple[Any, Any, list[int], float]
) -> Any:
    """A gradient that is left unfinished, with other memory, sizes or numbers."""
    scratch, statistics, sizes, epsilon = value
    images, channels, height, width = sizes
    if rng.random() < 0.3:
        # As many numbers in a single column, whose transform the kernels may not have.
        column = channels * height * (width // 2 + 1)
        return memory.array(2**20, "float64"), statistics, [images, 1, column, 1], epsilon
    return rng.choice(
        [
            None,
            (break_buffer(rng, scratch), statistics, sizes, epsilon),
            (scratch, break_buffer(rng, statistics), sizes, epsilon),
            (scratch, statistics, break_list(rng, sizes), epsilon),
            (scratch, statistics, sizes, rng.choice([math.nan, math.inf, -1.0])),
        ]
    )


def break_one(
    rng: random.Random, memory: Memory, function: str, arguments: Arguments
) -> tuple[str, Any]:
    """Change one argument. Returns what was done, to be printed where it goes wrong."""
    pairs = APART.get(function, [])
    if pairs and rng.random() < 0.1 and 0 not in arguments["sizes"]:
        name, other = rng.choice(pairs)
        shared, own = arguments[other], arguments[name]
        # There are as many elements as at the shorter one.
        arguments[name] = (shared[0], min(shared[1], own[1])) if shared[0] else own
        return name, f"= {other}"
    if function == "crop_gradient_scratch" and rng.random() < 0.3:
        # It asks for memory, so any size is fair: products of these overflow 64 bits.
        arguments["sizes"] = [2 ** rng.randint(0, 30) for _ in range(7)]
        return "sizes", arguments["sizes"]
    if "box_dtype" in arguments and rng.random() < 0.05:
        number = 4 * arguments["sizes"][0] * arguments["sizes"][1]
        letter = "d" if arguments["box_dtype"] == "float64" else "f"
        arguments["boxes"] = memory.allocate(
            struct.pack(f"{number}{letter}", *[rng.choice([math.nan, math.inf])] * number),
            8 if letter == "d" else 4,
        )
        return "boxes", "not finite"
    # Where a target can be had, the addresses would have to be those of a device. And the memory
    # of a box type must fit.
    name = rng.choice(sorted(arguments.keys() - {"target", "box_dtype"}))
    if arguments.get("unfinished") is not None and rng.random() < 0.3:
        name = "unfinished"  # in which most can be wrong
    value = arguments[name]
    if rng.random() < 0.05:
        del arguments[name]
        return name, "missing"
    if rng.random() < 0.05:
        arguments["unknown"] = 1
        return "unknown", 1
    if rng.random() < 0.15:
        broken = rng.choice(TYPES)
    elif isinstance(value, tuple) and name == "unfinished":
        broken = break_unfinished(rng, memory, value)
    elif isinstance(value, tuple):
        broken = break_table(rng, value) if len(value) == 3 else break_buffer(rng, value)
    elif isinstance(value, str):
        broken = rng.choice(["", "int8", "float", value.upper(), value + "\0", "normal" * 1000])
    elif isinstance(value, float):
        broken = rng.choice([math.nan, math.inf, -math.inf, -1.0, 1e308, -1e308])
    elif isinstance(value, list):
        broken = break_list(rng, value)
    else:
        broken = rng.choice([*HUGE, value + 1] if isinstance(value, int) else HUGE)
    arguments[name] = broken
    return name, broken
