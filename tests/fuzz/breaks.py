"""Breaks one of the arguments of a call, in a way that cannot make it touch memory it has not got.

What the module cannot know, a caller must not get wrong: a shape that is larger than the memory at
an address, for one. All else is fair: numbers out of range, lists of any length and content, null
pointers, arguments that overlap, wrong types.
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
        ("alpha", "gradient"),
        ("alpha", "image_gradient"),
    ],
    "winograd_convolution": [
        ("out", "images"),
        ("out", "weights"),
        ("out", "bias"),
        ("term", "out"),
    ],
}


def addresses(arguments: Arguments) -> list[str]:
    """Names of the arguments that are addresses."""
    numbers = ("seed", "step", "crops", "scratch_bytes", "outputs")
    return [
        name for name, value in arguments.items() if isinstance(value, int) and name not in numbers
    ]


def break_list(rng: random.Random, value: list[Any], may_grow: bool) -> Any:
    """A list of another length, or with another content."""
    shorter, changed = value[:-1], list(value)
    longer = [*value, 1] if may_grow else [*value, -1]
    if changed:
        changed[rng.randrange(len(changed))] = rng.choice([*HUGE, None, "1", 0.5, math.nan])
    return rng.choice(
        [[], longer, shorter, changed, changed, [2**62] * len(value), [-1] * len(value)]
    )


def break_one(
    rng: random.Random, memory: Memory, function: str, arguments: Arguments
) -> tuple[str, Any]:
    """Change one argument. Returns what was done, to be printed where it goes wrong."""
    pairs = APART.get(function, [])
    if pairs and rng.random() < 0.1 and 0 not in arguments["sizes"]:
        name, other = rng.choice(pairs)
        arguments[name] = arguments[other] or arguments[name]
        return name, f"= {other}"
    if function == "crop_gradient_scratch" and rng.random() < 0.3:
        # It asks for memory, so any size is fair: products of these overflow 64 bits.
        arguments["sizes"] = [2 ** rng.randint(0, 30) for _ in range(7)]
        return "sizes", arguments["sizes"]
    if "boxes" in arguments and "sizes" in arguments and rng.random() < 0.05:
        number = 4 * arguments["sizes"][0] * arguments["sizes"][1]
        letter = "d" if arguments["box_dtype"] == "float64" else "f"
        arguments["boxes"] = memory.allocate(
            struct.pack(f"{number}{letter}", *[rng.choice([math.nan, math.inf])] * number)
        )
        return "boxes", "not finite"
    # Where a target can be had, the addresses would have to be those of a device. And the memory
    # of a box type must fit.
    name = rng.choice(sorted(arguments.keys() - {"target", "box_dtype"}))
    value = arguments[name]
    if rng.random() < 0.05:
        del arguments[name]
        return name, "missing"
    if rng.random() < 0.05:
        arguments["unknown"] = 1
        return "unknown", 1
    if rng.random() < 0.15:
        broken = rng.choice(TYPES)
    elif name in addresses(arguments):
        broken = rng.choice([0, 0, -1, 2**64])
    elif isinstance(value, str):
        broken = rng.choice(["", "int8", "float", value.upper(), value + "\0", "normal" * 1000])
    elif isinstance(value, float):
        broken = rng.choice([math.nan, math.inf, -math.inf, -1.0, 1e308, -1e308])
    elif isinstance(value, list):
        # As many boxes are drawn as there are streams: there is no memory for more.
        broken = break_list(rng, value, may_grow=function != "draw_boxes")
    elif name == "scratch_bytes":
        broken = rng.choice([value - 1, 0, -1, -(2**63)])
    else:
        broken = rng.choice(HUGE)
    arguments[name] = broken
    return name, broken
