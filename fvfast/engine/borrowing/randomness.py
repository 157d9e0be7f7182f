"""Seeds the random numbers that a network draws itself, and keeps the user's generators as is."""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from fvfast.engine.locks import torch_state_used


class _Generator(NamedTuple):
    """A global generator: how to read it, put it back, seed it, and compare two states of it."""

    read: Callable[[], Any]
    restore: Callable[[Any], object]
    seed: Callable[[int], object]
    same: Callable[[Any, Any], bool]
    seeds: int = 2**63
    """How many seeds the generator accepts, counted from 0."""


def _same_numpy(one: Any, other: Any) -> bool:
    return bool(one[2:] == other[2:] and np.array_equal(one[1], other[1]))


_ON_PROCESSOR = (
    _Generator(
        torch.get_rng_state, torch.set_rng_state, torch.default_generator.manual_seed, torch.equal
    ),
    _Generator(np.random.get_state, np.random.set_state, np.random.seed, _same_numpy, 2**32),
    _Generator(random.getstate, random.setstate, random.seed, lambda one, other: one == other),
)


def _generators(device: torch.device) -> list[_Generator]:
    found = list(_ON_PROCESSOR)
    if device.type == "cuda":
        generator = torch.cuda.default_generators[device.index or 0]
        found.append(
            _Generator(generator.get_state, generator.set_state, generator.manual_seed, torch.equal)
        )
    elif device.type != "cpu" and hasattr(torch, device.type):
        module: Any = getattr(torch, device.type)
        if all(hasattr(module, name) for name in ("get_rng_state", "set_rng_state", "manual_seed")):
            found.append(
                _Generator(
                    module.get_rng_state, module.set_rng_state, module.manual_seed, torch.equal
                )
            )
    return found


@contextlib.contextmanager
def _borrowed_generators(device: torch.device) -> Iterator[list[_Generator]]:
    """Keep other runs from the global generators, and restore their states at the end."""
    with torch_state_used() as use:
        generators = _generators(device)
        before = [generator.read() for generator in generators]

        def restore() -> None:
            for generator, state in zip(generators, before, strict=True):
                generator.restore(state)

        use.undo = restore
        try:
            yield generators
        finally:
            restore()


class Draws:
    """Whether anything was drawn; known once the block has ended."""

    happened = False


@contextlib.contextmanager
def drawn_from(seed: int, step: int, device: torch.device) -> Iterator[Draws]:
    """Let what is drawn from the global generators depend on a seed and a step.

    The generators are torch's for the CPU and the GPU, numpy's and Python's. Their states are
    restored afterwards, so code that draws from them later does not notice. Other runs wait.

    Parameters
    ----------
    seed, step
        Any integers.
    device
        Where the network runs.
    """
    draws = Draws()
    with _borrowed_generators(device) as generators:
        number = random.Random(f"{seed} {step}").getrandbits(32)
        for generator in generators:
            generator.seed(number)
        start = [generator.read() for generator in generators]
        yield draws
        draws.happened = not all(
            generator.same(generator.read(), state)
            for generator, state in zip(generators, start, strict=True)
        )


class SeededGenerators:
    """The global generators of one run: seeded at its start, and independent from then on.

    Between the run's steps the generators have the program's own states.

    Parameters
    ----------
    seed
        Any integer.
    device
        Where the run draws.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._device = device
        self._states: list[Any] | None = None

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Draw from the run's generators during a ``with`` statement."""
        with _borrowed_generators(self._device) as generators:
            if self._states is None:
                for generator in generators:
                    generator.seed(self._seed % generator.seeds)
            else:
                for generator, state in zip(generators, self._states, strict=True):
                    generator.restore(state)
            try:
                yield
            finally:
                self._states = [generator.read() for generator in generators]
