"""The native module with its CUDA kernels emulated on the CPU, for tests."""

import contextlib
import ctypes
import functools
import os

import pytest
from cuda_emulator import build

from fvfast.ops._kernels import use_emulated

ORDERS = {"emulated ascending": 0, "emulated descending": 1, "emulated random": 7}
CAPABILITY = 90  # of the emulated device


@functools.cache
def emulated_module():
    """Build the emulated module once for all tests; return the reason as text if that fails."""
    try:
        return build.load(build.build(os.environ.get("FVFAST_TEST_SANITIZER")))
    except build.UnavailableError as reason:
        return str(reason)


@contextlib.contextmanager
def emulated(order):
    """Run CPU tensors on the CUDA kernels, with threads in an order of `ORDERS`."""
    module = emulated_module()
    if isinstance(module, str):
        pytest.skip(module)
    ctypes.CDLL(module.__file__).cuda_emulator_set_order(ctypes.c_ulonglong(ORDERS[order]))
    with use_emulated(module):
        yield module


@contextlib.contextmanager
def compute_capability(number):
    """Let the emulated device be of another kind: 80 for 8.0, which has no clusters."""
    library = ctypes.CDLL(emulated_module().__file__)
    library.cuda_emulator_set_capability(ctypes.c_int(number))
    try:
        yield
    finally:
        library.cuda_emulator_set_capability(ctypes.c_int(CAPABILITY))


def kernel_threads():
    """Return how many kernel threads the emulated module has run; None if there is no module."""
    if emulated_module.cache_info().currsize == 0 or isinstance(emulated_module(), str):
        return None
    counts = (ctypes.c_ulonglong * 4)()
    ctypes.CDLL(emulated_module().__file__).cuda_emulator_statistics(counts)
    return counts[0], counts[1]
