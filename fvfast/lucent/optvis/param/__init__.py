"""What is optimized, and the images that it makes: Lucent's ``param``.

Each function returns a list of tensors, and a function without arguments that returns the images.
"""

from typing import NoReturn

from fvfast.lucent.optvis.param.color import to_valid_rgb as to_valid_rgb
from fvfast.lucent.optvis.param.cppn import CompositeActivation as CompositeActivation
from fvfast.lucent.optvis.param.cppn import cppn as cppn
from fvfast.lucent.optvis.param.images import image as image
from fvfast.lucent.optvis.param.lowres import lowres_tensor as lowres_tensor
from fvfast.lucent.optvis.param.spatial import fft_image as fft_image
from fvfast.lucent.optvis.param.spatial import pixel_image as pixel_image


def upconvGAN(*_args: object, **_settings: object) -> NoReturn:  # noqa: N802 (Lucent's name)
    """Say what to use in place of Lucent's generator, whose weights Lucent downloads.

    Raises
    ------
    NotImplementedError
        Always.
    """
    raise NotImplementedError(
        "upconvGAN: fvfast does not have the weights of this generator, which Lucent downloads. "
        "Load a generator yourself, and pass a param_f that returns its codes and a "
        "function of the image: param_f = lambda: ([codes], lambda: generator(codes))."
    )
