"""Keeps how far a pass over images has come in a file, for the next call to go on from."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fvfast.atlas.examples.units import ChosenUnits
from fvfast.files.arrays import read_arrays
from fvfast.files.writing import replacing

_FORMAT = 1
_LARGEST = 2**36  # bytes: a file of this program's own, whose arrays are as large as the run's
_STATE = (
    "values", "images", "positions", "total", "seen", "active", "counts", "lowest", "highest"
)  # fmt: skip


@dataclasses.dataclass
class Progress:
    """How far a pass has come, besides what is known of the units.

    Attributes
    ----------
    end
        How many images were tried.
    read
        How many of them could be read.
    unreadable
        How many could not be read.
    named
        The first of those, with the reasons.
    names
        Source and label of images that are among the best, by number.
    pixels
        (H, W, C) of such images, if the source cannot be read again.
    """

    end: int = 0
    read: int = 0
    unreadable: int = 0
    named: list[str] = dataclasses.field(default_factory=list)
    names: dict[int, tuple[str, str | None]] = dataclasses.field(default_factory=dict)
    pixels: dict[int, np.ndarray[Any, np.dtype[np.uint8]]] = dataclasses.field(default_factory=dict)


def run_key(
    model: nn.Module,
    chosen: Sequence[ChosenUnits],
    settings: Mapping[str, Any],
    listing: str,
) -> dict[str, str]:
    """Return checksums of all that a pass depends on, by what they are of.

    Parameters
    ----------
    model
        The network.
    chosen
        The units.
    settings
        Everything else, ready for JSON.
    listing
        Checksum of the images' listing.
    """
    units = hashlib.sha256()
    for one in chosen:
        described = (one.layer.name, one.layer.key, one.kind, one.indices, one.channel_axis)
        units.update(repr(described).encode())
        if one.directions is not None:
            units.update(one.directions.numpy().tobytes())
    text = json.dumps(settings, sort_keys=True)
    return {
        "network": weights_digest(model),
        "units": units.hexdigest(),
        "settings": hashlib.sha256(text.encode()).hexdigest(),
        "images": listing,
    }


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 of a network's parameters and buffers with their names, as hex digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(
        {**dict(model.named_parameters()), **dict(model.named_buffers())}.items()
    ):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\0".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def described(function: object) -> str:
    """Return a text for a function that is the same in another process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(function))


def write_checkpoint(
    path: Path, key: Mapping[str, str], progress: Progress, state: Mapping[str, torch.Tensor]
) -> None:
    """Write a checkpoint; until it is complete, the one of before stays.

    Parameters
    ----------
    path
        Of the file.
    key
        What `run_key` returned.
    progress, state
        How far the pass has come, and what it knows.
    """
    numbers = sorted(progress.pixels)
    record = {
        "format": _FORMAT,
        "key": dict(key),
        "end": progress.end,
        "read": progress.read,
        "unreadable": progress.unreadable,
        "named": progress.named,
        "names": {str(number): names for number, names in progress.names.items()},
        "pixels": numbers,
    }
    arrays: dict[str, Any] = {name: state[name].numpy() for name in _STATE}
    text = np.frombuffer(json.dumps(record).encode(), dtype=np.uint8)
    stacked = [progress.pixels[number] for number in numbers]
    pixels = np.stack(stacked) if stacked else np.empty(0, np.uint8)
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, record=text, pixels=pixels, **arrays)


def read_checkpoint(
    path: Path, key: Mapping[str, str]
) -> tuple[Progress, dict[str, torch.Tensor]] | None:
    """Read a checkpoint; None if there is none.

    Raises
    ------
    ValueError
        It is damaged, or of other images, units, settings or another network.
    """
    if not path.exists():
        return None
    found = read_arrays(path, ("record", "pixels", *_STATE), _LARGEST)
    if not isinstance(found, dict) or set(found) != {"record", "pixels", *_STATE}:
        raise ValueError(_refused(path, "it is no checkpoint of dataset examples"))
    try:
        record = json.loads(found["record"].tobytes())
        its = record["key"]
        progress = Progress(
            end=record["end"],
            read=record["read"],
            unreadable=record["unreadable"],
            named=record["named"],
            names={int(n): (names[0], names[1]) for n, names in record["names"].items()},
            pixels=dict(zip(record["pixels"], found["pixels"], strict=True)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(_refused(path, f"its record is damaged ({error})")) from error
    if different := [name for name in key if its.get(name) != key[name]]:
        raise ValueError(_refused(path, f"it was made with other {' and '.join(different)}"))
    return progress, {name: torch.from_numpy(found[name].copy()) for name in _STATE}


def _refused(path: Path, why: str) -> str:
    return f"checkpoint {path} does not fit: {why}. Remove it to begin anew, or give another path."
