"""The native module ``fvfast._C``: loaded on first use, and never required.

The same module holds the kernels of the CPU and, where it was built with nvcc, those of CUDA.
"""

import contextlib
import dataclasses
import functools
import importlib
import os
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch  # first: the OpenMP runtime of torch is then the one that the module uses

_PACKAGE = Path(__file__).resolve().parent.parent
_FAILURE_RECORD = _PACKAGE / "_build_failure.txt"
_CUDA_FAILURE_RECORD = _PACKAGE / "_cuda_failure.txt"


@dataclasses.dataclass(frozen=True)
class Kernels:
    """The kernels of one device.

    Attributes
    ----------
    module
        The native module.
    target
        Where its functions run: None for the CPU, else the index of a CUDA device and the address
        of a stream.
    """

    module: Any
    target: tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class NativeStatus:
    """Whether the native module is in use.

    Attributes
    ----------
    available
        True if operations on the CPU run in the native module.
    reason
        Why it is not available; empty if it is.
    path
        The file of the module; empty if there is none.
    simd
        The instruction set in use: "baseline", "avx2" or "avx512"; empty if not available.
    threads
        How many threads an operation may use: see `torch.set_num_threads`.
    cuda_architectures
        What the CUDA kernels were compiled for, as in "75;80;90"; empty if there are none.
    cuda_reason
        Why there are no CUDA kernels; empty if there are.
    """

    available: bool
    reason: str
    path: str
    simd: str
    threads: int
    cuda_architectures: str
    cuda_reason: str


@functools.cache
def _load() -> tuple[types.ModuleType | None, str]:
    """Load the module once, or say why it cannot be used."""
    if os.environ.get("FVFAST_DISABLE_NATIVE", "") not in ("", "0"):
        return None, "disabled by the environment variable FVFAST_DISABLE_NATIVE"
    try:
        return importlib.import_module("fvfast._C"), ""
    except ImportError as error:
        if _FAILURE_RECORD.exists():
            return None, _FAILURE_RECORD.read_text().strip()
        advice = ""
        if "libgomp" in str(error):  # older versions of torch have one of another name
            advice = (
                ". This is the OpenMP runtime of GCC: install it (Debian and Ubuntu: libgomp1; "
                "Fedora: libgomp)"
            )
        return None, f"the native module cannot be imported: {error}{advice}"


@functools.cache
def native() -> types.ModuleType | None:
    """Return the native module, or None: then the reference does the work.

    The first call warns if the module is missing, unless it was disabled.
    """
    module, reason = _load()
    if module is None and not reason.startswith("disabled"):
        warnings.warn(
            "fvfast runs without its native module and will be slow: the PyTorch reference is "
            f"used instead. Reason: {reason}",
            RuntimeWarning,
            stacklevel=2,
        )
    return module


_emulated: types.ModuleType | None = None


@contextlib.contextmanager
def use_emulated(module: types.ModuleType | None) -> Iterator[None]:
    """Run tensors of the CPU as those of a CUDA device, through a module that emulates one.

    Parameters
    ----------
    module
        Built from the same sources, with the CUDA kernels compiled for the CPU; None for the usual
        kernels of the CPU.
    """
    global _emulated
    before, _emulated = _emulated, module
    try:
        yield
    finally:
        _emulated = before


def kernels_for(device: torch.device) -> Kernels | None:
    """Return the kernels of a device, or None: then the reference does the work."""
    if _emulated is not None and device.type == "cpu":
        return Kernels(_emulated, (0, 0))
    if device.type == "cpu":
        module = native()
        return None if module is None else Kernels(module, None)
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    index = torch.cuda.current_device() if device.index is None else device.index
    if not has_cuda_kernels(index):
        return None
    return Kernels(native(), (index, torch.cuda.current_stream(index).cuda_stream))


@functools.cache
def has_cuda_kernels(index: int) -> bool:
    """Whether kernels were compiled for a device; the first call warns if none were."""
    module = native()
    if module is None:
        return False
    why_not = why_not_on(index, status_of(module))
    if why_not:
        warnings.warn(
            "fvfast runs without its CUDA kernels and will be slow: the PyTorch reference is used "
            f"instead. {why_not}",
            RuntimeWarning,
            stacklevel=2,
        )
    return not why_not


def why_not_on(index: int, status: NativeStatus) -> str:
    """Say why a CUDA device has no kernels, and what to do about it; empty where it has some."""
    capability = torch.cuda.get_device_capability(index)
    if runs_on(capability, status.cuda_architectures):
        return ""
    if not status.cuda_architectures:
        return (
            f"The native module has none: {status.cuda_reason}\nOnce that is fixed, install fvfast "
            "again with FVFAST_CUDA=1, with which a build without CUDA kernels is an error."
        )
    major, minor = capability
    name = torch.cuda.get_device_name(index)
    return (
        f"{name} has compute capability {major}.{minor}; the kernels were compiled for: "
        f"{status.cuda_architectures}. Install fvfast again with FVFAST_CUDA=1 and "
        f'FVFAST_CUDA_ARCHS="{major}{minor}".'
    )


def runs_on(capability: tuple[int, int], architectures: str) -> bool:
    """Tell whether a device can run what was compiled for some architectures.

    Parameters
    ----------
    capability
        Compute capability of the device: (major, minor).
    architectures
        As in "75;80;90". Machine code runs on later devices of the same major version; the newest
        is there as PTX too, which runs on every later device. "90a" has the features of 9.0 and
        runs on it alone; "100f" those of its family, which is its major version, and no PTX.
    """
    built = [name for name in architectures.split(";") if name]
    portable = [_version(name) for name in built if name.isdigit()]
    if portable and max(portable) <= capability:
        return True
    return any(_machine_code_runs_on(capability, name) for name in built)


def _version(architecture: str) -> tuple[int, int]:
    """Read the major and minor number of "90", "90a" or "100f"."""
    major, minor = divmod(int(architecture.rstrip("af")), 10)
    return major, minor


def _machine_code_runs_on(capability: tuple[int, int], architecture: str) -> bool:
    major, minor = _version(architecture)
    if architecture.endswith("a"):
        return capability == (major, minor)
    return capability[0] == major and capability[1] >= minor


def native_status() -> NativeStatus:
    """Describe the native module, without a warning."""
    module, reason = _load()
    if module is None:
        return NativeStatus(False, reason, "", "", torch.get_num_threads(), "", reason)
    return status_of(module)


def status_of(module: Any, cuda_failure: Path = _CUDA_FAILURE_RECORD) -> NativeStatus:
    """Describe a native module.

    Parameters
    ----------
    module
        That was loaded.
    cuda_failure
        Where its build has written why it left CUDA out.
    """
    cuda_reason = ""
    if not module.cuda_architectures:
        cuda_reason = "left out when the native module was built"
        if cuda_failure.exists():
            cuda_reason = cuda_failure.read_text().strip()
    return NativeStatus(
        True,
        "",
        str(module.__file__),
        module.simd_level(),
        module.max_threads(),
        module.cuda_architectures,
        cuda_reason,
    )
