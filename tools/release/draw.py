"""Draws a picture of a small network with the fvfast that is installed, and its native module.

    python tools/release/draw.py [FOLDER]

FOLDER is where fvfast must be installed; without it, anywhere but in this source tree.
"""

import re
import sys
from pathlib import Path

import torch
from torch import nn

import fvfast
from fvfast.ops._kernels import native_status

ROOT = Path(__file__).resolve().parents[2]


def openmp_runtimes() -> list[str]:
    """Return the OpenMP runtimes of this process, as Linux lists them: each has its own threads."""
    maps = Path("/proc/self/maps")
    mapped = maps.read_text() if maps.exists() else ""
    return sorted(set(re.findall(r"/\S*lib(?:gomp|omp|iomp5)\b\S*", mapped)))


def main(folder: str | None = None) -> None:
    found = Path(fvfast.__file__).parents[1]
    if found == ROOT or folder not in (None, str(found)):
        raise SystemExit(f"expected fvfast in {folder or 'site-packages'}, got that of {found}")
    status = native_status()
    if not status.available:
        raise SystemExit(f"the native module is not in use: {status.reason}")
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    network = nn.Sequential(*layers, nn.Linear(64, 5)).eval()
    objective = fvfast.Objective.neuron(network, "3", 1, input_shape=(3, 64, 64))
    image, transparency = fvfast.maco(
        objective, nb_steps=3, nb_crops=2, custom_shape=96, progress=False
    )
    if image.shape != (3, 96, 96) or transparency.shape != (3, 96, 96):
        raise SystemExit(f"expected a picture (3, 96, 96), got {tuple(image.shape)}")
    if not image.isfinite().all() or image.unique().numel() < 100:
        raise SystemExit("expected a picture, got one color or numbers that are not finite")
    sys.stdout.write(
        f"drawn with torch {torch.__version__}, {status.simd} and "
        f"CUDA kernels for {status.cuda_architectures or 'no GPU'}; OpenMP: {openmp_runtimes()}\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
