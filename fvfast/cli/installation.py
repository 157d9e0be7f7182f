"""Describes this installation: versions, kernels, devices."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator

import torch

from fvfast.engine.devices import check_device
from fvfast.ops._kernels import NativeStatus, native_status


def describe_installation() -> Iterator[tuple[str, str]]:
    """Yield names and values: versions, native kernels, threads, devices."""
    for package in ("fvfast", "torch", "numpy", "torchvision", "timm"):
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, "not installed"
    yield "Python", f"{platform.python_version()} on {platform.platform()}"
    native = native_status()
    yield "native kernels", str(native.path) if native.available else f"none: {native.reason}"
    yield "SIMD", str(native.simd)
    yield "threads", f"{torch.get_num_threads()} (torch), {native.threads} (native kernels)"
    if advice := waiting_advice(torch.get_num_threads(), usable_cores(), busy_cores()):
        yield "waiting threads", advice
    yield "CUDA kernels", describe_cuda_kernels(native)
    version = torch.version.cuda
    found = torch.cuda.device_count()
    if version is None:
        yield "CUDA", "torch is built without it"
    else:
        yield "CUDA", f"{version}, {found} GPU{'' if found == 1 else 's'} found"
    for index in range(found):
        major, minor = torch.cuda.get_device_capability(index)
        name = torch.cuda.get_device_name(index)
        yield f"cuda:{index}", f"{name}, compute capability {major}.{minor}"
    yield "MPS", "available" if torch.backends.mps.is_available() else "not available"


def usable_cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_cores() -> float | None:
    """Return how many cores were busy during the last minute; None if the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def waiting_advice(threads: int, cores: int, busy: float | None) -> str:
    """Advise what to do if waiting threads take time from working ones; empty: no need.

    Parameters
    ----------
    threads
        Number of threads of one step on the CPU.
    cores
        Number of cores that this process may run on.
    busy
        Number of cores that other programs keep busy.
    """
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    if busy is None or threads < 2 or threads + busy <= cores + 0.5 or policy.lower() == "passive":
        return ""
    return (
        f"{threads} threads on {cores} cores with a load of {busy:.1f}: threads that wait for "
        "others keep their cores busy, too, and a step may take many times as long. This command "
        "lets them sleep; for your own programs, set OMP_WAIT_POLICY=PASSIVE before Python starts, "
        "or use fewer threads (OMP_NUM_THREADS)"
    )


def describe_cuda_kernels(native: NativeStatus) -> str:
    """Say for which compute capabilities there are kernels, or why for none."""
    if not native.cuda_architectures:
        return f"none: {native.cuda_reason}"
    capabilities = re.sub(r"(\d+)(\d)", r"\1.\2", native.cuda_architectures).replace(";", ", ")
    # Newer GPUs compile the PTX, which is built for architectures without a suffix.
    portable = any(name.isdigit() for name in native.cuda_architectures.split(";"))
    return f"built in for compute capability {capabilities}{' and newer' if portable else ''}"


def describe_device(device: torch.device) -> str:
    """Return the name of a device; for a GPU, also that of its model."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def choose_device(name: str | None) -> torch.device:
    """Return the device of a name; for None a CUDA GPU if there is one, else the CPU.

    Raises
    ------
    ValueError, RuntimeError
        There is no such device, or it cannot be used.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return check_device(name)
