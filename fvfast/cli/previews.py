"""Images with other numbers of channels than a picture: all values in one file, some as a picture.

Networks for satellites, microscopes and stacks of frames take 2, 5 or 12 channels.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fvfast.files.writing import replacing

PICTURE_CHANNELS = (1, 3)


def preview_channels(count: int) -> list[int]:
    """Return the channels to show of an image with ``count`` channels: as many as possible."""
    return list(range(max(shown for shown in PICTURE_CHANNELS if shown <= count)))


def save_arrays(
    path: Path,
    image: torch.Tensor,
    transparency: torch.Tensor | None,
    metadata: Mapping[str, Any],
) -> None:
    """Write an image with all its channels as one compressed ``.npz`` file.

    Parameters
    ----------
    path
        Path of the file; an existing file is replaced once the new one is complete.
    image, transparency
        (C, H, W), written as arrays ``image`` and ``transparency``; None is left out.
    metadata
        Keywords and texts, written as JSON in the array ``metadata``.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    arrays: dict[str, Any] = {
        "image": image.numpy(),
        "metadata": np.array(json.dumps(dict(metadata))),
    }
    if transparency is not None:
        arrays["transparency"] = transparency.numpy()
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)
