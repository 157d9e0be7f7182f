"""What this installation has: versions, kernels, devices."""

import importlib.metadata
import platform
from collections.abc import Iterator

import torch

from fvfast.ops._native import native_status


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
    version = torch.version.cuda
    found = torch.cuda.device_count()
    if version is None:
        yield "CUDA", "torch is built without it"
    else:
        yield "CUDA", f"{version}, {found} GPU{'' if found == 1 else 's'} found"
    for index in range(torch.cuda.device_count()):
        yield f"cuda:{index}", torch.cuda.get_device_name(index)
    yield "MPS", "available" if torch.backends.mps.is_available() else "not available"


def describe_device(device: torch.device) -> str:
    """Name of a device, with that of the GPU."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def choose_device(name: str | None) -> torch.device:
    """Device of this name; without one, a CUDA GPU if there is one, else the CPU.

    Raises
    ------
    ValueError
        There is no such device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        # torch raises either, depending on how it was built.
        raise ValueError(
            f"the device {name!r} cannot be used ({str(error).splitlines()[0]}); `fvfast info` "
            "lists the devices."
        ) from error
    return device
