"""What a stage is given; run as a module, this is the process of one stage.

python -m benchmarks.gpu.job MODULE NAME --output FOLDER --seconds 60 [--rehearse]
"""

import argparse
import dataclasses
import importlib
import sys
import time
from pathlib import Path

from benchmarks.gpu.records import Records

LOG = "log.txt"


@dataclasses.dataclass(frozen=True)
class Job:
    """One stage of one run.

    Attributes
    ----------
    records
        The results file.
    folder
        Folder for all other files to bring back.
    rehearsed
        Whether the emulated kernels replace the GPU, at tiny sizes.
    thorough
        Whether there is time for what a quick run leaves out.
    deadline
        When the stage will be killed, on the clock `time.monotonic`.
    """

    records: Records
    folder: Path
    rehearsed: bool
    thorough: bool
    deadline: float

    @property
    def seconds_left(self) -> float:
        """Seconds until the stage will be killed."""
        return self.deadline - time.monotonic()

    @property
    def log(self) -> Path:
        """The file for the output of programs."""
        return self.folder / LOG


def main() -> int:
    """Run one stage."""
    parser = argparse.ArgumentParser(description="Runs one stage.")
    parser.add_argument("module")
    parser.add_argument("name")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--thorough", action="store_true")
    options = parser.parse_args()
    job = Job(
        Records(options.output, options.name),
        options.output,
        options.rehearse,
        options.thorough,
        time.monotonic() + options.seconds,
    )
    with job.records.attempt(f"the stage {options.name}"):
        importlib.import_module(options.module).run(job)
    return 1 if job.records.failures else 0


if __name__ == "__main__":
    sys.exit(main())
