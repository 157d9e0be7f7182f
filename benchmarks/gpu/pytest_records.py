"""A plugin of pytest that writes each outcome to a file before the next test begins."""

import json
import os
from pathlib import Path

import pytest

VARIABLE = "FVFAST_TEST_RECORDS"
"""The environment variable with the folder."""

TESTS = "tests.jsonl"


class _Writer:
    """Writes outcomes, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a", encoding="utf-8")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the outcome of a test; of setup and teardown, only failures and skips."""
        if report.when != "call" and report.outcome == "passed":
            return
        self._write(report.nodeid, report.outcome, report.duration, report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write that a file cannot be imported."""
        if report.failed:
            self._write(report.nodeid, "failed", 0.0, report.longrepr)

    def _write(self, test: str, outcome: str, seconds: float, cause: object) -> None:
        if isinstance(cause, tuple):  # a skipped test: file, line, reason
            cause = cause[2]
        text = "" if cause is None else str(cause)
        record = {
            "test": test,
            "outcome": outcome,
            "seconds": round(seconds, 3),
            "message": text.strip().splitlines()[-1][:300] if text.strip() else "",
            "details": text[-4000:] if outcome == "failed" else "",
        }
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        if outcome == "failed":
            os.fsync(self.file.fileno())


def pytest_configure(config: pytest.Config) -> None:
    """Register the writer in the main process, which gets all reports, not in xdist's workers."""
    folder = os.environ.get(VARIABLE)
    if folder and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Writer(Path(folder, TESTS)))
