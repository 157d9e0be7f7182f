"""Reads tensors from files of torch.save, with the unpickler that builds tensors and nothing else.

A pickle may name any function to be called when it is read. torch.load with ``weights_only`` knows
a list of harmless ones and refuses the rest. Only files in the format of torch 1.6 and later are
given to it: a zip archive that is not compressed.
"""

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from fvfast.files.reading import reason

# Names as torch gives them in "Unsupported global: GLOBAL my.module.Class was not an allowed ...".
_REFUSED = re.compile(r"GLOBAL ([\w.]+)")
_NESTED = ("state_dict", "model_state_dict", "model", "autoencoder")
"""Where a checkpoint with more than weights has them."""


def load_tensors(file: IO[bytes], path: Path, where: str = "") -> dict[str, torch.Tensor]:
    """Read what a file of torch.save holds.

    Parameters
    ----------
    file
        The archive, at its start; of a file on disk, tensors are read when they are used.
    path
        Where it is.
    where
        What of the file it is, for messages.

    Returns
    -------
    tensors
        Tensors by name; one alone is called "tensor".

    Raises
    ------
    ValueError
        It is damaged, or holds more than tensors, numbers and texts.
    """
    what = f"{path}{where}"
    try:
        with zipfile.ZipFile(file) as archive:
            packed = [one for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED]
    except Exception as error:
        # The standard library does not document what it raises for damaged archives.
        raise ValueError(_damaged(what, error)) from error
    if packed:
        raise ValueError(f"{what} is compressed; expected an archive as torch.save writes it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how a damaged file might have been written
            if isinstance(file, io.BytesIO):
                file.seek(0)
                loaded = torch.load(file, map_location="cpu", weights_only=True)
            else:
                loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        if refused := _REFUSED.search(str(error)):
            raise ValueError(pickled(what, refused[1])) from error
        raise ValueError(_damaged(what, error)) from error
    except Exception as error:
        # torch may raise any exception for damaged files.
        raise ValueError(_damaged(what, error)) from error
    return _weights(loaded, what)


def pickled(what: str, named: str | None = None) -> str:
    """Return why a pickle is not read, and how to convert it."""
    found = "is a pickle" if named is None else f"is a pickle that names {named}"
    return (
        f"{what} {found}: reading it could run any code, so fvfast does not. If you trust the "
        "file, load it with the library that wrote it, and save the directions alone: "
        'numpy.save("directions.npy", directions), an array (N, C); or torch.save(sae.state_dict()'
        ', "weights.pt").'
    )


def _weights(loaded: Any, what: str) -> dict[str, torch.Tensor]:
    """Look for tensors by name where a checkpoint has more than those."""
    for _ in range(3):
        if isinstance(loaded, torch.Tensor):
            return {"tensor": loaded}
        if not isinstance(loaded, Mapping):
            break
        inner = next((loaded[key] for key in _NESTED if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            return {
                name: value
                for name, value in loaded.items()
                if isinstance(name, str) and isinstance(value, torch.Tensor)
            }
        loaded = inner
    raise ValueError(
        f"{what} holds a {type(loaded).__name__}; expected a tensor, or tensors by name."
    )


def _damaged(what: str, error: Exception) -> str:
    return (
        f"{what} is damaged, or not a file of torch.save ({reason(error)}); copy or download it "
        "again."
    )
