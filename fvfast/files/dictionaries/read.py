"""Reads a dictionary from whatever holds one: a folder, a file, or an object in memory."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from fvfast.files.dictionaries.configs import Described, describe, read_config
from fvfast.files.dictionaries.contents import read_contents
from fvfast.files.dictionaries.dictionary import Dictionary
from fvfast.files.dictionaries.layouts import find_directions
from fvfast.files.dictionaries.values import as_directions


class _Folder(NamedTuple):
    """How a library calls the files of a dictionary."""

    weights: str
    config: str
    is_config_needed: bool = False


_FOLDERS = (
    _Folder("sae_weights.safetensors", "cfg.json", is_config_needed=True),  # SAELens
    _Folder("weights.pt", "config.json", is_config_needed=True),  # ViT-Prisma
    _Folder("ae.pt", "config.json"),  # dictionary_learning
    _Folder("sae.pt", "config.json"),  # saev, whose settings are in the same file
)


def read_dictionary(source: str | os.PathLike[str] | Any, *, name: str | None = None) -> Dictionary:
    """Read a dictionary of directions. Nothing is unpickled.

    Parameters
    ----------
    source
        One of

        - a folder of SAELens (``sae_weights.safetensors`` and ``cfg.json``), ViT-Prisma
          (``weights.pt`` and ``config.json``), dictionary_learning (``ae.pt``) or saev
          (``sae.pt``);
        - a file: one of these; of ``torch.save`` or safetensors, with tensors as these libraries or
          overcomplete name them, or with a single one; ``.npy``; ``.npz`` with an array called
          directions, vectors, coef or arr_0, and perhaps one called names. Its content decides, not
          its name. Settings in the same folder are read, too;
        - an object in memory: a tensor or an array, an autoencoder of these libraries, its state
          dict, or anything with a method ``get_dictionary()``.

        Arrays are (N, C), one direction in each row, or (C,).
    name
        Which tensor or array the directions are, where there are several.

    Returns
    -------
    dictionary
        The directions, with what the files say of them.

    Raises
    ------
    OSError
        A file cannot be opened.
    ValueError
        A file is damaged, is a pickle of anything but tensors, or lacks its settings; there are no
        directions in it, or other ones than its settings say; a value is not finite.
    ImportError
        The file needs the package safetensors.
    TypeError
        The object is something else.
    """
    if isinstance(source, Dictionary):
        return source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _of_file(*(_files_of(path) if path.is_dir() else (path, _beside(path))), name)
    return _of_object(source, name)


def _files_of(folder: Path) -> tuple[Path, Path | None]:
    """Return the files with the weights and with the settings in a folder."""
    for one in _FOLDERS:
        weights, config = folder / one.weights, folder / one.config
        if not weights.is_file():
            continue
        if one.is_config_needed and not config.is_file():
            raise ValueError(
                f"{folder} has {one.weights}, but no {one.config}, which says of which layer the "
                f"directions are. Copy it, too, or give {weights} to read the directions alone."
            )
        return weights, config if config.is_file() else None
    *others, last = (one.weights for one in _FOLDERS)
    raise ValueError(
        f"{folder} is no folder of a dictionary; expected one with {', '.join(others)} or {last}, "
        "or a file."
    )


def _beside(weights: Path) -> Path | None:
    """Return the file with the settings beside one that a library would call so."""
    for one in _FOLDERS:
        config = weights.with_name(one.config)
        if weights.name == one.weights and config.is_file():
            return config
    return None


def _of_file(path: Path, config: Path | None, name: str | None) -> Dictionary:
    contents = read_contents(path, name)
    described = contents.described
    if config is not None:
        beside = describe(read_config(config))
        described = beside if described.format is None else described
    directions, saved_by = find_directions(contents.tensors, name, str(path))
    _check_size(directions, described, f"{path} and its settings ({(config or path).name})")
    return Dictionary(
        directions, described.format or saved_by or "array", described.layer, contents.names, path
    )


def _check_size(directions: torch.Tensor, described: Described, what: str) -> None:
    found = tuple(directions.shape)
    said = tuple(
        one if two is None else two
        for one, two in zip(found, (described.count, described.width), strict=True)
    )
    if found != said:
        raise ValueError(
            f"{what} do not belong together: there are {found[0]} directions of {found[1]} "
            f"channels, and the settings say {said[0]} of {said[1]}."
        )


def _of_object(source: Any, name: str | None) -> Dictionary:
    what = f"the {type(source).__name__}"
    if isinstance(source, (torch.Tensor, np.ndarray)):
        return Dictionary(as_directions(source, what))
    if callable(getattr(source, "get_dictionary", None)):
        return Dictionary(as_directions(source.get_dictionary(), what), "overcomplete")
    if isinstance(source, nn.Module):
        source = source.state_dict()
    if isinstance(source, Mapping):
        directions, saved_by = find_directions(source, name, what)
        return Dictionary(directions, saved_by or "array")
    raise TypeError(
        f"a dictionary is read from a path, an array or tensor (N, C), an autoencoder or its state "
        f"dict, got {what[4:]}."
    )
