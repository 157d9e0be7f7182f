"""What a network draws for itself: decided by the run's seed, apart from the user's generators."""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch


class _Generator(NamedTuple):
    """A global generator: how to read it, put it back, seed it, and compare two states of it."""

    read: Callable[[], Any]
    restore: Callable[[Any], object]
    seed: Callable[[int], object]
    same: Callable[[Any, Any], bool]


def _same_numpy(one: Any, other: Any) -> bool:
    return bool(one[2:] == other[2:] and np.array_equal(one[1], other[1]))


_ON_PROCESSOR = (
    _Generator(
        torch.get_rng_state, torch.set_rng_state, torch.default_generator.manual_seed, torch.equal
    ),
    _Generator(np.random.get_state, np.random.set_state, np.random.seed, _same_numpy),
    _Generator(random.getstate, random.setstate, random.seed, lambda one, other: one == other),
)


def _generators(device: torch.device) -> list[_Generator]:
    found = list(_ON_PROCESSOR)
    if device.type == "cuda":
        generator = torch.cuda.default_generators[device.index or 0]
        found.append(
            _Generator(generator.get_state, generator.set_state, generator.manual_seed, torch.equal)
        )
    return found


class Draws:
    """Whether anything was drawn, which is known afterwards."""

    happened = False


@contextlib.contextmanager
def drawn_from(seed: int, step: int, device: torch.device) -> Iterator[Draws]:
    """Let what is drawn from the global generators depend on a seed and a step.

    Those of torch for the processor and a GPU, of numpy, and of Python. Afterwards they are what
    they were: whoever else draws from them does not notice.

    Parameters
    ----------
    seed, step
        Any integers.
    device
        Where the network runs.
    """
    generators = _generators(device)
    before = [generator.read() for generator in generators]
    draws = Draws()
    try:
        number = random.Random(f"{seed} {step}").getrandbits(32)
        for generator in generators:
            generator.seed(number)
        start = [generator.read() for generator in generators]
        yield draws
        draws.happened = not all(
            generator.same(generator.read(), state)
            for generator, state in zip(generators, start, strict=True)
        )
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.restore(state)
