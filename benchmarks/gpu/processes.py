"""Processes that end at a limit, with all their descendants, and together with this process."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.gpu import launch
from benchmarks.gpu.launch import SET_CHILD_SUBREAPER, control_process

ROOT = Path(__file__).resolve().parent.parent.parent

PATIENCE = 5.0
"""Seconds to wait for killed processes; one that is stuck in a driver is left behind."""


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parents end, so that they can be killed."""
    control_process(SET_CHILD_SUBREAPER, 1)


def tied(command: Sequence[str]) -> list[str]:
    """Return a command that is killed when this process ends, in whatever way."""
    # Not a function between fork and exec: this process may have threads.
    launcher = [sys.executable, "-I", "-S", launch.__file__]
    return [*launcher, str(os.getpid()), *command]


# Beside CUDA graphs, CUPTI crashes if it is shut down and started again with the profiler, so it
# stays. torch sets the same variables for the graphs of its compiler.
KEEP_CUPTI = {"DISABLE_CUPTI_LAZY_REINIT": "1", "TEARDOWN_CUPTI": "0"}


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a process that runs from the source tree, without installation."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **KEEP_CUPTI, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **changes}


def run_command(
    command: Sequence[str],
    log: Path,
    seconds: float,
    *,
    variables: Mapping[str, str] | None = None,
) -> int | None:
    """Run a program, and append its output to a file as it comes.

    Parameters
    ----------
    command
        Program and arguments; it runs in the root of the repository.
    log
        The file, for both streams.
    seconds
        Time limit, after which it is killed with all its descendants.
    variables
        Added to the environment.

    Returns
    -------
    status
        The exit status; None if it was killed at its limit.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            tied(command), cwd=ROOT, env=environment(**(variables or {})),
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        return process.wait(timeout=max(seconds, 0))
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            end_tree(process.pid)
            process.wait(timeout=PATIENCE)


def end_tree(root: int, *, itself: bool = True) -> list[int]:
    """Kill a process and its descendants.

    Parameters
    ----------
    root
        The id of the process.
    itself
        Whether to kill the process, too, not only its descendants.

    Returns
    -------
    left
        Processes that still exist after `PATIENCE` seconds, such as one that is stuck in a driver.
    """
    spared = set() if itself else {root}
    found: set[int] = set()
    # Stop them all first: when a process has ended, its children cannot be found any more, and one
    # that runs may start others.
    while new := _descendants(root) - spared - found:
        _send(signal.SIGSTOP, new)
        found |= new
    _send(signal.SIGKILL, found)
    deadline = time.monotonic() + PATIENCE
    while (living := found & _living().keys()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return sorted(living)


def _send(number: signal.Signals, processes: set[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(process, number)


def _living() -> dict[int, int]:
    """Return the parents of all processes except zombies, which have ended."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # "pid (name) state parent ...", and a name may have blanks and brackets.
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if state not in "ZX":
            parents[int(folder.name)] = int(parent)
    return parents


def _descendants(root: int) -> set[int]:
    """Return a process and its descendants."""
    parents = _living()
    found = {root}
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found
