"""Times phase to image, back, and the optimizer's step: kernels, transforms, PyTorch reference.

Run with ``python -m benchmarks.phase``. Each part is timed on all threads by the wall clock, and on
one thread by the processor time, which other busy programs hardly change.
"""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.harness import (
    alternating_medians,
    copy_function,
    machine,
    processor_milliseconds,
    save_row,
)
from fvfast.ops import phase_to_image, phase_update_
from fvfast.ops._kernels import native, native_status
from fvfast.ops._memory import buffer
from fvfast.ops.colors import COLOR_CORRELATION
from fvfast.ops.reference.phase import STANDARDIZATION_EPSILON, phase_to_image_reference
from fvfast.parametrizations.optimizers import ascend

SHAPE = (1, 3, 512, 512)
RANGE = (-1.0, 1.0)


def kernels(module: Any) -> dict[str, tuple[Callable[[], object], int]]:
    """Return a call of each kernel, and the bytes that it must read and write."""
    images, channels, height, width = SHAPE
    half = width // 2 + 1
    magnitude = torch.rand(channels, height, half)
    phase = torch.randn(images, *magnitude.shape)
    spectrum = torch.zeros(phase.shape, dtype=torch.complex64)
    image, gradient, before = (torch.rand(SHAPE) for _ in range(3))
    transform = torch.fft.rfft2(gradient)
    moments = torch.empty(images, 4, dtype=torch.float64)
    scratch = torch.empty(images, module.SUM_PARTS, module.SUMS_PER_PART, dtype=torch.float64)
    sums = torch.stack((phase.double().sum(), phase.double().square().sum()))[None, None]
    slope = torch.empty_like(phase)
    first, second = torch.zeros_like(phase), torch.zeros_like(phase)
    common: dict[str, Any] = {"sizes": SHAPE, "dtype": "float32"}
    look: dict[str, Any] = {
        "low": RANGE[0],
        "high": RANGE[1],
        "colors": COLOR_CORRELATION,
        "target": None,
    }

    def to_spectrum(given: torch.Tensor | None) -> None:
        module.phase_spectrum(
            magnitude=buffer(magnitude), phase=buffer(phase), phase_sums=buffer(given),
            spectrum=buffer(spectrum), statistics=buffer(moments),
            scratch=buffer(scratch), epsilon=STANDARDIZATION_EPSILON, **common,
        )  # fmt: skip

    def to_image() -> None:
        module.spectrum_image(
            image=buffer(image), statistics=buffer(moments), epsilon=STANDARDIZATION_EPSILON,
            **look, **common,
        )  # fmt: skip

    def back_to_plain() -> None:
        module.spectrum_image_gradient(
            gradient=buffer(gradient), image=buffer(image), out=buffer(before),
            **look, **common,
        )  # fmt: skip

    def back_to_phase() -> None:
        module.phase_gradient(
            transform=buffer(transform), spectrum=buffer(spectrum), phase=buffer(phase),
            statistics=buffer(moments), out=buffer(slope), scratch=buffer(scratch),
            epsilon=STANDARDIZATION_EPSILON, **common,
        )  # fmt: skip

    def update() -> None:
        phase_update_(phase, slope, first, second, step=10, lr=1e-3)

    bins = 4 * phase.numel()
    pixels = 4 * image.numel()
    to_spectrum(None)
    return {
        "a_phase_spectrum": (lambda: to_spectrum(sums), 4 * bins),
        "a_phase_spectrum_and_sums": (lambda: to_spectrum(None), 5 * bins),
        "b_spectrum_image": (to_image, 2 * pixels),
        "c_image_gradient": (back_to_plain, 3 * pixels),
        "d_phase_gradient": (back_to_phase, 9 * bins),
        "phase_update": (update, 7 * bins),
        "irfft2": (lambda: torch.fft.irfft2(spectrum, s=SHAPE[2:]), 2 * bins + pixels),
        "rfft2": (lambda: torch.fft.rfft2(before), 2 * bins + pixels),
    }


def whole_steps() -> dict[str, Callable[[], object]]:
    """Return forward pass, backward pass and update, by the kernels and by the reference."""
    magnitude = torch.rand(SHAPE[1], SHAPE[2], SHAPE[3] // 2 + 1)
    cotangent = torch.randn(SHAPE)
    phases = [torch.randn(SHAPE[0], *magnitude.shape).requires_grad_() for _ in range(2)]
    averages = [torch.zeros_like(magnitude)[None] for _ in range(2)]
    optimizer = torch.optim.NAdam([phases[1]], momentum_decay=1.0, eps=1e-7)
    sums: list[torch.Tensor | None] = [None]

    def native_step() -> None:
        image = phase_to_image(magnitude, phases[0], RANGE, SHAPE[3], phase_sums=sums[0])
        (gradient,) = torch.autograd.grad(image, phases[0], cotangent)
        sums[0] = phase_update_(phases[0], gradient, *averages, step=10)

    def reference_step() -> None:
        image = phase_to_image_reference(magnitude, phases[1], *RANGE, SHAPE[3])
        (gradient,) = torch.autograd.grad(image, phases[1], cotangent)
        ascend(optimizer, phases[1], gradient)

    return {"step": native_step, "step_reference": reference_step}


def main() -> None:
    status = native_status()
    if not status.available:
        raise SystemExit(f"The native module is not available: {status.reason}")
    parts = kernels(native())
    steps = whole_steps()
    size = 4 * torch.Size(SHAPE).numel()
    functions = {name: function for name, (function, _) in parts.items()}
    functions |= {**steps, "copy": copy_function(size)}
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
    print(f"written to {save_row('phase', row)}")


if __name__ == "__main__":
    main()
