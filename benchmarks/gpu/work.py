"""The arrays of a step around the network, and the bytes that each part of it must move."""

import copy
import dataclasses
from typing import Any

import torch

from benchmarks.step_parts import COMPLEX, FLOAT
from fvfast import Spectrum
from fvfast.ops.philox import Purpose, draw_normal

SEED = 0
RANGE = (-1.0, 1.0)
NOISE = 0.08

CROP_FORMATS = (
    (torch.float32, torch.contiguous_format),
    (torch.bfloat16, torch.channels_last),
)
"""Types and memory formats in which networks take crops."""

BOX_SIZES = (0.5, 0.25, 0.05)
"""Mean sides of the boxes: at the beginning of a run, in its middle, at its end."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of the arrays.

    Attributes
    ----------
    images
        N, the number of images.
    image, crop
        Height and width of the images, and of their crops.
    crops
        K, the number of crops of each image.
    channels
        C, the number of channels.
    """

    images: int = 1
    image: int = 512
    crops: int = 32
    crop: int = 224
    channels: int = 3

    @property
    def image_bytes(self) -> int:
        """Bytes of all images."""
        return FLOAT * self.images * self.channels * self.image**2

    @property
    def bins(self) -> int:
        """Number of bins of the half spectrum of one image."""
        return self.channels * self.image * (self.image // 2 + 1)

    @property
    def phase_bytes(self) -> int:
        """Bytes of the phases of all images, or of one of the averages."""
        return FLOAT * self.images * self.bins

    @property
    def magnitude_bytes(self) -> int:
        """Bytes of the magnitude, which the images share."""
        return FLOAT * self.bins

    @property
    def half_image_bytes(self) -> int:
        """Bytes of the complex arrays between the two transforms."""
        return COMPLEX * self.images * self.bins

    def crop_bytes(self, dtype: torch.dtype) -> int:
        """Return the bytes of all crops."""
        return dtype.itemsize * self.images * self.crops * self.channels * self.crop**2

    def kernel_bytes(self, dtype: torch.dtype) -> dict[str, int]:
        """Return what each kernel of a step reads and writes, each array once."""
        phase, magnitude, image = self.phase_bytes, self.magnitude_bytes, self.image_bytes
        half, crops = self.half_image_bytes, self.crop_bytes(dtype)
        return {
            "columns_kernel": phase + magnitude + half,
            "image_rows_kernel": half + image,
            "boxes_kernel": 4 * FLOAT * self.images * self.crops,
            "crop_kernel": image + crops,
            # With the transparency, by whichever of the three kernels.
            "crop_gradient_kernel": crops + 3 * image,
            "crop_gradient_cluster_kernel": crops + 3 * image,
            "add_parts_kernel": 7 * image,  # four parts, the gradient, and the transparency twice
            "gradient_rows_kernel": 2 * image + half,
            "gradient_columns_kernel": half + 2 * phase + magnitude,
            "phase_update_kernel": 7 * phase,
        }


@dataclasses.dataclass
class Work:
    """Everything that a step around the network reads and writes.

    Attributes
    ----------
    crops
        Type and memory format of the crops, as `fvfast.ops.random_crops` takes them.
    phase, magnitude, exp_avg, exp_avg_sq, transparency
        As in a run.
    cotangent
        Replaces the gradient of the crops, which a network would compute.
    step
        The number of the step, on the device.
    box
        Mean side of the boxes, as a fraction of the image.
    """

    sizes: Sizes
    crops: dict[str, Any]
    phase: torch.Tensor
    magnitude: torch.Tensor
    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor
    transparency: torch.Tensor
    cotangent: torch.Tensor
    step: torch.Tensor
    box: float

    @property
    def identities(self) -> list[int]:
        """Identities of the images."""
        return list(range(self.sizes.images))

    def copy(self) -> "Work":
        """Return a copy in new memory."""
        fields = vars(self).items()
        return Work(
            **{k: v.clone() if isinstance(v, torch.Tensor) else copy.copy(v) for k, v in fields}
        )

    @property
    def noise(self) -> dict[str, Any]:
        """The noise, as the operations take it."""
        return {"std": NOISE, "seed": SEED, "identities": self.identities, "step": self.step}


def make_work(
    sizes: Sizes,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
    box: float = BOX_SIZES[1],
) -> Work:
    """Make the arrays, with the same values in every call.

    Parameters
    ----------
    sizes, device
        Their sizes, and where they are.
    dtype, memory_format
        Of the crops.
    box
        Mean side of the boxes.
    """

    def normal(*shape: int) -> torch.Tensor:
        (numbers,) = draw_normal(
            shape, seed=SEED, purpose=Purpose.STATE, identities=[0], device=device
        )
        return numbers

    magnitude = Spectrum.natural().magnitude(sizes.image, sizes.image).to(device)
    phase = normal(sizes.images, *magnitude.shape)
    transparency = torch.zeros(
        sizes.images, sizes.channels, sizes.image, sizes.image, device=device
    )
    cotangent = normal(sizes.images * sizes.crops, sizes.channels, sizes.crop, sizes.crop)
    return Work(
        sizes=sizes,
        crops={"dtype": dtype, "memory_format": memory_format},
        phase=phase,
        magnitude=magnitude,
        exp_avg=torch.zeros_like(phase),
        exp_avg_sq=torch.zeros_like(phase),
        transparency=transparency,
        cotangent=cotangent.to(dtype).contiguous(memory_format=memory_format),
        step=torch.zeros((), dtype=torch.int64, device=device),
        box=box,
    )


def name_of(*settings: torch.dtype | torch.memory_format) -> str:
    """Return the names of types and memory formats without "torch."."""
    return " ".join(str(one).removeprefix("torch.").removesuffix("_format") for one in settings)
