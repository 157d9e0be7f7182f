"""Where an atlas is: a folder, or what fsspec reaches by an address, such as ``s3://bucket/name``.

A file appears under its name only when it is complete. A place that goes away and comes back is
waited for, and so is a disk that is full.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from fvfast._shared.messages import warn_user
from fvfast.atlas.content_types import content_type
from fvfast.atlas.keys import PLAN
from fvfast.atlas.patience import PATIENCE, GoneError, Patience, described
from fvfast.files.writing import remove_unfinished, replacing
from fvfast.plot.png import check_writable

_UNFINISHED = ".fvfast-"

# Object storage: an object is there when its one PUT has succeeded, and cannot be renamed.
_OBJECTS = frozenset(
    {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "r2", "memory"}
)


def _say(text: str) -> None:
    warn_user(text, RuntimeWarning)


class Place:
    """A folder, or an address that fsspec knows, to read an atlas from and write it to.

    Parameters
    ----------
    address
        A path, or an address such as ``s3://bucket/folder``.
    options
        What fsspec's file system takes, such as an endpoint; None for its defaults and what its
        environment variables say.
    patience
        Seconds for which the place is waited for when it is away or full; with 0, what a file
        system raises is raised at once.
    say
        Called with a line when the place goes away, and when it is back. Default: a warning.
    sleep
        Waits; for tests.

    Attributes
    ----------
    address
        As it was given; a path is made absolute.

    Raises
    ------
    ImportError
        fsspec needs another package for such an address: the message says which.
    ValueError
        There are no such addresses.
    """

    def __init__(
        self,
        address: str | os.PathLike[str],
        *,
        options: Mapping[str, Any] | None = None,
        patience: float = PATIENCE,
        say: Callable[[str], None] = _say,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = os.fspath(address)
        self.options = dict(options or {})
        self.patience = patience
        self._is_begun = False
        # Without a cache of listings, which would not show what other machines write.
        self._fs, self._root = fsspec.core.url_to_fs(
            self.address, use_listings_cache=False, skip_instance_cache=True, **self.options
        )
        if patience:
            _let_fail_at_once(self._fs)
        self._folder: Path | None = None
        if type(self._fs) is LocalFileSystem:
            self._folder = Path(self._root)
            self.address = self._root
        protocols = self._fs.protocol
        self._protocols = frozenset((protocols,) if isinstance(protocols, str) else protocols)
        self._persist = Patience(self.address, patience, say, sleep).persist

    def __repr__(self) -> str:
        return f"Place({self.address!r})"

    @property
    def arguments(self) -> dict[str, Any]:
        """What another process makes the same place of."""
        return {"address": self.address, "options": self.options, "patience": self.patience}

    def begin(self) -> None:
        """From now on, a folder without a plan has gone, and is not made anew."""
        self._is_begun = True

    def check_writable(self) -> None:
        """Make sure, before any work, that files can be written.

        Raises
        ------
        OSError
            They cannot: the message says why.
        """
        if self._folder is not None:
            check_writable(self._folder)
            return
        probe = self._path(f"{_UNFINISHED}{uuid.uuid4().hex}.unfinished")
        try:
            self._write(probe, b"x")
        except Exception as error:
            # Libraries of storage have exceptions of their own.
            kind = PermissionError if isinstance(error, PermissionError) else OSError
            raise kind(
                f"files cannot be written to {self.address} ({described(error)}). Check the "
                "address, the credentials and the endpoint, or choose another place."
            ) from error
        # A place may allow to write, and not to remove.
        with contextlib.suppress(PermissionError):
            self._fs.rm_file(probe)

    def put(self, name: str, data: bytes) -> None:
        """Write a file, which appears under its name when it is complete.

        Raises
        ------
        PlaceLostError
            The place stayed away, or full.
        OSError
            The file cannot be written.
        """
        self._persist(lambda: self._write(self._path(name), data), f"write {name}", missing=False)

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises
        ------
        FileNotFoundError
            There is none.
        PlaceLostError
            The place stayed away.
        """
        return self._persist(lambda: self._read(name), f"read {name}")

    def exists(self, name: str) -> bool:
        """Whether there is a file."""
        return bool(self._persist(lambda: self._exists(name), f"look for {name}"))

    def names(self, folder: str) -> list[str]:
        """Return the names of the finished files in a folder; none if there is no such folder."""
        return self._persist(lambda: self._names(folder), f"list {folder}")

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._persist(lambda: self._fs.rm_file(self._path(name)), f"remove {name}")

    def tidy(self, folder: str) -> None:
        """Remove what killed processes have left unfinished in a folder of this machine."""
        if self._folder is not None:
            remove_unfinished(self._folder / folder)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _write(self, path: str, data: bytes) -> None:
        if self._folder is not None:
            self._check_there()
            within = self._folder if self._is_begun else None
            try:
                with replacing(Path(path), tidy=False, within=within) as file:
                    file.write(data)
            except FileNotFoundError:
                self._check_there()  # it may have gone while the file was written
                raise
        elif self._protocols & _OBJECTS:
            self._fs.pipe_file(path, data, **content_type(path, self._protocols))
        else:
            folder, _, name = path.rpartition("/")
            unfinished = f"{folder}/{_UNFINISHED}{uuid.uuid4().hex}.unfinished"
            self._fs.makedirs(folder, exist_ok=True)
            try:
                self._fs.pipe_file(unfinished, data)
                self._fs.mv(unfinished, f"{folder}/{name}")
            except BaseException:
                with contextlib.suppress(OSError):
                    self._fs.rm_file(unfinished)
                raise

    def _read(self, name: str) -> bytes:
        try:
            return bytes(self._fs.cat_file(self._path(name)))
        except FileNotFoundError:
            self._check_there()
            raise

    def _exists(self, name: str) -> bool:
        found = bool(self._fs.exists(self._path(name)))
        if not found:
            self._check_there()
        return found

    def _names(self, folder: str) -> list[str]:
        try:
            if self._folder is not None:
                names = os.listdir(self._folder / folder)
            else:
                found = self._fs.ls(self._path(folder), detail=False)
                names = [path.rstrip("/").rpartition("/")[2] for path in found]
        except FileNotFoundError:
            self._check_there()
            return []
        return [name for name in names if not name.startswith(_UNFINISHED)]

    def _check_there(self) -> None:
        if self._is_begun and self._folder is not None and not (self._folder / PLAN).exists():
            raise GoneError(f"{PLAN} is not there")


def _let_fail_at_once(system: Any) -> None:
    """Have a library of storage try once: while it tries again by itself, nobody is told."""
    if hasattr(system, "retries"):  # of s3fs and gcsfs
        system.retries = 1
    if hasattr(system, "config_kwargs"):  # of botocore, which s3fs connects with later
        system.config_kwargs = {"retries": {"total_max_attempts": 1}, **system.config_kwargs}
