"""The benchmark that judges pictures of inner channels by their twins in other networks."""

import numpy as np
import pytest
import torch
from photographs import array_of
from PIL import Image
from selection import thorough
from torch import nn

from benchmarks.quality_channels import COLUMNS, KEY, main
from benchmarks.quality_results import Results, in_common
from benchmarks.quality_twins import (
    Twin,
    block_of,
    channel_means,
    find_twins,
    halves,
    nonlinear_layers,
)
from fvfast.models import load_model

TINY = "tiny:nb_steps=2,nb_crops=1,custom_shape=(32, 32)"


class TwiceActivated(nn.Module):
    """Calls its activation twice, as blocks of an EfficientNet do."""

    def __init__(self):
        super().__init__()
        self.activation = nn.ReLU6()

    def forward(self, images):
        return self.activation(self.activation(images) - 1)


def test_means_are_those_of_the_last_call():
    images = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0)) * 3
    model = TwiceActivated()
    means = channel_means(model, ["activation"], images)["activation"]
    torch.testing.assert_close(means, model(images).mean((2, 3)))
    assert not model.activation._forward_hooks


def test_layers_of_comparable_depth():
    model = load_model("efficientnet_lite1", pretrained=False).model
    assert len(nonlinear_layers(model, 0.5, 0.5)) == len(model._blocks) == 21
    near = nonlinear_layers(model, 1 / 3, 0.15)
    assert list(map(block_of, near)) == [4, 5, 6, 7, 8, 9]
    for name in near:
        assert isinstance(model.get_submodule(name), nn.ReLU6)


def random_means(channels, photographs=40, crops=8, seed=0):
    return np.random.default_rng(seed).random((photographs, crops, channels), dtype=np.float32)


def test_a_twin_is_found_among_several_layers():
    own = random_means(3)
    others = {"first": random_means(50, seed=1), "second": random_means(60, seed=2)}
    others["first"][..., 7] = own[..., 2] + 0.2 * random_means(1, seed=3)[..., 0]
    others["second"][..., 4] = 5 * own[..., 0]
    # A channel that agrees only where twins are looked for is not confirmed.
    found_with, held_out = halves(len(own))
    assert sorted([*found_with, *held_out]) == list(range(40))
    others["second"][found_with, :, 9] = own[found_with, :, 1]
    twins = find_twins(own, others)
    assert [(twin.layer, twin.channel) for twin in twins] == [
        ("second", 4), ("second", 9), ("first", 7)
    ]  # fmt: skip
    assert twins[0].correlation == pytest.approx(1)
    assert abs(twins[1].correlation) < 0.3
    expected = np.corrcoef(own[held_out, :, 2].ravel(), others["first"][held_out, :, 7].ravel())
    assert twins[2].correlation == pytest.approx(expected[0, 1])
    assert np.array_equal(twins[2].sorted_means, np.sort(others["first"][held_out, :, 7].ravel()))


def test_channels_that_never_vary_have_no_twin():
    own = random_means(2)
    own[..., 1] = 0.5
    twins = find_twins(own, {"layer": own.copy()})
    assert [twin.correlation for twin in twins] == [pytest.approx(1), 0]


def test_percentiles_are_of_the_held_out_crops():
    twin = Twin("layer", 0, 1.0, np.arange(200, dtype=np.float32))
    assert twin.percentile(-1) == 0
    assert twin.percentile(100) == 50
    assert twin.percentile(500) == 100
    assert twin.multiple(398, percent=100) == 2


def rows_of(recipe, pairs, settings="{}"):
    return [
        {
            "recipe": recipe, "precision": "", "settings": settings, "processor": "p", "threads": 1,
            "photographs": "9 x 8", "channel": channel, "seed": seed,
        }
        for channel, seed in pairs
    ]  # fmt: skip


def test_recipes_are_compared_over_the_same_channels():
    rows = [*rows_of("a", [(1, 0), (2, 0)]), *rows_of("b", [(3, 0), (2, 0)])]
    rows += rows_of("a", [(2, 0)], settings='{"nb_steps": 3}')
    groups = in_common(rows, ("channel", "seed"))
    assert list(groups) == ["a", "b", "a (settings 2)"]
    assert [[row["channel"] for row in runs] for runs in groups.values()] == [[2]] * 3


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs" / "package"
    folder.mkdir(parents=True)
    for number in range(4):
        Image.fromarray(array_of(40 + 9 * number, 70)).save(folder / f"{number}.jpg")
    return folder.parent


@pytest.mark.parametrize("layers", [thorough(["_blocks.5._swish"])])
def test_a_run_from_the_command_line(tmp_path, capsys, photographs, layers):
    results = tmp_path / "results.csv"
    command = [
        "--layers", *layers, "--channels", "2", "--correlation", "0.2", "--photographs",
        str(photographs), "--recipes", "--recipe", TINY, "--results", str(results),
    ]  # fmt: skip
    main(command)
    said = " ".join(capsys.readouterr().out.split())
    assert "efficientnet_lite2: 8 crops of each of 4 photographs" in said
    assert "1 of 2: tiny, _blocks.5._swish" in said
    rows = Results(results, COLUMNS, KEY).read()
    assert len(rows) == 2
    for row in rows:
        assert row["photographs"] == "4 x 8"
        assert float(row["own_multiple"]) > 0
        for judge in ("lite1", "lite2"):
            assert 0.2 <= float(row[f"{judge}_correlation"]) <= 1
            assert 0 <= float(row[f"{judge}_percentile"]) <= 100
            assert 0 <= float(row[f"{judge}_control_percentile"]) <= 100
    main(command)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("in the results already") == 2
    assert "photographs ..." not in said
    assert Results(results, COLUMNS, KEY).read() == rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channels", "0"], "--channels must be at least 1"),
        (["--photographs", "nowhere"], "there are no photographs (.jpg) in nowhere"),
        (["--recipe", "a:method=xplique,nb_steps=2"], "a: xplique draws classes of Lite0 alone"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, capsys, photographs, options, message):
    with pytest.raises(SystemExit):
        main(["--photographs", str(photographs), "--results", str(tmp_path / "r.csv"), *options])
    assert message in " ".join(capsys.readouterr().err.split())
