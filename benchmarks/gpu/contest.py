"""The stage that times whole steps on a GPU, library against library: see `benchmarks.contest`."""

import dataclasses
import os
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest import hold_contest, rows_of
from benchmarks.gpu.job import Job
from benchmarks.gpu.records import Records
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
    """A contestant whose worker is started through `benchmarks.gpu.contest_worker`."""

    launcher: Path = Path()

    @property
    def python(self) -> Path:
        """The program that is called like an interpreter, with ``-m MODULE [arguments]``."""
        return self.launcher


def on_gpu(contestant: Contestant, folder: Path) -> GpuContestant:
    """Let a contestant run on the GPU; write a script that starts it to the folder."""
    launcher = folder / contestant.name
    python = shlex.quote(str(contestant.python))
    # "shift" drops $1, which is -m.
    launcher.write_text(f'#!/bin/sh\nshift\nexec {python} -m benchmarks.gpu.contest_worker "$@"\n')
    launcher.chmod(0o755)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    fields = {
        field.name: getattr(contestant, field.name) for field in dataclasses.fields(contestant)
    }
    # By default, a worker hides GPUs from its library.
    fields["variables"] = {
        **contestant.variables,
        "CUDA_VISIBLE_DEVICES": "0" if visible is None else visible,
    }
    return GpuContestant(**fields, launcher=launcher)


def run(job: Job) -> None:
    """Measure the libraries on each network."""
    if job.rehearsed:
        tiny = Scene(image_size=24, model_size=12, crops=2, threads=1)
        hold_contests(job.records, [tiny], CONTESTANTS[:1], rounds=1, steps=2)
        return
    with tempfile.TemporaryDirectory() as name:
        contestants = entrants(job.records, Path(name))
        scenes = [Scene(network=network, threads=THREADS) for network in NETWORKS]
        hold_contests(job.records, scenes, contestants, rounds=ROUNDS, steps=STEPS)


def entrants(records: Records, folder: Path) -> list[Contestant]:
    """Return the contestants that are installed, and record the others."""
    found: list[Contestant] = []
    for contestant in CONTESTANTS:
        if contestant.name in ELSEWHERE:
            records.leave_out(contestant.name, ELSEWHERE[contestant.name])
        elif not contestant.python.exists():
            environment = PEERS / str(contestant.environment)
            records.leave_out(contestant.name, f"not installed in {environment} (make bench-peers)")
        else:
            found.append(on_gpu(contestant, folder))
    return found


def able(records: Records, scene: Scene, contestants: Sequence[Contestant]) -> list[Contestant]:
    """Return the contestants that can take a step of a scene, and record the others."""
    found: list[Contestant] = []
    for contestant in contestants:
        try:
            with Worker(contestant, scene) as worker:
                worker.take_steps(1)
        except RuntimeError as error:
            said = str(error).strip().splitlines()
            what = f"{contestant.name} on {scene.network}"
            if contestant.name.startswith("fvfast"):
                records.fail(what, said[-1], str(error))
            else:
                records.leave_out(what, f"{said[0]} {said[-1]}")
        else:
            found.append(contestant)
    return found


def hold_contests(
    records: Records,
    scenes: Sequence[Scene],
    contestants: Sequence[Contestant],
    *,
    rounds: int,
    steps: int,
) -> None:
    """Measure contestants on each scene; memory is the device's."""
    for scene in scenes:
        with records.attempt(f"the contest on {scene.network}"):
            chosen = able(records, scene, contestants)
            if not chosen:
                continue
            results = hold_contest(scene, chosen, rounds=rounds, steps=steps)
            for row in rows_of(scene, results, steps):
                values = {column: row[column] for column in COLUMNS}
                times = row[f"times_{results[0].name}"]
                records.add("contest", network=scene.network, **values, times=times)
