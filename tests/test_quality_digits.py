"""The benchmark of a small transformer's pictures, from training to its tables."""

import re

import pytest
import torch
from selection import thorough

from benchmarks.digit_networks import Transformer, accuracy, split_digits, trained
from benchmarks.quality_digits import COLUMNS, HIDDEN, KEY, Unit, judge, main, unit_objective
from benchmarks.quality_results import Results
from benchmarks.quality_twins import channel_means
from fvfast.evaluation.metrics import mean_score
from fvfast.models import LoadedModel


class Reads(torch.nn.Module):
    """A judge that is sure of the class that is brightest in the first ten pixels."""

    def forward(self, images):
        return 100 * images.flatten(1)[:, :10]


def test_digits_for_training_and_testing_are_different_ones():
    images, labels, held_out, held_out_labels = split_digits()
    assert (len(images), len(held_out)) == (1347, 450)
    assert len(torch.cat([images, held_out]).flatten(1).unique(dim=0)) == 1797
    assert held_out_labels.bincount().min() >= 43
    assert len(labels) == len(images)


def test_the_judges_are_asked_about_the_class_and_about_the_control():
    image = torch.zeros(1, 1, 8, 8)
    image[..., 0, 3] = 1
    judges = [LoadedModel(Reads().eval(), name, (1, 8, 8), (0.0, 1.0)) for name in ("a", "b")]
    row = judge(image, Unit("class", 3), Unit("class", 4), judges)
    assert row == {
        "a_rank": 1, "a_probability": 1, "b_rank": 1, "b_probability": 1,
        "a_control_rank": 2, "a_control_probability": 0,
        "b_control_rank": 2, "b_control_probability": 0,
    }  # fmt: skip


def test_hidden_units_are_means_over_all_patches():
    """The objective and the twins speak of the same channels."""
    model = Transformer().eval()
    loaded = LoadedModel(model, "transformer", (1, 8, 8), (0.0, 1.0))
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    means = channel_means(model, [HIDDEN], images)[HIDDEN]
    assert means.shape == (2, 128)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    scores = mean_score(images, unit_objective(loaded, Unit("hidden", 7)), boxes=whole)
    torch.testing.assert_close(scores * 128, means[:, 7])


@pytest.mark.parametrize("recipe", [thorough("small16:preset=small,nb_steps=16")])
def test_a_run_from_the_command_line(tmp_path, capsys, recipe):
    results = tmp_path / "results.csv"
    command = [
        "--units", "2", "--epochs", "10", "--correlation", "0.1", "--recipes", "--recipe", recipe,
        "--results", str(results),
    ]  # fmt: skip
    main(command)
    said = " ".join(capsys.readouterr().out.split())
    shares = re.findall(r"(?:epochs|convolutions|perceptron): ([\d.]+) % of 450 held-out", said)
    assert len(shares) == 3
    assert all(float(share) > 50 for share in shares)
    rows = Results(results, COLUMNS, KEY).read()
    assert [row["kind"] for row in rows] == ["class"] * 10 + ["hidden"] * 2
    ranks = [int(row["convolutions_rank"]) for row in rows if row["kind"] == "class"]
    assert sum(ranks) / len(ranks) < 4.5  # by chance: 5.5
    for row in rows[10:]:
        assert 0 <= float(row["perceptron_percentile"]) <= 100
        assert row["perceptron_rank"] == ""
    assert "classes: mean of 10 runs" in said
    assert "hidden units: mean of 2 runs" in said


@pytest.mark.parametrize("epochs", [thorough(40)])
def test_the_transformer_recognizes_digits(epochs):
    """Measured: 95.1 % of those that it was not trained with."""
    images, labels, held_out, held_out_labels = split_digits()
    network = trained(Transformer, images, labels, epochs=epochs)
    assert accuracy(network, held_out, held_out_labels) > 0.93
