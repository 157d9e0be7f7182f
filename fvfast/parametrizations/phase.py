"""The phase as what is optimized, under a fixed magnitude: MaCo."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from fvfast._shared.checks import check_size
from fvfast.ops.phase_ascent import RenderedPhase, can_ascend, phase_ascent_, render_phase
from fvfast.ops.phase_step import phase_step_
from fvfast.ops.phase_to_image import phase_to_image
from fvfast.ops.philox import Purpose, draw_normal, random_words, to_uniform
from fvfast.parametrizations.optimizers import (
    KerasNadam,
    OptimizerSpec,
    ascend,
    bind_optimizer,
    keras_nadam,
    known_sums,
)
from fvfast.spectrum import Spectrum, SpectrumSource


class Phase:
    """The phases of N images under one magnitude.

    With fvfast's own optimizer one operation goes from the image's gradient to the next phase;
    otherwise autograd and the optimizer do.

    Parameters
    ----------
    magnitude
        (C, H, W // 2 + 1).
    phase
        (N, C, H, W // 2 + 1): the state.
    optimizer
        See `fvfast.maco`. Default: `KerasNadam` with learning rate 1.
    values_range
        (low, high) of the images.
    width
        W.
    """

    def __init__(
        self,
        magnitude: torch.Tensor,
        phase: torch.Tensor,
        optimizer: OptimizerSpec,
        values_range: Sequence[float],
        width: int,
    ) -> None:
        self.state = phase.requires_grad_()
        self.optimizer = bind_optimizer(optimizer, self.state, keras_nadam)
        self._magnitude = magnitude
        self._values_range = values_range
        self._width = width
        self._rendered: RenderedPhase | None = None
        self._graph: torch.Tensor | None = None  # the image with its graph, for autograd
        self._image: torch.Tensor | None = None
        # A subclass may have a step of its own.
        self._is_fused = type(self.optimizer) is KerasNadam and can_ascend(phase, values_range)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (N, C, H, W) of the images."""
        images, channels, height, _ = self.state.shape
        return images, channels, height, self._width

    @property
    def is_fused(self) -> bool:
        """Whether one operation goes from the image's gradient to the next phase."""
        return self._is_fused

    def restart(self, other: "Phase") -> None:
        """Begin with the phase and the magnitude of another one, in the same memory."""
        with torch.no_grad():
            self.state.copy_(other.state)
            self._magnitude.copy_(other._magnitude)
        assert isinstance(self.optimizer, KerasNadam)
        self.optimizer.restart()

    def rendered(self, phase: torch.Tensor, sums: torch.Tensor | None) -> RenderedPhase:
        """Return the images of a phase in other memory, and what `step` needs of them.

        Parameters
        ----------
        phase
            Of the shape of the state.
        sums
            Of it and its squares, as `phase_step_` leaves them; None: computed.
        """
        return render_phase(
            self._magnitude, phase, self._values_range, self._width, phase_sums=sums
        )

    def step(
        self,
        gradient: torch.Tensor,
        rendered: RenderedPhase,
        phase: torch.Tensor,
        next_phase: torch.Tensor,
        averages: tuple[torch.Tensor, torch.Tensor],
        **arguments: Any,
    ) -> None:
        """Take one step up from a phase to another one, as `phase_step_` does.

        Parameters
        ----------
        gradient
            (N, C, H, W), with respect to the images of the phase.
        rendered
            These: see there.
        phase, next_phase
            In memory of their own.
        averages
            Of the optimizer.
        **arguments
            The others of `phase_step_`, by name.
        """
        phase_step_(
            gradient, rendered, self._magnitude, phase, next_phase, *averages, self._values_range,
            **arguments,
        )  # fmt: skip

    def image(self) -> torch.Tensor:
        """Return the images (N, C, H, W), whose gradient will be asked for."""
        if self._is_fused:
            self._rendered = render_phase(
                self._magnitude, self.state, self._values_range, self._width,
                phase_sums=known_sums(self.optimizer, self.state),
            )  # fmt: skip
            self._image = self._rendered.image.requires_grad_()
        else:
            self._graph = self._with_autograd()
            self._image = self._graph.detach().requires_grad_()
        return self._image

    @property
    def source(self) -> torch.Tensor:
        """The last `image`."""
        assert self._image is not None
        return self._image

    def render(self) -> torch.Tensor:
        """Return the images (N, C, H, W)."""
        with torch.no_grad():
            return self._with_autograd()

    def ascend(self, gradient: torch.Tensor) -> None:
        """Take one step up.

        Parameters
        ----------
        gradient
            (N, C, H, W), with respect to the last `image`.
        """
        rendered, graph = self._rendered, self._graph
        self._rendered = self._graph = self._image = None
        if graph is not None:
            (phase_gradient,) = torch.autograd.grad(graph, self.state, gradient)
            ascend(self.optimizer, self.state, phase_gradient)
        if rendered is None:
            return

        def update(exp_avg: torch.Tensor, exp_avg_sq: torch.Tensor, **nadam: Any) -> torch.Tensor:
            return phase_ascent_(
                gradient, rendered, self._magnitude, self.state, exp_avg, exp_avg_sq,
                self._values_range, **nadam,
            )  # fmt: skip

        assert isinstance(self.optimizer, KerasNadam)
        self.optimizer.ascend_with(update)

    def _with_autograd(self) -> torch.Tensor:
        return phase_to_image(
            self._magnitude, self.state, self._values_range, self._width,
            phase_sums=known_sums(self.optimizer, self.state),
        )  # fmt: skip


def init_maco_buffer(
    image_shape: Sequence[int],
    dataset: SpectrumSource = None,
    std: float = 1.0,
    *,
    channels: int | None = None,
    seed: int = 0,
    identities: Sequence[int] | None = None,
    distribution: str = "normal",
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Magnitude and initial phase of MaCo.

    Parameters
    ----------
    image_shape
        (H, W), each at least 2, even or odd.
    dataset
        Where the magnitude comes from. None: the closed form for natural images,
        `Spectrum.natural()`. A `Spectrum`, or anything that `Spectrum.from_images` takes (measured
        at the images' size for tensors and at ``image_shape`` for a folder).
    std
        Scale of the phase. Since the phase is standardized when it is used, the scale changes only
        its gradient.
    channels
        C. Default: the data set's number of channels, and 3 without a data set.
    seed
        The same seed gives the same phase on every device.
    identities
        One for each image, integers in [0, 2^32): an image's phase is a function of its identity
        and the seed, not of the batch. Default: one image, identity 0, no batch dimension.
    distribution
        "normal" (Xplique, Horama): N(0, std^2). "uniform" (the MaCo paper): std * U(-pi, pi).
    device
        Where both are put.
    progress
        Show a progress bar while a data set is measured.

    Returns
    -------
    magnitude
        (C, H, W // 2 + 1), float32.
    phase
        (C, H, W // 2 + 1), or (len(identities), C, H, W // 2 + 1) where ``identities`` are given.

    Raises
    ------
    ValueError
        If a size, the number of channels or the distribution is not one of the above.
    """
    if len(image_shape) != 2:
        raise ValueError(
            f"init_maco_buffer: image_shape is {tuple(image_shape)}; expected (height, width). "
            "The number of channels is the argument channels."
        )
    height, width = int(image_shape[0]), int(image_shape[1])
    check_size(height, width, "init_maco_buffer")
    spectrum = Spectrum.of(dataset, (height, width), channels or 3, progress)
    if channels is None:
        channels = spectrum.channels or 3
    magnitude = spectrum.magnitude(height, width, channels)

    drawn_for = (0,) if identities is None else identities
    if distribution == "normal":
        phase = draw_normal(
            magnitude.shape, seed=seed, purpose=Purpose.PHASE, identities=drawn_for, device=device
        )
    elif distribution == "uniform":
        words = random_words(
            magnitude.numel(), seed=seed, purpose=Purpose.PHASE, identities=drawn_for, device=device
        )
        phase = ((to_uniform(words) * 2 - 1) * math.pi).unflatten(1, magnitude.shape)
    else:
        raise ValueError(
            f"init_maco_buffer: distribution is {distribution!r}; expected 'normal' or 'uniform'."
        )
    phase = phase * std
    return magnitude.to(device), phase[0] if identities is None else phase
