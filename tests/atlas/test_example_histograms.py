"""Histograms of numbers in batches: exact, and the same for all batches."""

import itertools

import numpy as np
import pytest
import torch

from fvfast.atlas.examples.histograms import BINS, RunningHistograms

_RANDOM = np.random.default_rng(0)
COUNT = 400
ROWS = {
    "normal": _RANDOM.normal(size=COUNT),
    "after a ReLU": np.maximum(_RANDOM.normal(size=COUNT), 0),
    "zeros": np.zeros(COUNT),
    "one positive number": np.full(COUNT, 3.7),
    "one negative number": np.full(COUNT, -5.0),
    "tiny": _RANDOM.random(COUNT) * 1e-30,
    "subnormal": np.full(COUNT, 1e-45),
    "over many sizes": np.exp(_RANDOM.normal(size=COUNT) * 8),
    "large with small differences": 1e9 + _RANDOM.random(COUNT) * 500,
    "negative": -_RANDOM.random(COUNT),
    "zeros at first": np.concatenate([np.zeros(COUNT - 100), _RANDOM.random(100) * 1e-3]),
    "the largest": np.array([3e38, -3e38] * (COUNT // 2)),
}
VALUES = torch.tensor(np.stack(list(ROWS.values())), dtype=torch.float32).double()


def histograms(values, sizes):
    made = RunningHistograms(len(values), torch.device("cpu"))
    for batch in values.split(sizes, 1):
        made.add(batch, torch.ones_like(batch, dtype=torch.bool))
    return made


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batches_and_order_make_no_difference(size):
    whole, order = histograms(VALUES, COUNT), torch.from_numpy(_RANDOM.permutation(COUNT))
    for other in (histograms(VALUES, size), histograms(VALUES[:, order], size)):
        assert torch.equal(whole.counts, other.counts)
        assert torch.equal(whole.edges(), other.edges())


@pytest.mark.parametrize("name", ROWS)
def test_every_number_is_counted_between_its_edges(name):
    row = list(ROWS).index(name)
    made = histograms(VALUES, 9)
    edges, values = made.edges()[row].numpy(), VALUES[row].numpy()
    expected = [
        int(((low <= values) & (values < high)).sum()) for low, high in itertools.pairwise(edges)
    ]
    assert made.counts[row].tolist() == expected
    assert sum(expected) == COUNT
    assert len(expected) == BINS


def test_bins_are_no_wider_than_needed():
    """Half of the range of the bins would not hold all numbers."""
    made = histograms(VALUES, 64)
    edges = made.edges()
    for row, name in enumerate(ROWS):
        low, high = VALUES[row].min(), VALUES[row].max()
        if low < high and name != "large with small differences":
            assert high - low > 0.48 * (edges[row, -1] - edges[row, 0]), name


def test_what_is_not_finite_is_not_counted():
    values = torch.tensor([[1.0, float("nan"), 2.0, float("inf")]]).double()
    made = RunningHistograms(1, torch.device("cpu"))
    made.add(values, values.isfinite())
    assert made.counts.sum() == 2
    assert (made.lowest.item(), made.highest.item()) == (1.0, 2.0)


def test_an_empty_histogram_has_edges():
    made = RunningHistograms(2, torch.device("cpu"))
    assert made.edges()[0].tolist() == [index / BINS for index in range(BINS + 1)]
    assert not made.counts.any()
