"""The emulated native module: it is built from csrc, and runs the kernels beside the real one."""

import ctypes

import pytest
import torch

from cuda_emulator.build import UnavailableError, build, load
from cuda_emulator.headers import candidates, compiler, include_flags, run
from fvfast.ops._kernels import native, native_status
from fvfast.ops._memory import buffer

STREAM = 0x1234  # the emulator only remembers it


@pytest.fixture(scope="session")
def path():
    try:
        return build()
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def emulator(path):
    library = ctypes.CDLL(str(path))
    library.cuda_emulator_last_stream.restype = ctypes.c_ulonglong
    yield library
    library.cuda_emulator_set_device_count(1)


def draw_boxes(module, target):
    boxes = torch.full((2, 300, 4), float("nan"))
    module.draw_boxes(
        boxes=buffer(boxes),
        crops=300,
        box_size=0.25,
        shape="normal",
        spread=0.05,
        center_spread=0.15,
        smallest=0.05,
        largest=1.0,
        identities=[3, 2**32 - 1],
        seed=77,
        step=5,
        counter=(0, 0),
        box_size_table=None,
        identity_table=None,
        target=target,
    )
    return boxes


@pytest.mark.skipif(not native_status().available, reason="the native module is not built")
def test_the_kernel_draws_what_the_real_module_draws(path, emulator):
    boxes = draw_boxes(load(path), (0, STREAM))
    assert torch.equal(boxes, draw_boxes(native(), None))
    assert emulator.cuda_emulator_last_stream() == STREAM


def test_the_device_before_is_current_again(path, emulator):
    calls = (ctypes.c_int * 4)()
    emulator.cuda_emulator_set_device_count(2)
    emulator.cuda_emulator_take_device_calls(calls, 4)
    draw_boxes(load(path), (1, STREAM))
    assert emulator.cuda_emulator_take_device_calls(calls, 4) == 2
    assert calls[:2] == [1, 0]


def test_a_device_that_does_not_exist_is_an_error(path):
    with pytest.raises(RuntimeError, match=r"draw_boxes\(\): CUDA: invalid device ordinal"):
        draw_boxes(load(path), (1, STREAM))


def test_a_build_of_what_is_built_changes_nothing(path):
    before = path.stat().st_mtime_ns
    assert build() == path
    assert path.stat().st_mtime_ns == before


def test_an_unknown_sanitizer_is_refused():
    with pytest.raises(ValueError, match=r"expected None, 'address' or 'thread', got 'memory'"):
        build("memory")


def test_the_headers_that_triton_brings_are_enough(tmp_path):
    folders = [folder for folder in candidates() if "triton" in folder.parts and folder.is_dir()]
    if not folders:
        pytest.skip("needs triton")
    source = (
        "#include <cuda_runtime.h>\n#include <cuda_bf16.h>\n#include <cuda_fp16.h>\n"
        "int main() { return __half2float(__float2half_rn(1.5f)) !="
        " __bfloat162float(__float2bfloat16_rn(1.5f)); }\n"
    )
    for folder in folders:
        program = tmp_path / "program"
        command = [compiler(), "-std=c++17", "-x", "c++", *include_flags(folder), "-"]
        built = run([*command, "-o", str(program)], source)
        assert built.returncode == 0, built.stderr
        assert run([str(program)]).returncode == 0
