"""Reads and writes the file of a guide: tensors, and a description, in safetensors' format."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fvfast.files.reading import open_regular
from fvfast.files.writing import check_replaceable, replacing

_DESCRIPTION = "fvfast_guide"


def write_guide(path: Path, tensors: Mapping[str, torch.Tensor], description: str) -> None:
    """Write the file, or leave the one that is there as it is."""
    torch_files = _safetensors("safetensors.torch")
    content = torch_files.save(dict(tensors), metadata={_DESCRIPTION: description})
    with replacing(check_replaceable(path)) as file:
        file.write(content)


def read_guide(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Read tensors and description.

    Raises
    ------
    ValueError
        The file is damaged, or none of a guide.
    OSError
        It cannot be opened.
    """
    package = _safetensors("safetensors")
    open_regular(path).close()  # of a folder, safetensors says "No such device"
    try:
        with package.safe_open(path, framework="pt", device="cpu") as file:
            description = (file.metadata() or {}).get(_DESCRIPTION)
            if description is None:
                raise ValueError(f"{path} is not a guide: expected a file that Guide.save wrote.")
            return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118
    except package.SafetensorError as error:
        raise ValueError(f"{path} is damaged, or no file of safetensors: {error}") from error


def _safetensors(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "safetensors":
            raise
        raise ImportError(
            "guides are files of safetensors, a package that is not installed; run: "
            "pip install 'fvfast[dictionaries]'"
        ) from error
