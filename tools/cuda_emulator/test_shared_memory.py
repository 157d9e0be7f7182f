"""Kernels are allowed all the shared memory of a device, once, whichever threads launch them."""

import ctypes
import shutil
import threading
from pathlib import Path

import pytest
import torch

from cuda_emulator.build import UnavailableError, build, load
from fvfast.ops._kernels import Kernels
from fvfast.ops.phase_cuda import phase_gradient_cuda, phase_to_image_cuda
from fvfast.ops.reference.phase import phase_to_image_reference

RANGE = (-1.0, 2.0)
# Transforms in float64, of which both need more than 48 KiB, and one more than the other.
LARGE, SMALL = 768, 640
DEVICE_KIB, KEPT_KIB = 227, 4  # for static arrays
HOOK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_ulonglong)


class Module:
    """An emulated module that no other test has used: what it allows is remembered."""

    def __init__(self, path):
        self.module = load(path)
        self.library = ctypes.CDLL(str(path))
        self.hook = None

    def on_set(self, function):
        """Call function(kernel, device, bytes) after each limit that is set."""
        self.hook = HOOK(function)
        self.library.cuda_emulator_set_attribute_hook(self.hook)

    def render(self, size, device=0):
        """Image of a phase and back; an error of both."""
        generator = torch.Generator().manual_seed(size)
        shape = (1, size, size // 2 + 1)
        phase = torch.randn(1, *shape, generator=generator, dtype=torch.float64)
        magnitude = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
        kernels = Kernels(self.module, (device, 0))
        image, statistics = phase_to_image_cuda(kernels, magnitude, phase, RANGE, size, None)
        phase_gradient_cuda(kernels, image, magnitude, phase, image, statistics, RANGE)
        expected = phase_to_image_reference(magnitude, phase, *RANGE, size)
        torch.testing.assert_close(image, expected, rtol=1e-10, atol=1e-11)


@pytest.fixture
def fresh(tmp_path):
    try:
        path = build()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    module = Module(Path(shutil.copy(path, tmp_path)))
    yield module
    module.library.cuda_emulator_set_attribute_hook(HOOK())


def test_a_thread_takes_no_shared_memory_from_another(fresh):
    """Between the setting and the launch of one thread, another one renders a smaller image."""
    failures, set_by = [], []

    def render_small():
        try:
            fresh.render(SMALL)
        except RuntimeError as error:
            failures.append(error)

    def interrupt(*_):
        set_by.append(threading.current_thread())
        if threading.current_thread() is threading.main_thread():
            other = threading.Thread(target=render_small)
            other.start()
            other.join()

    fresh.on_set(interrupt)
    fresh.render(LARGE)
    assert not failures
    assert len(set(set_by)) > 1  # both threads came to the setting, or nothing was tested


def test_a_limit_is_set_once_for_each_kernel_and_device(fresh):
    calls = []
    fresh.on_set(lambda *call: calls.append(call))
    for size in (SMALL, LARGE, SMALL):
        fresh.render(size)
    kernels = {kernel for kernel, _, _ in calls}
    assert len(kernels) == len(calls) == 4  # rows and columns, both ways
    assert {(device, size) for _, device, size in calls} == {(0, 1024 * (DEVICE_KIB - KEPT_KIB))}
    fresh.library.cuda_emulator_set_device_count(2)
    fresh.render(LARGE, device=1)
    assert {(kernel, device) for kernel, device, _ in calls[4:]} == {(k, 1) for k in kernels}
    fresh.render(LARGE, device=0)
    assert len(calls) == 8
