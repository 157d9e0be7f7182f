"""Checks and measures fvfast on an NVIDIA GPU in eight minutes, and loses nothing if killed.

    python -m benchmarks.gpu_quick --output FOLDER [--stages 0,1,kernels] [--limit kernels=120]

It runs in a source tree and installs nothing. Each number is written to FOLDER/results.jsonl before
the next one is measured. ``--table FOLDER`` prints the table of a run that was killed.
``--rehearse`` runs everything on a machine without a GPU, at tiny sizes. See docs/gpu.md.
"""

import sys
from collections.abc import Sequence

from benchmarks.gpu.command import run_command_line
from benchmarks.gpu.stages import QUICK, QUICK_SECONDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages and return the exit status."""
    return run_command_line(str(__doc__), arguments, QUICK, QUICK_SECONDS, thorough=False)


if __name__ == "__main__":
    sys.exit(main())
