"""The script that gathers photographs from packages."""

import re

import pytest
from PIL import Image

from benchmarks.photographs import DEBIAN, gather


def test_photographs_of_python_packages(tmp_path):
    counts = gather(tmp_path, debian={})
    assert counts == {"skimage": 13, "sklearn": 2, "matplotlib": 1}
    files = sorted(tmp_path.rglob("*.jpg"))
    assert len(files) == 16
    assert tmp_path / "skimage" / "coffee.jpg" in files
    for path in files:
        with Image.open(path) as picture:
            assert picture.mode == "RGB"
            assert max(picture.size) <= 768


@pytest.mark.parametrize(
    ("name", "is_photograph"),
    [
        ("animals/birds/hen.png", True),
        ("animals/birds/cartoon/hen.png", False),
        ("food/fruit/lemon.png", True),
        ("symbols/shapes/star.png", False),
        ("people/eye.png", False),
        ("animals/mammals/bears/toys/edward_bear.png", False),
    ],
)
def test_drawings_are_left_out(name, is_photograph):
    _, pattern = DEBIAN["tuxpaint-stamps-default"]
    assert bool(re.fullmatch(pattern, name)) == is_photograph
