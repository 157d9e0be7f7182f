"""The emulated CUDA kernels under sanitizers: nothing out of bounds, and no races.

Here on small grids, and not in the short suite, which has the module of the CPU under
AddressSanitizer (``test_fuzz.py``), and the emulator's own search for races. ``make cuda-check``
runs all tests of the operations under AddressSanitizer.
"""

import re

import pytest
from cuda_emulator.build import UnavailableError
from cuda_emulator.sanitized import run_pytest_under
from launched_kernels import all_kernels

SMALL = "tests/ops/test_small_grids.py"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("sanitizer", "chosen"), [("address", "emulated"), ("thread", "emulated and random")]
)
def test_small_grids_are_clean(sanitizer, chosen):
    try:
        finished = run_pytest_under(sanitizer, [SMALL, "-q", "-k", chosen])
    except UnavailableError as reason:
        pytest.skip(str(reason))
    assert finished.returncode == 0, finished.stdout[-4000:] + finished.stderr[-8000:]
    assert " passed" in finished.stdout
    assert "skipped" not in finished.stdout
    # A new kernel needs a test there.
    (kernels,) = re.findall("^kernels: (.+)$", finished.stdout, flags=re.MULTILINE)
    assert set(kernels.split()) == all_kernels()
