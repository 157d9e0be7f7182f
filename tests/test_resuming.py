"""A command into a folder that holds pictures: kept if they are the same, never lost."""

import json
import os

import numpy as np
import pytest
import torch
from console import QUICK, draw, invoke, settings_of
from console import _workplace as _workplace
from PIL import Image
from selection import thorough

from fvfast import maco_batch, optimize
from fvfast.cli import app as cli
from fvfast.plot import read_metadata, save_png
from fvfast.spectrum import Spectrum

CHANNELS = ["--layer", "conv", "--channel"]
OPTIMIZE = ["--steps", 2, "--size", "16x20", "--no-progress"]


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.fixture
def drawn():
    return Drawn()


class Drawn(list):
    """Names of the pictures that are optimized in a session, batch by batch."""

    @property
    def session(self):
        return cli.Session(maco_batch=self._noted(maco_batch), optimize=self._noted(optimize))

    def _noted(self, usual):
        def noted(objective, **settings):
            self.append(objective.combination_names)
            return usual(objective, **settings)

        return noted


def test_pictures_with_the_same_settings_are_kept(tmp_path, drawn):
    folder = tmp_path / "pictures"
    draw(*CHANNELS, "1,3", *QUICK)
    before = times(folder)
    result = draw(*CHANNELS, "0-4", "--batch-size", 2, *QUICK, session=drawn.session)
    assert drawn == [["Channel#conv_0", "Channel#conv_2"], ["Channel#conv_4"]]
    assert before.items() <= times(folder).items()
    lines = result.stdout.splitlines()
    assert "Channel#conv_1, already there: pictures/tiny_Channel_conv_1.png" in lines
    assert lines[-1] == f"3 pictures in {folder}, and 2 that were already there"
    drawn.clear()
    result = draw(*CHANNELS, "0-4", *QUICK, session=drawn.session)
    assert drawn == []
    assert result.stdout.splitlines()[-1] == f"nothing to draw: 5 pictures already in {folder}"


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["--seed", 3], "seed 0 instead of 3"),
        thorough(["--steps", 3], "nb_steps 2 instead of 3"),
        thorough(["--noise", 0.5], "noise_intensity 0.08 instead of 0.5"),
        (["--style", "horama"], 'style "xplique" instead of "horama"'),
        (
            ["--preset", "paper"],
            'preset "xplique" instead of "paper", noise_intensity 0.08 instead of 0.1, box_size ',
        ),
        (["--values-range", "0,1"], "values_range [-1.0, 1.0] instead of [0.0, 1.0]"),
    ],
)
def test_pictures_with_other_settings_are_refused_before_the_work(
    tmp_path, drawn, options, difference
):
    folder = tmp_path / "pictures"
    draw(*CHANNELS, "0-4", *QUICK)
    before = times(folder)
    result = draw(*CHANNELS, "0-5", *QUICK, *options, status=1, session=drawn.session)
    assert drawn == []
    assert times(folder) == before
    assert f"error: tiny_Channel_conv_0.png ({difference}" in result.stderr
    assert " and 2 more in pictures are other pictures than asked for" in result.stderr
    assert "--overwrite" in result.stderr
    draw(*CHANNELS, "0-5", *QUICK, *options, "--overwrite", session=drawn.session)
    assert len(drawn) == 6
    assert not set(before.items()) & set(times(folder).items())


def test_what_does_not_change_the_recipe_is_no_other_setting(tmp_path, drawn):
    draw(*CHANNELS, "1", *QUICK)
    path = tmp_path / "pictures" / "tiny_Channel_conv_1.png"
    metadata = read_metadata(path)
    settings = json.loads(metadata["fvfast.settings"])
    settings |= {"versions": {"fvfast": "0.0"}, "device": "cuda:3", "score": 17.0}
    metadata["fvfast.settings"] = json.dumps(settings)
    save_png(path, torch.rand(3, 8, 8), metadata=metadata)
    draw(*CHANNELS, "1", *QUICK, "--batch-size", 3, session=drawn.session)
    assert drawn == []


def test_an_interrupted_picture_is_drawn_again(tmp_path, drawn):
    def stopped(objective, *, callback, **settings):
        return maco_batch(objective, callback=lambda report: callback(report) or True, **settings)

    draw(*CHANNELS, "1", *QUICK, session=cli.Session(maco_batch=stopped))
    (path,) = (tmp_path / "pictures").iterdir()
    assert settings_of(path)["steps_taken"] == 1
    draw(*CHANNELS, "1", *QUICK, session=drawn.session)
    assert drawn == [["Channel#conv_1"]]
    assert settings_of(path)["steps_taken"] == 2


@pytest.mark.parametrize("kind", ["picture", "text", "empty", "cut off", "own json"])
def test_files_of_others_are_refused(tmp_path, kind):
    draw(*CHANNELS, "1", *QUICK)
    (path,) = (tmp_path / "pictures").iterdir()
    whole = path.read_bytes()
    if kind == "picture":
        Image.new("RGB", (4, 4)).save(path)
    elif kind == "own json":
        save_png(path, torch.rand(3, 8, 8), metadata={"fvfast.settings": "[1"})
    else:
        path.write_bytes({"text": b"mine", "empty": b"", "cut off": whole[:-20]}[kind])
    before = path.read_bytes()
    result = draw(*CHANNELS, "1", *QUICK, status=1)
    assert "tiny_Channel_conv_1.png (not made by fvfast, or damaged) in pictures" in result.stderr
    assert path.read_bytes() == before
    draw(*CHANNELS, "1", *QUICK, "--overwrite")
    assert path.read_bytes() == whole


