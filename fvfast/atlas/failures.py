"""Attempts that failed: how often, why, and whether a unit is set aside."""

import dataclasses
import datetime
import json
import platform
import re
import traceback

import torch

from fvfast.atlas.fields import Fields, WrongFileError
from fvfast.atlas.keys import FAILED, FORMAT, UnitKey, indices_of, quoted
from fvfast.atlas.places import Place
from fvfast.atlas.records import check_key
from fvfast.engine.passes import is_out_of_memory

ATTEMPTS = 3
"""After so many, a unit is set aside. Being killed is no attempt."""

_MOST_TRACEBACK = 20_000
# After one of these, everything that the process asks of the device fails in the same way.
_BROKEN_DEVICE = re.compile(r"CUDA error|device-side assert|CUDNN_STATUS|CUBLAS_STATUS|cuFFT error")


class BrokenDeviceError(RuntimeError):
    """The device answers nothing any more in this process, which has to end."""


class NotEnoughMemoryError(RuntimeError):
    """A worker's memory does not hold the pictures that the plan has drawn together."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """What is known of failed attempts to draw a unit.

    Attributes
    ----------
    plan
        Hash of the plan.
    key
        Which unit.
    kind
        What it is.
    attempts
        How many have failed.
    error
        The last one, in a line.
    traceback
        Where it came from.
    host, device
        Where it happened.
    failed_at
        When, in UTC.
    """

    plan: str
    key: UnitKey
    kind: str
    attempts: int
    error: str
    traceback: str
    host: str | None
    device: str | None
    failed_at: str | None

    @property
    def is_set_aside(self) -> bool:
        """Whether no more attempts are made."""
        return self.attempts >= ATTEMPTS

    def encode(self) -> bytes:
        """Return the text of the file."""
        values = dataclasses.asdict(self)
        values |= {
            "format": FORMAT,
            "key": str(self.key),
            "layer": self.key.layer,
            "index": self.key.index,
            "set_aside": self.is_set_aside,
        }
        return f"{json.dumps(values, sort_keys=True)}\n".encode()

    @classmethod
    def parse(cls, data: bytes, key: UnitKey) -> "Failure":
        """Read the text of a unit's file.

        Raises
        ------
        WrongFileError
            A field is missing or of another type, or the file is of another unit.
        """
        fields = Fields.parse(data, key.failure)
        check_key(fields, key)
        return cls(
            plan=fields.text("plan"),
            key=key,
            kind=fields.text("kind"),
            attempts=fields.count("attempts"),
            error=fields.text("error"),
            traceback=fields.text("traceback"),
            host=fields.optional_text("host"),
            device=fields.optional_text("device"),
            failed_at=fields.optional_text("failed_at"),
        )


def failure_of(
    error: BaseException, plan: str, key: UnitKey, kind: str, attempts: int, device: str
) -> Failure:
    """Describe a failed attempt."""
    lines = "".join(traceback.format_exception(error))
    text = str(error).strip()
    return Failure(
        plan, key, kind, attempts,
        error=f"{type(error).__name__}: {text}" if text else type(error).__name__,
        traceback=lines[-_MOST_TRACEBACK:],
        host=platform.node(),
        device=device,
        failed_at=now(),
    )  # fmt: skip


def read_failure(place: Place, key: UnitKey) -> Failure:
    """Read what is known of failed attempts; a damaged file counts as one attempt."""
    try:
        return Failure.parse(place.read(key.failure), key)
    except WrongFileError as error:
        return Failure("", key, "", 1, f"unknown: {error}", "", None, None, None)


def failed_indices(place: Place, layer: str) -> set[int]:
    """Return the units of a layer of which an attempt has failed."""
    return indices_of(place.names(f"{FAILED}/{quoted(layer)}"))


def breaks_device(error: Exception) -> bool:
    """Whether an error leaves the device of this process useless."""
    if runs_out_of_memory(error):
        return False
    accelerator = getattr(torch, "AcceleratorError", None)  # since torch 2.8
    if accelerator is not None and isinstance(error, accelerator):
        return True
    return isinstance(error, RuntimeError) and _BROKEN_DEVICE.search(str(error)) is not None


def runs_out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch may succeed."""
    return isinstance(error, MemoryError) or is_out_of_memory(error)


def now() -> str:
    """Return the time, in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
