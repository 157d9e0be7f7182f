"""Without the native module the reference does the work, and says so once."""

import os
import subprocess
import sys
import types

import pytest
import torch

from fvfast.ops import _kernels

pytestmark = pytest.mark.cpu_only

FALLBACK = """
import warnings
import torch
from fvfast.ops import _kernels
{before}
from fvfast.ops import inject_noise
images = torch.zeros(1, 8)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    status = _kernels.native_status()
    results = [inject_noise(images, 1.0, seed=1, streams=[0], step=0) for _ in range(2)]
    torch.ops.fvfast.inject_noise_(images, 1.0, 1.0, 1, [0], 0, None)
assert torch.equal(results[0], results[1]) and torch.equal(results[0], images)
assert not status.available and {reason!r} in status.reason, status
messages = [str(warning.message) for warning in caught if "fvfast" in str(warning.message)]
assert len(messages) == {warnings}, messages
assert all({reason!r} in message for message in messages)
"""


def run_without_native(before, reason, warnings, environment):
    script = FALLBACK.format(before=before, reason=reason, warnings=warnings)
    finished = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr


def test_a_failed_build_falls_back_with_one_warning(tmp_path):
    record = tmp_path / "record.txt"
    record.write_text("the compiler was on holiday\n")
    before = (
        "import sys, pathlib\n"
        "sys.modules['fvfast._C'] = None  # makes its import fail\n"
        f"_kernels._FAILURE_RECORD = pathlib.Path({str(record)!r})"
    )
    run_without_native(before, "the compiler was on holiday", 1, dict(os.environ))


def test_native_module_can_be_disabled_without_a_warning():
    environment = {**os.environ, "FVFAST_DISABLE_NATIVE": "1"}
    run_without_native("", "FVFAST_DISABLE_NATIVE", 0, environment)


@pytest.mark.parametrize(
    ("architectures", "said"),
    [
        ("", "The native module has none: nvcc had no license\nInstall fvfast again with FVFAST"),
        ("86;90a", "capability 8.0; the kernels were compiled for: 86;90a. Install fvfast again"),
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
    monkeypatch.setattr(_kernels, "_CUDA_FAILURE_RECORD", record)
    monkeypatch.setattr(_kernels, "_load", lambda: (module, ""))
    monkeypatch.setattr(_kernels, "native", lambda: module)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    with pytest.warns(RuntimeWarning, match="without its CUDA kernels") as warned:
        assert not _kernels._has_cuda_kernels.__wrapped__(0)
    assert said in str(warned[0].message)
