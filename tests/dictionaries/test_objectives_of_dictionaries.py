"""Objectives of many directions at once."""

import numpy as np
import pytest
import torch
from torch import nn

from fvfast import Objective, maco, maco_batch
from fvfast.files.dictionaries import Dictionary, read_dictionary

SHORT = {"nb_steps": 2, "nb_crops": 2, "custom_shape": 16, "progress": False}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3)).eval()


def objective(network, vectors, **more):
    return Objective.direction(network, 0, vectors, input_shape=(3, 12, 12), **more)


def test_a_dictionary_draws_what_its_directions_draw(network):
    dictionary = read_dictionary(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    images = maco_batch(objective(network, dictionary), **SHORT).images
    for vectors in (dictionary.directions, dictionary.directions.numpy(),
                    list(dictionary.directions)):  # fmt: skip
        assert torch.equal(images, maco_batch(objective(network, vectors), **SHORT).images)
    some = objective(network, dictionary.select([2]), names="Direction#0_2")
    alone, _ = maco(some, **SHORT)
    torch.testing.assert_close(alone, images[2], rtol=0, atol=1e-5)


def test_names_are_those_of_the_dictionary(network):
    directions = torch.ones(2, 6)
    assert objective(network, Dictionary(directions)).combination_names == [
        "Direction#0_0", "Direction#0_1",
    ]  # fmt: skip
    named = Dictionary(directions, names=("stripes", "dots"))
    assert objective(network, named).combination_names == ["stripes", "dots"]
    assert objective(network, named.select([1])).combination_names == ["dots"]
    assert objective(network, named, names=["a", "b"]).combination_names == ["a", "b"]
    with pytest.raises(ValueError, match="2 targets, 1 names"):
        objective(network, named, names=["a"])


@pytest.mark.parametrize("form", [read_dictionary, torch.Tensor.numpy, lambda tensor: tensor])
def test_directions_of_another_width_are_refused(network, form):
    message = r"the 3 directions have 5 channels each, and layer '0' has 6 \(its output is \(6, 10"
    with pytest.raises(ValueError, match=message):
        objective(network, form(torch.ones(3, 5)))


def test_directions_that_are_zero_are_listed(network):
    directions = torch.ones(30, 6)
    directions[7] = 0
    with pytest.raises(
        ValueError, match=r"finite and not zero; of 30, 1 is not \(counted from 0\): 7\. L"
    ):
        objective(network, directions)
    directions[10:29] = 0
    with pytest.raises(ValueError, match=r"of 30, 20 are not .*: 7, 10, 11, .*18 \.\.\.\. Leave"):
        objective(network, read_dictionary(directions))
    kept = objective(network, read_dictionary(directions).select([0, 29]))
    assert kept.combination_names == ["0", "29"]
    directions[3, 2] = torch.nan
    with pytest.raises(ValueError, match=r"21 are not .*: 3, 7"):
        objective(network, directions)


def test_channels_last(network):
    class Tokens(nn.Module):
        def forward(self, images):
            return images.flatten(2).transpose(1, 2)

    tokens = nn.Sequential(network, Tokens()).eval()
    directions = np.random.default_rng(0).normal(size=(2, 5))
    found = Objective.direction(tokens, "1", read_dictionary(directions), input_shape=(3, 12, 12),
                                channel_axis=1)  # fmt: skip
    assert [tuple(one.shape) for one in found.masks[0]] == [(1, 5)] * 2


def test_tens_of_thousands_share_memory(network):
    """And are checked at once, not one by one."""
    directions = torch.ones(40_000, 6)
    found = objective(network, Dictionary(directions))
    assert len(found.combination_names) == 40_000
    addresses = {one.untyped_storage().data_ptr() for one in found.masks[0]}
    assert addresses == {directions.untyped_storage().data_ptr()}
