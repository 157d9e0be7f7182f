"""Draws what a network looks for, and asks another network what it sees.

Six ImageNet classes and two channels of EfficientNet-Lite0 are drawn with MaCo at 512 x 512 pixels.
Then EfficientNet-Lite1, which had no part in it, classifies the pictures of the classes. The exit
status is 0 if the class is among its first five guesses for at least five of the six pictures.

    python examples/demo.py [FOLDER]
"""

import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from fvfast import Objective, maco
from fvfast.models import LoadedModel, load_model
from fvfast.plot import check_writable, contact_sheet, save_png

CLASSES = ("coffee mug", "macaw", "goldfish", "jellyfish", "strawberry", "school bus")
CHANNELS = (("_blocks.5", 10), ("_blocks.9", 30))
STEPS = 40
CROPS = 6
SEED = 0
LARGEST_BOX, SMALLEST_BOX = 0.9, 0.4
REQUIRED = 5


def box_size(step: int) -> float:
    """Return the side of the crops: large even at the end, so that one whole object is drawn."""
    return LARGEST_BOX + (SMALLEST_BOX - LARGEST_BOX) * step / (STEPS - 1)


def settings(loaded: LoadedModel) -> dict[str, str]:
    """Return the metadata that says how each file was made."""
    return {
        "fvfast.model": loaded.name,
        "fvfast.seed": str(SEED),
        "fvfast.settings": f"maco, {STEPS} steps, {CROPS} crops of {LARGEST_BOX} to {SMALLEST_BOX} "
        f"of the side, values in {loaded.values_range}, torch {torch.__version__}",
    }


def draw(objective: Objective, loaded: LoadedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw an objective; return picture and transparency (C, H, W)."""
    begin = time.perf_counter()
    image, transparency = maco(
        objective,
        nb_steps=STEPS,
        nb_crops=CROPS,
        box_size=box_size,
        values_range=loaded.values_range,
        seed=SEED,
        progress=sys.stderr.isatty(),
    )
    (name,) = objective.combination_names
    print(f"{name}: {time.perf_counter() - begin:.1f} s", flush=True)
    return image, transparency


def rank_and_probability(image: torch.Tensor, index: int, judge: LoadedModel) -> tuple[int, float]:
    """Return rank (1 is the best) and probability that the judge gives a class for a picture."""
    small = F.interpolate(image[None], judge.input_shape[1:], mode="bilinear", align_corners=False)
    with torch.no_grad():
        probabilities = judge.model(small)[0].softmax(0)
    rank = int((probabilities > probabilities[index]).sum()) + 1
    return rank, float(probabilities[index])


def main(folder: Path) -> int:
    """Draw, save and judge; return the exit status."""
    check_writable(folder)
    begin = time.perf_counter()
    artist, judge = load_model("efficientnet_lite0"), load_model("efficientnet_lite1")
    images_taken = {"input_shape": artist.input_shape, "preprocess": artist.preprocess}
    indices = [artist.class_index(name) for name in CLASSES]
    objectives = [
        Objective.neuron(artist.model, -1, [index], names=[name], **images_taken)
        for name, index in zip(CLASSES, indices, strict=True)
    ] + [
        Objective.channel(artist.model, layer, [index], **images_taken) for layer, index in CHANNELS
    ]

    images, transparencies, names = [], [], []
    for objective in objectives:
        image, transparency = draw(objective, artist)
        (name,) = objective.combination_names
        file = f"{name.replace(' ', '_').replace('#', '_')}.png"
        metadata = {"Title": name, "fvfast.objective": name, **settings(artist)}
        save_png(folder / file, image, transparency, metadata=metadata)
        images.append(image)
        transparencies.append(transparency)
        names.append(name)

    recognized = 0
    print(f"\n{judge.name} sees in the pictures of the classes:")
    for position, index in enumerate(indices):
        rank, probability = rank_and_probability(images[position], index, judge)
        recognized += rank <= 5
        print(f"  {names[position]}: rank {rank}, probability {probability:.1%}")
        names[position] += f"\n{judge.name}: rank {rank}, {probability:.0%}"
    sheet = folder / "contact_sheet.png"
    metadata = {"Title": ", ".join((*CLASSES, *names[len(CLASSES) :])), **settings(artist)}
    contact_sheet(images, names, sheet, alphas=transparencies, columns=4, metadata=metadata)
    print(
        f"\n{recognized} of {len(CLASSES)} recognized, {REQUIRED} required; "
        f"{time.perf_counter() - begin:.0f} s in all"
    )
    print(f"pictures in {folder.resolve()}, all of them in {sheet.resolve()}")
    return 0 if recognized >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
