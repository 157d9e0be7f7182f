"""Launches are replayed on the PTX, and errors of kernels are reported."""

import ctypes
import gc
import re
import subprocess

import pytest
import torch
from cuda_check.replay import Replay, short_name
from ptx_interpreter import PtxError, find_nvcc

pytestmark = pytest.mark.skipif(find_nvcc() is None, reason="needs nvcc, which makes the PTX")

KERNELS = """
struct Scale { const float* in; float* out; int count; float factor; };

__global__ void scale(Scale p, int shift) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < p.count) p.out[i + shift] = p.in[i] * p.factor;
}

__global__ void missing_barrier(float* x) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] = s[63 - threadIdx.x];
}
"""

# What the emulator does at a launch, without an emulator: it asks the hook.
LAUNCHER = r"""
#include <cstdio>
#include <cstring>
struct EmulatorLaunch {
  const char* kernel;
  unsigned grid[3], block[3];
  unsigned long long shared_bytes;
  int arguments;
  const unsigned long long* sizes;
  const void* const* values;
  unsigned cluster[3];
};
static int (*hook)(const EmulatorLaunch*);
extern "C" void cuda_emulator_set_hook(int (*h)(const EmulatorLaunch*)) { hook = h; }
static unsigned long long shared_limit;
extern "C" void cuda_emulator_set_capability(int) {}
extern "C" void cuda_emulator_set_shared_limit(unsigned long long bytes) { shared_limit = bytes; }
extern "C" unsigned long long shared_limit_now() { return shared_limit; }
// -1: there is no hook. `launch` is complete, but for the pointers to pointers.
extern "C" int launch(const char* kernel, unsigned grid, unsigned block, int arguments,
                      const unsigned long long* sizes, const void* const* values) {
  const EmulatorLaunch launch = {kernel, {grid, 1, 1}, {block, 1, 1}, 0, arguments, sizes, values,
                                 {1, 1, 1}};
  return hook ? hook(&launch) : -1;
}
"""


