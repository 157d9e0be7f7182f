"""A step around the network beside other busy programs.

Run with ``python -m benchmarks.beside_others``. Steps of `maco` without a network (512 x 512, 32
crops) are timed alone and beside one and two processes that multiply matrices, with the waiting of
OpenMP as it is and with ``OMP_WAIT_POLICY=PASSIVE``; all in turns.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.harness import machine, save_row

_BUSY = "import torch; a = torch.randn(700, 700)\nwhile True: a @ a"
_STEPS = "--steps"


def time_steps(steps: int) -> list[float]:
    """Seconds of each step, after some that do not count."""
    from benchmarks.peers.fvfast_worker import make_objective, settings_of
    from benchmarks.peers.scene import Scene
    from benchmarks.peers.torch_networks import build_network
    from fvfast import maco

    scene = Scene(network="identity", threads=torch.get_num_threads())
    moments: list[float] = []
    maco(
        make_objective(scene, build_network(scene)),
        nb_steps=steps + 4,
        **settings_of(scene),
        callback=lambda _report: moments.append(time.perf_counter()),
    )
    return [later - earlier for earlier, later in itertools.pairwise(moments[3:])]


def run_beside(others: int, policy: str | None, steps: int) -> float:
    """Median milliseconds of a step in a process of its own beside others."""
    environment = {**os.environ}
    environment.pop("OMP_WAIT_POLICY", None)
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY], env=environment) for _ in range(others)]
    if policy is not None:
        environment["OMP_WAIT_POLICY"] = policy
    try:
        time.sleep(3 if others else 0)  # until they have begun
        finished = subprocess.run(
            [sys.executable, "-m", "benchmarks.beside_others", _STEPS, str(steps)],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return float(finished.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(_STEPS, type=int, help="time so many steps here, and print the median")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-save", action="store_true", help="write no CSV file")
    arguments = parser.parse_args()
    if arguments.steps is not None:
        print(1e3 * statistics.median(time_steps(arguments.steps)))
        return
    times: dict[tuple[str | None, int], list[float]] = {}
    for _ in range(arguments.rounds):
        for policy in (None, "PASSIVE"):
            for others in (0, 1, 2):
                times.setdefault((policy, others), []).append(run_beside(others, policy, 40))
    for policy in (None, "PASSIVE"):
        row = {
            **machine(),
            "OMP_WAIT_POLICY": policy or "unset",
            **{
                f"ms beside {others}": round(statistics.median(times[policy, others]), 1)
                for others in (0, 1, 2)
            },
        }
        print(", ".join(f"{name}: {value}" for name, value in row.items()), flush=True)
        if not arguments.no_save:
            save_row("beside_others", row)


if __name__ == "__main__":
    main()
