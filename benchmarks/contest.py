"""Measures libraries against each other: in one run, in turns, while the others sleep."""

import argparse
import contextlib
import dataclasses
import os
import statistics
import time
from collections.abc import Sequence

from benchmarks.harness import machine, save_row
from benchmarks.load import busy_seconds, share_of_others
from benchmarks.peers.contestants import CONTESTANTS, Contestant, Worker
from benchmarks.peers.scene import Scene

SETTLE_SECONDS = 0.05
"""Pause between contestants, because idle threads of OpenMP and TensorFlow spin before sleeping."""

WARM_UP_STEPS = 3


@dataclasses.dataclass
class Result:
    """The measurements of one contestant.

    Attributes
    ----------
    versions
        See `Worker`.
    seconds, cpu_seconds
        Seconds per step, one entry per round: by the wall clock, and of all threads together.
    other_load
        Share of the machine that other programs used meanwhile, one entry per round. Above a few
        percent neither time can be trusted, because threads that wait for each other spin.
    memory
        "step_bytes": peak memory of a step, above the memory in use between steps. "run_bytes":
        peak memory of the run, above the memory in use before it; includes the run's state and what
        the framework sets up on first use.
    """

    name: str
    versions: dict[str, str | float]
    seconds: list[float] = dataclasses.field(default_factory=list)
    cpu_seconds: list[float] = dataclasses.field(default_factory=list)
    other_load: list[float] = dataclasses.field(default_factory=list)
    memory: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def median(self) -> float:
        """The median seconds of a step."""
        return statistics.median(self.seconds)


def hold_contest(
    scene: Scene, contestants: Sequence[Contestant], *, rounds: int, steps: int
) -> list[Result]:
    """Measure contestants on one scene.

    Parameters
    ----------
    scene
        The work of a step.
    contestants
        The libraries. All are loaded and warmed up before any is measured.
    rounds
        Number of turns of each.
    steps
        Number of steps per turn.

    Returns
    -------
    results
        One per contestant, in their order.
    """
    with contextlib.ExitStack() as stack:
        entrants: list[tuple[Worker, Result]] = []
        for contestant in contestants:
            print(f"starting {contestant.name}", flush=True)
            worker = stack.enter_context(Worker(contestant, scene))
            worker.take_steps(WARM_UP_STEPS)
            entrants.append((worker, Result(contestant.name, worker.versions)))
        for turn in range(rounds):
            print(f"round {turn + 1} of {rounds}", end="\r", flush=True)
            for worker, result in entrants:
                time.sleep(SETTLE_SECONDS)
                busy = busy_seconds()
                measured = worker.take_steps(steps)
                load = share_of_others(
                    busy,
                    busy_seconds(),
                    steps * measured["cpu_seconds"],
                    steps * measured["seconds"],
                )
                result.seconds.append(measured["seconds"])
                result.cpu_seconds.append(measured["cpu_seconds"])
                result.other_load.append(load)
        print()
        for worker, result in entrants:
            result.memory = worker.take_steps(steps, memory=True)
    return [result for _, result in entrants]


def rows_of(scene: Scene, results: Sequence[Result], steps: int) -> list[dict[str, object]]:
    """Return the results as rows, one per contestant, for the screen and for the CSV file."""
    general = {key: value for key, value in machine().items() if key in ("date", "processor")}
    # The others are compared with the first contestant.
    baseline = results[0]
    return [
        {
            **general,
            "cores": os.cpu_count() or 0,
            "threads": scene.threads,
            "network": scene.network,
            "image_size": scene.image_size,
            "model_size": scene.model_size,
            "crops": scene.crops,
            "box_size": scene.box_size,
            "rounds": len(result.seconds),
            "steps_per_round": steps,
            "contestant": result.name,
            "version": result.versions["library"],
            "framework": result.versions["framework"],
            "python": result.versions["python"],
            "step_ms": round(1e3 * result.median, 2),
            "fastest_step_ms": round(1e3 * min(result.seconds), 2),
            "step_cpu_ms": round(1e3 * statistics.median(result.cpu_seconds), 2),
            "other_load_percent": round(100 * statistics.median(result.other_load), 1),
            f"times_{baseline.name}": round(result.median / baseline.median, 2),
            "first_step_ms": round(1e3 * float(result.versions["first_step_seconds"]), 1),
            "step_memory_mb": round(result.memory["step_bytes"] / 1e6, 1),
            "step_memory_beyond_crops_mb": round(
                (result.memory["step_bytes"] - 2 * scene.crop_bytes) / 1e6, 1
            ),
            "run_memory_mb": round(result.memory["run_bytes"] / 1e6, 1),
        }
        for result in results
    ]


def print_table(rows: Sequence[dict[str, object]], columns: Sequence[str]) -> None:
    """Print some columns of the rows as an aligned table."""
    cells = [list(columns)] + [[str(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    for line in cells:
        first = line[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join([first, *rest]))


def installed(names: Sequence[str]) -> list[Contestant]:
    """Return the named contestants that are installed, and print the others."""
    chosen = [contestant for contestant in CONTESTANTS if contestant.name in names]
    missing = [contestant.name for contestant in chosen if not contestant.python.exists()]
    if missing:
        print(f"not installed, left out: {', '.join(missing)} (make bench-peers)")
    return [contestant for contestant in chosen if contestant.name not in missing]


def argument_parser(
    description: str, *, rounds: int, steps: int, contestants: Sequence[str]
) -> argparse.ArgumentParser:
    """Return a parser of the options that all contests share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each contestant")
    parser.add_argument("--steps", type=int, default=steps, help="steps per turn")
    parser.add_argument("--threads", type=int, default=2, help="threads of each contestant")
    parser.add_argument(
        "--contestants",
        nargs="+",
        choices=[contestant.name for contestant in CONTESTANTS],
        default=list(contestants),
        help="the others are compared with the first one that is installed",
    )
    parser.add_argument("--no-save", action="store_true", help="write no CSV file")
    return parser


COLUMNS = (
    "contestant",
    "version",
    "framework",
    "step_ms",
    "fastest_step_ms",
    "step_cpu_ms",
    "other_load_percent",
    "first_step_ms",
    "step_memory_mb",
    "step_memory_beyond_crops_mb",
    "run_memory_mb",
)
"""The columns of a row that are printed."""


def measure(scene: Scene, arguments: argparse.Namespace, csv_name: str) -> list[Result]:
    """Hold a contest with the options of the command line; print and save its results."""
    results = hold_contest(
        scene,
        installed(arguments.contestants),
        rounds=arguments.rounds,
        steps=arguments.steps,
    )
    rows = rows_of(scene, results, arguments.steps)
    print(
        f"{scene.network}: image {scene.image_size}, {scene.crops} crops of {scene.model_size}, "
        f"box size {scene.box_size} in every step, {scene.threads} threads"
    )
    print_table(rows, (*COLUMNS, f"times_{results[0].name}"))
    print(f"crops and their gradients: {2 * scene.crop_bytes / 1e6:.1f} MB of each step's memory")
    if not arguments.no_save:
        for row in rows:
            path = save_row(csv_name, row)
        print(f"written to {path}")
    return results
