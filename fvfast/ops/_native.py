"""The native module ``fvfast._C``: loaded on first use, and never required."""

import dataclasses
import functools
import importlib
import os
import types
import warnings
from pathlib import Path

import torch  # first: the OpenMP runtime of torch is then the one that the module uses

_FAILURE_RECORD = Path(__file__).resolve().parent.parent / "_build_failure.txt"


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
    """

    available: bool
    reason: str
    path: str
    simd: str
    threads: int


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
        return None, f"the native module cannot be imported: {error}"


@functools.cache
def native() -> types.ModuleType | None:
    """Return the native module, or None: then the reference does the work.

    The first call warns if the module is missing and nobody asked for that.
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


def native_status() -> NativeStatus:
    """Describe the native module, without a warning."""
    module, reason = _load()
    if module is None:
        return NativeStatus(False, reason, "", "", torch.get_num_threads())
    return NativeStatus(True, "", str(module.__file__), module.simd_level(), module.max_threads())
