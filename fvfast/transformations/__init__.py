"""Random transformations of a batch of images, which make the result robust.

Each function returns a function (N, C, H, W) -> (N, C, H', W') that draws anew at each call from
PyTorch's global generator of the CPU, whatever the images' device. Crops, scales and blurs are
drawn once per call for the whole batch, flips once per image.

Source: C. Olah, A. Mordvintsev, L. Schubert, "Feature Visualization" (Distill, 2017); names,
argument order and numbers follow Xplique 2.0.
"""

from fvfast.transformations.chains import Transformation as Transformation
from fvfast.transformations.chains import compose_transformations as compose_transformations
from fvfast.transformations.random_transformations import (
    generate_lucid_transformations as generate_lucid_transformations,
)
from fvfast.transformations.random_transformations import (
    generate_standard_transformations as generate_standard_transformations,
)
from fvfast.transformations.random_transformations import pad as pad
from fvfast.transformations.random_transformations import random_blur as random_blur
from fvfast.transformations.random_transformations import (
    random_blur_grayscale as random_blur_grayscale,
)
from fvfast.transformations.random_transformations import random_flip as random_flip
from fvfast.transformations.random_transformations import random_jitter as random_jitter
from fvfast.transformations.random_transformations import random_scale as random_scale
from fvfast.transformations.steps import resize as resize
