"""Writes files so that they are either complete or do not exist."""

import contextlib
import errno
import os
import stat
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

_PREFIX, _SUFFIX = ".fvfast-", ".unfinished"
# Errors of file systems without locks or without fsync.
_UNSUPPORTED = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def replacing(path: Path, *, tidy: bool = True, within: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` when the block ends without an error.

    Until then ``path`` is unchanged. If several processes write the same path at the same time, the
    last one wins. Missing folders are created. A symbolic link is kept, and the file that it leads
    to is replaced. Unfinished files that killed processes have left in the folder are removed.

    Parameters
    ----------
    path
        Path of the file.
    tidy
        Whether to remove unfinished files, which takes longer the more files the folder has.
    within
        A folder above the file that is not created: if it is missing, it has gone.

    Yields
    ------
    file
        The file to write to.

    Raises
    ------
    OSError
        The file cannot be written, or there is something other than a file under its name.
    """
    target = check_replaceable(path)
    _make_folders(target.parent, within)
    if tidy:
        remove_unfinished(target.parent)
    unfinished: Path | None = None
    try:
        # In the same folder, because a rename is atomic only within one file system. Not named
        # after the file, whose name may be as long as the file system allows.
        while True:
            unfinished = target.with_name(f"{_PREFIX}{uuid.uuid4().hex}{_SUFFIX}")
            file = unfinished.open("xb")
            if _lock(file, unfinished):
                break
            file.close()
        with file:
            yield file
            file.flush()
            _bring_to_disk(file)
            check_replaceable(target)
            if sys.platform != "win32":  # Windows cannot rename an open file
                # Under the lock, so that no other process takes the file for one left behind.
                unfinished.replace(target)
        if sys.platform == "win32":
            unfinished.replace(target)
    finally:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)


def _make_folders(folder: Path, within: Path | None) -> None:
    if within is None or not folder.is_relative_to(within):  # a link may lead elsewhere
        folder.mkdir(parents=True, exist_ok=True)
        return
    # One by one, so that there is no moment at which the first one could be made, too.
    for depth in range(len(folder.relative_to(within).parts) - 1, -1, -1):
        [folder, *folder.parents][depth].mkdir(exist_ok=True)


def check_replaceable(path: Path) -> Path:
    """Make sure that a file can be written at a path: nothing is there, or a regular file.

    Parameters
    ----------
    path
        Path of the file.

    Returns
    -------
    target
        The path; for a symbolic link, the path that it leads to.

    Raises
    ------
    OSError
        The path is a folder, a device, a pipe or a socket, or cannot be inspected.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISREG(mode):
        return target
    kinds = {
        "a folder": stat.S_ISDIR,
        "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
        "a pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
    }
    kind = next((name for name, test in kinds.items() if test(mode)), "something else")
    refused = IsADirectoryError if stat.S_ISDIR(mode) else FileExistsError
    raise refused(
        f"{path} is {kind}; expected the name of a file, which is written beside it first and then "
        "takes its place."
    )


def remove_unfinished(folder: Path) -> None:
    """Remove unfinished files that killed processes have left in a folder.

    A process that writes a file holds a lock on it, which the system releases when the process ends
    in any way. A process number in the file's name would not do: another process may have the same
    number by now, and it means nothing on another machine or in another container. If the file
    system has no locks, nothing is removed.

    Parameters
    ----------
    folder
        Path of the folder, which need not exist.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX)
        ]
        for name in names:
            # The file may be gone by now, or belong to another user.
            with contextlib.suppress(OSError):
                _remove_unless_locked(folder / name)


def _remove_unless_locked(path: Path) -> None:
    if sys.platform == "win32":
        path.unlink()  # an open file cannot be removed there
        return
    # O_NONBLOCK: something else, such as a pipe, may have such a name.
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(descriptor)


def _lock(file: BinaryIO, path: Path) -> bool:
    """Lock a new file; False if another process took it for one left behind and removed it."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _bring_to_disk(file: BinaryIO) -> None:
    """Wait until a file is stored: network file systems report a full disk only then."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
