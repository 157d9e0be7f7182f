"""The numbers on which the checks of the CUDA kernels are based: occupancy, registers, widths."""

import random
import re
import shutil
import site
import subprocess
from pathlib import Path

import pytest
from cuda_check import disassembly, resources
from cuda_check.occupancy import MULTIPROCESSORS, occupancy, resident_blocks
from cuda_check.resources import build_native

try:
    NVCC = build_native.find_cuda().nvcc
except build_native.BuildError:
    NVCC = None
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="needs nvcc")

# NVIDIA's own calculator, as a program that reads
#   major, minor, warps and shared bytes of a multiprocessor, reserved bytes of a block,
#   threads, registers, shared bytes of a launch
# and prints how many blocks fit, and the most shared memory that such a multiprocessor has.
CALCULATOR = """
#include <cstdio>
#include <cuda_occupancy.h>
int main() {
  int major, minor, warps, shared, reserved, threads, registers, bytes;
  while (std::scanf("%d%d%d%d%d%d%d%d", &major, &minor, &warps, &shared, &reserved, &threads,
                    &registers, &bytes) == 8) {
    cudaOccDeviceProp device;
    device.computeMajor = major;
    device.computeMinor = minor;
    device.maxThreadsPerBlock = 1024;
    device.maxThreadsPerMultiprocessor = 32 * warps;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536;
    device.warpSize = 32;
    device.sharedMemPerBlock = 48 * 1024;
    device.sharedMemPerMultiprocessor = shared;
    device.numSms = 1;
    device.sharedMemPerBlockOptin = shared - reserved;
    device.reservedSharedMemPerBlock = reserved;
    cudaOccFuncAttributes kernel;
    kernel.maxThreadsPerBlock = 1024;
    kernel.numRegs = registers;
    kernel.sharedSizeBytes = 0;
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = bytes;
    cudaOccDeviceState state;
    state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
    cudaOccResult result;
    const cudaOccError error = cudaOccMaxActiveBlocksPerMultiprocessor(
        &result, &device, &kernel, &state, threads, bytes);
    size_t most = 0;
    for (size_t kib = 1; kib <= 1024; ++kib) {
      size_t size = kib * 1024;
      if (cudaOccAlignUpShmemSizeVoltaPlus(&size, &device) == CUDA_OCC_SUCCESS) most = size;
    }
    std::printf("%d %zu\\n", error ? -error : result.activeBlocksPerMultiprocessor, most);
  }
}
"""


@pytest.mark.parametrize("architecture", ["80", "90", "100"])
@pytest.mark.parametrize(("threads", "blocks", "percent"), [(128, 12, 75), (320, 4, 63)])
def test_occupancy_of_the_best_practices_guide(architecture, threads, blocks, percent):
    """CUDA C++ Best Practices Guide, "Calculating Occupancy": 37 registers, 64 warps."""
    assert resident_blocks(architecture, threads, 37, 0) == blocks
    # The guide rounds a half upwards, Python to the even number.
    assert int(100 * occupancy(architecture, threads, 37, 0) + 0.5) == percent


def test_what_does_not_fit_has_no_blocks():
    assert resident_blocks("80", 1024, 64, 163 * 1024) == 1
    assert resident_blocks("80", 1024, 65, 0) == 0
    assert resident_blocks("80", 1025, 16, 0) == 0
    assert resident_blocks("80", 32, 16, 163 * 1024 + 1) == 0
    assert resident_blocks("80", 32, 256, 0) == 0


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="'70' is not known; expected one of 75, 80"):
        occupancy("70", 128, 32, 0)
    with pytest.raises(ValueError, match="got 0 threads"):
        occupancy("80", 0, 32, 0)


def calculator_header():
    """The folder of cuda_occupancy.h: of the toolkit, or of the runtime that torch depends on."""
    folders = [Path(path, "nvidia") for path in site.getsitepackages()]
    found = [header for folder in folders for header in folder.glob("*/include/cuda_occupancy.h")]
    if NVCC is not None:
        said = build_native.ask_nvcc(NVCC, "--dryrun", "-x", "cu", "/dev/null")
        includes = re.findall(r'-I([^"\s]+)', said)
        found += [Path(path, "cuda_occupancy.h") for path in includes]
    return next((header.parent for header in found if header.exists()), None)


def test_occupancy_is_that_of_nvidias_calculator(tmp_path):
    compiler, folder = shutil.which("c++"), calculator_header()
    if compiler is None or folder is None:
        pytest.skip("needs a C++ compiler and cuda_occupancy.h")
    source, program = tmp_path / "calculator.cpp", tmp_path / "calculator"
    source.write_text(CALCULATOR)
    subprocess.run([compiler, source, "-isystem", folder, "-o", program], check=True)

    random.seed(0)
    launches = [
        (
            architecture,
            random.choice([32 * random.randint(1, 32), random.randint(1, 1024)]),
            random.randint(16, 255),
            random.choice([0, random.randint(0, 4096), random.randint(0, chip.shared_bytes)]),
        )
        for architecture, chip in MULTIPROCESSORS.items()
        for _ in range(1000)
    ]
    lines = []
    for architecture, *launch in launches:
        chip = MULTIPROCESSORS[architecture]
        fixed = [chip.warps, chip.shared_bytes, chip.reserved_bytes]
        lines.append(" ".join(map(str, [architecture[:-1], architecture[-1], *fixed, *launch])))
    printed = subprocess.run(
        [program], input="\n".join(lines), capture_output=True, text=True, check=True
    ).stdout.split()
    expected = list(map(int, printed[::2]))
    assert min(expected) == 0  # a negative number is an error of the calculator
    assert [resident_blocks(*launch) for launch in launches] == expected
    assert [MULTIPROCESSORS[launch[0]].shared_bytes for launch in launches] == list(
        map(int, printed[1::2])
    )


