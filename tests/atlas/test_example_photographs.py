"""Dataset examples of EfficientNet-Lite0 with its weights, from photographs in Python packages."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage
import sklearn
import torch
from example_images import all_activations, best

from fvfast.atlas.examples import Units, dataset_examples
from fvfast.models import load_model

FOLDERS = (
    Path(skimage.__file__).parent / "data",
    Path(sklearn.__file__).parent / "datasets" / "images",
    Path(matplotlib.__file__).parent / "mpl-data" / "sample_data",
)
PHOTOGRAPHS = {
    path.stem: path
    for folder in FOLDERS
    for path in sorted(folder.iterdir())
    if path.suffix in (".png", ".jpg")
}
CLASSES = {
    "espresso": "coffee",
    "coffee mug": "coffee",
    "Egyptian cat": "chelsea",
    "tabby": "chelsea",
    "military uniform": "grace_hopper",
    "missile": "rocket",
    "space shuttle": "rocket",
    "tripod": "camera",
    "palace": "china",
    "moped": "motorcycle_left",
}
"""What is on the photograph that excites a class most."""


@pytest.fixture(scope="module")
def loaded():
    return load_model("efficientnet_lite0")


def images():
    return [(path, None, name) for name, path in PHOTOGRAPHS.items()]


@pytest.mark.thorough
def test_classes_find_their_photographs(loaded):
    indices = [loaded.class_index(name) for name in CLASSES]
    found = dataset_examples(loaded, Units(-1, indices, "class"), images(), k=3, progress=False)
    assert {unit.name: unit.top[0].source for unit in found} == CLASSES
    for unit in found:
        assert unit.top[0].value > 2 * unit.top[2].value or unit.name == "moped"


@pytest.mark.thorough
def test_channels_against_all_images_at_once(loaded):
    names = ["_blocks.5", "_blocks.10"]
    found = dataset_examples(
        loaded, {name: range(0, 80, 5) for name in names}, images(), k=5, batch_size=8,
        progress=False,
    )  # fmt: skip
    shown = dataset_examples(loaded, {"_blocks.0": [0]}, images(), k=99, progress=False)
    pixels = dict(shown.loaders(range(len(PHOTOGRAPHS))))
    arrays = [pixels[number]() for number in range(len(PHOTOGRAPHS))]
    # all_activations gives the network images in (-1, 1); this one takes (-127/128, 1).
    low, high = loaded.values_range
    scaled = [(low + (high - low) * (one / 255.0) + 1) / 2 * 255 for one in arrays]
    exact = all_activations(loaded.model, names, scaled)
    for unit in found:
        values = exact[unit.layer][:, unit.index].amax((1, 2)).numpy()
        np.testing.assert_allclose(
            [one.value for one in unit.top], sorted(values, reverse=True)[:5], rtol=1e-3, atol=1e-3
        )
        expected = best(values, 5)
        gaps = np.diff([values[number] for number in best(values, 6)])
        if (gaps < -2e-3).all():  # otherwise rounding may change the order
            assert [one.image for one in unit.top] == expected
    assert torch.is_tensor(exact[names[0]])
