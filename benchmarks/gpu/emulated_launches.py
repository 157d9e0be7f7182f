"""Records the launches of emulated kernels, as a trace like that of torch's profiler."""

import contextlib
import ctypes
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.gpu.place import emulated_module


class _Launch(ctypes.Structure):
    """The beginning of EmulatorLaunch, as the emulator declares it."""

    _fields_ = (("kernel", ctypes.c_char_p),)


_Hook = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Launch))
_EMULATE = 0  # the hook's answer that makes the emulator run the kernel


@contextlib.contextmanager
def traced_launches() -> Iterator[dict[str, Any]]:
    """Yield a trace that contains all launches when the context has ended.

    A kernel's time lasts from its launch to the next launch.
    """
    events: list[dict[str, Any]] = []
    trace: dict[str, Any] = {"traceEvents": events}
    began = 0.0

    def end_last() -> None:
        if events:
            events[-2]["dur"] = 1e6 * (time.perf_counter() - began)

    @_Hook
    def hook(launch: Any) -> int:
        nonlocal began
        end_last()
        name = launch.contents.kernel.decode()
        events.append({"cat": "kernel", "name": name, "dur": 0.0})
        events.append({"cat": "cuda_runtime", "name": "cudaLaunchKernel"})
        began = time.perf_counter()
        return _EMULATE

    library = ctypes.CDLL(emulated_module().__file__)
    library.cuda_emulator_set_hook.argtypes = (_Hook,)
    library.cuda_emulator_set_hook.restype = None
    library.cuda_emulator_set_hook(hook)
    try:
        yield trace
    finally:
        library.cuda_emulator_set_hook(_Hook())
        end_last()
