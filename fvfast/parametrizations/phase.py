"""The phase as what is optimised: from it to the image, and back with an optimizer's step."""

from collections.abc import Sequence
from typing import Any

import torch

from fvfast.ops.phase_ascent import RenderedPhase, can_ascend, phase_ascent_, render_phase
from fvfast.ops.phase_to_image import phase_to_image
from fvfast.run.optimizers import KerasNadam, ascend, known_sums


class PhaseVariable:
    """The phases of N images under one magnitude, and the optimizer that moves them.

    Parameters
    ----------
    magnitude
        (C, H, W // 2 + 1).
    phase
        (N, C, H, W // 2 + 1).
    optimizer
        Bound to the phase.
    values_range
        (low, high) of the images.
    width
        W.
    """

    def __init__(
        self,
        magnitude: torch.Tensor,
        phase: torch.Tensor,
        optimizer: torch.optim.Optimizer,
        values_range: Sequence[float],
        width: int,
    ) -> None:
        self.magnitude = magnitude
        self.phase = phase
        self.optimizer = optimizer
        self.values_range = values_range
        self.width = width
        self.rendered: RenderedPhase | None = None
        self.graph: torch.Tensor | None = None  # the image with its way back, for autograd
        # A subclass may have a step of its own.
        self.is_fused = type(optimizer) is KerasNadam and can_ascend(phase, values_range)

    def render(self) -> torch.Tensor:
        """Return the images (N, C, H, W) of the phases as they are."""
        with torch.no_grad():
            return self._with_autograd()

    def image(self) -> torch.Tensor:
        """Return the images as a tensor that gradients are taken of, for `ascend`."""
        if self.is_fused:
            sums = known_sums(self.optimizer, self.phase)
            self.rendered = render_phase(
                self.magnitude, self.phase, self.values_range, self.width, phase_sums=sums
            )
            return self.rendered.image.requires_grad_()
        self.graph = self._with_autograd()
        return self.graph.detach().requires_grad_()

    def ascend(self, gradient: torch.Tensor) -> None:
        """Take one step up.

        Parameters
        ----------
        gradient
            (N, C, H, W), with respect to the last `image`.
        """
        rendered, graph = self.rendered, self.graph
        self.rendered = self.graph = None
        if graph is not None:
            (slope,) = torch.autograd.grad(graph, self.phase, gradient)
            ascend(self.optimizer, self.phase, slope)
        if rendered is None:
            return

        def update(exp_avg: torch.Tensor, exp_avg_sq: torch.Tensor, **nadam: Any) -> torch.Tensor:
            return phase_ascent_(
                gradient, rendered, self.magnitude, self.phase, exp_avg, exp_avg_sq,
                self.values_range, **nadam,
            )  # fmt: skip

        assert isinstance(self.optimizer, KerasNadam)
        self.optimizer.ascend_with(update)

    def _with_autograd(self) -> torch.Tensor:
        sums = known_sums(self.optimizer, self.phase)
        return phase_to_image(
            self.magnitude, self.phase, self.values_range, self.width, phase_sums=sums
        )
