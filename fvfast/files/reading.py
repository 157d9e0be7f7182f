"""Finds and opens files without ever blocking, and goes on after those that cannot be read."""

import io
import os
import stat
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

_LONGEST_REASON = 200  # characters: some errors quote the damage


def open_regular(path: Path) -> io.FileIO:
    """Open a regular file for reading, unbuffered.

    Raises
    ------
    OSError
        The file does not exist, is a folder, or cannot be read.
    ValueError
        It is a pipe, a device or a socket, which may give endless bytes, or never any.
    """
    file = io.FileIO(os.fspath(path), opener=_open_without_waiting)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise ValueError(f"{path} is a pipe or a device; expected a regular file.")


def files_below(folder: Path, unlisted: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield everything in a folder and its subfolders, except folders and links to folders.

    Parameters
    ----------
    folder
        Path of the folder.
    unlisted
        Called with the error of each subfolder that cannot be listed.

    Raises
    ------
    OSError
        The folder itself cannot be listed.
    """
    # Not rglob or os.walk: they stop at a path that is too long, skip folders without permission
    # silently, or recurse at each level.
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            with os.scandir(current) as listing:
                entries = list(listing)
        except OSError as error:
            if current is folder:
                raise
            unlisted(error)
            continue
        for entry in entries:
            # Links to folders may lead back up.
            if _is_folder(entry, follow_symlinks=False):
                pending.append(Path(entry.path))
            elif not _is_folder(entry, follow_symlinks=True):
                yield Path(entry.path)


def reason(error: Exception) -> str:
    """Return an error's text, shortened and on one line; without a text, the name of its type."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return textwrap.shorten(text, _LONGEST_REASON, placeholder="...") or type(error).__name__


def _open_without_waiting(path: str, flags: int) -> int:
    # Otherwise opening a named pipe would block until a program writes to it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _is_folder(entry: "os.DirEntry[str]", *, follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:
        # A loop of links, or a path that is too long: not a folder. Opening it will say why.
        return False
