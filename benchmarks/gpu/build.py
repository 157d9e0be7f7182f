"""The stage that builds the native module, for this machine's GPU only."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import build_native
from benchmarks.gpu.job import Job
from benchmarks.gpu.machine import gpu_architecture
from benchmarks.gpu.processes import ROOT, environment, tied

FOLDER = ROOT / "build" / "gpu"
REHEARSED_ARCHITECTURE = "90"


def run(job: Job) -> None:
    """Build, and meanwhile import torch, so that later stages find its files in memory."""
    with torch_facts(job):
        if job.rehearsed:
            build_emulated(job)
        else:
            build_for_gpu(job)


@contextlib.contextmanager
def torch_facts(job: Job) -> Iterator[None]:
    """Record what torch says about itself and the device, in a process beside the build."""
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            tied([sys.executable, "-m", "benchmarks.gpu.torch_facts", str(job.folder)]),
            cwd=ROOT, env=environment(), stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield
    finally:
        status = process.wait(timeout=max(job.seconds_left, 1))
        if status != 0:
            job.records.fail("what torch says", f"exit status {status}: see {job.log.name}")


def build_for_gpu(
    job: Job,
    build: Callable[..., Path] = build_native.build_in_place,
    folder: Path = FOLDER,
) -> None:
    """Build the module in the source tree.

    Parameters
    ----------
    job
        Whose records tell of it.
    build
        Builds for architectures, with what it makes on the way in a folder.
    folder
        That folder.
    """
    architecture = gpu_architecture()
    began = time.monotonic()
    with job.records.attempt("the build"):
        module = build([architecture], folder=folder)
        seconds = time.monotonic() - began
        job.records.add(
            "build", what=module.name, architecture=architecture, seconds=seconds,
            MB=module.stat().st_size / 1e6,
        )  # fmt: skip
    record_objects(job, folder)


def build_emulated(job: Job) -> None:
    """Build the emulated module; for the GPU's, only list the commands."""
    from benchmarks.gpu.place import emulated_module

    began = time.monotonic()
    module = Path(emulated_module().__file__)
    job.records.add(
        "build", what=module.name, architecture="emulated", seconds=time.monotonic() - began,
        MB=module.stat().st_size / 1e6,
    )  # fmt: skip
    record_objects(job, module.parent.parent)
    with job.records.attempt("the commands of the build"):
        commands = build_commands(REHEARSED_ARCHITECTURE)
        job.records.add("commands", architecture=REHEARSED_ARCHITECTURE, count=len(commands))


def build_commands(architecture: str) -> list[str]:
    """Return the commands with which ninja would build the module for a GPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cuda = build_native.Cuda(build_native.find_nvcc(), (architecture,))
        build_native.write_ninja(folder, build_native.native_sources(), folder / "_C.so", cuda)
        finished = subprocess.run(
            [build_native.find_ninja(), "-C", name, "-n", "-v"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if finished.returncode != 0:
        raise build_native.BuildError(finished.stdout + finished.stderr)
    return [line for line in finished.stdout.splitlines() if line.startswith("[")]


def record_objects(job: Job, folder: Path) -> None:
    """Record how long ninja took for each object, if its log says so; the slowest first."""
    log = folder / ".ninja_log"
    if not log.exists():
        return
    # "start end changed output hash", in milliseconds, after a comment.
    lines = [line.split("\t") for line in log.read_text().splitlines() if "\t" in line]
    seconds = {line[3]: (int(line[1]) - int(line[0])) / 1e3 for line in lines if len(line) == 5}
    for output, taken in sorted(seconds.items(), key=lambda item: -item[1])[:12]:
        job.records.add("object", what=output, seconds=taken)
