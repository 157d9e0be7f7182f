"""The stage that reads hardware counters with ncu, for one launch of each kernel."""

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from benchmarks.gpu.job import Job
from benchmarks.gpu.kernel_names import short_name
from benchmarks.gpu.processes import run_command
from benchmarks.gpu.tools import command_of

CSV = "ncu.csv"
ONE_STEP = "benchmarks.gpu.one_step"
LEAST_SECONDS = 12.0
"""The least time for a run of ncu, which starts Python and torch."""

CASES = ((1, 0), (1, 1), (8, 1))
"""Number of images, and index into `CROP_FORMATS`; the most usual case first."""

SECTIONS = (
    "LaunchStats", "Occupancy", "SpeedOfLight", "MemoryWorkloadAnalysis", "SchedulerStats",
    "WarpStateStats",
)  # fmt: skip

METRICS = {
    "us": r"gpu__time_duration\.sum",
    "theoretical occupancy %": r"sm__maximum_warps_per_active_cycle_pct",
    "occupancy %": r"sm__warps_active\.avg\.pct_of_peak_sustained_active",
    "DRAM GB/s": r"dram__bytes\.sum\.per_second",
    "DRAM %": r"(gpu__)?dram__?throughput\.avg\.pct_of_peak_sustained_elapsed",
    "SM %": r"sm__throughput\.avg\.pct_of_peak_sustained_elapsed",
    "issue %": r"smsp__issue_active\.avg\.pct_of_peak_sustained_active",
    "issued a cycle": r"smsp__issue_active\.avg\.per_cycle_active",
    "registers": r"launch__registers_per_thread",
    "shared KB": r"launch__shared_mem_per_block(_dynamic)?",
    "blocks": r"launch__grid_size",
    "threads": r"launch__block_size",
    "waves": r"launch__waves_per_multiprocessor",
}  # fmt: skip
"""Columns, and patterns for ncu's names of them, which differ between its versions."""

_STALL = re.compile(r"smsp__average_warps_issue_stalled_(\w+?)_per_issue_active\.ratio")
_SCALES = {
    ("us", "ns"): 1e-3, ("us", "nsecond"): 1e-3, ("us", "second"): 1e6, ("us", "msecond"): 1e3,
    ("us", "ms"): 1e3, ("us", "s"): 1e6,
    ("DRAM GB/s", "byte/second"): 1e-9, ("DRAM GB/s", "byte/s"): 1e-9,
    ("DRAM GB/s", "Tbyte/second"): 1e3, ("DRAM GB/s", "Mbyte/second"): 1e-3,
    ("DRAM GB/s", "Tbyte/s"): 1e3, ("DRAM GB/s", "Mbyte/s"): 1e-3,
    ("shared KB", "byte/block"): 1e-3, ("shared KB", "byte"): 1e-3,
}  # fmt: skip


def run(job: Job) -> None:
    """Profile one step of each case."""
    ncu = command_of(job, "ncu")
    for images, form in CASES[:1] if job.rehearsed else CASES:
        what = {"images": images, "form": form}
        if job.seconds_left < LEAST_SECONDS:
            job.records.leave_out(f"ncu, {what}", "no time")
            continue
        with job.records.attempt(f"ncu, {what}"):
            said = job.folder / "ncu.unfinished"
            said.unlink(missing_ok=True)
            program = [
                *(sys.executable, "-m", ONE_STEP),
                *("--images", str(images), "--form", str(form)),
                *(["--rehearse"] if job.rehearsed else []),
            ]
            status = run_command([*ncu, *options(), *program], said, job.seconds_left - 2)
            text = said.read_text(errors="replace")
            keep(job.folder / CSV, what, said)
            rows = list(kernel_rows(text))
            for row in rows:
                job.records.add("kernel", **what, **row)
            if status != 0 or not rows:
                end = "\n".join(text.splitlines()[-12:])
                reason = "ended at its limit" if status is None else f"exit status {status}"
                job.records.fail(f"ncu, {what}", f"{reason}, {len(rows)} kernels", end)


def options() -> list[str]:
    """Return the options of ncu: what to measure, and which kernels."""
    return [
        *("--csv", "--page", "raw", "--print-units", "base"),
        *("--profile-from-start", "off", "--clock-control", "none"),
        *("--kernel-name-base", "demangled", "--kernel-name", "regex:fvfast::cuda"),
        *("--print-kernel-base", "demangled"),
        *(word for section in SECTIONS for word in ("--section", section)),
    ]


def keep(path: Path, what: Mapping[str, object], said: Path) -> None:
    """Append ncu's output to the file among the results."""
    with path.open("a") as file:
        file.write(f"# {what}\n{said.read_text(errors='replace')}\n")
    said.unlink()


def kernel_rows(text: str) -> Iterator[dict[str, object]]:
    """Parse the raw page of ncu: names, then units, then one line for each kernel."""
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return
    reader = csv.reader(line for line in lines[start:] if line.startswith('"'))
    names = next(reader)
    units = dict(zip(names, next(reader, []), strict=False))
    for cells in reader:
        values = dict(zip(names, cells, strict=False))
        kernel = values.get("Kernel Name", "")
        if kernel:
            yield {"kernel": short_name(kernel), **columns(values, units), **stalls(values.items())}


def columns(values: Mapping[str, str], units: Mapping[str, str]) -> dict[str, object]:
    """Return the values of one kernel that `METRICS` names."""
    row: dict[str, object] = {}
    for column, pattern in METRICS.items():
        found = [name for name in values if re.fullmatch(pattern, name)]
        number = as_number(values[found[0]]) if found else None
        if number is not None:
            row[column] = number * _SCALES.get((column, units.get(found[0], "")), 1)
    return row


def stalls(values: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Return the three most frequent reasons for stalls, in cycles per instruction."""
    found = []
    for name, text in values:
        reason, number = _STALL.fullmatch(name), as_number(text)
        if reason and number is not None and reason[1] != "selected":
            found.append((number, reason[1]))
    most = sorted(found, reverse=True)[:3]
    return {"stalls": ", ".join(f"{reason} {cycles:.2f}" for cycles, reason in most)}


def as_number(text: str) -> float | None:
    """Parse a number, which may have thousands separators."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None
