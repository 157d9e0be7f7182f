"""`fvfast accentuate`, and pictures that begin with a photograph."""

import numpy as np
import pytest
from console import QUICK, draw, invoke, settings_of
from console import _workplace as _workplace
from photographs import array_of
from PIL import Image

from fvfast.cli import app as cli


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "cat.png"
    Image.fromarray(array_of()).save(path)
    return path


def test_a_photograph_is_accentuated(tmp_path, photograph):
    result = draw(photograph, "--class", "grey fox", "--seed", 7, *QUICK, command="accentuate")
    (path,) = (tmp_path / "pictures").iterdir()
    assert path.name == "tiny_cat_grey_fox.png"
    assert result.stdout.splitlines()[-1] == f"1 picture in {tmp_path / 'pictures'}"
    with Image.open(path) as file:
        assert (file.mode, file.size) == ("RGB", (20, 16))
    settings = settings_of(path)
    assert settings["method"] == "accentuate"
    assert settings["nb_steps"] == settings["steps_taken"] == 2
    expected = {"penalty": 10.0, "decay": 1.0, "preset": "gentle", "box_size": [0.9, 0.4]}
    assert {name: settings[name] for name in expected} == expected
    assert settings["objective"] == {"layer": "fc", "class": 1}
    assert settings["photograph"].startswith("sha256 ")
    assert settings["photograph_file"] == str(photograph)


def test_without_steps_to_speak_of_it_is_the_photograph(tmp_path, photograph):
    options = ["--steps", 1, "--learning-rate", "1e-6", "--size", "24x36", "--no-progress"]
    draw(photograph, "--class", 1, *options, command="accentuate")
    with Image.open(tmp_path / "pictures" / "tiny_cat_grey_fox.png") as file:
        drawn = np.asarray(file).astype(float)
    # Pictures are stretched after one percent of the values is clipped at each end.
    assert np.corrcoef(drawn.ravel(), array_of().ravel())[0, 1] > 0.99


def test_several_units_and_the_options_reach_the_function(photograph):
    seen = []

    def remember(objective, **options):
        seen.append((objective.combination_names, options))
        raise ValueError("enough")

    options = ["--penalty", 0.5, "--decay", 1.5, "--preset", "strong", "--noise", 0.25]
    draw(
        photograph, "--layer", "conv", "--channel", "0,2", *options, command="accentuate", status=1,
        session=cli.Session(accentuate=remember),
    )  # fmt: skip
    ((names, given),) = seen
    assert names == ["Channel#conv_0"]
    expected = {"penalty": 0.5, "decay": 1.5, "preset": "strong", "noise_intensity": 0.25}
    assert {name: given[name] for name in expected} == expected
    assert given["photograph"] == photograph
    assert not {"nb_steps", "nb_crops", "box_size"} & set(given)  # left to the preset


@pytest.mark.parametrize("command", ["accentuate", "maco", "optimize"])
def test_a_picture_of_another_photograph_is_another_picture(tmp_path, photograph, command):
    place = [photograph] if command == "accentuate" else ["--initial", photograph]
    quick = [*QUICK] if command != "optimize" else ["--steps", 2, "--size", 16, "--no-progress"]
    arguments = (*place, "--class", 1, *quick)
    draw(*arguments, command=command)
    (path,) = (tmp_path / "pictures").iterdir()
    first = path.read_bytes()
    assert "already there" in draw(*arguments, command=command).stdout
    Image.fromarray(255 - array_of()).save(photograph)
    assert "photograph" in draw(*arguments, command=command, status=1).output
    draw(*arguments, "--overwrite", command=command)
    assert path.read_bytes() != first


@pytest.mark.parametrize("command", ["accentuate", "maco", "optimize"])
def test_what_is_no_photograph(tmp_path, command):
    (tmp_path / "text.png").write_text("no picture")
    for name, message in (
        ("missing.png", "missing.png"),
        (".", "Is a directory: '.'"),
        ("text.png", "text.png cannot be read: damaged, or of another format"),
    ):
        place = [name] if command == "accentuate" else ["--initial", name]
        options = ["--class", 1, "--steps", 2, "--size", 16, "--no-progress"]
        result = draw(*place, *options, command=command, status=1)
        assert message in result.output
        assert not list((tmp_path / "pictures").glob("*.png"))


@pytest.mark.parametrize("option", ["--diversity", "--path"])
def test_several_pictures_of_a_unit_are_refused_before_work_starts(option):
    units = ["--layer", "conv", "--channel", "0,1", option, 2]
    result = draw("missing.png", *units, *QUICK, command="accentuate", status=2)
    assert "leave --diversity and --path out" in result.output


def test_the_help_names_the_photograph():
    assert "PHOTO" in invoke("accentuate", "--help").stdout
