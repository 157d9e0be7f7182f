"""Permissions for tests that run as the superuser, who may read and write everywhere."""

import contextlib
import os


@contextlib.contextmanager
def unprivileged(folder):
    """Become "nobody" if the user is the superuser, with access to a folder."""
    user = os.geteuid()
    entered = [path for path in (folder, *folder.parents) if user == 0]
    modes = [(path, path.stat().st_mode) for path in entered]
    for path, mode in modes:
        path.chmod(mode | 0o011)
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        if user == 0:
            os.seteuid(user)
        for path, mode in modes:
            path.chmod(mode)
