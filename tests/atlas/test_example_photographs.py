"""Dataset examples of EfficientNet-Lite0 with its weights, from photographs in Python packages."""

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage
import sklearn
from example_images import all_activations, best
from torch import nn

from fvfast.atlas.examples import Units, dataset_examples
from fvfast.models import load_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dataset_examples.md"
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


@pytest.mark.thorough
def test_the_page_does_what_it_says(tmp_path, monkeypatch):
    """The code in docs/dataset_examples.md."""
    (code,) = re.findall(r"^```python\n(.+?)^```$", PAGE.read_text(), flags=re.M | re.S)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photographs").symlink_to(FOLDERS[1])
    exec(code, {})
    assert (tmp_path / "photographs.npz").exists()
    assert (tmp_path / "atlas" / "examples" / "_blocks.5" / "17.json").exists()
    assert (tmp_path / "atlas" / "examples" / "_fc" / "963.0.webp").exists()


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_images():
    """3,000 images of 48 KB would be 140 MB; what a run of this size takes anyway is there."""
    process, marks = Path("/proc/self/statm"), []
    generator = np.random.default_rng(0)

    def many():
        for number in range(4000):
            if number in (1000, 4000 - 1):
                marks.append(int(process.read_text().split()[1]) * 4096)
            yield generator.integers(0, 256, (128, 128, 3), dtype=np.uint8)

    model = nn.Sequential(nn.Conv2d(3, 16, 3, stride=4), nn.ReLU()).eval()
    dataset_examples(model, "1", many(), input_shape=(3, 128, 128), progress=False)
    assert marks[1] - marks[0] < 30 * 2**20
