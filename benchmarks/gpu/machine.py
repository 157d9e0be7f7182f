"""The stage that records what the numbers depend on; also finds the GPU that fvfast can use.

The stage itself does not import torch, which may take longer than everything else.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.gpu.processes import ROOT

if TYPE_CHECKING:
    import torch

    from benchmarks.gpu.job import Job

PACKAGES = (
    "torch", "torchvision", "timm", "triton", "numpy", "pytest", "pytest-xdist", "pytest-timeout",
    "hypothesis", "pillow", "matplotlib", "typer", "rich", "tqdm", "pybind11", "ninja",
    "setuptools",
)  # fmt: skip
PROGRAMS = ("nvcc", "c++", "ninja", "ncu", "compute-sanitizer", "cuobjdump")
SMI_FIELDS = (
    "name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.memory",
    "clocks.sm", "power.limit", "temperature.gpu", "persistence_mode", "mig.mode.current",
)  # fmt: skip
PATIENCE = 5  # seconds for a program to print its version


class UnusableError(Exception):
    """Nothing can be measured here; the message says why."""


def run(job: "Job") -> None:
    """Record the facts."""
    for what, value in facts():
        job.records.add("fact", what=what, value=value)
    answers = query_gpu()
    if isinstance(answers, dict):
        for what, value in answers.items():
            job.records.add("fact", what=what, value=value)
    elif job.rehearsed:
        job.records.leave_out("the GPU", answers)
    else:
        job.records.fail("the GPU", answers)


def facts() -> Iterator[tuple[str, str]]:
    """Yield names and values of all that a number may depend on, except the GPU."""
    yield "python", f"{platform.python_version()}, {sys.executable}"
    header = Path(sysconfig.get_path("include"), "Python.h")
    yield "Python.h", str(header) if header.exists() else f"missing: {header}"
    yield "system", f"{platform.platform()}, {os.cpu_count()} processors"
    yield "processor", _processor()
    for package in PACKAGES:
        yield package, _version(package)
    for program in PROGRAMS:
        yield program, _said_by(program)
    yield "sources", _commit()


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def find_program(name: str) -> str | None:
    """Return the path of a program, which may be one of the CUDA toolkit; None: not found."""
    places = [os.environ.get("PATH", "")]
    if home := os.environ.get("CUDA_HOME"):
        places.append(str(Path(home, "bin")))
    return shutil.which(name, path=os.pathsep.join([*places, "/usr/local/cuda/bin"]))


def _said_by(name: str) -> str:
    path = find_program(name)
    if path is None:
        return "not found"
    said = _ask([path, "--version"])
    lines = [line.strip() for line in said.splitlines() if re.search(r"\d\.\d", line)]
    return f"{path}: {lines[0] if lines else said[:200]}"


def _ask(command: list[str]) -> str:
    try:
        finished = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (finished.stdout + finished.stderr).strip()


def _commit() -> str:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return "unknown: no git"
    return _ask(["git", "describe", "--always", "--dirty"])


def query_gpu() -> dict[str, str] | str:
    """Return what the driver says about the first GPU; or, as text, why it says nothing."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "nvidia-smi was not found: there is no NVIDIA driver"
    said = _ask([program, "--query-gpu=compute_cap", "--format=csv,noheader", "--id=0"])
    if not re.fullmatch(r"\d+\.\d+", said):
        return f"nvidia-smi does not tell the compute capability: {said[:300]}"
    answers = {"compute_cap": said}
    # A driver that does not know one of the fields refuses all of them: then ask one by one.
    for fields in (SMI_FIELDS, *((field,) for field in SMI_FIELDS)):
        query = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
        values = [value.strip() for value in _ask(query).split(",")]
        if len(values) == len(fields):
            answers |= dict(zip(fields, values, strict=True))
            if fields is SMI_FIELDS:
                break
    return answers


def gpu_architecture() -> str:
    """Return the compute capability of the first GPU as nvcc writes it, such as "90".

    Raises
    ------
    UnusableError
        Neither the driver nor torch knows it.
    """
    answers = query_gpu()
    if isinstance(answers, dict):
        return answers["compute_cap"].replace(".", "")
    import torch

    if not torch.cuda.is_available():
        raise UnusableError(f"{answers}; and torch {torch.__version__} finds no GPU")
    return "".join(map(str, torch.cuda.get_device_capability()))


def find_gpu() -> "torch.device":
    """Return the current GPU of CUDA.

    Raises
    ------
    UnusableError
        There is no GPU, or fvfast has no kernels for it.
    """
    import torch

    from fvfast.ops._kernels import native_status, runs_on

    if torch.version.cuda is None:
        raise UnusableError(
            f"no GPU: torch {torch.__version__} is built without CUDA. Install a build of torch "
            "with CUDA (https://pytorch.org/get-started/locally)."
        )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        # torch warns if there is a driver that does not work.
        reasons = [re.sub(r"\s+", " ", str(one.message)) for one in told]
        reason = reasons[0] if reasons else "torch finds no NVIDIA GPU with a driver that works"
        raise UnusableError(f"no GPU: {reason} (`nvidia-smi` shows what the driver sees).")
    device = torch.device("cuda", torch.cuda.current_device())
    status = native_status()
    if not status.available:
        raise UnusableError(f"fvfast's native module is not in use: {status.reason}")
    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    built = status.cuda_architectures
    if not runs_on(capability, built):
        number = "".join(map(str, capability))
        reason = status.cuda_reason or f"they were compiled for: {built}"
        raise UnusableError(
            f"fvfast has no CUDA kernels for {name}, compute capability {capability[0]}."
            f"{capability[1]}: {reason}. Build them with python build_native.py --architectures "
            f"{number}, or install fvfast again with FVFAST_CUDA=1 FVFAST_CUDA_ARCHS={number}."
        )
    return device


def l2_bytes(device: "torch.device") -> int:
    """Return the size of the cache that all multiprocessors share; 0 if torch does not know it."""
    import torch

    return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0))
