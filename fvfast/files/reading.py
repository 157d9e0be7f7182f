"""Finds and opens files that others made: waits for none, and gives up none for another."""

import io
import os
import stat
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

_LONGEST_REASON = 200  # characters: some errors quote the damage


def open_regular(path: Path) -> io.FileIO:
    """Open a file, unbuffered, to read it, unless it is none that keeps what it holds.

    Raises
    ------
    OSError
        The file is not there, is a folder, or cannot be read.
    ValueError
        It is a pipe, a device or a socket, which may give no end of bytes, or none ever.
    """
    file = io.FileIO(path, opener=_open_without_waiting)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise ValueError(f"{path} is a pipe or a device; expected a regular file.")


def files_below(folder: Path, unlisted: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield all that is in a folder and its subfolders, except folders and links to them.

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
    # Not rglob or os.walk, which end with the first path that is too long, tell nothing of folders
    # without permission, or call themselves for each level.
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
    """Return what an error says, in short and on one line; where it says nothing, its name."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return textwrap.shorten(text, _LONGEST_REASON, placeholder="...") or type(error).__name__


def _open_without_waiting(path: str, flags: int) -> int:
    # Otherwise a named pipe is opened when someone writes to it, and not before.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _is_folder(entry: "os.DirEntry[str]", *, follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:
        # A loop of links, or a path that is too long: no folder to list, and opening says why.
        return False
