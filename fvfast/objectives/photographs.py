"""Reads photographs as images that a network takes, and the activations that they cause."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from fvfast.engine.borrowing.randomness import drawn_from
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.network.layers import Layer, Preprocess
from fvfast.engine.passes import run_views
from fvfast.engine.taps import TappedModel
from fvfast.files.images import MEMORY, decode, fit
from fvfast.files.memory_budget import MemoryBudget
from fvfast.transformations.reduction import resize_whole

Photograph = str | os.PathLike[str] | Image.Image | torch.Tensor | np.ndarray[Any, Any]
"""A file, an image of Pillow, an array or a tensor."""

Photographs = Photograph | Sequence[Photograph]

_MODES = {1: "L", 3: "RGB"}


class Reader:
    """Makes an image (C, H, W) of a photograph.

    Parameters
    ----------
    shape
        (C, H, W).
    values_range
        (low, high) of the image.
    """

    def __init__(self, shape: tuple[int, int, int], values_range: tuple[float, float]) -> None:
        self.shape = shape
        self.values_range = values_range

    def read(self, photograph: object) -> torch.Tensor:
        """Return the image: cropped around the center to its aspect, and resized.

        Raises
        ------
        OSError, TypeError, ValueError
            See `fvfast.Objective.inversion`.
        """
        if isinstance(photograph, (str, os.PathLike)):
            path = Path(photograph)
            path.stat()  # an error of the system names the file
            try:
                pixels = decode(path, self.shape[1:], self._mode, MemoryBudget(MEMORY))
            except ValueError as error:
                raise ValueError(f"photograph {path}: {error}") from error
            return self._of_bytes(pixels)
        if isinstance(photograph, Image.Image):
            return self._of_bytes(fit(photograph.copy(), self.shape[1:], self._mode))
        if isinstance(photograph, torch.Tensor):
            return self._of_tensor(photograph.detach().cpu())
        if isinstance(photograph, np.ndarray):
            if photograph.dtype == np.uint8:
                return self._of_array(photograph)
            return self._of_tensor(torch.from_numpy(np.ascontiguousarray(photograph)))
        raise TypeError(
            "a photograph is the path of a file, an image of Pillow, an array or a tensor; got "
            f"{type(photograph).__name__}."
        )

    @functools.cached_property
    def _mode(self) -> str:
        """The mode of Pillow with as many channels as the network takes."""
        channels = self.shape[0]
        if channels not in _MODES:
            raise ValueError(
                f"the network takes images of {channels} channels, and files have 1 or 3: give "
                f"photographs as float tensors ({', '.join(map(str, self.shape))})."
            )
        return _MODES[channels]

    def _of_array(self, pixels: np.ndarray[Any, Any]) -> torch.Tensor:
        if pixels.ndim != 2 and not (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4)):
            raise ValueError(
                f"a photograph of bytes has the shape {pixels.shape}; expected (H, W), (H, W, 3) "
                "or (H, W, 4)."
            )
        flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
        image = Image.fromarray(np.ascontiguousarray(flat))
        return self._of_bytes(fit(image, self.shape[1:], self._mode))

    def _of_bytes(self, pixels: np.ndarray[Any, Any]) -> torch.Tensor:
        low, high = self.values_range
        values = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        return low + (high - low) * values

    def _of_tensor(self, image: torch.Tensor) -> torch.Tensor:
        channels, height, width = self.shape
        if image.ndim != 3 or len(image) != channels:
            raise ValueError(
                f"a photograph has the shape {tuple(image.shape)}; expected ({channels}, H, W). "
                "An array of bytes may have its channels last."
            )
        if image.dtype == torch.uint8:
            return self._of_array(image.permute(1, 2, 0).numpy())
        image = image.float()
        low, high = self.values_range
        # A resized photograph may lie beyond by a rounding error.
        beyond = 1e-3 * (high - low)
        if not bool(((image >= low - beyond) & (image <= high + beyond)).all()):
            raise ValueError(
                f"a photograph has values from {float(image.min()):g} to {float(image.max()):g}; "
                f"expected values_range, ({low:g}, {high:g}), or bytes."
            )
        return resize_whole(_centered(image, height / width)[None], (height, width))[0]


def _centered(image: torch.Tensor, aspect: float) -> torch.Tensor:
    """Crop an image (C, H, W) around its center to an aspect, height over width."""
    height, width = image.shape[1:]
    rows = min(height, max(1, round(width * aspect)))
    columns = min(width, max(1, round(height / aspect)))
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[:, top : top + rows, left : left + columns]


def read_photographs(
    photographs: Photographs, shape: tuple[int, int, int], values_range: tuple[float, float]
) -> tuple[torch.Tensor, list[str]]:
    """Read one photograph or several: (P, C, H, W), and what each is called.

    Parameters
    ----------
    photographs
        See `fvfast.Objective.inversion`.
    shape, values_range
        See `Reader`.
    """
    several: Sequence[Any]
    if isinstance(photographs, (list, tuple)) or getattr(photographs, "ndim", 0) == 4:
        several = list(photographs)  # type: ignore[arg-type]
    else:
        several = [photographs]
    if not several:
        raise ValueError("photograph: expected one or several, got an empty list.")
    reader = Reader(shape, values_range)
    images = torch.stack([reader.read(one) for one in several])
    names = [
        Path(one).stem if isinstance(one, (str, os.PathLike)) else str(index)
        for index, one in enumerate(several)
    ]
    return images, names


def activations_of(
    images: torch.Tensor, model: nn.Module, layer: Layer, preprocess: Preprocess | None
) -> list[torch.Tensor]:
    """Run images through a network, which comes back as it was: a layer's output for each.

    Raises
    ------
    ValueError
        An activation is not finite.
    """
    tapped = TappedModel(model, [layer], preprocess)
    outputs = []
    with torch.inference_mode(False), torch.no_grad(), borrowed(model) as device:
        for image in images:
            # One at a time: the memory that is needed does not grow with their number. A network
            # that draws random numbers draws the same ones for each, and none of the user's.
            with drawn_from(0, 0, device):
                (output,) = run_views(tapped, image[None].to(device))
            outputs.append(output[0].float().cpu())
    for index, output in enumerate(outputs):
        if not bool(output.isfinite().all()):
            raise ValueError(
                f"layer {layer.name!r} puts out numbers that are not finite for photograph {index} "
                "(counted from 0)."
            )
    return outputs
