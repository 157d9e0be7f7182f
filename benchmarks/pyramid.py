"""Times pyramid to image, back, and a step, against the PyTorch reference and a step of the phase.

Run with ``python -m benchmarks.pyramid``. Each part is timed on all threads by the wall clock, and
on one thread by the processor time, which other busy programs hardly change.
"""

from collections.abc import Callable

import torch

from benchmarks.harness import (
    alternating_medians,
    copy_function,
    machine,
    processor_milliseconds,
    save_row,
)
from fvfast.engine.memory import reused_memory
from fvfast.ops._kernels import native_status
from fvfast.ops.pyramid import pyramid_elements
from fvfast.ops.reference.pyramid import pyramid_to_image_reference
from fvfast.parametrizations.base import Parametrization
from fvfast.parametrizations.optimizers import set_learning_rate
from fvfast.parametrizations.phase import Phase, init_maco_buffer
from fvfast.parametrizations.pyramid import GAIN, Pyramid

SHAPE = (1, 3, 512, 512)
SIZE = (512, 512)
LEVELS = 10
RANGE = (-1.0, 1.0)
FLOAT = 4  # bytes


def operations() -> dict[str, tuple[Callable[[], object], int]]:
    """Return calls of the operations, and the bytes that each must read and write."""
    elements = pyramid_elements(*SIZE)
    pyramid = 0.1 * torch.randn(*SHAPE[:2], elements)
    cotangent = torch.randn(SHAPE)
    forward, backward = (
        torch.ops.fvfast.pyramid_to_image,
        torch.ops.fvfast.pyramid_to_image_backward,
    )
    look = (*RANGE, GAIN)
    image = forward(pyramid, *SIZE, LEVELS, *look)
    pixels, all_levels = FLOAT * image.numel(), FLOAT * pyramid.numel()

    def reference() -> None:
        leaf = pyramid.requires_grad_()
        made = pyramid_to_image_reference(leaf, SIZE, LEVELS, *look)
        torch.autograd.grad(made, leaf, cotangent)

    return {
        "image": (
            lambda: forward(pyramid.detach(), *SIZE, LEVELS, *look),
            pixels + all_levels,
        ),
        "gradient": (
            lambda: backward(cotangent, image, LEVELS, *look),
            2 * pixels + all_levels,
        ),
        "image_and_gradient_reference": (reference, 3 * pixels + 2 * all_levels),
    }


def step_of(made: Parametrization) -> Callable[[], object]:
    """Return a step: the image, from its gradient that of what is optimized, and the update."""
    cotangent = 1e-3 * torch.randn(SHAPE)
    set_learning_rate(made.optimizer, 1e-6)

    def step() -> None:
        (gradient,) = torch.autograd.grad(made.image(), made.source, cotangent)
        made.ascend(gradient)

    return step


def steps() -> dict[str, Callable[[], object]]:
    """Return steps of a pyramid with all its levels, and of a phase."""
    device = torch.device("cpu")
    pyramid = Pyramid(
        SHAPE[1:], [0], seed=0, nb_steps=1, values_range=RANGE, optimizer=None, device=device
    )
    phase = Phase(*init_maco_buffer(SIZE, identities=[0]), None, RANGE, SIZE[1])
    made = {"pyramid_step": step_of(pyramid), "phase_step": step_of(phase)}
    for step in made.values():  # the second step has all levels
        step()
        step()
    return made


def main() -> None:
    status = native_status()
    if not status.available:
        raise SystemExit(f"The native module is not available: {status.reason}")
    parts = operations()
    size = FLOAT * torch.Size(SHAPE).numel()
    functions = {name: function for name, (function, _) in parts.items()}
    functions |= {**steps(), "copy": copy_function(size)}
    with reused_memory():  # as in a run
        medians = alternating_medians(functions)
        alone = {name: processor_milliseconds(function) for name, function in functions.items()}

    row: dict[str, str | int | float] = {
        **machine(),
        "simd": status.simd,
        "shape": "x".join(map(str, SHAPE)),
    }
    for name in functions:
        row[f"{name}_ms"] = round(1e3 * medians[name], 3)
        row[f"{name}_one_thread_cpu_ms"] = round(alone[name], 3)
    copy_bandwidth = 2 * size / medians["copy"]
    row["copy_gb_per_s"] = round(copy_bandwidth / 1e9, 2)
    for name, (_, moved) in parts.items():
        row[f"{name}_mb"] = round(moved / 1e6, 2)
        row[f"{name}_percent_of_copy"] = round(100 * moved / medians[name] / copy_bandwidth, 1)
    for key, value in row.items():
        print(f"{key:40} {value}")
    print(f"written to {save_row('pyramid', row)}")


if __name__ == "__main__":
    main()
