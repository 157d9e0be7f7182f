"""The command line of a check."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.records import read_records
from benchmarks.gpu.runner import Runner
from benchmarks.gpu.stages import Stage, choose, with_limits
from benchmarks.gpu.table import short_table, write_report


def run_command_line(
    description: str,
    arguments: Sequence[str] | None,
    stages: Sequence[Stage],
    seconds: float,
    *,
    thorough: bool,
    folder: Path | None = None,
) -> int:
    """Run the stages that a command line names, and return the exit status.

    Parameters
    ----------
    description
        Description of the command, for its help.
    arguments
        Arguments of the command. None: those of this process.
    stages, seconds
        All stages, and the time for all of them together.
    thorough
        Whether there is time for what a quick run leaves out.
    folder
        Folder for the results, if the command line names none.
    """
    parser = argument_parser(description, stages, seconds)
    options = parser.parse_args(arguments)
    output = options.output or folder
    try:
        if options.table is not None:
            print(short_table(read_records(options.table)))
            print(f"everything: {write_report(options.table)}")
            return 0
        if output is None:
            raise ValueError("--output: expected a folder for the results, got none")
        chosen = choose(with_limits(stages, options.limit), options.stages)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    runner = Runner(output, rehearsed=options.rehearse, thorough=thorough, seconds=options.total)
    return 0 if runner.run(chosen) else 1


def argument_parser(
    description: str, stages: Sequence[Stage], seconds: float
) -> argparse.ArgumentParser:
    """Return a parser of the options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for the results")
    names = ", ".join(f"{number} {stage.name}" for number, stage in enumerate(stages))
    parser.add_argument("--stages", help=f"numbers or names out of {names} (default: all)")
    parser.add_argument(
        "--limit", action="append", default=[], metavar="STAGE=SECONDS",
        help="another limit of a stage; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--total", type=float, default=seconds, metavar="SECONDS", help="for all stages together"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="without a GPU: emulated kernels, tiny sizes"
    )
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="print the table of a run")
    return parser
