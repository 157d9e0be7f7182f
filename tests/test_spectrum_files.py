"""Spectra in files: kept, replaced whole, refused where damaged; and in autograd."""

import numpy as np
import pytest
import torch
from PIL import Image

from fvfast.spectrum import Spectrum


@pytest.fixture(scope="module")
def measured():
    images = torch.rand((6, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    return Spectrum.from_images(images, progress=False)


def test_measured_spectrum_survives_its_file(measured, tmp_path):
    path = tmp_path / "a name without suffix"
    measured.save(path)
    loaded = Spectrum.from_file(path)
    for size in ((64, 64), (101, 64)):
        assert torch.equal(loaded.magnitude(*size), measured.magnitude(*size))
    for name in ("image_count", "skipped_count", "size", "channels", "version"):
        assert getattr(loaded, name) == getattr(measured, name)
    assert loaded.image_count == 6
    assert path.stat().st_size < 3 * 64 * 33 * 4
    loaded.save(path)  # replaces it
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_array_survives_its_file(tmp_path):
    array = np.random.default_rng(0).random((2, 6, 4)).astype(np.float32)
    np.save(tmp_path / "array.npy", array)
    spectrum = Spectrum.from_file(tmp_path / "array.npy")
    assert torch.equal(spectrum.magnitude(6, 6, 2), torch.from_numpy(array))
    spectrum.save(tmp_path / "array.npz")
    loaded = Spectrum.from_file(tmp_path / "array.npz")
    assert torch.equal(loaded.magnitude(9, 12, 2), spectrum.magnitude(9, 12, 2))
    # Bilinear at twice the height: quarters of the neighboring rows.
    expected = 0.75 * array[:, 0] + 0.25 * array[:, 1]
    np.testing.assert_allclose(loaded.magnitude(12, 6, 2)[:, 1].numpy(), expected, rtol=1e-5)


def test_failed_save_leaves_the_old_file(measured, tmp_path, monkeypatch):
    path = tmp_path / "spectrum.npz"
    path.write_bytes(b"old")

    def fail(file, **_):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="no space left"):
        measured.save(path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["spectrum.npz"]


def test_unfit_files_are_refused(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        Spectrum.from_file(path)
    for array in (np.ones((4, 3)), -np.ones((1, 4, 3)), np.full((1, 4, 3), np.nan)):
        with path.open("wb") as file:
            np.save(file, array)
        with pytest.raises(ValueError, match=r"expected real magnitudes \(C, H, W // 2 \+ 1\)"):
            Spectrum.from_file(path)
    with path.open("wb") as file:
        np.savez(file, other=np.ones(3))
    with pytest.raises(ValueError, match=r"has no array 'fvfast_version'"):
        Spectrum.from_file(path)
    path.write_bytes(b"not an array")
    with pytest.raises(ValueError, match=r"or not an array file .*; expected \.npz or \.npy"):
        Spectrum.from_file(path)
    with pytest.raises(ValueError, match="is the closed form"):
        Spectrum.natural().save(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((1, 4, 3), complex), r"complex128 .*np\.abs takes the magnitudes"),
        (np.ones((0, 8, 5)), r"shape \(0, 8, 5\)"),
        (np.ones((1, 1, 5)), r"shape \(1, 1, 5\)"),
        (np.ones((8, 5, 3)), r"shape \(8, 5, 3\).*np\.moveaxis\(array, -1, 0\)"),
        (np.ones((1, 4, 3), bool), "bool"),
        (np.full((1, 4, 3), 1e200), "infinite"),
    ],
)
def test_arrays_that_are_no_magnitudes_are_refused(tmp_path, array, message):
    np.save(tmp_path / "array.npy", array)
    with pytest.raises(ValueError, match=message):
        Spectrum.from_file(tmp_path / "array.npy")


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "spectrum.npz"
    images = torch.rand((2, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    spectrum = Spectrum.from_images(images, progress=False)
    spectrum.save(path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"is damaged, or not an array file"):
            Spectrum.from_file(path)
    expected = spectrum.magnitude(6, 6, 1)
    generator = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[generator.integers(len(whole))] ^= 1 << generator.integers(8)
        path.write_bytes(damaged)
        # Some bits, such as those of dates, do not matter; what is read is right or refused.
        try:
            loaded = Spectrum.from_file(path)
        except ValueError:
            continue
        assert torch.equal(loaded.magnitude(6, 6, 1), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": np.array(6)}, "something other"),
        ({"kind": np.array("nonsense")}, "something other"),
        ({"kind": np.array("closed form")}, "6 x 6"),
        ({"size": np.array((8, 6))}, "8 x 6"),
        ({"magnitude": np.ones((1, 6, 4), complex)}, "complex"),
    ],
)
def test_files_with_other_content_are_refused(tmp_path, change, message):
    path = tmp_path / "spectrum.npz"
    Spectrum.from_images(torch.rand(1, 1, 6, 6), progress=False).save(path)
    with np.load(path) as arrays:
        content = {**arrays, **change}
    np.savez_compressed(path, **content)
    with pytest.raises(ValueError, match=message):
        Spectrum.from_file(path)


def test_spectra_made_in_inference_mode_serve_autograd(tmp_path):
    with torch.inference_mode():
        images = torch.rand(2, 3, 8, 8)
        Spectrum.from_images(images, progress=False).save(tmp_path / "own.npz")
        np.save(tmp_path / "array.npy", np.ones((3, 8, 5)))
        spectra = [
            Spectrum.natural(),
            Spectrum.from_images(images, progress=False),
            Spectrum.from_file(tmp_path / "own.npz"),
            Spectrum.from_file(tmp_path / "array.npy"),
        ]
        inside = [spectrum.magnitude(6, 6) for spectrum in spectra]
    for spectrum, early in zip(spectra, inside, strict=True):
        magnitude = spectrum.magnitude(6, 6)
        assert torch.equal(magnitude, early)
        for values in (magnitude, early, spectrum.magnitude(8, 8)):
            weights = torch.ones_like(values, requires_grad=True)
            (weights * values).sum().backward()
            assert torch.equal(weights.grad, values)


def test_a_folder_for_a_model_of_four_channels_is_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"maco_dataset\) is the folder .* the images have 4\."):
        Spectrum.of(tmp_path, (8, 8), 4)
