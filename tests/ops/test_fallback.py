"""Without the native module the reference does the work, and says so once."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.cpu_only

FALLBACK = """
import warnings
import torch
from fvfast.ops import _native
{before}
from fvfast.ops import inject_noise
images = torch.zeros(1, 8)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    status = _native.native_status()
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
        f"_native._FAILURE_RECORD = pathlib.Path({str(record)!r})"
    )
    run_without_native(before, "the compiler was on holiday", 1, dict(os.environ))


def test_native_module_can_be_disabled_without_a_warning():
    environment = {**os.environ, "FVFAST_DISABLE_NATIVE": "1"}
    run_without_native("", "FVFAST_DISABLE_NATIVE", 0, environment)
