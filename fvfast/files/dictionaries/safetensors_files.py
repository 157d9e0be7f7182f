"""Reads tensors from safetensors files, each when it is asked for."""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from fvfast.files.reading import reason


class SafetensorsFile(Mapping[str, torch.Tensor]):
    """The tensors of a file, by name.

    Parameters
    ----------
    path
        Path of the file.

    Raises
    ------
    ImportError
        The package safetensors is not installed.
    ValueError
        The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            module = importlib.import_module("safetensors")
        except ModuleNotFoundError as error:
            if error.name != "safetensors":
                raise
            raise ImportError(
                f"{path} is a safetensors file, but the package safetensors is not installed; run: "
                "pip install 'fvfast[dictionaries]'"
            ) from error
        try:
            self._file: Any = module.safe_open(path, framework="pt", device="cpu")
        except module.SafetensorError as error:
            raise ValueError(self._damaged(error)) from error
        self._error = module.SafetensorError
        self._names = list(self._file.keys())

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        try:
            tensor: torch.Tensor = self._file.get_tensor(name)
        except self._error as error:
            raise ValueError(self._damaged(error)) from error
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _damaged(self, error: Exception) -> str:
        return (
            f"{self._path} is damaged, or not a safetensors file ({reason(error)}); copy or "
            "download it again."
        )
