"""Finds which of the requested pictures are already in a folder.

A picture stores how it was made. A picture with the requested settings is not made again, so an
interrupted command goes on where it stopped. Any other file is replaced only if the user says so.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from fvfast._shared.messages import printable, shortened
from fvfast.files.writing import check_replaceable

SETTINGS = "fvfast.settings"
"""Keyword of the settings in a picture, as JSON."""

# Results of a run, and the machine it ran on. They do not make a picture a different one.
_NOT_ASKED_FOR = frozenset(
    {"steps_taken", "score", "versions", "device", "spectrum_file", "photograph_file"}
)
_END_OF_PNG = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_SHOWN = 3


def finished(
    wanted: Iterable[tuple[Path, Mapping[str, Any]]], *, with_arrays: bool, overwrite: bool
) -> set[Path]:
    """Find the pictures that need not be made, and refuse to replace others.

    Parameters
    ----------
    wanted
        Path and settings of each picture.
    with_arrays
        Whether each picture has a file of arrays beside it.
    overwrite
        Whether to make all pictures, even those that exist.

    Returns
    -------
    finished
        Paths of the pictures that exist with these settings and took all their steps.

    Raises
    ------
    FileExistsError
        A file of one of these names is a picture with other settings, or something else.
    OSError
        One of the paths is not a file, but a folder or a device.
    """
    done, others = set(), []
    for path, settings in wanted:
        files = [path, arrays_of(path)] if with_arrays else [path]
        files = [check_replaceable(file) for file in files]
        if overwrite:
            continue
        found = [_settings_of(file) for file in files if file.exists()]
        differing = [why for one in found if (why := _difference(one, settings))]
        if differing:
            others.append(f"{path.name} ({differing[0]})")
        elif len(found) == len(files) and all(map(_took_all_steps, found)):
            done.add(path)
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        what = "is another picture than the one" if len(others) == 1 else "are other pictures than"
        raise FileExistsError(
            f"{', '.join(others[:_SHOWN])}{more} in {path.parent} {what} asked for. Choose another "
            "folder with --out, or replace what is there with --overwrite."
        )
    return done


def arrays_of(path: Path) -> Path:
    """Return the path of the arrays of an image with more channels than its picture shows."""
    return path.with_suffix(".npz")


def _settings_of(path: Path) -> dict[str, Any] | None:
    """Read the settings of a picture or of arrays; None if not made by fvfast, or damaged."""
    try:
        text = _arrays_settings(path) if path.suffix == ".npz" else _picture_settings(path)
        settings = None if text is None else json.loads(text)
    except (ValueError, TypeError, KeyError, EOFError, SyntaxError, UnidentifiedImageError):
        return None
    except OSError as error:
        if error.errno is not None:  # from the system, not from Pillow
            raise
        return None
    return settings if isinstance(settings, dict) else None


def _picture_settings(path: Path) -> str | None:
    with path.open("rb") as file, Image.open(file, formats=["PNG"]) as picture:
        # The settings come before the pixels, which need not be read. A truncated file has no end.
        text = picture.info.get(SETTINGS)
        file.seek(-len(_END_OF_PNG), os.SEEK_END)
        return str(text) if text is not None and file.read() == _END_OF_PNG else None


def _arrays_settings(path: Path) -> str | None:
    with np.load(path, allow_pickle=False) as content:
        return str(json.loads(str(content["metadata"]))[SETTINGS])


def _difference(found: Mapping[str, Any] | None, asked: Mapping[str, Any]) -> str:
    """Return how settings differ; empty if they do not."""
    if found is None:
        return "not made by fvfast, or damaged"
    wanted = json.loads(json.dumps(asked))
    names = [
        name
        for name in dict.fromkeys((*wanted, *found))
        if name not in _NOT_ASKED_FOR and wanted.get(name) != found.get(name)
    ]
    return ", ".join(
        f"{printable(name)} {_shown(found.get(name))} instead of {_shown(wanted.get(name))}"
        for name in names[:_SHOWN]
    ) + (", ..." if len(names) > _SHOWN else "")


def _shown(value: Any) -> str:
    return shortened(printable(json.dumps(value)), 60)


def _took_all_steps(settings: Mapping[str, Any] | None) -> bool:
    return settings is not None and settings.get("steps_taken") == settings.get("nb_steps")
