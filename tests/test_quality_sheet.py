"""Pictures side by side, as `benchmarks.quality` kept them."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.quality_pictures import Kept, kept_pictures
from benchmarks.quality_sheet import main, shared_subjects, sheet, write

COLORS = {"red": (1, 0, 0), "blue-green": (0, 1, 1), "sports car": (1, 1, 0)}


@pytest.fixture
def folder(tmp_path):
    """By recipe "a", all subjects; by "b-c", two of them, darker. All with a black corner."""
    for recipe, brightness in (("a", 1.0), ("b-c", 0.5)):
        for subject, color in COLORS.items():
            image = torch.tensor(color)[:, None, None].expand(3, 40, 40) * brightness
            image = image.clone()
            image[:, :4, :4] = 0
            image[:, 4:8, :4] = 1
            if (recipe, subject) != ("b-c", "red"):
                Kept(recipe, subject, 0).save(image, tmp_path / "pictures")
    return tmp_path / "pictures"


def test_a_sheet_has_a_row_for_each_recipe(folder, tmp_path, capsys):
    path = tmp_path / "images" / "sheet.webp"
    main([str(folder), "--sheet", str(path)])
    assert f"written to {path}" in capsys.readouterr().out
    assert path.stat().st_size < 400_000
    with Image.open(path) as picture:
        assert picture.format == "WEBP"
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    # The two subjects that both recipes have, in the order of their names; red is left out.
    for color, half in (((0, 255, 255), "left"), ((255, 255, 0), "right")):
        rows, columns = np.nonzero(np.abs(pixels - color).max(axis=2) < 24)
        assert len(rows) > 5000
        middle = pixels.shape[1] / 2
        assert (columns < middle).all() if half == "left" else (columns > middle).all()
    assert not (np.abs(pixels - (255, 0, 0)).max(axis=2) < 24).any()


def test_names_stand_on_the_left_and_above(folder):
    kept = kept_pictures(folder)
    figure = sheet(kept, ["b-c", "a"], ["sports car", "blue-green"], 0)
    axes = np.array(figure.axes).reshape(2, 2)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["b-c", "a"]
    assert [ax.get_title() for ax in axes[0]] == ["sports car", "blue-green"]
    assert shared_subjects(kept, ["a"]) == sorted(COLORS)


def test_long_names_are_wrapped(tmp_path):
    name = "cello (hobbies-music-string-cello)"
    Kept("a", name, 0).save(torch.zeros(3, 8, 8), tmp_path)
    (ax,) = sheet(kept_pictures(tmp_path), ["a"], [name], 0).axes
    assert ax.get_title() == "cello (hobbies-\nmusic-string-\ncello)"


def test_a_sheet_that_stays_too_large(folder, tmp_path):
    kept = kept_pictures(folder)
    with pytest.raises(ValueError, match="larger than 100 bytes; show fewer"):
        write(sheet(kept, ["a"], ["red"], 0), tmp_path / "sheet.webp", largest=100)
    assert not (tmp_path / "sheet.webp").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "3"], "holds no picture of seed 3"),
        (["--subjects", "red"], "there is no picture of red by b-c with seed 0"),
        (["--recipes", "a", "none"], "have no subject in common"),
    ],
)
def test_pictures_that_are_missing(folder, tmp_path, options, message):
    with pytest.raises(SystemExit, match=message):
        main([str(folder), "--sheet", str(tmp_path / "sheet.webp"), *options])
