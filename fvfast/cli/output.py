"""Standard output and standard error of the console command, whose failure must not stop the work.

A reader that has gone (``| head``), a full disk, a closed terminal, or an encoding without the
characters of a name raise errors wherever something is printed: in the progress bar, a warning, or
the report of a picture. None of them is a reason to lose a picture.
"""

import errno
import io
import sys
from collections.abc import Callable
from typing import Any, TextIO

from fvfast._shared.messages import printable


def say(text: str) -> None:
    """Print a line to standard output, with unprintable characters escaped."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def forgive_lost_output() -> None:
    """Replace the standard streams of this process by streams that never raise an error."""
    sys.stdout = _forgiving(sys.stdout)
    sys.stderr = _forgiving(sys.stderr)


def check_output() -> None:
    """Make sure that standard output was written, for commands whose result it is.

    A reader that closes the pipe early is not an error.

    Raises
    ------
    OSError
        Output was lost, for example on a full disk.
    """
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = raw.failure if isinstance(raw, ForgivingFile) else None
    if failure is not None and failure.errno != errno.EPIPE:
        raise OSError(f"the output could not be written: {failure.strerror or failure}.")


class ForgivingFile(io.RawIOBase):
    """A file that accepts everything and drops what cannot be written.

    Parameters
    ----------
    write
        Writes bytes and returns how many; None drops them all.
    stream
        The stream that this file replaces, for `fileno` and `isatty`; or None.

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
        """Return the file descriptor of the stream."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def write(self, data: Any) -> int:
        """Write all or a first part of the data; drop it if that fails."""
        size = len(data)
        if self._write is None:
            return size
        try:
            written = self._write(data)
        except OSError as error:
            self.failure = self.failure or error
            return size
        return size if written is None else written  # None: writing would block


def _forgiving(stream: TextIO | None) -> TextIO:
    """Return a stream that writes to the same place as another one, as far as possible."""
    buffer = getattr(stream, "buffer", None)
    if stream is None or buffer is None:
        # The stream is None if its file descriptor was closed when Python started.
        return _text(ForgivingFile(None, None), "utf-8", line_buffering=False)
    # Unbuffered (python -u), the buffer is the raw file itself.
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
