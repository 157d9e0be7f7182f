"""Checks and measures fvfast on an NVIDIA GPU, and writes a report.

Run with ``make gpu-check``, or ``python -m benchmarks.gpu_check [--only SECTION ...]``. The report
is ``benchmarks/results/gpu_NAME.md``. The exit status is 1 where a test, a sanitizer or a
measurement failed, and where there is no GPU that fvfast has kernels for.
"""

import argparse
import datetime
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.gpu_contest import hold_contests
from benchmarks.gpu_kernels import operation_tables
from benchmarks.gpu_machine import UnusableError, describe_gpu, find_gpu
from benchmarks.gpu_profile import Launches, NothingSeenError, kernel_rows, profile_steps
from benchmarks.gpu_report import Report, Row, slug
from benchmarks.gpu_sanitizers import run_sanitizers
from benchmarks.gpu_steps import Step, compiled_step, fvfast_step, reference_step
from benchmarks.gpu_suite import run_suite
from benchmarks.gpu_timing import DeviceClock, copy_bandwidth, device_medians, wall_medians
from benchmarks.gpu_work import CROP_FORMATS, Sizes, Work, make_work, name_of
from benchmarks.harness import RESULTS

SIZES = (Sizes(images=1), Sizes(images=8))


def measure_operations(report: Report) -> None:
    """Time each operation, against a copy on the same device."""
    device = torch.device("cuda", torch.cuda.current_device())
    clock = DeviceClock(device)
    bandwidth = copy_bandwidth(device, clock)
    report.note(
        f"A copy of a large tensor moves {bandwidth / 1e9:.0f} GB/s, read and written together."
    )
    report.note(
        "Times are of the device alone: all calls are queued before it begins. MB is what an "
        "operation must read and write, each array once. With a warm cache a call finds what the "
        "one before left, as in a run, and may be faster than a copy; with a cold one it finds "
        "nothing of its data, and the start of a single call counts."
    )
    for title, rows in operation_tables(device, clock, bandwidth, SIZES).items():
        report.table(title, rows)


def measure_steps(report: Report) -> None:
    """Time and profile the step around the network, against the reference."""
    device = torch.device("cuda", torch.cuda.current_device())
    clock = DeviceClock(device)
    bandwidth = copy_bandwidth(device, clock)
    report.note(
        "Render, boxes, crops with noise, their gradient from a given cotangent, transparency, and "
        "the update of the phase: everything but a network. On the wall, steps follow each other "
        "without waiting for the device; there, Python may be what takes the time."
    )
    for sizes in SIZES:
        for dtype, memory_format in CROP_FORMATS:
            work = make_work(sizes, device, dtype, memory_format)
            title = f"{sizes.images} x {sizes.crops} crops, {name_of(dtype, memory_format)}"
            steps = able_steps(report, work, title)
            wall = wall_medians(steps, torch.cuda.synchronize)
            alone = device_medians({"fvfast": steps["fvfast"]}, clock)["fvfast"]
            launches = profiles(report, steps, title)
            report.table(f"Step around the network, {title}", step_rows(wall, launches))
            report.note(f"On the device alone, fvfast's step takes {1e3 * alone:.3f} ms.")
            if "fvfast" in launches:
                rows = kernel_rows(launches["fvfast"], sizes.kernel_bytes(dtype), bandwidth)
                report.table(f"Kernels of fvfast's step, {title}", rows)
            del steps, work
            torch.cuda.empty_cache()


def able_steps(report: Report, work: Work, title: str) -> dict[str, Step]:
    """Return fvfast's step and those of the reference that can be taken here, and note the rest."""
    steps = {"fvfast": fvfast_step(work)}
    makers = {"reference": reference_step, "reference, compiled": compiled_step}
    for name, make in makers.items():
        try:
            step = make(work)
            step()
        except Exception as error:  # noqa: BLE001 - no memory for it, or whatever its compiler raises
            report.skip(f"the step of the {name}, {title}: {_first_line(error)}")
            torch.cuda.empty_cache()
        else:
            steps[name] = step
    return steps


def profiles(report: Report, steps: dict[str, Step], title: str) -> dict[str, Launches]:
    """Return what each step launches; nothing, which is noted, where the profiler does not work."""
    try:
        launches = {
            name: profile_steps(step, torch.cuda.synchronize) for name, step in steps.items()
        }
    except NothingSeenError as error:
        report.skip(f"launches, {title}: {error}")
        return {}
    if not launches["fvfast"].own():
        raise RuntimeError(f"fvfast's step launched none of its kernels, {title}")
    return launches


def step_rows(wall: dict[str, float], launches: dict[str, Launches]) -> list[Row]:
    """Return one row for each kind of step; fvfast is what the others are compared with."""
    return [
        {
            "step": name,
            "wall ms": 1e3 * seconds,
            "times fvfast": seconds / wall["fvfast"],
            **(launches[name].row() if launches else {}),
        }
        for name, seconds in wall.items()
    ]


def measure_contests(report: Report) -> None:
    """Time whole runs of fvfast and of other libraries."""
    torch.cuda.empty_cache()
    hold_contests(report)


SECTIONS: dict[str, tuple[str, Callable[[Report], None]]] = {
    "tests": ("Tests", run_suite),
    "sanitizers": ("Sanitizers", run_sanitizers),
    "operations": ("Operations", measure_operations),
    "steps": ("The step around the network", measure_steps),
    "contests": ("Whole steps, library against library", measure_contests),
}


def run_sections(report: Report, names: Sequence[str]) -> None:
    """Run sections; one that breaks is a failure, and the others go on."""
    for name, (title, run) in SECTIONS.items():
        if name not in names:
            report.skip(f"{title}: not asked for")
            continue
        report.heading(title)
        try:
            run(report)
        except Exception as error:  # noqa: BLE001 - the report is written in any case
            report.fail(f"{name}: {type(error).__name__}: {_first_line(error)}")
            report.log(traceback.format_exc())


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--output", type=Path, help="the report (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    try:
        device = find_gpu()
    except UnusableError as error:
        print(error, file=sys.stderr)
        return 1
    name = torch.cuda.get_device_name(device)
    report = Report(f"fvfast on {name}, {datetime.date.today().isoformat()}")
    path = options.output or RESULTS / f"gpu_{slug(name)}.md"
    try:
        report.table("Machine", describe_gpu(device))
        run_sections(report, options.only)
    finally:
        # Also of what was done before an interrupt.
        report.save(path)
        print(f"written to {path}")
    print(f"{len(report.failures)} failures" if report.failures else "All checks passed.")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
