"""Shows images in a notebook."""

from typing import Any

import numpy as np

from fvfast.lucent.optvis.display import notebook_display, picture


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