def test_things_that_are_no_files_are_refused_even_with_overwrite(tmp_path):
    (tmp_path / "pictures").mkdir()
    path = tmp_path / "pictures" / "tiny_Channel_conv_1.png"
    os.mkfifo(path)
    result = draw(*CHANNELS, "1", *QUICK, "--overwrite", status=1)
    assert "is a pipe; expected the name of a file" in result.stderr
    assert path.is_fifo()


def test_random_weights_are_another_network():
    arguments = ["--layer", "name:0", "--channel", "1", *QUICK]
    draw(*arguments, model="plain")
    result = draw(*arguments, model="plain", status=1)
    assert "(weights " in result.stderr


def test_a_spectrum_that_was_measured_anew_is_another_one():
    for number in (1, 2):
        images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(number))
        Spectrum.from_images(images, progress=False).save(f"{number}.npz")
    draw(*CHANNELS, "1", *QUICK, "--spectrum", "1.npz")
    os.link("1.npz", "same.npz")
    for same in ("1.npz", "./1.npz", "same.npz"):
        assert "nothing to draw" in draw(*CHANNELS, "1", *QUICK, "--spectrum", same).stdout
    result = draw(*CHANNELS, "1", *QUICK, "--spectrum", "2.npz", status=1)
    assert "(spectrum " in result.stderr


def test_pictures_that_depend_on_each_other_are_drawn_together_again(tmp_path, drawn):
    """Those of one batch share their transformations."""
    arguments = [*OPTIMIZE, "--batch-size", 2]
    draw(*CHANNELS, "0-3", *arguments, command="optimize")
    folder = tmp_path / "pictures"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    lost = folder / "tiny_Channel_conv_1.png"
    lost.unlink()
    kept = times(folder)
    draw(*CHANNELS, "0-3", *arguments, command="optimize", session=drawn.session)
    assert drawn == [["Channel#conv_0", "Channel#conv_1"]]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert kept.items() <= times(folder).items()
    result = draw(*CHANNELS, "1-2", *arguments, command="optimize", status=1)
    assert "optimized_together" in result.stderr
    result = draw(*CHANNELS, "1-2", *OPTIMIZE, command="optimize", status=1)
    assert "optimized_together" in result.stderr


@pytest.mark.parametrize("lost", ["npz", "png"])
def test_arrays_and_their_picture_are_one(tmp_path, drawn, lost):
    arguments = ["--layer", "name:0", "--channel", "0,1", *QUICK]
    draw(*arguments, model="five")
    folder = tmp_path / "pictures"
    before = sorted(times(folder))
    (folder / f"many5_Channel_0_1.{lost}").unlink()
    draw(*arguments, model="five", session=drawn.session)
    assert drawn == [["Channel#0_1"]]
    assert sorted(times(folder)) == before
    np.savez(folder / "many5_Channel_0_0.npz", mine=np.zeros(3))
    result = draw(*arguments, model="five", status=1)
    assert "many5_Channel_0_0.png (not made by fvfast, or damaged)" in result.stderr


def test_a_picture_of_three_channels_has_no_arrays_beside_it(tmp_path):
    (tmp_path / "pictures").mkdir()
    np.savez(tmp_path / "pictures" / "tiny_Channel_conv_1.npz", mine=np.zeros(3))
    draw(*CHANNELS, "1", *QUICK)


def test_a_spectrum_that_is_there_is_refused_before_it_is_measured(tmp_path):
    (tmp_path / "own.npz").write_bytes(b"precious")
    os.mkfifo(tmp_path / "pipe")
    measure = ["spectrum", "photos", "--size", 16, "--no-progress", "--out"]
    # There are no photos yet, which measuring them would tell.
    assert "own.npz is there already" in invoke(*measure, "own.npz", status=1).stderr
    for out in ("pipe", "/dev/null"):
        for overwrite in ([], ["--overwrite"]):
            result = invoke(*measure, out, *overwrite, status=1)
            assert f"{out} is a " in result.stderr
    assert (tmp_path / "own.npz").read_bytes() == b"precious"
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photos" / "a.png")
    invoke(*measure, "own.npz", "--overwrite")
    assert Spectrum.from_file("own.npz").image_count == 1


def test_a_picture_that_cannot_be_written_does_not_take_the_others_with_it(tmp_path, monkeypatch):
    saved = []
    usual = Image.Image.save

    def full_for_a_moment(image, *arguments, **settings):
        saved.append(image)
        if len(saved) == 2:
            raise OSError(28, "No space left on device")
        return usual(image, *arguments, **settings)

    monkeypatch.setattr(Image.Image, "save", full_for_a_moment)
    result = draw(*CHANNELS, "0-5", "--batch-size", 3, *QUICK, status=1)
    assert "No space left on device" in result.stderr
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["tiny_Channel_conv_0.png", "tiny_Channel_conv_2.png"]


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000])
def test_a_folder_that_cannot_be_made_is_refused_before_the_network_is_loaded(name):
    result = invoke("maco", "no_such_network", "--class", 1, "--out", name, status=1)
    assert "File name too long" in result.stderr
