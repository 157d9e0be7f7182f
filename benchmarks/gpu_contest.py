"""Whole steps on a GPU, library against library: see `benchmarks.contest`."""

import dataclasses
import os
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest import hold_contest, rows_of
from benchmarks.gpu_report import Report
from benchmarks.peers.contestants import CONTESTANTS, PEERS, Contestant, Worker
from benchmarks.peers.scene import NETWORKS, Scene

ROUNDS, STEPS = 7, 20
COLUMNS = (
    "contestant", "version", "framework", "step_ms", "fastest_step_ms", "step_cpu_ms",
    "first_step_ms", "step_memory_mb", "run_memory_mb",
)  # fmt: skip
THREADS = min(8, os.cpu_count() or 1)
ELSEWHERE = {"xplique": "its TensorFlow is installed for the processor alone"}


@dataclasses.dataclass(frozen=True)
class GpuContestant(Contestant):
    """A contestant whose worker is started through `benchmarks.gpu_worker`."""

    launcher: Path = Path()

    @property
    def python(self) -> Path:
        """What is called as the interpreter with ``-m MODULE [arguments]``."""
        return self.launcher


def on_gpu(contestant: Contestant, folder: Path) -> GpuContestant:
    """Let a contestant run on the GPU; a file that starts it is written to the folder."""
    launcher = folder / contestant.name
    python = shlex.quote(str(contestant.python))
    # $1 is -m.
    launcher.write_text(f'#!/bin/sh\nshift\nexec {python} -m benchmarks.gpu_worker "$@"\n')
    launcher.chmod(0o755)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    fields = {
        field.name: getattr(contestant, field.name) for field in dataclasses.fields(contestant)
    }
    # The worker hides the devices from its library unless it is told otherwise.
    fields["variables"] = {
        **contestant.variables,
        "CUDA_VISIBLE_DEVICES": "0" if visible is None else visible,
    }
    return GpuContestant(**fields, launcher=launcher)


def entrants(report: Report, folder: Path) -> list[Contestant]:
    """Return the contestants that are installed, and note the others."""
    found: list[Contestant] = []
    for contestant in CONTESTANTS:
        if contestant.name in ELSEWHERE:
            report.skip(f"{contestant.name}: {ELSEWHERE[contestant.name]}")
        elif not contestant.python.exists():
            environment = PEERS / str(contestant.environment)
            report.skip(f"{contestant.name}: not installed in {environment} (make bench-peers)")
        else:
            found.append(on_gpu(contestant, folder))
    return found


def able(report: Report, scene: Scene, contestants: Sequence[Contestant]) -> list[Contestant]:
    """Return those who can take a step of a scene, and note the others."""
    found: list[Contestant] = []
    for contestant in contestants:
        try:
            with Worker(contestant, scene) as worker:
                worker.take_steps(1)
        except RuntimeError as error:
            said = str(error).strip().splitlines()
            line = f"{contestant.name} on {scene.network}: {said[0]} {said[-1]}"
            if contestant.name.startswith("fvfast"):
                report.fail(line)
                report.log(str(error))
            else:
                report.skip(line)
        else:
            found.append(contestant)
    return found


def hold_contests(report: Report, networks: Sequence[str] = NETWORKS) -> None:
    """Measure the libraries on each network and add tables to the report."""
    with tempfile.TemporaryDirectory() as name:
        contestants = entrants(report, Path(name))
        for network in networks:
            scene = Scene(network=network, threads=THREADS)
            chosen = able(report, scene, contestants)
            if not chosen:
                continue
            results = hold_contest(scene, chosen, rounds=ROUNDS, steps=STEPS)
            columns = (*COLUMNS, f"times_{results[0].name}")
            rows = [
                {column: row[column] for column in columns}
                for row in rows_of(scene, results, STEPS)
            ]
            what = "no network" if network == "identity" else network
            report.table(
                f"Whole steps, {what}: image {scene.image_size}, {scene.crops} crops of "
                f"{scene.model_size}, float32; memory is the device's",
                rows,
            )
