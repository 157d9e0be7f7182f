"""What this installation has: versions, kernels, devices."""

import importlib.metadata
import platform
import re
from collections.abc import Iterator

import torch

from fvfast.engine.devices import check_device
from fvfast.ops._native import NativeStatus, native_status


def describe_installation() -> Iterator[tuple[str, str]]:
    """Names and values: versions, native kernels, threads, devices."""
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
    yield "CUDA kernels", _describe_cuda_kernels(native)
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


def _describe_cuda_kernels(native: NativeStatus) -> str:
    if not native.cuda_architectures:
        return f"none: {native.cuda_reason}"
    capabilities = re.sub(r"(\d+)(\d)", r"\1.\2", native.cuda_architectures).replace(";", ", ")
    # Newer GPUs compile PTX, which there is of architectures without a suffix.
    portable = any(name.isdigit() for name in native.cuda_architectures.split(";"))
    return f"built in for compute capability {capabilities}{' and newer' if portable else ''}"


def describe_device(device: torch.device) -> str:
    """Name of a device, with that of the GPU."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def choose_device(name: str | None) -> torch.device:
    """Device of this name; without one, a CUDA GPU if there is one, else the CPU.

    Raises
    ------
    ValueError, RuntimeError
        There is no such device, or it cannot be used.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return check_device(name)
