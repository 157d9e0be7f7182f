"""Finds NVIDIA's tools; in a rehearsal, stand-ins with the same options and output formats."""

import sys

from benchmarks.gpu.job import Job
from benchmarks.gpu.machine import find_program
from benchmarks.gpu.processes import ROOT

STAND_INS = ROOT / "tests" / "gpu_stand_ins"


class MissingToolError(Exception):
    """A tool is not installed; the message says where it was searched."""


def command_of(job: Job, name: str) -> list[str]:
    """Return the command that runs a tool.

    Raises
    ------
    MissingToolError
        The tool is not installed.
    """
    if job.rehearsed:
        return [sys.executable, str(STAND_INS / f"{name.replace('-', '_')}.py")]
    path = find_program(name)
    if path is None:
        raise MissingToolError(
            f"{name} was not found in PATH, CUDA_HOME/bin or /usr/local/cuda/bin (it comes with "
            "the CUDA toolkit)"
        )
    return [path]
