"""The usual parametrization of images."""

from fvfast._shared.checks import check_count
from fvfast.lucent.optvis.param.color import Parameters, to_valid_rgb
from fvfast.lucent.optvis.param.spatial import fft_image, pixel_image


def image(
    w: int,
    h: int | None = None,
    sd: float | None = None,
    batch: int | None = None,
    decorrelate: bool = True,
    fft: bool = True,
    channels: int | None = None,
) -> Parameters:
    """Make images with values in [0, 1].

    Parameters
    ----------
    w, h
        Width and height. Default height: the width.
    sd
        Standard deviation of what is optimized. Default: 0.01.
    batch
        Number of images. Default: 1.
    decorrelate
        Optimize in colors that are not correlated.
    fft
        Optimize Fourier coefficients (True) or pixels (False).
    channels
        Number of channels; if it is given, colors are not correlated. Default: 3.

    Returns
    -------
    params
        List of the tensor that is optimized.
    image_f
        Function without arguments that returns the images (N, C, H, W).

    Raises
    ------
    TypeError, ValueError
        A size is not an integer of at least 1.
    """
    width = check_count(w, "image: w", 1)
    height = width if h is None else check_count(h, "image: h", 1)
    count = 1 if batch is None else check_count(batch, "image: batch", 1)
    depth = 3 if channels is None else check_count(channels, "image: channels", 1)
    shape = (count, depth, height, width)
    params, unbounded = (fft_image if fft else pixel_image)(shape, sd=sd)
    return params, to_valid_rgb(unbounded, decorrelate=decorrelate and channels is None)