SPILLING = """
__global__ void __launch_bounds__(1024) spilling_kernel(float* p, int n) {
  float values[200];
#pragma unroll
  for (int i = 0; i < 200; ++i) values[i] = p[i * n + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 200; ++i) p[i * n + threadIdx.x + 1] = values[199 - i] * values[i * 7 % 200];
}
"""
CLEAN = """
namespace fvfast::cuda {
template <typename T, int kCount>
__global__ void __launch_bounds__(256) copy_kernel(const T* in, T* out) {
  __shared__ T shared[kCount];
  shared[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = shared[kCount - 1 - threadIdx.x];
}
template __global__ void copy_kernel<float, 256>(const float*, float*);
template __global__ void copy_kernel<float4, 256>(const float4*, float4*);
}  // namespace fvfast::cuda
"""


@pytest.fixture
def source(tmp_path):
    """Writes a CUDA source, beside which is compiled: apart from those of the project."""

    def write(text):
        path = tmp_path / "kernels.cu"
        path.write_text(text)
        return path

    return write


def compiled(path):
    return resources.compile_cubin(path, "80", path.parent / "cache")


def report(path, launches=None):
    return resources.report(["80"], launches, [path], path.parent / "cache")


@needs_nvcc
def test_local_memory_is_a_failure(source, capsys):
    failures = report(source(SPILLING))
    text = "\n".join(failures)
    assert "kernels.cu for sm_80: spilling_kernel needs local memory" in text
    assert "ptxas warning" in text
    stack, stores, loads = map(int, re.findall(r"(\d+) bytes of", text))
    assert min(stack, stores, loads) > 0
    printed = capsys.readouterr().out
    assert f"stack {stack}, spills {stores}/{loads}" in printed


@needs_nvcc
def test_the_report_has_registers_shared_memory_and_occupancy(source, capsys):
    path = source(CLEAN)
    launches = {"copy_kernel": resources.Launch(dynamic_bytes=30 * 1024)}
    assert report(path, launches) == []
    printed = capsys.readouterr().out
    (registers,) = {
        kernel.registers for kernel in compiled(path).kernels if kernel.static_bytes == 4096
    }
    # Of 164 KiB, a block takes 30 + 4 + 1, so there are 4, and with 1 KiB instead of 4 there are 5.
    wide, narrow = (f"{registers}  50%", "62%")
    (row,) = (line for line in printed.splitlines() if "copy_kernel<float4, 256>" in line)
    assert wide in row
    assert str(34 * 1024) in row
    (row,) = (line for line in printed.splitlines() if "copy_kernel<float, 256>" in line)
    assert narrow in row


@needs_nvcc
def test_a_source_that_does_not_compile_is_a_failure(source):
    failures = report(source("__global__ void kernel() { oops; }"))
    assert any('identifier "oops" is undefined' in failure for failure in failures)


@needs_nvcc
def test_a_source_is_compiled_again_when_it_changes(source):
    first = compiled(source(CLEAN))
    written = first.cubin.stat().st_mtime_ns
    assert compiled(source(CLEAN)).cubin.stat().st_mtime_ns == written
    changed = compiled(source(CLEAN.replace("float4", "double")))
    assert changed.cubin != first.cubin
    assert not first.cubin.exists()  # what is stale goes


CODE = """
.text._Z4wideP6float4:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   ULDC.64 UR8, c[0x0][0x118] ;
        /*0020*/              @!P0 LDG.E.128.CONSTANT R0, [R8.64] ;
        /*0030*/                   LDG.E R0, [R8.64] ;
.L_x_10:
        /*0040*/               @P1 STG.E.64 [R4.64+0x8], R10 ;
        /*0050*/                   STS.U16 [R4], R10 ;
.text._Z5localPf:
        /*0000*/                   LDG.E.U8 R0, desc[UR4][R8.64] ;
        /*0010*/                   STL [R4], R10 ;
        /*0020*/                   STL.128 [R4], R10 ;
"""


def test_accesses_are_counted_by_width():
    counts = disassembly.count_accesses(CODE)
    assert counts == {
        "_Z4wideP6float4": {("LDG", 128): 1, ("LDG", 32): 1, ("STG", 64): 1, ("STS", 16): 1},
        "_Z5localPf": {("LDG", 8): 1, ("STL", 32): 1, ("STL", 128): 1},
    }
    names = resources.readable(list(counts))
    assert names == {"_Z4wideP6float4": "wide", "_Z5localPf": "local"}
    assert disassembly.failures_of(counts, names, "LDG", 128) == [
        "local: expected LDG of 128 bits, got 1 x LDG.8, 1 x STL.32, 1 x STL.128",
        "local: 2 accesses to local memory; expected none",
    ]


@needs_nvcc
def test_the_width_of_compiled_code(source):
    try:
        disassembly.find_nvdisasm()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    counts = disassembly.count_accesses(disassembly.disassemble(compiled(source(CLEAN)).cubin))
    names = resources.readable(list(counts))
    assert {names[symbol]: dict(count) for symbol, count in counts.items()} == {
        f"copy_kernel<{kind}, 256>": {(access, bits): 1 for access in ("LDG", "STS", "LDS", "STG")}
        for kind, bits in (("float", 32), ("float4", 128))
    }
