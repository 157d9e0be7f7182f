"""A small photograph, in the forms in which a user may have one."""

import numpy as np
import torch
from PIL import Image


def array_of(height=24, width=36):
    """8-bit RGB values (H, W, 3) of a smooth picture, with black and white in it."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [np.sin(rows / 5 + k) * np.cos(columns / (4 + k)) for k in range(3)]
    picture = np.stack(channels, axis=-1)
    return ((picture - picture.min()) / np.ptp(picture) * 255).round().astype(np.uint8)


def forms_of(array, folder, values_range):
    """The same photograph as a file, a PIL image, arrays and tensors, by name."""
    low, high = values_range
    Image.fromarray(array).save(folder / "photograph.png")
    unit = torch.from_numpy(array).double() / 255
    return {
        "path": folder / "photograph.png",
        "text": str(folder / "photograph.png"),
        "PIL image": Image.fromarray(array),
        "8-bit array": array,
        "array of [0, 1]": array / 255,
        "8-bit tensor": torch.from_numpy(array).permute(2, 0, 1),
        "tensor of the range": (low + unit * (high - low)).permute(2, 0, 1).float(),
    }
