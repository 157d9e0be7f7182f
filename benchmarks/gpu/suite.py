"""The stage that runs, on the device, the operations' tests and those that need a GPU."""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

from benchmarks.gpu.job import Job
from benchmarks.gpu.processes import run_command
from benchmarks.gpu.pytest_records import TESTS, VARIABLE

PROCESSES = 8
BACKEND = "cuda"
REHEARSED_BACKEND = "emulated ascending"
REHEARSED_TESTS = ("tests/ops/test_back_ends.py", "tests/ops/test_boxes.py", "tests/test_gpu.py")

POISONOUS = "(cannot_be_captured or failed_capture)"
"""Selects tests in which a capture fails: after that, a process may not be able to go on."""

FOR_THE_LAST = 20.0
"""Seconds of the stage that are reserved for these tests."""

SLOWEST_TEST = 60
"""Time limit of one test in seconds, if pytest-timeout is installed.

It kills the process, because a kernel that hangs does not respond to signals.
"""


def run(job: Job) -> None:
    """Run the tests; those that may break their process run in a process of their own."""
    paths = REHEARSED_TESTS if job.rehearsed else ("tests/ops", "tests/test_gpu.py")
    run_pytest(
        job, "operations", [*paths, "-k", f"not {POISONOUS}", *parallel()],
        job.seconds_left - min(FOR_THE_LAST, 0.3 * job.seconds_left),
    )  # fmt: skip
    run_pytest(
        job, "a capture that fails", ["tests/test_gpu.py", "-k", POISONOUS], job.seconds_left - 2
    )
    if job.thorough and not job.rehearsed:
        run_pytest(job, "everything", ["tests"], job.seconds_left - 2, every_backend=True)


def parallel() -> list[str]:
    """Return the options for several processes, if pytest-xdist is installed."""
    options = (
        ["--timeout", str(SLOWEST_TEST), "--timeout-method", "thread"]
        if _has("pytest_timeout")
        else []
    )
    return [*options, "-n", str(min(PROCESSES, os.cpu_count() or 1))] if _has("xdist") else options


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def run_pytest(
    job: Job, name: str, arguments: list[str], seconds: float, *, every_backend: bool = False
) -> None:
    """Run tests; each outcome is on disk before the next test begins.

    Parameters
    ----------
    job
        The stage.
    name
        Name of this part, for people.
    arguments
        Arguments of pytest.
    seconds
        Time limit.
    every_backend
        Whether the operations' tests run on the CPU, too.
    """
    backend = REHEARSED_BACKEND if job.rehearsed else BACKEND
    variables = {VARIABLE: str(job.folder), "OMP_NUM_THREADS": "2"}
    selection = []
    if not every_backend:
        variables["FVFAST_TEST_BACKENDS"] = backend
        selection = ["-m", "not cpu_only"]
    # Deprecation warnings of libraries must not fail tests here; they are in the log.
    general = [
        "-q",
        "-W",
        "default",
        "-p",
        "no:cacheprovider",
        "-p",
        "benchmarks.gpu.pytest_records",
    ]
    before = len(read_tests(job.folder))
    began = time.monotonic()
    status = run_command(
        [sys.executable, "-m", "pytest", *general, *selection, *arguments],
        job.log, seconds, variables=variables,
    )  # fmt: skip
    judge(job, name, status, read_tests(job.folder)[before:], time.monotonic() - began)


def read_tests(folder: Path) -> list[dict[str, object]]:
    """Read the outcomes of tests, without a last line that was cut off."""
    path = folder / TESTS
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def judge(
    job: Job, name: str, status: int | None, outcomes: list[dict[str, object]], seconds: float
) -> None:
    """Record the outcome of tests, from pytest's exit status and the outcomes it wrote."""
    counts = {
        word: sum(one["outcome"] == word for one in outcomes)
        for word in ("passed", "failed", "skipped")
    }
    job.records.add(
        "tests", what=name, **counts, seconds=seconds,
        status="ended at its limit" if status is None else str(status),
    )  # fmt: skip
    for one in outcomes:
        if one["outcome"] == "failed":
            job.records.fail(str(one["test"]), str(one["message"]), str(one["details"]))
    if status is None:
        job.records.fail(name, f"ended at its limit after {len(outcomes)} tests")
    elif status != 0 and not counts["failed"]:
        job.records.fail(name, f"pytest's exit status is {status}: see {job.log.name}")
    if not counts["passed"] and not (job.rehearsed and counts["skipped"]):
        job.records.fail(name, "no test passed")
