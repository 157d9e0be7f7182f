"""The stage that runs NVIDIA's compute-sanitizer on every CUDA kernel of fvfast."""

import dataclasses
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.gpu.job import Job
from benchmarks.gpu.kernel_names import is_own
from benchmarks.gpu.processes import run_command
from benchmarks.gpu.tools import command_of

TOOLS = ("memcheck", "racecheck")
THOROUGH_TOOLS = (*TOOLS, "initcheck", "synccheck")
OUTPUT = "sanitizers.txt"

EVERY_KERNEL = "benchmarks.gpu.every_kernel"
RAN, DONE = "ran: ", "every kernel ran"
"""What that program prints after each part, and at its end."""

_PREFIX = "========="
_SUMMARY = re.compile(r"(?:ERROR|RACECHECK|LEAK) SUMMARY: (\d+) (?:errors?|hazards?)")


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a tool found.

    Attributes
    ----------
    total
        The number of errors that it counted; None if it did not run to its end.
    own
        Its reports about kernels of fvfast.
    """

    total: int | None
    own: list[str]


def read_findings(output: str) -> Findings:
    """Parse the output of compute-sanitizer.

    Each report is a few lines with a prefix, up to a line with only the prefix. Kernels of torch
    and cuFFT are checked, too; errors in them are counted, but are not fvfast's.
    """
    own: list[str] = []
    record: list[str] = []
    for line in [*output.splitlines(), _PREFIX]:
        if not line.startswith(_PREFIX):
            continue  # output of the program
        text = line.removeprefix(_PREFIX).strip()
        if text and not _SUMMARY.search(text):
            record.append(text)
            continue
        if any(is_own(one) for one in record):
            own.append("\n".join(record))
        record = []
    counts = [int(number) for number in _SUMMARY.findall(output)]
    return Findings(sum(counts) if counts else None, own)


def run(job: Job) -> None:
    """Run the tools side by side, each to its end or to the end of the stage."""
    sanitizer = command_of(job, "compute-sanitizer")
    tools = THOROUGH_TOOLS if job.thorough else TOOLS
    commands = {tool: command(sanitizer, tool, rehearsed=job.rehearsed) for tool in tools}
    with ThreadPoolExecutor(len(tools)) as threads:
        running = {
            tool: threads.submit(run_tool, job, tool, arguments)
            for tool, arguments in commands.items()
        }
        for tool, result in running.items():
            with job.records.attempt(f"compute-sanitizer {tool}"):
                judge(job, tool, *result.result())


def command(sanitizer: list[str], tool: str, *, rehearsed: bool) -> list[str]:
    """Return the command that runs a tool on every kernel."""
    return [
        *sanitizer,
        *("--tool", tool),
        *("--print-limit", "100000"),
        # torch makes calls that may fail, and fvfast checks the results of its launches itself.
        *("--report-api-errors", "no"),
        *own_kernels_alone(sanitizer),
        *(sys.executable, "-m", EVERY_KERNEL),
        *(["--rehearse"] if rehearsed else []),
    ]


def own_kernels_alone(sanitizer: list[str]) -> list[str]:
    """Return options that skip the kernels of torch, if this sanitizer has such options."""
    said = subprocess.run([*sanitizer, "--help"], capture_output=True, text=True, check=False)
    return ["--kernel-regex", "kns=fvfast"] if "--kernel-regex" in said.stdout + said.stderr else []


def run_tool(job: Job, tool: str, arguments: list[str]) -> tuple[int | None, str]:
    """Run one tool; return its exit status (None if it was killed) and its output."""
    said = job.folder / f"{tool}.unfinished"
    said.unlink(missing_ok=True)
    # Each tensor gets an allocation of its own, so that accesses beyond it are found.
    variables = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    status = run_command(arguments, said, job.seconds_left - 3, variables=variables)
    return status, take(said)


def take(path: Path) -> str:
    """Read a file and remove it."""
    text = path.read_text(errors="replace")
    path.unlink()
    return text


def judge(job: Job, tool: str, status: int | None, output: str) -> None:
    """Record whether a tool found errors in fvfast, from its exit status and its output."""
    with (job.folder / OUTPUT).open("a") as file:
        file.write(f"# {tool}\n{output}\n")
    findings = read_findings(output)
    parts = output.count(RAN)
    finished = status == 0 and DONE in output and findings.total is not None
    elsewhere = max(0, (findings.total or 0) - len(findings.own))
    job.records.add(
        "tool", tool=tool,
        **{
            "ran to its end": "yes" if finished else "no",
            "parts run": parts,
            "errors in fvfast": len(findings.own),
            "errors elsewhere": elsewhere,
        },
    )  # fmt: skip
    what = f"compute-sanitizer {tool}"
    if findings.own:
        message = f"{len(findings.own)} errors in kernels of fvfast"
        job.records.fail(what, message, "\n\n".join(findings.own[:5]))
    elif status is None and parts:
        job.records.leave_out(what, f"ended at its limit after {parts} parts without an error")
    elif not finished:
        end = "\n".join(output.splitlines()[-30:])
        job.records.fail(what, f"did not run to its end, exit status {status}", end)
