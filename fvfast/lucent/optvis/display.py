"""Images as arrays, on the screen, and in files."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fvfast.plot import check_writable

_IN_COLOR = (1, 3, 4)


def tensor_to_img_array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return images (N, C, H, W) as an array (N, H, W, C).

    Parameters
    ----------
    tensor
        The images.

    Returns
    -------
    array
        On the CPU, without a gradient.
    """
    return tensor.detach().cpu().numpy().transpose(0, 2, 3, 1)


def picture(images: torch.Tensor | np.ndarray[Any, Any]) -> Image.Image:
    """Return images (N, C, H, W), or an array (N, H, W, C) or (H, W, C), side by side.

    Raises
    ------
    ValueError
        They have neither 1, 3 nor 4 channels.
    """
    array = tensor_to_img_array(images) if isinstance(images, torch.Tensor) else images
    if array.ndim == 4:
        array = np.concatenate(list(array), axis=1)
    if array.ndim != 3 or array.shape[-1] not in _IN_COLOR:
        raise ValueError(
            f"images with {array.shape[-1]} channels cannot be shown or saved as a picture; "
            "expected 1, 3 or 4. Pass show_image=False, and use the arrays that are returned."
        )
    # Values are cut, not rounded, as in Lucent.
    values = (np.clip(array, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)


def view(tensor: torch.Tensor) -> None:
    """Show images (N, C, H, W) side by side in Pillow's viewer, where there is a display.

    Parameters
    ----------
    tensor
        The images.
    """
    if has_display():
        picture(tensor).show()


def has_display() -> bool:
    """Whether pictures can be shown: on a screen, or in a notebook."""
    if sys.platform in ("win32", "darwin"):
        return True
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return True
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def export(tensor: torch.Tensor, image_name: str | None = None) -> None:
    """Save images (N, C, H, W) side by side.

    Parameters
    ----------
    tensor
        The images.
    image_name
        File, whose ending says the format. Default: "image.jpg".
    """
    picture(tensor).save(image_name or DEFAULT_NAME)


DEFAULT_NAME = "image.jpg"


def check_image_name(image_name: Any) -> None:
    """Make sure, before any work, that a file of this name can be written.

    Raises
    ------
    TypeError, ValueError, OSError
        It cannot.
    """
    if not isinstance(image_name, (str, os.PathLike)):
        raise TypeError(f"image_name must be the name of a file, got {image_name!r}.")
    path = Path(image_name)
    file_format = Image.registered_extensions().get(path.suffix.lower())
    if file_format not in Image.SAVE:
        raise ValueError(
            f"image_name {str(image_name)!r} ends in none of the formats that Pillow writes; "
            "expected an ending such as .jpg or .png."
        )
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"image_name {str(image_name)!r}: there is no folder {path.absolute().parent}. Make it "
            "first, or choose another name."
        )
    check_writable(path.absolute().parent)


def notebook_display() -> Callable[[Any], None]:
    """Return the function that shows an object in a notebook.

    Raises
    ------
    ModuleNotFoundError
        IPython is not installed.
    """
    try:
        from IPython.display import display
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "show_inline=True shows pictures in a notebook, through IPython, which is not "
            "installed: pip install ipython, or pass show_inline=False.",
            name=error.name,
        ) from error
    return display


def show(thing: Any) -> None:
    """Show images in a notebook, side by side.

    Parameters
    ----------
    thing
        Array (H, W, C) or (N, H, W, C), or a list of arrays (H, W, C), with values in [0, 1].

    Raises
    ------
    ModuleNotFoundError
        IPython is not installed.
    ValueError
        The images have neither 1, 3 nor 4 channels.
    """
    display = notebook_display()
    array = np.asarray(thing)
    display(picture(array[..., None] if array.ndim == 2 else array))
