"""Files with mutations are read, or refused with a reason: nothing else happens.

FVFAST_TEST_MUTATIONS says how many spectra and images are tried; `mutations` makes them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = int(os.environ.get("FVFAST_TEST_MUTATIONS", "400"))
SCRIPT = Path(__file__).with_name("mutations.py")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak of the memory")
@pytest.mark.parametrize("what", ["spectra", "images"])
def test_mutated_files_are_read_or_refused(what):
    done = subprocess.run(
        [sys.executable, SCRIPT, what, str(COUNT)],
        check=False, capture_output=True, text=True, timeout=120 + COUNT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(report)  # noqa: T201 (for those who run many)
    assert report["wrong"] == {}
    assert report["printed"] == ""
    assert report["started"] == []
    assert report["memory"] < 2**30
    assert report["slowest"] < 60
    # Neither is all refused, nor is nothing damaged.
    assert COUNT * 0.01 < report["readable"] < COUNT * 0.5
