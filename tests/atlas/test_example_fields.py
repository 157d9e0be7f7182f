"""Which part of an image a crop shows: measured fields, and boxes at the borders."""

import numpy as np
import pytest
import timm
import torch
from example_images import pictures
from torch import nn

from fvfast.atlas.examples import Units, dataset_examples
from fvfast.atlas.examples.fields import Field, measure_fields
from fvfast.atlas.examples.layers import Grid, LayerReader
from fvfast.atlas.examples.units import ChosenUnits, choose_units
from fvfast.engine.network.layers import Layer
from fvfast.engine.taps import TappedModel
from fvfast.models import LoadedModel

SIDE = 64


def fields_of(model, layers, shape=(3, SIDE, SIDE)):
    chosen = choose_units(LoadedModel(model, "small", shape), layers)
    readers = [LayerReader(one, shape[1:]) for one in chosen]
    network = TappedModel(model, [one.layer for one in chosen])
    return measure_fields(network, readers, shape, (-1.0, 1.0), torch.device("cpu")), readers


def convolution(inputs, outputs, kernel, **settings):
    """A convolution that depends on all of its window alike."""
    layer = nn.Conv2d(inputs, outputs, kernel, bias=False, **settings)
    nn.init.constant_(layer.weight, 0.1)
    return layer


STACKS = {
    # Center of position 0, distance of positions, and side of the square that holds 80 %, counted
    # by hand. Two layers lean on the middle of their field of 12 or 11 pixels.
    "one layer with padding": ([convolution(3, 4, 11, padding=5)], 0.5, 1, 11),
    "one layer without": ([convolution(3, 4, 11)], 5.5, 1, 11),
    "stride": ([convolution(3, 4, 12, stride=4, padding=4)], 2.0, 4, 12),
    "two layers without padding": (
        [convolution(3, 4, 8, stride=2), convolution(4, 4, 3, stride=2)], 6.0, 4, 10
    ),
    "uneven padding": (
        [nn.ZeroPad2d((0, 1, 0, 1)), convolution(3, 4, 3, stride=2),
         nn.ZeroPad2d((0, 1, 0, 1)), convolution(4, 4, 5, stride=2)], 5.5, 4, 11
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_fields_of_convolutions(name):
    layers, origin, stride, side = STACKS[name]
    model = nn.Sequential(*layers).eval().requires_grad_(False)
    (field,), _ = fields_of(model, [str(len(layers) - 1)])
    assert field.origin == pytest.approx((origin, origin))
    assert field.stride == pytest.approx((stride, stride))
    assert field.side == side


def test_a_layer_that_sees_all_shows_all():
    model = nn.Sequential(convolution(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(4))
    model.append(convolution(4, 4, 7, padding=3)).eval().requires_grad_(False)
    (small, whole), _ = fields_of(model, ["0", "2"])
    assert small.side == 10  # a seventh of 64
    assert whole.box((0, 0)) == (0, 0, SIDE, SIDE)


@pytest.mark.parametrize(
    ("place", "box"),
    [
        ((0, 0), (0, 0, 10, 10)),
        ((1, 15), (1, 54, 11, 64)),
        ((8, 8), (29, 29, 39, 39)),
        ((15, 0), (54, 0, 64, 10)),
        (None, (0, 0, 64, 64)),
    ],
)
def test_boxes_stay_in_the_image(place, box):
    assert Field((64, 64), 10, (2.0, 2.0), (4.0, 4.0)).box(place) == box


@pytest.mark.parametrize("corner", [(0, 0), (0, 56), (56, 0), (56, 56), (24, 31)])
def test_the_crop_shows_what_excites_the_unit(corner):
    """A bright spot anywhere, also in a corner, lies in the box."""
    model = nn.Sequential(
        convolution(3, 4, 3, stride=2, padding=1),
        convolution(4, 4, 3, stride=2, padding=1),
    )
    model.eval()
    image = torch.zeros(3, SIDE, SIDE)
    image[:, corner[0] : corner[0] + 8, corner[1] : corner[1] + 8] = 1
    found = dataset_examples(
        model, {"1": [0]}, [image], input_shape=(3, SIDE, SIDE), values_range=(0, 1), progress=False
    )
    (example,) = found[0].top
    top, left, bottom, right = example.box
    assert top <= corner[0] + 4 <= bottom
    assert left <= corner[1] + 4 <= right
    assert bottom - top == right - left == 10
    assert np.mean(found.crops(found[0])[0]) > 0.5 * 255


def test_images_that_are_not_square():
    model = nn.Sequential(convolution(3, 4, 9, stride=2, padding=4)).eval().requires_grad_(False)
    (field,), _ = fields_of(model, ["0"], (3, 48, 96))
    assert field.origin == pytest.approx((0.5, 0.5))
    assert field.stride == pytest.approx((2, 2))
    assert field.box((23, 47)) == (48 - field.side, 96 - field.side, 48, 96)


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [
        (197, (224, 224), Grid(14, 14, 1)),
        (196, (224, 224), Grid(14, 14, 0)),
        (198, (224, 224), Grid(14, 14, 2)),
        (50, (224, 224), Grid(7, 7, 1)),
        (261, (224, 224), Grid(16, 16, 5)),
        (3136, (224, 224), Grid(56, 56, 0)),
        (1 + 14 * 28, (224, 448), Grid(14, 28, 1)),
        (77, (224, 224), None),
    ],
)
def test_grids_of_tokens(tokens, size, grid):
    layer = Layer("tokens", nn.Linear(4, 4), None, (tokens, 4), 1, channel_axis=1)
    chosen = ChosenUnits(layer, "channel", (0,), 1, None, (None,))
    assert LayerReader(chosen, size).grid == grid


def test_tokens_of_a_transformer():
    """A small vision transformer: positions of patches, none of the class token; directions."""
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=SIDE, patch_size=8, embed_dim=24, depth=2, num_heads=2,
        num_classes=5,
    ).eval()  # fmt: skip
    images = pictures(10, side=SIDE)
    vectors = torch.randn(3, 24)
    found = dataset_examples(
        model,
        [Units("blocks.0"), Units("blocks.1", kind="direction", directions=vectors), "head"],
        images,
        values_range=(0, 1),
        batch_size=4,
        k=3,
        progress=False,
    )
    outputs = {}
    for name in ("blocks.0", "blocks.1"):
        model.get_submodule(name).register_forward_hook(
            lambda _m, _i, output, name=name: outputs.__setitem__(name, output)
        )
    with torch.no_grad():
        model(torch.stack([torch.from_numpy(one).permute(2, 0, 1) / 255 for one in images]))
    maps = {
        "blocks.0": outputs["blocks.0"].transpose(1, 2),
        "blocks.1": torch.einsum("nc,btc->bnt", vectors, outputs["blocks.1"]),
    }
    tokens = []
    for unit in [unit for unit in found if unit.layer in maps]:
        values, places = maps[unit.layer][:, unit.index].max(1)
        order = values.argsort(descending=True, stable=True)[:3]
        assert [one.image for one in unit.top] == order.tolist()
        for one in unit.top:
            token = int(places[one.image])
            tokens.append(token)
            assert one.value == pytest.approx(values[one.image].item(), rel=1e-4, abs=1e-5)
            assert one.position == (None if token == 0 else divmod(token - 1, 8))
    assert 0 in tokens
    assert len(set(tokens)) > 10
    assert len(found) == 24 + 3 + 5
