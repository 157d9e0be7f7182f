"""Kept pictures judged as people see them, with a network that sees the mean color."""

import pytest
import torch
from torch import nn

from benchmarks.quality_as_shown import cells, judged, main, wanted_pictures
from benchmarks.quality_pictures import Kept, kept_pictures
from fvfast.models import LoadedModel

CLASSES = ["red", "green", "blue"]


class MeanColor(nn.Module):
    def forward(self, images):
        return 8 * images.mean((2, 3))


@pytest.fixture
def folder(tmp_path):
    """Whole pictures are of the class's color; their middle is of another one."""
    for recipe, subject, seed in (
        ("a", "red", 0), ("a", "green", 0), ("a", "red", 1), ("b", "red", 0), ("b", "blue", 0),
        ("b", "red", 1),
    ):  # fmt: skip
        image = torch.zeros(3, 40, 40)
        image[CLASSES.index(subject)] = 1
        image[:, 15:25, 15:25] = torch.tensor([1.0, 1.0, 0.0])[:, None, None]
        Kept(recipe, subject, seed).save(image, tmp_path)
    return tmp_path


def test_pictures_of_which_all_recipes_have_one(folder):
    wanted = wanted_pictures(kept_pictures(folder), ["b", "a"])
    assert wanted == {name: [Kept(name, "red", 0), Kept(name, "red", 1)] for name in "ba"}


def test_judges_see_the_whole_picture_in_the_range_of_the_file(folder):
    network = LoadedModel(
        MeanColor().eval(), "mean color", (3, 20, 20), (0.0, 1.0), categories=CLASSES
    )
    kept = kept_pictures(folder)
    drawn = [Kept("a", "red", 0), Kept("b", "blue", 0), Kept("a", "green", 0)]
    files = [(one.subject, kept[one]) for one in drawn]
    seen = judged(files, [network])
    assert seen.ranks.tolist() == [[1], [1], [1]]
    # A sixteenth of the area is yellow: (1, 1, 0).
    logits = 8 * torch.tensor([1, 1 / 16, 0])
    torch.testing.assert_close(seen.probabilities[0, 0], logits.softmax(0)[0], atol=0.002, rtol=0)
    files[0] = ("blue", files[0][1])
    wrong = judged(files, [network])
    assert wrong.ranks[0, 0] == 3
    first, _ = cells(wrong, ["x", "y", "z"])
    assert first.startswith("67 ±")


def test_an_empty_folder(tmp_path):
    with pytest.raises(SystemExit, match="holds no picture: keep some with"):
        main([str(tmp_path)])


def test_recipes_without_a_picture_in_common(folder):
    for path in folder.glob("b-red*"):
        path.unlink()
    with pytest.raises(SystemExit, match="a, b have no picture in common"):
        main([str(folder)])
