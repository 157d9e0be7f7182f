"""Standard output and error of the console command, which nothing of its work depends on.

A reader that has gone (``| head``), a full disk, a terminal that was closed and an encoding that
cannot say a name raise errors wherever something is printed: in the progress bar, in a warning, in
the report of a picture. None of them is a reason to lose a picture.
"""

import errno
import io
import sys
from collections.abc import Callable
from typing import Any, TextIO

from fvfast._shared.messages import printable


def say(text: str) -> None:
    """Print a line to standard output, whatever is in it."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def forgive_lost_output() -> None:
    """Put streams that never raise an error in place of the standard ones of this process."""
    sys.stdout = _forgiving(sys.stdout)
    sys.stderr = _forgiving(sys.stderr)


def check_output() -> None:
    """Make sure that standard output has been written, for commands whose result it is.

    A reader that has seen enough is no error.

    Raises
    ------
    OSError
        Something was lost, such as on a full disk.
    """
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = raw.failure if isinstance(raw, ForgivingFile) else None
    if failure is not None and failure.errno != errno.EPIPE:
        raise OSError(f"the output could not be written: {failure.strerror or failure}.")


class ForgivingFile(io.RawIOBase):
    """A file that takes everything: what cannot be written is dropped.

    Parameters
    ----------
    write
        Writes bytes and returns how many; None drops them all.
    stream
        What it stands for, asked for its number and whether it is a terminal; or None.

    Attributes
    ----------
    failure
        The first error, or None.
    """

    def __init__(self, write: Callable[[Any], int | None] | None, stream: TextIO | None) -> None:
        self._write = write
        self._stream = stream
        self.failure: OSError | None = None

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """Return the number of the stream."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def write(self, data: Any) -> int:
        """Write, or drop, all or a first part of it."""
        size = len(data)
        if self._write is None:
            return size
        try:
            written = self._write(data)
        except OSError as error:
            self.failure = self.failure or error
            return size
        return size if written is None else written  # None: it would have to wait


def _forgiving(stream: TextIO | None) -> TextIO:
    """Return a stream that writes where another one does, if it can."""
    buffer = getattr(stream, "buffer", None)
    if stream is None or buffer is None:
        # Python has no stream where its number was closed.
        return _text(ForgivingFile(None, None), "utf-8", line_buffering=False)
    # Unbuffered (python -u), there is no file below.
    raw = getattr(buffer, "raw", buffer)
    return _text(
        ForgivingFile(raw.write, stream),
        stream.encoding,
        line_buffering=bool(stream.line_buffering),
    )


def _text(raw: ForgivingFile, encoding: str, *, line_buffering: bool) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=line_buffering,
    )
