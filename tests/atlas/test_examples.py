"""Dataset examples against a computation in float64 over all images at once."""

import numpy as np
import pytest
import torch
from example_images import SIDE, all_activations, best, convolutions, pictures, write_folder
from torch import nn

from fvfast.atlas.examples import Units, dataset_examples
from fvfast.atlas.examples.layers import LayerReader
from fvfast.atlas.examples.units import choose_units
from fvfast.models import LoadedModel

SHAPE = (3, SIDE, SIDE)
# float32 of a network with two layers against float64.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def examples_of(model, layers, images, **settings):
    return dataset_examples(
        model, layers, images, input_shape=SHAPE, progress=False, **{"k": 5, **settings}
    )


def check_unit(unit, values, k=5):
    """Compare a unit with its largest activation (N,) in each image."""
    values = np.asarray(values)
    assert [example.image for example in unit.top] == best(values, k)
    assert [example.rank for example in unit.top] == list(range(min(k, len(values))))
    np.testing.assert_allclose(
        [example.value for example in unit.top], sorted(values, reverse=True)[:k], **CLOSE
    )
    assert unit.images == len(values)
    np.testing.assert_allclose(unit.mean, values.mean(), **CLOSE)
    assert unit.active_share == (values > 0).mean()
    assert sum(unit.counts) == len(values)
    assert unit.edges[0] <= values.min() + 1e-5
    assert unit.edges[-1] > values.max() - 1e-5


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_channels_of_several_layers(tmp_path, batch_size):
    images = pictures(50)
    write_folder(tmp_path, images)
    model = convolutions()
    # The order of a folder is that of its names, with the folders of the labels.
    order = sorted(range(50), key=lambda number: (number % 3, number))
    exact = all_activations(model, ["1", "2"], [images[number] for number in order])
    found = examples_of(model, ["1", "2"], tmp_path, batch_size=batch_size)
    assert [(unit.layer, unit.index) for unit in found] == [
        *(("1", index) for index in range(8)),
        *(("2", index) for index in range(12)),
    ]
    for unit in found:
        maps = exact[unit.layer][:, unit.index]
        check_unit(unit, maps.amax((1, 2)))
        for example in unit.top:
            number = order[example.image]
            assert example.source == f"class{number % 3}/{number:04}.png"
            assert example.label == f"class{number % 3}"
            rows, columns = np.nonzero(
                np.isclose(maps[example.image], maps[example.image].max(), rtol=1e-5)
            )
            assert example.position in list(zip(rows, columns, strict=True))


def test_some_units_in_the_order_that_was_asked_for():
    images = pictures(12)
    model = convolutions()
    exact = all_activations(model, ["1", "2"], images)
    found = examples_of(model, {"2": [7, 0, 3], "1": [4]}, images, k=2)
    assert [(unit.layer, unit.index) for unit in found] == [
        ("2", 7), ("2", 0), ("2", 3), ("1", 4)
    ]  # fmt: skip
    for unit in found:
        check_unit(unit, exact[unit.layer][:, unit.index].amax((1, 2)), 2)
    assert found["2", 3] == found[2]
    assert found[1:3] == [found[1], found[2]]
    with pytest.raises(KeyError, match="no unit 5 of layer '2'"):
        found["2", 5]


def test_classes_and_neurons():
    images = pictures(12)
    model = convolutions()
    model.categories = [f"number {index}" for index in range(10)]
    exact = all_activations(model, ["2", "6"], images)
    found = examples_of(
        model, [Units(-1, [3, 8], "class"), Units("2", [100, 7 * 100 + 23], "neuron")], images
    )
    assert [unit.name for unit in found] == ["number 3", "number 8", None, None]
    for unit in found[:2]:
        check_unit(unit, exact["6"][:, unit.index])
        assert {example.position for example in unit.top} == {None}
        assert {example.box for example in unit.top} == {(0, 0, SIDE, SIDE)}
    for unit in found[2:]:
        check_unit(unit, exact["2"].flatten(1)[:, unit.index])
        assert {example.position for example in unit.top} == {divmod(unit.index % 100, 10)}