class Scale(ctypes.Structure):
    _fields_ = (
        ("input", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("count", ctypes.c_int),
        ("factor", ctypes.c_float),
    )


class Launcher:
    """Launches kernels by their symbols, as the emulated module does."""

    def __init__(self, folder):
        source = folder / "launcher.cpp"
        source.write_text(LAUNCHER)
        self.path = folder / "launcher.so"
        subprocess.run(["g++", "-shared", "-fPIC", source, "-o", self.path], check=True)
        self._library = ctypes.CDLL(str(self.path))
        self.kernels = folder / "kernels.cu"
        self.kernels.write_text(KERNELS)

    def __call__(self, kernel, grid, block, *arguments):
        sizes = (ctypes.c_ulonglong * len(arguments))(*map(ctypes.sizeof, arguments))
        values = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        answer = self._library.launch(kernel.encode(), grid, block, len(arguments), sizes, values)
        if answer > 1:
            raise RuntimeError("the launch failed")
        return answer

    def scale(self, tensor, out, count, shift=0, grid=2):
        parameters = Scale(tensor.data_ptr(), out.data_ptr(), count, 3.0)
        return self("_Z5scale5Scalei", grid, 64, parameters, ctypes.c_int(shift))


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    return Launcher(tmp_path_factory.mktemp("launcher"))


def replay(launcher, **options):
    return Replay(launcher.path, sources=[launcher.kernels], **options)


@pytest.mark.parametrize("order", [0, 1, 5])
def test_a_launch_runs_on_the_ptx_and_is_measured(launcher, order):
    with replay(launcher, order=order) as active:
        x = active.watch(torch.arange(100, dtype=torch.float32), "x")
        out = active.watch(torch.zeros(100), "out")
        assert launcher.scale(x, out, 100) == 1
    assert torch.equal(out, 3 * x)
    (launch,) = active.launches
    assert (launch.name, launch.grid, launch.block) == ("scale", (2, 1, 1), (64, 1, 1))
    # 100 numbers of 4 bytes are 12.5 sectors.
    assert launch.statistics["buffers"] == {
        "x": {"bytes_read": 400, "bytes_written": 0, "unique_read": 416, "unique_written": 0},
        "out": {"bytes_read": 0, "bytes_written": 400, "unique_read": 0, "unique_written": 416},
    }
    totals = active.totals()["scale"]
    assert (totals.launches, totals.threads, totals.sectors) == (1, 128, 26)
    assert launcher.scale(x, out, 100) == -1  # the hook is gone


def test_beside_the_emulator_nothing_is_written(launcher):
    with replay(launcher, beside=True) as active:
        x, out = torch.ones(64), torch.zeros(64)
        assert launcher.scale(x, out, 64) == 0
    assert active.launches[0].statistics["global_bytes_written"] == 256
    assert torch.equal(out, torch.zeros(64))


def test_tensors_of_operations_are_known(launcher):
    """Those that an operation returned, and those that it only took."""
    before = torch.ones(64)
    with replay(launcher):
        out = torch.zeros(64)
        before.sum()
        launcher.scale(before, out, 64)
    assert torch.equal(out, torch.full((64,), 3.0))


def test_tensors_within_our_operations_are_known(launcher):
    """An operation of fvfast allocates its result, and passes it to a kernel."""
    library = torch.library.Library("fvfast", "FRAGMENT")
    library.define("replayed_scale(Tensor x) -> Tensor")

    def run(x):
        out = torch.empty_like(x)
        launcher.scale(x, out, x.numel())
        return out

    library.impl("replayed_scale", run, "CPU")
    x = torch.ones(64)
    with replay(launcher):
        out = torch.ops.fvfast.replayed_scale(x)
    assert torch.equal(out, 3 * x)


def test_a_write_out_of_bounds_names_kernel_and_line(launcher):
    # The error comes at the end of the context: so that is within raises().
    with pytest.raises(PtxError) as caught, replay(launcher) as active:  # noqa: PT012
        x, out = torch.ones(100), active.watch(torch.zeros(100), "out")
        launcher.scale(x, out, 100, shift=1)
    message = str(caught.value)
    assert re.search(r"scale.*block \(1,0,0\) thread \(35,0,0\).*PTX line \d+: st\.global", message)
    assert "global memory access out of bounds: 4-byte store" in message
    assert "out + 400 of 400 bytes" in message
    assert isinstance(caught.value.__cause__, RuntimeError)  # that of the launch


def test_an_error_is_not_lost_when_the_launch_is_caught(launcher):
    x = torch.ones(100)
    with (
        pytest.raises(PtxError, match="out of bounds"),
        replay(launcher),
        pytest.raises(RuntimeError, match="the launch failed"),
    ):
        launcher.scale(x, x, 100)  # no operation has seen it


def test_freed_memory_is_out_of_bounds(launcher):
    with pytest.raises(PtxError, match="out of bounds"), replay(launcher):  # noqa: PT012
        # Large: its pages go back to the system, and its address to nobody.
        x, out = torch.ones(1 << 22), torch.zeros(128)
        address = x.data_ptr()
        del x
        gc.collect()
        parameters = Scale(address, out.data_ptr(), 100, 3.0)
        launcher("_Z5scale5Scalei", 2, 64, parameters, ctypes.c_int(0))


def test_an_unknown_kernel_is_reported(launcher):
    with pytest.raises(PtxError, match=r"kernels\.cu has no kernel _Z7unknownv"), replay(launcher):
        launcher("_Z7unknownv", 1, 32)


def test_arguments_of_another_size_are_reported(launcher):
    wrong = r"argument 1 .* has 8 bytes, the kernel wants 4"
    with pytest.raises(PtxError, match=wrong), replay(launcher):
        launcher("_Z5scale5Scalei", 1, 32, Scale(), ctypes.c_long(0))


def test_a_missing_barrier_shows_in_the_orders(launcher):
    results = set()
    for order in (0, 1):
        with replay(launcher, order=order):
            x = torch.arange(64, dtype=torch.float32)
            launcher("_Z15missing_barrierPf", 1, 64, ctypes.c_void_p(x.data_ptr()))
        results.add(str(x.tolist()))
    assert len(results) == 2


def test_short_names():
    name = "void fvfast::cuda::crop<float, (fvfast::DType)2>(fvfast::CropParams, int)"
    assert short_name(name) == "crop<float, (DType)2>"


@pytest.mark.parametrize(("architecture", "kib"), [("80", 163), ("86", 99), ("90", 227)])
def test_the_emulated_device_has_the_shared_memory_of_the_architecture(launcher, architecture, kib):
    limit = ctypes.CDLL(str(launcher.path)).shared_limit_now
    limit.restype = ctypes.c_ulonglong
    with Replay(launcher.path, architecture, sources=[]):
        assert limit() == 1024 * kib
    assert limit() == 1024 * 227
