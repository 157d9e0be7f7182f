"""Views: what the network is shown of the images in each step."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import torch

from fvfast.ops.boxes import BoxDistribution, draw_boxes
from fvfast.ops.crop_resize import random_crops
from fvfast.ops.noise import inject_noise
from fvfast.ops.philox import Purpose, random_words, to_uniform
from fvfast.run.schedules import Schedule
from fvfast.run.view_sizes import ViewSizes
from fvfast.transformations import Transformation, compose_transformations
from fvfast.transformations.random_transformations import resize_to
from fvfast.transformations.reduction import resize_whole


class Views(Protocol):
    """Makes the views of N images, K of each.

    A view depends on the image, its identity and the step alone, or on global generators, too.
    """

    @property
    def are_functions(self) -> bool:
        """Whether they depend on no global generator, so that making more views changes nothing."""
        ...

    @property
    def largest_step(self) -> int:
        """A step with the largest views, by which memory and form of the network are chosen."""
        ...

    def __call__(
        self,
        images: torch.Tensor,
        identities: Sequence[int],
        step: int,
        transparency: torch.Tensor | None,
        *,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> torch.Tensor:
        """Return views (N * K, C, h, w) of images (N, C, H, W), those of an image in a row.

        The backward pass adds the absolute gradient of the images to the transparency
        (N, C, H, W), where there is one. Type and memory format are those that the network takes
        without another copy; views may be given in others.
        """
        ...


@dataclasses.dataclass(frozen=True)
class CropTables:
    """The numbers of all steps, on the device: float64 (steps,) each.

    Attributes
    ----------
    box_size
        Mean side of the crops, as a fraction of the image.
    std, uniform_width
        Of the noise, in units of the image.
    """

    box_size: torch.Tensor
    std: torch.Tensor
    uniform_width: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Crops:
    """Random crops with noise, as MaCo looks at an image; or the whole image with noise.

    Attributes
    ----------
    size
        (h, w) of the views.
    sizes
        Of the views in each step, in place of ``size``; None where they are all alike.
    nb_crops
        K; 0 for the whole image, resized.
    box_size_at, noise_at
        Mean side of the crops, as a fraction of the image, and noise intensity in each step.
    boxes
        How crops scatter around that size.
    normal_noise, uniform_noise
        See `fvfast.run.presets.Preset`.
    seed
        Any integer.
    color_shift
        See `shift_colors`; None: none.
    draw, crop
        `draw_boxes` and `random_crops`, or functions that replace them.
    """

    size: tuple[int, int]
    nb_crops: int
    box_size_at: Schedule
    noise_at: Schedule
    boxes: BoxDistribution
    normal_noise: float
    uniform_noise: float
    seed: int
    color_shift: float | None = None
    sizes: ViewSizes | None = None
    draw: Callable[..., torch.Tensor] = draw_boxes
    crop: Callable[..., torch.Tensor] = random_crops

    are_functions: ClassVar[bool] = True

    @property
    def largest_step(self) -> int:
        """A step with the largest views, by which memory and form of the network are chosen."""
        return 0 if self.sizes is None else self.sizes.largest_step

    def size_at(self, step: int) -> tuple[int, int]:
        """Return (h, w) of the views of a step."""
        return self.size if self.sizes is None else self.sizes.at(step)

    def __call__(
        self,
        images: torch.Tensor,
        identities: Sequence[int],
        step: int,
        transparency: torch.Tensor | None,
        *,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> torch.Tensor:
        """Return crops (N * K, C, h, w) of images (N, C, H, W)."""
        views = self._cropped(
            images, identities, step, transparency, dtype=dtype, memory_format=memory_format
        )
        if self.color_shift is None:
            return views
        return shift_colors(
            views, self.color_shift, seed=self.seed, identities=identities, step=step
        )

    def tables(self, nb_steps: int, device: torch.device) -> CropTables:
        """Return the numbers of all steps."""
        steps = range(nb_steps)
        intensity = [self.noise_at(step) for step in steps]
        columns = (
            [self.box_size_at(step) for step in steps],
            [value * self.normal_noise for value in intensity],
            [value * self.uniform_noise for value in intensity],
        )
        return CropTables(
            *(torch.tensor(one, dtype=torch.float64, device="cpu").to(device) for one in columns)
        )

    def of_step(
        self,
        images: torch.Tensor,
        boxes: torch.Tensor,
        size: tuple[int, int],
        identities: torch.Tensor,
        step: torch.Tensor,
        tables: CropTables,
        *,
        dtype: torch.dtype,
        memory_format: torch.memory_format,
    ) -> torch.Tensor:
        """Return the same crops (N * K, C, h, w), all numbers of which lie on the device."""
        return self.crop(
            images, boxes, size, std=tables.std, uniform_width=tables.uniform_width,
            seed=self.seed, identities=identities, step=step, dtype=dtype,
            memory_format=memory_format,
        )  # fmt: skip

    def boxes_of_step(
        self, identities: torch.Tensor, step: torch.Tensor, tables: CropTables
    ) -> torch.Tensor:
        """Return the boxes (N, K, 4) of these crops."""
        return self.draw(
            tables.box_size, self.nb_crops, seed=self.seed, identities=identities, step=step,
            distribution=self.boxes, device=identities.device,
        )  # fmt: skip

    def _cropped(
        self,
        images: torch.Tensor,
        identities: Sequence[int],
        step: int,
        transparency: torch.Tensor | None,
        *,
        dtype: torch.dtype,
        memory_format: torch.memory_format,
    ) -> torch.Tensor:
        intensity = self.noise_at(step)
        size = self.size_at(step)
        noise: dict[str, Any] = {
            "std": intensity * self.normal_noise,
            "uniform_width": intensity * self.uniform_noise,
            "seed": self.seed,
            "identities": identities,
            "step": step,
        }
        if self.nb_crops == 0:
            if images.requires_grad and transparency is not None:
                images.register_hook(functools.partial(_add_absolute, transparency))
            return inject_noise(resize_whole(images, size), **noise)
        boxes = self.draw(
            self.box_size_at(step), self.nb_crops, seed=self.seed, identities=identities, step=step,
            distribution=self.boxes, device=images.device,
        )  # fmt: skip
        return self.crop(
            images, boxes, size, transparency=transparency, dtype=dtype,
            memory_format=memory_format, **noise,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TransformedImages:
    """Each image once, transformed and resized, in float32.

    Attributes
    ----------
    size
        (h, w) of the views.
    transformation
        From images (N, C, H, W) to images; may draw from global generators.
    """

    size: tuple[int, int]
    transformation: Transformation

    are_functions: ClassVar[bool] = False
    largest_step: ClassVar[int] = 0

    @functools.cached_property
    def _view(self) -> Transformation:
        """The transformation and the resizing as one."""
        return compose_transformations([self.transformation, resize_to(self.size)])

    def __call__(
        self,
        images: torch.Tensor,
        identities: Sequence[int],  # noqa: ARG002
        step: int,  # noqa: ARG002
        transparency: torch.Tensor | None,  # noqa: ARG002
        *,
        dtype: torch.dtype = torch.float32,  # noqa: ARG002
        memory_format: torch.memory_format = torch.contiguous_format,  # noqa: ARG002
    ) -> torch.Tensor:
        """Return views (N, C, h, w) of images (N, C, H, W)."""
        return self._view(images)


def shift_colors(
    views: torch.Tensor, width: float, *, seed: int, identities: Sequence[int], step: int
) -> torch.Tensor:
    """Scale and move each channel of each view: ``x * exp(width * u) + width * v``.

    Source: A. Ghiasi et al., "Plug-In Inversion: Model-Agnostic Inversion for Vision with Data
    Augmentations" (ICML 2022), with width 1.

    Parameters
    ----------
    views
        (N * K, C, h, w), those of an image in a row.
    width
        Of the shift.
    seed, identities, step
        Decide u and v, which are uniform in [-1, 1).

    Returns
    -------
    views
        Same shape, type and memory format.
    """
    per_image = len(views) // len(identities) * views.shape[1]
    words = random_words(
        2 * per_image, seed=seed, purpose=Purpose.COLOR_SHIFT, identities=identities, step=step
    )
    drawn = (to_uniform(words) * 2 - 1) * width
    drawn = drawn.view(len(identities), 2, -1, views.shape[1], 1, 1)
    factors, offsets = (
        numbers.flatten(0, 1).to(views.device, views.dtype)
        for numbers in (drawn[:, 0].exp(), drawn[:, 1])
    )
    return (views * factors).add_(offsets)


def _add_absolute(transparency: torch.Tensor, gradient: torch.Tensor) -> None:
    """Add an absolute gradient; values that are not finite add nothing."""
    transparency.add_(gradient.abs().nan_to_num(0, 0, 0))
