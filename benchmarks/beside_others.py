"""Times a step around the network beside other busy programs.

Run with ``python -m benchmarks.beside_others``. Steps of `maco` without a network (512 x 512, 32
crops) are timed alone and beside one and two processes that multiply matrices, all in turns.
fvfast's threads wait in OpenMP's default way, briefly as in the console command, or passively.
Xplique takes part if ``make bench-peers`` has installed it.
"""

import argparse
import contextlib
import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.harness import machine, save_row
from benchmarks.peers.contestants import CONTESTANTS, Contestant, Worker
from benchmarks.peers.scene import Scene

_BUSY = "import torch; a = torch.randn(700, 700)\nwhile True: a @ a"
_OTHERS = (0, 1, 2)
_SECONDS_UNTIL_BUSY = 3.0


def contestants() -> list[Contestant]:
    """Return the contestants, with their names in the results."""
    known = {contestant.name: contestant for contestant in CONTESTANTS}
    waiting = [
        dataclasses.replace(
            known["fvfast"], name=f"fvfast, {name}={value}", variables={name: value}
        )
        for name, value in (("GOMP_SPINCOUNT", "3000"), ("OMP_WAIT_POLICY", "PASSIVE"))
    ]
    found = [known["fvfast"], *waiting, known["xplique"]]
    return [contestant for contestant in found if contestant.python.exists()]


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Run processes that multiply matrices, each with torch's default number of threads."""
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        time.sleep(_SECONDS_UNTIL_BUSY if count else 0)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="per round")
    parser.add_argument("--no-save", action="store_true", help="write no CSV file")
    arguments = parser.parse_args()
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        os.environ.pop(name, None)
    times: dict[tuple[str, int], list[float]] = {}
    with contextlib.ExitStack() as stack:
        scene = Scene(network="identity")
        workers = [stack.enter_context(Worker(one, scene)) for one in contestants()]
        for _ in range(arguments.rounds):
            for others in _OTHERS:
                with busy_processes(others):
                    for worker in workers:
                        measured = worker.take_steps(arguments.steps)
                        times.setdefault((worker.name, others), []).append(measured["seconds"])
    for worker in workers:
        row = {
            **machine(),
            "contestant": worker.name,
            **{
                f"ms beside {others}": round(1e3 * statistics.median(times[worker.name, others]), 1)
                for others in _OTHERS
            },
        }
        print(", ".join(f"{name}: {value}" for name, value in row.items()), flush=True)
        if not arguments.no_save:
            save_row("beside_others", row)


if __name__ == "__main__":
    main()
