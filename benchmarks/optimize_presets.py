"""Times a step of `fvfast.optimize`; asks another network what the pictures of its presets show.

Run with ``python -m benchmarks.optimize_presets``. Needs the extra ``models``. The pictures go to
``build/optimize_presets.png``: a row for each preset.
"""

import functools
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional

from benchmarks.harness import alternating_medians, machine, save_row
from fvfast import Objective, optimize
from fvfast.models import LoadedModel, imagenet_categories, load_model
from fvfast.plot import blend_transparency
from fvfast.run.presets import OPTIMIZE_PRESETS, OptimizePresetName
from fvfast.transformations import (
    Transformation,
    generate_standard_transformations,
    resize,
)

CLASSES = ("macaw", "espresso", "pineapple", "castle")
STEPS, TIMED_STEPS, IMAGES, SIZE = 128, 6, 2, 512
SHEET = Path("build/optimize_presets.png")


def one_by_one(chain: Transformation) -> Transformation:
    """Return a chain as it was before its steps were put together: a pass over the pixels each."""

    def apply(images: torch.Tensor) -> torch.Tensor:
        for function in chain.functions:  # type: ignore[attr-defined]
            images = function(images)
        return images

    return apply


def time_transformations(size: tuple[int, int]) -> dict[str, float]:
    """Milliseconds of the transformations and their gradient, as one resampling and one by one."""
    chain = generate_standard_transformations(SIZE)
    images = torch.rand(IMAGES, 3, SIZE, SIZE)

    def run(function: Transformation) -> None:
        leaf = images.clone().requires_grad_()
        resize(function(leaf), size).sum().backward()

    medians = alternating_medians(
        {
            "together": functools.partial(run, chain),
            "one_by_one": functools.partial(run, one_by_one(chain)),
        }
    )
    return {f"transformations_{name}_ms": 1e3 * value for name, value in medians.items()}


def time_steps(objective: Objective, values_range: Sequence[float]) -> dict[str, float]:
    """Milliseconds of a whole step with each of the two, and with no transformations."""
    chain = generate_standard_transformations(SIZE)
    ways = {"together": chain, "one_by_one": one_by_one(chain), "without": None}

    def run(way: Transformation | None) -> None:
        optimize(
            objective, nb_steps=TIMED_STEPS, transformations=way, custom_shape=SIZE,
            values_range=values_range, progress=False,
        )  # fmt: skip

    medians = alternating_medians(
        {name: functools.partial(run, way) for name, way in ways.items()}, rounds=5, warm_up=1
    )
    return {f"step_{name}_ms": 1e3 * value / TIMED_STEPS for name, value in medians.items()}


def judged(images: torch.Tensor, classes: Sequence[int], judge: LoadedModel) -> torch.Tensor:
    """Probabilities that another network gives the classes of their pictures."""
    shown = functional.interpolate(
        images, judge.input_shape[1:], mode="bilinear", antialias=True, align_corners=False
    )
    with torch.no_grad():
        return judge.model(shown).softmax(1)[range(len(classes)), classes]


def main() -> None:
    drawn, judge = load_model("efficientnet_lite0"), load_model("efficientnet_lite1")
    known = imagenet_categories()
    if known is None:
        raise SystemExit("the names of the classes are torchvision's: pip install torchvision")
    classes = [known.index(name) for name in CLASSES]
    objective = Objective.neuron(drawn.model, -1, classes, input_shape=drawn.input_shape)
    two = Objective.neuron(drawn.model, -1, classes[:IMAGES], input_shape=drawn.input_shape)
    times = {
        **time_transformations((drawn.input_shape[1], drawn.input_shape[2])),
        **time_steps(two, drawn.values_range),
    }
    rows = []
    for preset in OPTIMIZE_PRESETS:
        row, images = draw(objective, preset, drawn, judge, classes)
        rows.append(functional.interpolate(images, (256, 256), mode="bilinear", antialias=True))
        print(save_row("optimize_presets", {**machine(), **row, **times}), row, flush=True)
    print({name: round(value, 1) for name, value in times.items()})
    sheet = torch.cat([torch.cat(list(row), 2) for row in rows], 1)
    SHEET.parent.mkdir(exist_ok=True)
    Image.fromarray((blend_transparency(sheet) * 255).astype("u1")).convert("RGB").save(SHEET)


def draw(
    objective: Objective,
    preset: OptimizePresetName,
    drawn: LoadedModel,
    judge: LoadedModel,
    classes: Sequence[int],
) -> tuple[dict[str, str | int | float], torch.Tensor]:
    """Draw the classes with a preset; return what is recorded, and the pictures."""
    start = time.perf_counter()
    images = optimize(
        objective, nb_steps=STEPS, preset=preset, values_range=drawn.values_range, progress=False
    ).images[-1]
    seconds = time.perf_counter() - start
    probabilities = judged(images, classes, judge)
    return {
        "preset": preset,
        "steps": STEPS,
        "size": images.shape[-1],
        "seconds_per_picture": round(seconds / len(classes), 1),
        "lite1_mean_probability": round(float(probabilities.mean()), 3),
        "lite1_least_probability": round(float(probabilities.min()), 3),
    }, images


if __name__ == "__main__":
    main()
