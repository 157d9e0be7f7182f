"""The stages, most valuable first: if time runs out, the least valuable ones are lost."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a check that runs in a process of its own.

    Attributes
    ----------
    name
        Name of the stage.
    module
        A module with a function ``run(job)``, which takes a `benchmarks.gpu.job.Job`.
    seconds
        Time limit.
    rehearsal_seconds
        Time limit in a rehearsal.
    what
        Describes, for people, what the stage does.
    """

    name: str
    module: str
    seconds: float
    rehearsal_seconds: float
    what: str


QUICK = (
    Stage("machine", "benchmarks.gpu.machine", 10, 90, "versions, GPU, Python.h, compilers"),
    Stage("build", "benchmarks.gpu.build", 60, 180, "the native module for this GPU"),
    Stage("accuracy", "benchmarks.gpu.accuracy", 25, 90, "each operation against float64"),
    Stage("tests", "benchmarks.gpu.suite", 90, 90, "the operations' tests on the device"),
    Stage("kernels", "benchmarks.gpu.kernels", 60, 90, "each kernel, warm and cold"),
    Stage("steps", "benchmarks.gpu.steps", 90, 90, "whole steps with networks"),
    Stage("counters", "benchmarks.gpu.counters", 45, 90, "occupancy, stalls and bandwidth by ncu"),
    Stage("sanitizers", "benchmarks.gpu.sanitizers", 45, 90, "compute-sanitizer on every kernel"),
    Stage("variants", "benchmarks.gpu.variants", 120, 90, "other tilings and lanes"),
)
"""The stages of a quick check; the last one takes the time that is left."""

QUICK_SECONDS = 480.0
"""Time for all of `QUICK` together."""


CHECK_SECONDS = {
    "machine": 60, "build": 1800, "accuracy": 300, "tests": 5400, "kernels": 900, "steps": 1800,
    "counters": 900, "sanitizers": 3600, "variants": 1800,
}  # fmt: skip
CHECK = (
    *(dataclasses.replace(stage, seconds=CHECK_SECONDS[stage.name]) for stage in QUICK),
    Stage("contests", "benchmarks.gpu.contest", 3600, 90, "library against library"),
)
"""The stages of a check of several hours."""


def choose(stages: Sequence[Stage], text: str | None) -> list[Stage]:
    """Choose stages by numbers and names, as in "0,1,kernels"; None: all.

    Raises
    ------
    ValueError
        There is no such stage.
    """
    if text is None:
        return list(stages)
    by_word = {word: stage for n, stage in enumerate(stages) for word in (str(n), stage.name)}
    words = [word for word in text.replace(",", " ").split() if word]
    unknown = [word for word in words if word not in by_word]
    if unknown or not words:
        known = ", ".join(f"{number} {stage.name}" for number, stage in enumerate(stages))
        raise ValueError(f"stages: expected numbers or names out of {known}, got {text!r}")
    chosen = {by_word[word].name for word in words}
    return [stage for stage in stages if stage.name in chosen]


def with_limits(stages: Sequence[Stage], texts: Sequence[str]) -> list[Stage]:
    """Give stages other limits, each written as in "kernels=120".

    Raises
    ------
    ValueError
        One cannot be read, or there is no such stage.
    """
    limits: dict[str, float] = {}
    for text in texts:
        word, _, number = text.partition("=")
        (stage,) = choose(stages, word)
        try:
            seconds = float(number)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < float("inf"):
            raise ValueError(f"limit: expected STAGE=SECONDS, as in kernels=120, got {text!r}")
        limits[stage.name] = seconds
    return [
        dataclasses.replace(
            stage,
            seconds=limits.get(stage.name, stage.seconds),
            rehearsal_seconds=limits.get(stage.name, stage.rehearsal_seconds),
        )
        for stage in stages
    ]
