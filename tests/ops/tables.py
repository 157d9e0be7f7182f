"""Numbers of a few steps, and calls with them, for the tests of tables."""

import torch

from fvfast.ops.boxes import draw_boxes

# None is a float32 number, so that each must be rounded, and in the right place.
SIDES = [0.1, 1 / 3, 0.7, 0.05]
SCALES = [0.3, 0.0, 1 / 7, 1.1]
WIDTHS = [0.0, 0.0, 0.7, 1 / 9]
STEPS = range(6)  # two more than there are rows
IDENTITIES = [3, 2**32 - 1]
KEY = {"seed": 0x1234_5678_9ABC_DEF0}
RANGE = (-1.0, 2.0)


def table_of(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def normal(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return numbers.to(torch.get_default_device(), dtype)


def row_of(step):
    return min(step, len(SIDES) - 1)


def boxes_of(number, step, identities=IDENTITIES, **changes):
    key = {**KEY, "identities": identities, "step": step, "device": torch.get_default_device()}
    return draw_boxes(number, 5, **{**key, **changes})


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    assert torch.equal(actual, expected)


def states(dtype):
    """Phase, gradient and averages, twice."""
    half = (2, 3, 48, 21)
    squares = 0.5 + normal(*half, seed=3, dtype=dtype) ** 2
    first = [normal(*half, seed=seed, dtype=dtype) for seed in range(3)] + [squares]
    return first, [tensor.clone() for tensor in first]
