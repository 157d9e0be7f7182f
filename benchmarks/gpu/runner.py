"""Runs stages, each in a process of its own that is killed at its time limit."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.job import LOG
from benchmarks.gpu.processes import ROOT, adopt_orphans, end_tree, environment, tied
from benchmarks.gpu.records import Records, first_line, read_records
from benchmarks.gpu.stages import Stage
from benchmarks.gpu.table import short_table, write_report

LEAST_SECONDS = 5.0
"""A stage with less time is left out: Python and torch would hardly have started."""


class Runner:
    """Runs stages one after the other.

    Parameters
    ----------
    folder
        Folder for the results, created if necessary. A second run with the same folder appends.
    rehearsed
        Whether to use the emulated kernels and tiny sizes.
    thorough
        Whether there is time for what a quick run leaves out.
    seconds
        Time for all stages together.
    """

    def __init__(self, folder: Path, *, rehearsed: bool, thorough: bool, seconds: float) -> None:
        self.folder = folder.resolve()
        self.rehearsed = rehearsed
        self.thorough = thorough
        self.deadline = time.monotonic() + seconds

    def run(self, stages: Sequence[Stage]) -> bool:
        """Run stages and print a table; return whether nothing failed."""
        adopt_orphans()
        begun = time.time()
        results = []
        try:
            for stage in stages:
                results.append(self._run_one(stage))
                write_report(self.folder)
        finally:
            end_tree_of_this_process()
            write_report(self.folder)
            # Only of this run: the folder may have results of earlier ones.
            recent = [r for r in read_records(self.folder) if r["time"] >= begun - 1]
            print(short_table(recent), flush=True)
        return all(results)

    def _run_one(self, stage: Stage) -> bool:
        records = Records(self.folder, stage.name)
        limit = stage.rehearsal_seconds if self.rehearsed else stage.seconds
        least = min(LEAST_SECONDS, limit)
        limit = min(limit, self.deadline - time.monotonic())
        if limit < least:
            records.add("end", outcome="left out: no time", seconds=0.0)
            return True
        print(f"{stage.name}: {stage.what}, at most {limit:.0f} s", flush=True)
        records.add("begin", limit=round(limit, 1))
        began = time.monotonic()
        try:
            outcome = self._outcome(stage, limit)
        except OSError as error:
            outcome = f"not started: {first_line(error)}"
        left = end_tree_of_this_process()
        self._keep_unfinished()
        if left:
            records.fail("processes that cannot be ended", ", ".join(map(str, left)))
        seconds = round(time.monotonic() - began, 2)
        records.add("end", outcome=outcome, seconds=seconds)
        print(f"{stage.name}: {outcome}, {seconds:.1f} s", flush=True)
        return outcome == "done" and not left

    def _keep_unfinished(self) -> None:
        """Append the output of programs that were killed with their stage to the log."""
        for path in sorted(self.folder.glob("*.unfinished")):
            with (self.folder / LOG).open("ab") as log:
                log.write(f"\n--- {path.name}\n".encode() + path.read_bytes())
            path.unlink()

    def _outcome(self, stage: Stage, limit: float) -> str:
        command = [
            *(sys.executable, "-m", "benchmarks.gpu.job", stage.module, stage.name),
            *("--output", str(self.folder), "--seconds", f"{limit:.1f}"),
            *(["--rehearse"] if self.rehearsed else []),
            *(["--thorough"] if self.thorough else []),
        ]
        # A rehearsal does not use a GPU even if there is one.
        variables = {"CUDA_VISIBLE_DEVICES": ""} if self.rehearsed else {}
        with (self.folder / LOG).open("ab") as log:
            log.write(f"\n=== {stage.name}\n".encode())
            log.flush()
            process = subprocess.Popen(
                tied(command), cwd=ROOT, env=environment(**variables), stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            status = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            end_tree(process.pid)
            process.poll()
            return "ended at its limit"
        if status == 0:
            return "done"
        return "failed" if status > 0 else f"killed by signal {-status}"


def end_tree_of_this_process() -> list[int]:
    """Kill all processes that a stage has left behind: they are descendants of this one."""
    return end_tree(os.getpid(), itself=False)
