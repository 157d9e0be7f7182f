"""The whole test suite, in a process of its own, and how it came out."""

import collections
import dataclasses
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from benchmarks.gpu_report import Report

ROOT = Path(__file__).resolve().parent.parent
_ON_CUDA = re.compile(r"\[(?:.*-)?cuda(?:-.*)?\]$")


@dataclasses.dataclass
class Outcome:
    """How the tests came out.

    Attributes
    ----------
    passed, failed, skipped
        How many tests.
    on_cuda
        Those of all that ran on the GPU.
    names
        Of the tests that failed.
    reasons
        Why tests were skipped, and how many for each reason.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    on_cuda: int = 0
    names: list[str] = dataclasses.field(default_factory=list)
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


def read_outcome(xml: str) -> Outcome:
    """Read what ``pytest --junitxml`` writes."""
    outcome = Outcome()
    for case in ET.fromstring(xml).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed += 1
            outcome.names.append(name)
        elif skipped is not None:
            outcome.skipped += 1
            outcome.reasons[skipped.get("message") or "no reason"] += 1
            continue
        else:
            outcome.passed += 1
        of_this_file = (case.get("classname") or "").endswith("test_gpu")
        outcome.on_cuda += bool(of_this_file or _ON_CUDA.search(case.get("name") or ""))
    return outcome


def run_suite(report: Report) -> None:
    """Run the tests and add how they came out to the report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outcome.xml"
        finished = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", f"--junitxml={path}"], cwd=ROOT, check=False
        )
        if not path.exists():
            report.fail(f"pytest wrote no results, exit status {finished.returncode}")
            return
        judge(report, finished.returncode, read_outcome(path.read_text()))


def judge(report: Report, status: int, outcome: Outcome) -> None:
    """Decide whether the tests are in order, from pytest's exit status and its results."""
    report.table(
        "Tests",
        [
            {
                "passed": outcome.passed,
                "failed": outcome.failed,
                "skipped": outcome.skipped,
                "ran on the GPU": outcome.on_cuda,
            }
        ],
    )
    for reason, count in outcome.reasons.most_common():
        report.skip(f"{count} test{'' if count == 1 else 's'}: {reason}")
    if outcome.failed or status != 0:
        names = ", ".join(outcome.names[:20])
        report.fail(f"{outcome.failed} tests failed, pytest's exit status is {status}: {names}")
    if not outcome.on_cuda:
        report.fail("no test ran on the GPU")
