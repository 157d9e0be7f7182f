"""`fvfast spectrum`, and the files that `fvfast maco --spectrum` takes."""

import os

import numpy as np
import pytest
from console import QUICK, draw, invoke
from console import _workplace as _workplace
from PIL import Image

from fvfast.spectrum import Spectrum


def test_a_folder_is_no_file_for_a_spectrum(tmp_path):
    (tmp_path / "photos").mkdir()  # nothing to measure
    result = invoke("spectrum", "photos", "--out", "photos", status=1)
    assert "photos is a folder; expected a file" in result.stderr


def test_a_spectrum_of_ones_own_images(tmp_path):
    (tmp_path / "photos").mkdir()
    generator = np.random.default_rng(0)
    for index in range(3):
        noise = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{index}.png")
    result = invoke("spectrum", "photos", "--out", "new/own.npz", "--size", 16, "--no-progress")
    assert f"spectrum of 3 images in {tmp_path / 'new' / 'own.npz'}" in result.stdout
    assert Spectrum.from_file("new/own.npz").size == (16, 16)
    for folder, extra in (("own", ["--spectrum", "new/own.npz"]), ("natural", [])):
        draw("--class", 1, "--out", folder, *extra, *QUICK)
    own, natural = (
        (tmp_path / folder / "tiny_grey_fox.png").read_bytes() for folder in ("own", "natural")
    )
    assert own != natural


@pytest.mark.parametrize("option", ["--gray", "--grey"])
def test_a_spectrum_of_gray_images(tmp_path, option):
    (tmp_path / "photos").mkdir()
    for index in range(2):
        Image.new("RGB", (24, 24), (90 * index, 20, 60)).save(tmp_path / "photos" / f"{index}.png")
    invoke("spectrum", "photos", option, "--size", 16, "--no-progress")
    assert Spectrum.from_file("spectrum.npz").channels == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "damaged, or not an array file"),
        (b"\x93NUMPY\1\0\x20\0{'descr': '<f4', 'shape': (3, 8,", "damaged, or not an array file"),
        (b"PK\3\4" + bytes(99), "File is not a zip file"),
        (None, "is a pipe or a device; expected a regular file"),
    ],
)
def test_files_that_are_no_spectra_are_one_line(tmp_path, data, message):
    path = tmp_path / "own.npz"
    if data is None:
        os.mkfifo(path)
    else:
        path.write_bytes(data)
    result = draw("--class", "1", "--spectrum", path, status=1)
    error, hint = result.stderr.splitlines()
    assert error.startswith(f"error: Spectrum.from_file: {path} ")
    assert message in error
    assert "fvfast --debug" in hint
