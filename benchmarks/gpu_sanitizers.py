"""NVIDIA's compute-sanitizer on every CUDA kernel of fvfast."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import gpu_every_kernel
from benchmarks.gpu_report import Report, Row

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 900  # seconds; the tools slow kernels down by up to a hundred times
_PREFIX = "========="
_OURS = re.compile(r"fvfast(?:::|4)cuda")
_SUMMARY = re.compile(r"(?:ERROR|RACECHECK|LEAK) SUMMARY: (\d+) (?:errors?|hazards?)")


def find_sanitizer() -> str | None:
    """Return the path of compute-sanitizer, or None."""
    places = [os.environ.get("PATH", "")]
    if home := os.environ.get("CUDA_HOME"):
        places.append(str(Path(home) / "bin"))
    places.append("/usr/local/cuda/bin")
    return shutil.which("compute-sanitizer", path=os.pathsep.join(places))


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a tool said.

    Attributes
    ----------
    total
        Errors that it counted; None where it did not come to its end.
    own
        What it said about kernels of fvfast, one text each.
    """

    total: int | None
    own: list[str]


def read_findings(output: str) -> Findings:
    """Read the output of compute-sanitizer.

    Each error is some lines with a prefix, up to one with nothing but the prefix. Kernels of torch
    and cuFFT are checked too, and errors in them are counted: they are not fvfast's.
    """
    own: list[str] = []
    record: list[str] = []
    for line in [*output.splitlines(), _PREFIX]:
        if not line.startswith(_PREFIX):
            continue  # of the program
        text = line.removeprefix(_PREFIX).strip()
        if text and not _SUMMARY.search(text):
            record.append(text)
            continue
        if any(_OURS.search(one) for one in record):
            own.append("\n".join(record))
        record = []
    counts = [int(number) for number in _SUMMARY.findall(output)]
    return Findings(sum(counts) if counts else None, own)


def command(sanitizer: str, tool: str) -> list[str]:
    """Return what runs a tool on every kernel."""
    return [
        sanitizer,
        "--tool", tool,
        "--print-limit", "100000",
        # torch tries what may fail; what a launch of fvfast's gives is checked there.
        "--report-api-errors", "no",
        sys.executable, "-m", gpu_every_kernel.__name__,
    ]  # fmt: skip


def run_sanitizers(report: Report) -> None:
    """Run all tools and add what they say to the report."""
    sanitizer = find_sanitizer()
    if sanitizer is None:
        report.skip(
            "compute-sanitizer: not found in PATH, CUDA_HOME or /usr/local/cuda/bin (it comes with "
            "the CUDA toolkit)"
        )
        return
    # Each tensor gets memory of its own, so that what lies beyond it is not another one's.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    rows: list[Row] = []
    for tool in TOOLS:
        report.console.print(f"compute-sanitizer --tool {tool} ...")
        try:
            finished = subprocess.run(
                command(sanitizer, tool), cwd=ROOT, env=environment, timeout=TIMEOUT,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            report.fail(f"compute-sanitizer {tool}: not finished after {TIMEOUT} seconds")
            continue
        rows.append(judge(report, tool, finished.returncode, finished.stdout))
    if rows:
        report.table("compute-sanitizer on every kernel", rows)


def judge(report: Report, tool: str, status: int, output: str) -> Row:
    """Decide whether a tool found fvfast in order, from its exit status and its output."""
    findings = read_findings(output)
    finished = status == 0 and gpu_every_kernel.DONE in output and findings.total is not None
    if findings.own:
        report.fail(f"compute-sanitizer {tool}: {len(findings.own)} errors in kernels of fvfast")
        report.log("\n\n".join(findings.own[:5]))
    elif not finished:
        report.fail(f"compute-sanitizer {tool}: did not run to its end, exit status {status}")
        report.log("\n".join(output.splitlines()[-30:]))
    return {
        "tool": tool,
        "ran to its end": "yes" if finished else "no",
        "errors in fvfast": len(findings.own),
        "errors elsewhere": max(0, (findings.total or 0) - len(findings.own)),
    }