def test_directions():
    images = pictures(30)
    model = convolutions()
    vectors = torch.randn(4, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = all_activations(model, ["2"], images)["2"]
    found = examples_of(model, Units("2", [2, 0], "direction", vectors), images, batch_size=8)
    for unit, index in zip(found, (2, 0), strict=True):
        assert unit.index == index
        maps = torch.einsum("c,nchw->nhw", vectors[index], exact)
        check_unit(unit, maps.amax((1, 2)))
        for example in unit.top:
            assert example.position == divmod(int(maps[example.image].argmax()), 10)


@pytest.mark.parametrize("most", [1, 700, 10**6])
def test_directions_in_parts(most):
    """As many at a time as the memory is to hold."""
    model = convolutions()
    vectors = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    (chosen,) = choose_units(
        LoadedModel(model, "small", SHAPE), Units("2", [4, 0, 3], "direction", vectors)
    )
    output = torch.randn(6, 12, 10, 10, generator=torch.Generator().manual_seed(1))
    reader = LayerReader(chosen, SHAPE[1:], largest_product=most)
    values, positions = reader.largest(output)
    maps = torch.einsum("nc,bchw->nbhw", vectors[[4, 0, 3]], output).flatten(2)
    torch.testing.assert_close(values, maps.amax(2))
    assert torch.equal(positions, maps.argmax(2))


def test_of_equal_images_the_first_comes_first():
    """Whatever the batches: ten images, four times each."""
    images = pictures(10) * 4
    model = convolutions()
    found = {
        batch_size: examples_of(model, "2", images, k=6, batch_size=batch_size)
        for batch_size in (1, 10, 20, 40)
    }
    for sets in found.values():
        for unit in sets:
            numbers = [example.image for example in unit.top]
            assert numbers[:4] == [numbers[0] % 10 + 10 * turn for turn in range(4)]
            assert numbers[4:] == [numbers[4] % 10 + 10 * turn for turn in range(2)]


def test_dead_units_have_the_first_images():
    model = convolutions()
    with torch.no_grad():
        model[0].bias[3] = -100.0
    (unit,) = examples_of(model, {"1": [3]}, pictures(9), batch_size=4)
    assert [(one.image, one.value) for one in unit.top] == [(number, 0.0) for number in range(5)]
    assert (unit.mean, unit.active_share) == (0.0, 0.0)
    assert unit.counts[0] == 9
    assert unit.edges == tuple(index / 32 for index in range(33))


def test_fewer_images_than_places():
    (unit,) = examples_of(convolutions(), {"2": [0]}, pictures(3), k=9)
    assert len(unit.top) == 3


class _SometimesInfinite(nn.Module):
    """Not finite for dark images."""

    def forward(self, x):
        mean = x.mean((2, 3), keepdim=True)
        return torch.where(mean < -0.5, torch.tensor(float("nan")), x)


def test_activations_that_are_not_finite_are_left_out():
    images = pictures(6)
    images[2] = np.zeros((SIDE, SIDE, 3), np.uint8)
    model = nn.Sequential(_SometimesInfinite(), nn.Conv2d(3, 4, 1)).eval()
    with pytest.warns(RuntimeWarning, match="up to 1 of 6 images gave a unit an activation"):
        found = examples_of(model, "1", images, k=9, batch_size=4)
    for unit in found:
        assert sorted(one.image for one in unit.top) == [0, 1, 3, 4, 5]
        assert unit.images == sum(unit.counts) == 5
        assert np.isfinite(unit.mean)


def test_the_network_is_given_back():
    model = convolutions().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match="training mode"):
        examples_of(model, "2", pictures(4))
    assert all(module.training for module in model.modules())
    assert all(one.requires_grad for one in model.parameters())
    assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_batches_make_no_difference_but_rounding():
    images = pictures(50)
    sets = [examples_of(convolutions(), ["1", "2"], images, batch_size=b) for b in (1, 7, 64)]
    for units in zip(*sets, strict=True):
        for other in units[1:]:
            assert [one.image for one in other.top] == [one.image for one in units[0].top]
            assert [one.position for one in other.top] == [one.position for one in units[0].top]
            assert other.edges == units[0].edges
            assert other.active_share == units[0].active_share
            np.testing.assert_allclose(other.mean, units[0].mean, **CLOSE)


class _SmallMemory(nn.Module):
    """As on a device that holds a few images only."""

    def __init__(self, note):
        super().__init__()
        self.note = note  # a list of the network's own would be restored after the run

    def forward(self, x):
        self.note(len(x))
        if len(x) > 6:
            raise torch.OutOfMemoryError("out of memory")
        return x


def test_smaller_batches_where_the_memory_is_too_small():
    images, sizes = pictures(40), []
    model = nn.Sequential(_SmallMemory(sizes.append), *convolutions()).eval()
    found = examples_of(model, "3", images, batch_size=16)
    assert sizes[sizes.index(16) :] == [16, 8, *[4] * 10]
    expected = examples_of(convolutions(), "2", images)
    for unit, other in zip(found, expected, strict=True):
        assert [one.image for one in unit.top] == [one.image for one in other.top]


class _OneImage(nn.Module):
    """Exported with a batch of one."""

    def forward(self, x):
        return x.reshape(1, 3, SIDE, SIDE)


def test_a_network_for_one_image_at_a_time():
    images = pictures(10)
    model = nn.Sequential(_OneImage(), *convolutions()).eval()
    with pytest.warns(RuntimeWarning, match="one image at a time only"):
        found = examples_of(model, Units(-1, [0], "class"), images, batch_size=5)
    expected = examples_of(convolutions(), Units(-1, [0], "class"), images)
    assert [one.image for one in found[0].top] == [one.image for one in expected[0].top]


def test_weights_of_16_bits():
    images = pictures(12)
    model = convolutions()
    exact = all_activations(model, ["2"], images)["2"].amax((2, 3))
    for unit in examples_of(model.bfloat16(), "2", images, k=1):
        values = exact[:, unit.index]
        assert unit.top[0].value == pytest.approx(values.max().item(), abs=0.03)
