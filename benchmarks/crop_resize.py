"""Times cropping with noise, and its gradient: native module against PyTorch reference.

Run with ``python -m benchmarks.crop_resize``.
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
from fvfast.ops import random_crops
from fvfast.ops._kernels import native_status
from fvfast.ops.boxes import draw_boxes
from fvfast.ops.reference.crop import crop_and_resize_reference, crop_gradient_reference

IMAGE = (1, 3, 512, 512)
CROPS, SIZE = 32, 224


def main() -> None:
    status = native_status()
    if not status.available:
        raise SystemExit(f"The native module is not available: {status.reason}")
    images = torch.rand(IMAGE)
    transparency = torch.zeros(IMAGE)
    incoming = torch.randn(CROPS, 3, SIZE, SIZE)
    channels_last = incoming.contiguous(memory_format=torch.channels_last)
    size = incoming.numel() * incoming.element_size()

    def gradient(crops: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return torch.ops.fvfast.crop_gradient(
            crops, boxes, *IMAGE[2:], torch.float32, transparency, None, None
        )

    for box_size in (0.5, 0.05):
        boxes = draw_boxes(box_size, CROPS, seed=0, identities=[0], step=0)
        native: dict[str, Callable[[], object]] = {
            "crop": lambda boxes=boxes: random_crops(images, boxes, SIZE),
            "crop_noise": lambda boxes=boxes: random_crops(images, boxes, SIZE, std=0.1),
            "crop_noise_channels_last": lambda boxes=boxes: random_crops(
                images, boxes, SIZE, std=0.1, memory_format=torch.channels_last
            ),
            "gradient": lambda boxes=boxes: gradient(incoming, boxes),
            "gradient_channels_last": lambda boxes=boxes: gradient(channels_last, boxes),
        }
        medians = alternating_medians(
            {
                **native,
                "reference_crop": lambda boxes=boxes: crop_and_resize_reference(
                    images, boxes, (SIZE, SIZE)
                ),
                "reference_gradient": lambda boxes=boxes: crop_gradient_reference(
                    incoming[None], boxes, IMAGE[2:]
                ),
                "copy": copy_function(size),
            },
            rounds=11,
        )
        # Crops are written or read once; images stay in the cache.
        bandwidth = {name: size / seconds for name, seconds in medians.items()}
        bandwidth["copy"] *= 2
        row: dict[str, str | int | float] = {
            **machine(),
            "simd": status.simd,
            "shape": f"{'x'.join(map(str, IMAGE))} to {CROPS}x{SIZE}x{SIZE}",
            "box_size": box_size,
            "crop_mb": round(size / 1e6, 2),
            **{f"{name}_ms": round(1e3 * seconds, 3) for name, seconds in medians.items()},
            **{f"{name}_1_thread_cpu_ms": processor_milliseconds(native[name]) for name in native},
            "copy_gb_per_s": round(bandwidth["copy"] / 1e9, 2),
            **{
                f"{name}_percent_of_copy": round(100 * bandwidth[name] / bandwidth["copy"], 1)
                for name in ("crop", "crop_noise", "gradient")
            },
        }
        for key, value in row.items():
            print(f"{key:40} {value}")
        print(f"written to {save_row('crop_resize', row)}")


if __name__ == "__main__":
    main()
