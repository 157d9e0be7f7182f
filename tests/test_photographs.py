"""Photographs as users have them, for inversions and caricatures."""

import numpy as np
import pytest
import torch
from photographed import (
    INPUT,
    MAKERS,
    as_image,
    caricature,
    inversion,
    pixels,
    scores,
)
from PIL import Image
from torch import nn

from fvfast import Objective
from fvfast.spectrum.natural import fitted


@pytest.fixture
def images():
    return torch.randn(6, *INPUT, generator=torch.Generator().manual_seed(1))


def test_ways_to_give_a_photograph(network, images, tmp_path):
    """The same photograph, in all of them; 40 x 30 pixels are cropped to a square."""
    bytes_ = pixels()
    path = tmp_path / "sea.png"
    Image.fromarray(bytes_).save(path)
    tensor = torch.from_numpy(bytes_).permute(2, 0, 1).contiguous()
    same = [
        bytes_, path, str(path), Image.fromarray(bytes_), tensor,
        [bytes_], (path,), tensor[None], Image.fromarray(bytes_).convert("RGBA"),
        np.asfortranarray(bytes_),
    ]  # fmt: skip
    expected = scores(inversion(network, bytes_), images)
    for one in same:
        np.testing.assert_array_equal(scores(inversion(network, one), images), expected)


def test_names_of_photographs(network, tmp_path):
    path = tmp_path / "sea.png"
    Image.fromarray(pixels()).save(path)
    assert inversion(network, [pixels(), path]).combination_names == [
        "Inversion#3_0",
        "Inversion#3_sea",
    ]
    assert caricature(network, path).combination_names == ["Caricature#3_sea"]
    assert caricature(network, path, names="sea").combination_names == ["sea"]


def test_floats_are_what_the_network_takes(network, images):
    photograph = pixels(size=(20, 20))
    expected = scores(inversion(network, photograph), images)
    image = as_image(photograph)
    array = (image.permute(1, 2, 0).numpy() + 1) / 2  # arrays have values in [0, 1]
    for same in (image, array, image.double(), [image], image[None], array.astype(np.float64)):
        np.testing.assert_allclose(scores(inversion(network, same), images), expected, rtol=1e-6)
    # Larger ones are cropped around their center and resized.
    generator = torch.Generator().manual_seed(2)
    large = torch.rand(3, 40, 60, generator=generator)
    center = fitted(large[None, :, :, 10:50], INPUT[1:])[0]
    np.testing.assert_array_equal(
        scores(inversion(network, large), images), scores(inversion(network, center), images)
    )


def test_values_range_scales_bytes(network, images):
    photograph = pixels(size=(20, 20))
    image = torch.from_numpy(photograph).permute(2, 0, 1) / 255
    np.testing.assert_allclose(
        scores(inversion(network, photograph, values_range=(0, 1)), images),
        scores(inversion(network, image, values_range=(0, 1)), images),
        rtol=1e-6,
    )


def test_gray_networks(images):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval()
    photograph = pixels(channels=1, size=(20, 20))
    expected = Objective.inversion(network, 1, as_image(photograph), input_shape=(1, 20, 20))
    for same in (photograph, photograph[..., 0], Image.fromarray(photograph[..., 0])):
        found = Objective.inversion(network, 1, same, input_shape=(1, 20, 20))
        np.testing.assert_allclose(
            scores(found, images[:, :1]), scores(expected, images[:, :1]), rtol=1e-6
        )
    color = Objective.inversion(network, 1, pixels(), input_shape=(1, 20, 20))
    assert np.isfinite(scores(color, images[:, :1])).all()


def damaged(folder):
    path = folder / "damaged.png"
    path.write_bytes(b"no picture")
    return path


def deep(folder):
    path = folder / "deep.png"
    Image.fromarray(np.zeros((20, 20), dtype=np.uint16)).save(path)
    return path


BAD = [
    (lambda _: 5, TypeError, "path of a file, a PIL image, an array .* or a tensor .*, got int"),
    (lambda _: [], ValueError, "expected one or several, got an empty list"),
    (lambda _: "nosuch.png", FileNotFoundError, "nosuch.png"),
    (damaged, ValueError, r"photograph .*damaged\.png cannot be read: damaged, or of another"),
    (deep, ValueError, "more than 8 bits"),
    (lambda folder: folder, ValueError, "photograph"),
    (lambda _: pixels()[..., :2], ValueError, r"array of shape \(30, 40, 2\); expected"),
    (lambda _: torch.zeros(4, 20, 20), ValueError, "has 4 channels, and the images have 3"),
    (lambda _: pixels() / 1.0, ValueError, "values from 0 to 255; expected 0 to 1"),
    (lambda _: torch.full(INPUT, 2.0), ValueError, "from 2 to 2; expected -1 to 1"),
    (lambda _: torch.full(INPUT, float("nan")), ValueError, "from nan to nan; expected"),
]  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("photograph", "error", "message"), BAD)
def test_bad_photographs(network, tmp_path, name, photograph, error, message):
    with pytest.raises(error, match=message):
        MAKERS[name](network, "3", photograph(tmp_path), input_shape=INPUT)


def test_images_of_many_channels_are_given_as_floats():
    model = nn.Conv2d(5, 2, 1).eval()
    image = torch.rand(5, 8, 8)
    assert Objective.inversion(model, model, image, input_shape=(5, 8, 8)).group_size == 1
    with pytest.raises(ValueError, match="has 3 channels, and the images have 5"):
        Objective.inversion(model, model, pixels(), input_shape=(5, 8, 8))
