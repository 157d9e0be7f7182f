"""Without the native module the reference does the work, and says so once."""

import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

import fvfast
from fvfast.ops._kernels import has_cuda_kernels, native, status_of, why_not_on

pytestmark = pytest.mark.cpu_only

FALLBACK = """
import sys
import warnings
import torch
from fvfast.ops import _kernels
from fvfast.ops import inject_noise
if {is_missing}:
    sys.modules["fvfast._C"] = None  # makes its import fail
images = torch.zeros(1, 8)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    status = _kernels.native_status()
    results = [inject_noise(images, 1.0, seed=1, identities=[0], step=0) for _ in range(2)]
    torch.ops.fvfast.inject_noise_(images, 1.0, 1.0, 1, [0], 0, *(None,) * 4)
assert torch.equal(results[0], results[1]) and torch.equal(results[0], images)
assert not status.available and {reason!r} in status.reason, status
messages = [str(warning.message) for warning in caught if "fvfast" in str(warning.message)]
assert len(messages) == {warnings}, messages
assert all({reason!r} in message for message in messages)
"""


def run_without_native(reason, warnings, folder, *, is_missing=False, **environment):
    script = FALLBACK.format(reason=reason, warnings=warnings, is_missing=is_missing)
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


def test_a_failed_build_falls_back_with_one_warning(tmp_path):
    package = tmp_path / "fvfast"
    shutil.copytree(
        Path(fvfast.__file__).parent, package, ignore=shutil.ignore_patterns("_C*", "__pycache__")
    )
    (package / "_build_failure.txt").write_text("the compiler was on holiday\n")
    run_without_native(
        "the compiler was on holiday", 1, tmp_path, is_missing=True, PYTHONPATH=str(tmp_path)
    )


def test_a_missing_openmp_runtime_is_named_with_its_package(tmp_path):
    ignored = shutil.ignore_patterns("_C*", "_*_failure.txt", "__pycache__")
    package = tmp_path / "fvfast"
    shutil.copytree(Path(fvfast.__file__).parent, package, ignore=ignored)
    said = "libgomp.so.1: cannot open shared object file: No such file or directory"
    (package / "_C.py").write_text(f"raise ImportError({said!r})\n")
    reason = f"{said}. This is the OpenMP runtime of GCC: install it (Debian and Ubuntu: libgomp1;"
    run_without_native(reason, 1, tmp_path, PYTHONPATH=str(tmp_path))


def test_native_module_can_be_disabled_without_a_warning(tmp_path):
    environment = {"FVFAST_DISABLE_NATIVE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    run_without_native("FVFAST_DISABLE_NATIVE", 0, tmp_path, **environment)


@pytest.mark.parametrize(
    ("architectures", "said"),
    [
        ("", "The native module has none: nvcc had no license\nOnce that is fixed, install fvfast"),
        ("86;90a", "capability 8.0; the kernels were compiled for: 86;90a. Install fvfast again"),
        ("80", ""),
    ],
)
def test_a_gpu_without_kernels_hears_why(monkeypatch, tmp_path, architectures, said):
    """pip hides why CUDA could not be built, so the first use on a GPU says it."""
    record = tmp_path / "record.txt"
    record.write_text("nvcc had no license\n")
    module = types.SimpleNamespace(
        __file__="_C.so",
        cuda_architectures=architectures,
        simd_level=lambda: "baseline",
        max_threads=lambda: 1,
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    why = why_not_on(0, status_of(module, record))
    assert said in why
    assert bool(why) is bool(said)


@pytest.mark.skipif(native() is None, reason="the native module is not built")
def test_the_first_use_of_a_gpu_without_kernels_warns(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (1, 0))  # older than any
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA G80")
    with pytest.warns(RuntimeWarning, match="without its CUDA kernels and will be slow"):
        assert not has_cuda_kernels.__wrapped__(0)
