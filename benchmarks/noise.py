"""Times noise: native module, PyTorch reference, and what PyTorch users write themselves.

Run with ``python -m benchmarks.noise``.
"""

from typing import Any

import torch

from benchmarks.harness import alternating_medians, copy_function, machine, save_row
from fvfast.ops import inject_noise_
from fvfast.ops._kernels import native_status
from fvfast.ops.reference.noise import inject_noise_reference

SHAPE = (1, 32, 3, 224, 224)
KEY: dict[str, Any] = {"seed": 1, "identities": [0], "step": 0}


def main() -> None:
    status = native_status()
    if not status.available:
        raise SystemExit(f"The native module is not available: {status.reason}")
    images = torch.rand(SHAPE)
    scratch, noise = images.clone(), torch.empty_like(images)
    channels_last = images[0].clone(memory_format=torch.channels_last)[None]
    size = images.numel() * images.element_size()

    def torch_noise() -> None:
        scratch.add_(noise.normal_()).add_(noise.uniform_(-0.5, 0.5))

    # In place, or into memory that is reused: new memory would cost page faults.
    medians = alternating_medians(
        {
            "native": lambda: inject_noise_(scratch, 1.0, **KEY),
            "native_channels_last": lambda: inject_noise_(channels_last, 1.0, **KEY),
            "reference": lambda: inject_noise_reference(images, 1.0, **KEY),
            "torch": torch_noise,
            "copy": copy_function(size),
        }
    )
    copy_bandwidth = 2 * size / medians["copy"]
    native_bandwidth = 2 * size / medians["native"]  # one read and one write of the images
    row: dict[str, str | int | float] = {
        **machine(),
        "simd": status.simd,
        "shape": "x".join(map(str, SHAPE)),
        **{f"{name}_ms": round(1e3 * seconds, 3) for name, seconds in medians.items()},
        "copy_gb_per_s": round(copy_bandwidth / 1e9, 2),
        "native_percent_of_copy": round(100 * native_bandwidth / copy_bandwidth, 1),
    }
    for key, value in row.items():
        print(f"{key:24} {value}")
    print(f"written to {save_row('noise', row)}")


if __name__ == "__main__":
    main()
