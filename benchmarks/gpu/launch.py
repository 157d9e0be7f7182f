"""Becomes another program, which is killed when the process that started it ends in any way.

    python benchmarks/gpu/launch.py PARENT PROGRAM [arguments]

PARENT is the id of the starting process. This needs only the standard library.
"""

import ctypes
import os
import signal
import sys

SET_PARENT_DEATH_SIGNAL, SET_CHILD_SUBREAPER = 1, 36  # of linux/prctl.h


def control_process(option: int, value: int) -> None:
    """Call prctl."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def main() -> None:
    """Become the program."""
    parent, *command = sys.argv[1:]
    control_process(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != int(parent):  # the parent has ended already
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
