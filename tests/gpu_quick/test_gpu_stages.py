"""How stages parse ncu, compute-sanitizer, traces and tests; and what they refuse."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import sanitizers
from benchmarks.gpu.accuracy import Comparison, poisoned
from benchmarks.gpu.counters import kernel_rows
from benchmarks.gpu.job import Job
from benchmarks.gpu.kernel_names import short_name
from benchmarks.gpu.place import Place
from benchmarks.gpu.processes import run_command
from benchmarks.gpu.profile import read_trace
from benchmarks.gpu.records import Records, read_records
from benchmarks.gpu.suite import judge
from benchmarks.gpu.table import markdown_table
from benchmarks.gpu.timing import WallClock
from benchmarks.gpu.variants import VARIANTS, Variant, write_sources
from benchmarks.gpu.work import Sizes

STAND_INS = Path(__file__).resolve().parents[1] / "gpu_stand_ins"


@pytest.fixture
def job(tmp_path):
    return Job(Records(tmp_path, "test"), tmp_path, False, False, time.monotonic() + 60)


def failures(job):
    return [r for r in read_records(job.folder) if r["kind"] == "failure"]


def test_new_memory_is_poisoned():
    with poisoned():
        assert torch.empty(64).isnan().all()
        assert (torch.empty(64, dtype=torch.uint8) == 255).all()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("value", "wrong"), [(1.0, False), (1.05, False), (1.2, True), (float("nan"), True)]
)
def test_a_wrong_result_is_a_failure(job, value, wrong):
    sizes = Sizes(1, 8, 1, 4)
    comparison = Comparison(job, Place(torch.device("cpu"), WallClock(), (sizes,)), sizes, 0)
    comparison.result("crops", torch.tensor([value]), torch.ones(1).double(), 0.1)
    assert bool(failures(job)) == wrong


def ncu_output():
    command = [sys.executable, str(STAND_INS / "ncu.py"), "--csv", sys.executable, "-c", "print(1)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_counters_are_read_whatever_their_units():
    first, *others = kernel_rows(ncu_output())
    assert len(others) == 3
    assert first["kernel"] == "columns_kernel"
    assert first["us"] == pytest.approx(12.345)
    assert first["occupancy %"] == 24.51
    assert first["DRAM GB/s"] == pytest.approx(512.3456789)
    assert first["shared KB"] == pytest.approx(71.68)
    assert first["stalls"] == "long_scoreboard 5.12, barrier 1.94, wait 0.70"


def test_output_without_counters_has_no_rows():
    assert list(kernel_rows("==ERROR== ERR_NVGPUCTRPERM")) == []


def test_ncu_stand_in_refuses_what_ncu_does_not_know():
    command = [sys.executable, str(STAND_INS / "ncu.py"), "--no-such-option", "true"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 1


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("void fvfast::cuda::crop_kernel<float, 3>(int)", "crop_kernel"),
        ("_ZN6fvfast4cuda12boxes_kernelENS0_10IdentitiesEi", "boxes_kernel"),
        ("columns_kernel<float, (bool)1>(int)", "columns_kernel"),
        ("columns_kernel", "columns_kernel"),
    ],
)
def test_names_of_kernels(name, short):
    assert short_name(name) == short


MEMCHECK = """\
========= COMPUTE-SANITIZER
ran: boxes normal
========= Invalid __global__ write of size 4 bytes
=========     at void fvfast::cuda::crop_kernel<float>(int)+0x100
=========     by thread (3,0,0) in block (0,0,0)
=========
every kernel ran
========= ERROR SUMMARY: 1 error
"""


@pytest.mark.parametrize(
    ("status", "output", "failed"),
    [
        (0, MEMCHECK, "1 errors in kernels of fvfast"),
        (0, MEMCHECK.replace("fvfast::cuda", "at::native"), ""),
        (None, "ran: boxes\n", ""),
        (None, "", "did not run to its end"),
        (1, "ran: boxes\n", "did not run to its end"),
        (0, "every kernel ran\n", "did not run to its end"),
    ],
)
def test_what_sanitizers_say(job, status, output, failed):
    sanitizers.judge(job, "memcheck", status, output)
    found = [r["message"] for r in failures(job)]
    assert len(found) == bool(failed)
    assert all(failed in message for message in found)


def test_traces():
    events = [
        {"cat": "kernel", "name": "void fvfast::cuda::crop_kernel<float>(int)", "dur": 3.0},
        {"cat": "kernel", "name": "_ZN6fvfast4cuda11crop_kernelIfEEvi", "dur": 5.0},
        {"cat": "kernel", "name": "at::native::add", "dur": 1.0},
        {"cat": "gpu_memcpy", "name": "Memcpy HtoD", "dur": 1.0},
        {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "dur": 1.0},
        {"cat": "cuda_runtime", "name": "cudaGraphLaunch", "dur": 1.0},
        {"cat": "cuda_runtime", "name": "cudaStreamSynchronize", "dur": 1.0},
        {"cat": "cuda_driver", "name": "cuLaunchKernelEx", "dur": 1.0},
        {"ph": "M", "name": "process_name"},
    ]
    launches = read_trace({"traceEvents": events}, steps=2)
    assert launches.own() == {"crop_kernel": pytest.approx([3e-6, 5e-6])}
    row = launches.row()
    assert row["kernels"] == 1.5
    assert row["launches"] == 1.5
    assert row["graph launches"] == row["waits"] == row["copies and fills"] == 0.5
    assert row["us in kernels"] == pytest.approx(4.5)


def outcome(word):
    return {"test": "test_one", "outcome": word, "message": "assert 1 == 2", "details": "..."}


@pytest.mark.parametrize(
    ("status", "words", "failed"),
    [
        (0, ["passed", "skipped"], []),
        (1, ["passed", "failed"], ["assert 1 == 2"]),
        (0, ["skipped"], ["no test passed"]),
        (3, ["passed"], ["pytest's exit status is 3"]),
        (None, ["passed"], ["ended at its limit after 1 tests"]),
    ],
)
def test_how_tests_came_out(job, status, words, failed):
    judge(job, "tests", status, [outcome(word) for word in words], 1.0)
    messages = [r["message"] for r in failures(job)]
    assert len(messages) == len(failed)
    assert all(part in message for part, message in zip(failed, messages, strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="GPUs are checked on Linux")
def test_programs_are_ended_with_all_that_they_started(tmp_path):
    log = tmp_path / "log"
    script = "import os, time; os.fork(); print(os.getpid(), flush=True); time.sleep(1000)"
    assert run_command([sys.executable, "-c", script], log, 2.0) is None
    processes = log.read_text().split()
    assert len(processes) == 2
    for pid in processes:
        status = Path("/proc", pid, "stat")
        assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_variants_change_the_sources(tmp_path):
    for variant in VARIANTS:
        sources = write_sources(variant, tmp_path)
        for file, constant, value in variant.constants:
            text = (sources / file).read_text()
            assert re.search(rf"constexpr int(64_t)? {constant} = {value};", text)


def test_a_constant_that_is_gone_is_named(tmp_path):
    variant = Variant("none", (("cuda/crop/crop.cu", "kNoSuch", "1"),), "crop")
    with pytest.raises(ValueError, match=r"one constant kNoSuch in csrc/cuda/crop/crop.cu"):
        write_sources(variant, tmp_path)


def test_tables_take_rows_with_other_columns():
    table = markdown_table([{"kind": "x", "a": 1}, {"kind": "x", "b": "y|z"}])
    assert table.splitlines() == ["| a | b |", "| ---: | --- |", "| 1 |  |", "|  | y\\|z |"]
