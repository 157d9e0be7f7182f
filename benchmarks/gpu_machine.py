"""The GPU that `benchmarks.gpu_check` runs on, and whether fvfast's kernels serve it."""

import re
import shutil
import subprocess
import warnings

import torch

from benchmarks.gpu_report import Row
from benchmarks.harness import machine
from fvfast import __version__
from fvfast.ops._native import native_status, runs_on


class UnusableError(Exception):
    """Nothing can be checked here; the message says why."""


def find_gpu() -> torch.device:
    """Return the current GPU of CUDA.

    Raises
    ------
    UnusableError
        There is none, or fvfast has no kernels for it.
    """
    if torch.version.cuda is None:
        raise UnusableError(
            f"no GPU: torch {torch.__version__} is built without CUDA. Install a build of torch "
            "with CUDA (https://pytorch.org/get-started/locally)."
        )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        # What torch says where a driver is there and does not work.
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
            f"{capability[1]}: {reason}. Install fvfast again with FVFAST_CUDA=1 "
            f"FVFAST_CUDA_ARCHS={number}."
        )
    return device


def driver_version() -> str:
    """Release of the driver, as nvidia-smi tells it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown (no nvidia-smi)"
    finished = subprocess.run(
        [program, "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = finished.stdout.split()
    if finished.returncode != 0 or not lines:
        return f"unknown (nvidia-smi: {(finished.stderr or finished.stdout).strip()})"
    return lines[0]


def describe_gpu(device: torch.device) -> list[Row]:
    """Names and values of all that the numbers depend on."""
    properties = torch.cuda.get_device_properties(device)
    status = native_status()
    values: dict[str, object] = {
        "GPU": properties.name,
        "compute capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory": f"{properties.total_memory / 2**30:.1f} GiB",
        "L2 cache": f"{l2_bytes(device) / 2**20:.0f} MiB",
        "GPUs in this machine": torch.cuda.device_count(),
        "driver": driver_version(),
        "CUDA of torch": torch.version.cuda,
        "fvfast": __version__,
        "fvfast's CUDA kernels": f"compiled for {status.cuda_architectures}",
        "native module": status.path,
        **machine(),
    }
    return [{"what": name, "value": str(value)} for name, value in values.items()]


def l2_bytes(device: torch.device) -> int:
    """Size of the cache that all multiprocessors share; 0 where torch does not tell."""
    return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0))
