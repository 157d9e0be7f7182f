"""The step around the network on a GPU, without a network: fvfast, and the PyTorch reference."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu.work import RANGE, SEED, Work
from fvfast.ops import random_crops
from fvfast.ops.boxes import draw_boxes, draw_boxes_reference
from fvfast.ops.nadam import nadam_rates
from fvfast.ops.phase_ascent import phase_ascent_, render_phase
from fvfast.ops.reference.crop import random_crops_reference
from fvfast.ops.reference.phase import phase_to_image_reference, phase_update_reference_

# The same for every step: the time of a step does not depend on its number.
NADAM: dict[str, Any] = {"step": 10, "lr": 0.1}

Step = Callable[[], None]


def fvfast_step(work: Work) -> Step:
    """Return the step as `fvfast.maco` takes it, without the network."""
    # Sums of the phase after each step. All are kept, because a captured step reads, in every
    # replay, the sums of the step before its capture.
    sums: list[torch.Tensor | None] = [None]
    sizes = work.sizes

    def step() -> None:
        rendered = render_phase(work.magnitude, work.phase, RANGE, sizes.image, phase_sums=sums[-1])
        image = rendered.image.requires_grad_()
        boxes = draw_boxes(
            work.box, sizes.crops, seed=SEED, identities=work.identities, step=work.step,
            device=work.phase.device,
        )  # fmt: skip
        crops = random_crops(
            image, boxes, sizes.crop, transparency=work.transparency, **work.crops, **work.noise
        )
        (gradient,) = torch.autograd.grad(crops, image, work.cotangent)
        sums.append(
            phase_ascent_(
                gradient, rendered, work.magnitude, work.phase, work.exp_avg, work.exp_avg_sq,
                RANGE, **NADAM,
            )
        )  # fmt: skip

    return step


def reference_step(work: Work, transform: Callable[[Any], Any] = lambda function: function) -> Step:
    """Return the same step in plain PyTorch.

    Parameters
    ----------
    work
        The arrays.
    transform
        Applied to each of the three functions of the step, for example ``torch.compile``.
    """
    sizes = work.sizes
    numbers = nadam_rates(**NADAM).numbers()

    @transform
    def synthesize(phase: torch.Tensor) -> torch.Tensor:
        return phase_to_image_reference(work.magnitude, phase, *RANGE, sizes.image)

    @transform
    def augment(image: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        boxes = draw_boxes_reference(
            work.box,
            sizes.crops,
            seed=SEED,
            identities=work.identities,
            step=number,
            device=image.device,
        )
        noise = {**work.noise, "step": number}
        return random_crops_reference(image, boxes, (sizes.crop, sizes.crop), **work.crops, **noise)

    @transform
    def update(slope: torch.Tensor, gradient: torch.Tensor) -> None:
        work.transparency.add_(gradient.abs())
        phase_update_reference_(work.phase, slope, work.exp_avg, work.exp_avg_sq, **numbers)

    def step() -> None:
        variable = work.phase.detach().requires_grad_()
        graph = synthesize(variable)
        image = graph.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(augment(image, work.step), image, work.cotangent)
        (slope,) = torch.autograd.grad(graph, variable, gradient)
        with torch.no_grad():
            update(slope, gradient)

    return step


def compiled_step(work: Work) -> Step:
    """Return the reference's step, compiled with ``torch.compile``."""
    torch._dynamo.reset()
    step = reference_step(work, torch.compile(dynamic=False))
    step()
    return step
