"""How many columns and rows a block has: by the multiprocessors of the device, at no bit's cost."""

import contextlib
import ctypes

import pytest
import torch
from selection import thorough

from fvfast.ops._kernels import Kernels, kernels_for
from fvfast.ops.nadam import nadam_rates
from fvfast.ops.phase_cuda import phase_gradient_cuda, phase_to_image_cuda, phase_update_cuda
from fvfast.ops.reference.phase import STANDARDIZATION_EPSILON

RANGE = (-1.0, 2.0)
# Devices of the emulator, and their multiprocessors: one block is enough, or none is.
MULTIPROCESSORS = {11: 1, 12: 40, 13: 100_000}


class Launch(ctypes.Structure):
    """The beginning of EmulatorLaunch, as the emulator declares it."""

    _fields_ = (
        ("kernel", ctypes.c_char_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
    )


HOOK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Launch))


@contextlib.contextmanager
def devices_of(module):
    """Let the emulator have `MULTIPROCESSORS`; yield a list of grids and blocks of launches."""
    library = ctypes.CDLL(module.__file__)
    launches = []

    @HOOK
    def note(launch):
        one = launch.contents
        launches.append((one.kernel, tuple(one.grid), tuple(one.block)))
        return 0  # run it

    library.cuda_emulator_set_hook.argtypes = (HOOK,)
    library.cuda_emulator_set_hook.restype = None
    for device, count in MULTIPROCESSORS.items():
        library.cuda_emulator_set_multiprocessors(device, count)
    library.cuda_emulator_set_device_count(max(MULTIPROCESSORS) + 1)
    library.cuda_emulator_set_hook(note)
    try:
        yield launches
    finally:
        library.cuda_emulator_set_hook(HOOK())
        library.cuda_emulator_set_device_count(1)


def step_of(kernels, shape, dtype):
    """Take one step; return all that the kernels wrote."""
    images, channels, height, width = shape
    generator = torch.Generator().manual_seed(0)

    def normal(*sizes):
        return torch.randn(sizes, generator=generator, dtype=dtype)

    half = (channels, height, width // 2 + 1)
    magnitude, phase, cotangent = normal(*half).abs(), normal(images, *half), normal(*shape)
    image, statistics = phase_to_image_cuda(kernels, magnitude, phase, RANGE, width, None)
    common = (kernels, cotangent, magnitude, phase, image, statistics, RANGE)
    gradient, _ = phase_gradient_cuda(*common)
    _, scratch = phase_gradient_cuda(*common, finish=False)
    averages = torch.zeros_like(phase), torch.ones_like(phase)
    unfinished = (
        (scratch.data_ptr(), scratch.numel()), (statistics.data_ptr(), statistics.numel()),
        list(shape), STANDARDIZATION_EPSILON,
    )  # fmt: skip
    sums = phase_update_cuda(kernels, phase, None, *averages, nadam_rates(step=1), unfinished)
    return image, statistics, gradient, phase, *averages, sums


@pytest.mark.parametrize("dtype", [torch.float32, thorough(torch.float64)], ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 3, 128, 256),  # both transforms in registers
        (2, 1, 256, 128),
        (1, 3, 60, 70),  # both in shared memory
        (1, 2, 225, 128),
        thorough((1, 3, 512, 512)),
        thorough((2, 3, 300, 96)),
        thorough((1, 1, 1024, 90)),
    ],
    ids=str,
)
def test_results_do_not_depend_on_the_multiprocessors(shape, dtype, backend):
    if not backend.startswith("emulated"):
        pytest.skip("only the emulator has devices of different sizes")
    module = kernels_for(torch.device("cpu")).module
    results, grids = [], []
    with devices_of(module) as launches:
        for device in MULTIPROCESSORS:
            results.append(step_of(Kernels(module, (device, 0)), shape, dtype))
            grids.append(list(launches))
            launches.clear()
    # Columns of 512 numbers or more, in registers, always come in fours.
    names = (b"rows_kernel",) if shape[2] in (512, 1024) else (b"rows_kernel", b"columns_kernel")
    for name in names:
        of_kernel = [[launch for launch in one if name in launch[0]] for one in grids]
        assert of_kernel[0]
        assert of_kernel[0] != of_kernel[-1], "the blocks were the same"
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two)
