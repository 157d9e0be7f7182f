"""Writes files that are either complete or not there."""

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
# What file systems say that have no locks, or nothing to bring to the disk.
_UNSUPPORTED = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends without an error.

    Until then ``path`` is as it was. Several may write the same path at the same time: the last one
    stays. Missing folders are created. A symbolic link stays: what it leads to is replaced. What
    processes that were killed have left unfinished in the folder is removed.

    Parameters
    ----------
    path
        Path of the file.

    Yields
    ------
    file
        To be written.

    Raises
    ------
    OSError
        The file cannot be written, or there is something else than a file under its name.
    """
    target = check_replaceable(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(target.parent)
    unfinished: Path | None = None
    try:
        # Beside the file, because a rename is atomic only within one file system; without the
        # file's name, which may be as long as the file system allows.
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
            if sys.platform != "win32":  # where an open file cannot be renamed
                # Under the lock: without it, others may take the file for one that was left.
                unfinished.replace(target)
        if sys.platform == "win32":
            unfinished.replace(target)
    finally:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)


def check_replaceable(path: Path) -> Path:
    """Make sure that a path can become a file: nothing is there, or a file that can go.

    Parameters
    ----------
    path
        Path of the file.

    Returns
    -------
    target
        The path; of a symbolic link, where it leads.

    Raises
    ------
    OSError
        It is a folder, a device, a pipe or a socket, or cannot be looked at.
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
    """Remove what processes that were killed have left in a folder; leave what is being written.

    Whoever writes holds a lock on the file, which the system takes back when the process ends, in
    whatever way. A number of a process in its name would tell less: another process may have it by
    now, and on another machine or in another container it says nothing. Where the file system has
    no locks, nothing is removed.

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
            # It may be gone by now, or another user's.
            with contextlib.suppress(OSError):
                _remove_unless_locked(folder / name)


def _remove_unless_locked(path: Path) -> None:
    if sys.platform == "win32":
        path.unlink()  # an open file cannot be removed there
        return
    # Whatever else may have such a name is not waited for.
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(descriptor)


def _lock(file: BinaryIO, path: Path) -> bool:
    """Lock a new file; False if another process took it for one that was left, and removed it."""
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
    """Wait until a file is stored: network file systems tell only now that a disk is full."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
