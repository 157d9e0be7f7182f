"""Fused operations, with kernels for the CPU and CUDA and a reference in PyTorch."""

from fvfast.ops.crop_resize import crop_and_resize, crop_and_resize_grouped, random_crops
from fvfast.ops.noise import inject_noise, inject_noise_
from fvfast.ops.phase_to_image import phase_to_image
from fvfast.ops.phase_update import phase_update_
from fvfast.ops.pyramid import pyramid_to_image

__all__ = [
    "crop_and_resize",
    "crop_and_resize_grouped",
    "inject_noise",
    "inject_noise_",
    "phase_to_image",
    "phase_update_",
    "pyramid_to_image",
    "random_crops",
]
