"""Checks and measures fvfast on an NVIDIA GPU for hours, with every test and contest.

Run with ``make gpu-check``, or ``python -m benchmarks.gpu_check [--stages tests,kernels]``. The
stages are those of `benchmarks.gpu_quick`, with more work and more time, and contests with other
libraries. Each stage adds to the report: report.md in ``benchmarks/results/gpu_NAME``. The exit
status is 1 if a test, a tool or a measurement failed, or if there is no GPU.
"""

import sys
from collections.abc import Sequence

from benchmarks.gpu.command import run_command_line
from benchmarks.gpu.machine import query_gpu
from benchmarks.gpu.stages import CHECK
from benchmarks.gpu.table import slug
from benchmarks.harness import RESULTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages and return the exit status."""
    gpu = query_gpu()
    name = gpu["name"] if isinstance(gpu, dict) else "none"
    return run_command_line(
        str(__doc__), arguments, CHECK, sum(stage.seconds for stage in CHECK), thorough=True,
        folder=RESULTS / f"gpu_{slug(name)}",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
