"""The spectrum: closed form, measuring photographs, files, and every size."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as skimage_data
from sklearn.datasets import load_sample_image

from fvfast import Objective, maco
from fvfast.ops.colors import decorrelate_colors
from fvfast.preconditioning import init_maco_buffer
from fvfast.spectrum import Spectrum
from fvfast.spectrum.photographs import PhotographFolder

SIZES = [(2, 2), (2, 9), (3, 2), (5, 8), (64, 64), (65, 96), (96, 65), (63, 31)]


def log_rms(actual, expected):
    return (actual.double().log() - expected.double().log()).square().mean().sqrt().item()


def uniform_images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of six photographs as users have them: subfolder, both formats, a damaged file."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "more").mkdir()
    arrays = {
        "astronaut.png": skimage_data.astronaut(),
        "chelsea.jpg": skimage_data.chelsea(),
        "coffee.JPEG": skimage_data.coffee(),
        "more/rocket.jpg": skimage_data.rocket(),
        "more/china.png": load_sample_image("china.jpg"),
        "more/flower.jpg": load_sample_image("flower.jpg"),
    }
    for name, array in arrays.items():
        Image.fromarray(array).save(folder / name)
    png = (folder / "astronaut.png").read_bytes()
    (folder / "more" / "cut.png").write_bytes(png[: len(png) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def measured(photographs):
    with pytest.warns(UserWarning, match="2 of 8 image files could not be read"):
        return Spectrum.from_images(photographs, (256, 256), progress=False)


@pytest.fixture(scope="module")
def measured_128(photographs):
    with pytest.warns(UserWarning, match="could not be read"):
        return Spectrum.from_images(photographs, (128, 128), progress=False)


# Closed form


def test_closed_form_follows_xplique_s_array():
    package = importlib.util.find_spec("xplique")  # finds it without importing TensorFlow
    if package is None:
        pytest.skip("xplique's data file is not installed")
    path = Path(package.submodule_search_locations[0]) / "features_visualizations"
    array = Spectrum.from_file(path / "spectrum_decorrelated.npy").magnitude(512, 512)
    natural = Spectrum.natural().magnitude(512, 512)
    rows = torch.fft.fftfreq(512).abs() < 0.49
    columns = torch.fft.rfftfreq(512) < 0.49
    for channel in range(3):
        inner = [m[channel][rows][:, columns] for m in (natural, array)]
        assert log_rms(*inner) < 0.10
        assert natural[channel, 0, 0] / array[channel, 0, 0] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("channel", "expected_log", "mean_ratio"),
    [
        # The formula at (1/4, 0) and (0, 1/4) of a 512 x 512 image by hand: ln(1/4) = -1.386294,
        # its cube -2.664198, 1/16 = 0.0625, cos = 1, ln Parzen(1/4) = ln(1/4), halved; the column
        # term is full at kx = 0 and divided by 1 + 256 ** 2 at kx = 128.
        (0, (3.2789 + 1.901943 + 0.146283 + 0.0820499 - 0.006281 - 0.693147, 0.912018), 2.392),
        (1, (3.09635 + 1.962548 + 0.033611 + 0.107235 - 0.005035 - 0.693147, 1.026699), 2.605),
        (2, (3.25933 + 1.829202 + 0.059971 + 0.0950917 - 0.003565 - 0.693147, 0.861429), 2.852),
    ],
)
def test_closed_form_by_hand(channel, expected_log, mean_ratio):
    magnitude = Spectrum().magnitude(512, 512)[channel]
    base, column = expected_log
    assert magnitude[0, 128].log().item() == pytest.approx(base, abs=1e-4)
    assert magnitude[128, 0].log().item() == pytest.approx(base + column, abs=1e-4)
    assert (magnitude[0, 0] / magnitude[1, 0]).item() == pytest.approx(mean_ratio, rel=1e-5)


def test_closed_form_is_symmetric_and_falls():
    magnitude = Spectrum.natural().magnitude(64, 64)
    assert torch.equal(magnitude[:, 1:32], magnitude[:, 33:].flip(1))
    assert (magnitude[:, :32, 0].diff(dim=1) < 0).all()
    assert (magnitude[:, 32] == 0).all()  # the window ends at half a cycle per pixel
    assert (magnitude[:, :, 32] == 0).all()


def test_other_channels_have_the_formula_of_the_lightness():
    natural = Spectrum.natural()
    lightness = natural.magnitude(12, 9)[:1]
    for channels in (1, 2, 4, 7):
        magnitude = natural.magnitude(12, 9, channels)
        assert torch.equal(magnitude, lightness.expand(channels, -1, -1))
    assert natural.channels is None


# Measuring


def test_photographs_are_counted_and_the_damaged_ones_named(photographs):
    with pytest.warns(UserWarning, match="could not be read") as warnings:
        spectrum = Spectrum.from_images(str(photographs), (32, 40), progress=False)
    assert len(warnings) == 1
    message = str(warnings[0].message)
    assert re.search(r"empty\.jpg", message)
    assert re.search(r"cut\.png", message)
    assert "astronaut" not in message
    assert "notes" not in message
    assert (spectrum.image_count, spectrum.skipped_count) == (6, 2)
    assert (spectrum.size, spectrum.channels) == ((32, 40), 3)


def test_photographs_have_the_natural_spectrum(measured):
    natural = Spectrum.natural().magnitude(256, 256)
    magnitude = measured.magnitude(256, 256)
    rows = torch.fft.fftfreq(256).abs() < 0.4
    columns = torch.fft.rfftfreq(256) < 0.4
    deviation = (magnitude / natural)[:, rows][:, :, columns].log()
    # Six images: one scale per spectrum aside, the shape over five orders of magnitude is there.
    assert (deviation - deviation.mean()).square().mean().sqrt() < 0.6
    slopes = [(m[0, 32, 32] / m[0, 4, 4]).log() / np.log(8) for m in (magnitude, natural)]
    assert abs(slopes[0] - slopes[1]) < 0.15


def test_mean_of_tensors_written_out():
    images = uniform_images(5, 3, 10, 13)
    logits = torch.logit(images.double().clamp(1 / 510, 509 / 510))
    expected = torch.fft.rfft2(decorrelate_colors(logits)).abs().mean(0)
    spectrum = Spectrum.from_images(images, progress=False, parzen_window=False)
    torch.testing.assert_close(spectrum.magnitude(10, 13).double(), expected, rtol=1e-5, atol=1e-3)
    assert spectrum.image_count == 5
    assert spectrum.magnitude(10, 13).dtype == torch.float32


def test_window_vanishes_at_half_a_cycle_per_pixel():
    images = uniform_images(5, 1, 8, 8)
    plain = Spectrum.from_images(images, progress=False, parzen_window=False)
    windowed = Spectrum.from_images(images, progress=False)
    for size in (8, 16):
        ratio = windowed.magnitude(size, size, 1) / plain.magnitude(size, size, 1)
        assert ratio[0, 0, 0] == 1
        assert (ratio[0, size // 2] == 0).all()
        # The Parzen window at a quarter of a cycle per pixel is 1/4, its root 1/2, for both axes.
        assert ratio[0, size // 4, 0].item() == pytest.approx(1 / 2, rel=1e-5)
        assert ratio[0, size // 4, size // 4].item() == pytest.approx(1 / 4, rel=1e-5)


def test_every_kind_of_source_gives_the_same():
    images = uniform_images(20, 3, 8, 12)
    expected = Spectrum.from_images(images, progress=False)
    labels = torch.zeros(20)
    dataset = torch.utils.data.TensorDataset(images, labels)
    sources = [
        list(images),
        images.split(7),
        (batch for batch in images.split(6)),
        torch.utils.data.DataLoader(dataset, batch_size=3),
        [[images, labels]],
        dataset,
    ]
    for source in sources:
        spectrum = Spectrum.from_images(source, progress=False)
        assert spectrum.image_count == 20
        torch.testing.assert_close(spectrum.magnitude(8, 12), expected.magnitude(8, 12))


@pytest.mark.parametrize("channels", [1, 3])
def test_normalized_images_are_measured_as_they_are(channels):
    unit = uniform_images(20, channels, 8, 12)
    # The first 19 are within [0, 1]: only the last one tells that the data set is normalized.
    images = unit.clone()
    images[-1] = (images[-1] - 0.45) / 0.2
    plain = images.double()
    if channels == 3:
        plain = decorrelate_colors(plain)
    expected = torch.fft.rfft2(plain).abs().mean(0)
    for source in (images, list(images), images.split(7), iter(images.split(6))):
        spectrum = Spectrum.from_images(source, progress=False, parzen_window=False)
        assert spectrum.image_count == 20
        measured = spectrum.magnitude(8, 12, channels).double()
        torch.testing.assert_close(measured, expected, rtol=1e-5, atol=1e-4)


def test_the_scale_of_normalized_images_does_not_matter():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).eval()
    objective = Objective.channel(network, "0", 1, input_shape=(3, 16, 16))
    settings = {"nb_steps": 2, "nb_crops": 2, "custom_shape": 24, "progress": False}
    images = 3 * (2 * uniform_images(4, 3, 24, 24) - 1)
    first, second = (
        maco(objective, maco_dataset=scale * images, **settings)[0] for scale in (1.0, 40.0)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_other_channels_are_not_recolored(channels):
    images = uniform_images(3, channels, 8, 8)
    magnitude = Spectrum.from_images(images, progress=False).magnitude(8, 8, channels)
    first = Spectrum.from_images(images[:, :1], progress=False).magnitude(8, 8, 1)
    torch.testing.assert_close(magnitude[:1], first)


def test_tensors_are_cropped_around_the_center():
    images = torch.zeros(2, 1, 8, 20)
    images[..., 6:14] = uniform_images(2, 1, 8, 8)
    expected = Spectrum.from_images(images[..., 6:14], progress=False).magnitude(8, 8, 1)
    cropped = Spectrum.from_images(images, (8, 8), progress=False)
    assert torch.equal(cropped.magnitude(8, 8, 1), expected)
    smaller = Spectrum.from_images(images, (4, 4), progress=False)
    assert smaller.size == (4, 4)
    assert smaller.magnitude(4, 4, 1).isfinite().all()


def test_extreme_values_are_finite():
    for value in (0.0, 0.5, 1.0):
        images = torch.full((2, 3, 6, 7), value)
        spectrum = Spectrum.from_images(images, progress=False)
        for size in ((6, 7), (9, 4)):
            assert spectrum.magnitude(*size).isfinite().all()


def test_folder_files_are_rotated_and_cropped(tmp_path):
    array = np.zeros((20, 10, 3), np.uint8)
    array[:10] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by a quarter turn clockwise
    Image.fromarray(array).save(tmp_path / "rotated.png", exif=exif)
    (image,) = next(iter(PhotographFolder(tmp_path, (10, 20), progress=False)))
    assert torch.equal(image[0, :, 10:], torch.ones(10, 10))
    assert torch.equal(image[:, :, :10], torch.zeros(3, 10, 10))
    (center,) = next(iter(PhotographFolder(tmp_path, (4, 4), progress=False)))
    assert center.shape == (3, 4, 4)
    assert center[0, :, 3].min() > 0.9
    (gray,) = next(iter(PhotographFolder(tmp_path, (10, 20), channels=1, progress=False)))
    assert gray.shape == (1, 10, 20)
    assert gray[0, 0, 15].item() == pytest.approx(76 / 255)  # the luma of red


def test_files_with_more_than_8_bits_are_not_cut_off(tmp_path):
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png: I;16 pixels have more than 8 bits"):
        Spectrum.from_images(tmp_path, (8, 8), progress=False)


def test_progress_is_shown_when_asked_for(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for source in (tmp_path, torch.rand(2, 3, 8, 8)):
        Spectrum.from_images(source, (8, 8), progress=True)
        assert "1/1" in capsys.readouterr().err
        Spectrum.from_images(source, (8, 8), progress=False)
        assert capsys.readouterr().err == ""
        Spectrum.of(source, (8, 8), 3)
        assert "1/1" in capsys.readouterr().err
        Spectrum.of(source, (8, 8), 3, progress=False)
        init_maco_buffer((8, 8), source, progress=False)
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (torch.zeros(0, 3, 8, 8), ValueError, "no images"),
        ([], ValueError, "no images"),
        (torch.full((1, 3, 8, 8), torch.nan), ValueError, "from nan to nan; expected finite"),
        ([torch.full((3, 8, 8), torch.inf)], ValueError, "from inf to inf; expected finite"),
        (
            [torch.full((3, 8, 8), -3.0), torch.full((3, 8, 8), torch.nan)],
            ValueError,
            "from nan to nan; expected finite",
        ),
        (torch.ones((1, 3, 8, 8), dtype=torch.uint8), ValueError, "Divide 8-bit values by 255"),
        ([torch.ones((3, 8, 8), dtype=torch.int64)], ValueError, "images are of torch.int64"),
        (torch.zeros(8, 8), ValueError, r"shape \(8, 8\); expected \(N, C, H, W\)"),
        (torch.zeros(20, 8, 8), ValueError, r"shape \(20, 8, 8\); expected \(N, C, H, W\)"),
        ([torch.zeros(8)], ValueError, r"shape \(8,\); expected \(C, H, W\) or"),
        ([np.zeros((3, 8, 8))], TypeError, "type ndarray; expected a tensor"),
        ([torch.zeros(3, 8, 8), torch.zeros(1, 8, 8)], ValueError, "1 channels after others had 3"),
        (torch.zeros(2, 3, 1, 8), ValueError, "1 x 8"),
    ],
)
def test_unfit_images_are_refused(source, error, message):
    with pytest.raises(error, match=message):
        Spectrum.from_images(source, progress=False)


def test_unfit_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has no image files"):
        Spectrum.from_images(tmp_path)
    with pytest.raises(NotADirectoryError, match="missing is not a folder"):
        Spectrum.from_images(tmp_path / "missing")
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"1 of 1 image files could not be read"):
        Spectrum.from_images(tmp_path, progress=False)
    with pytest.raises(ValueError, match="channels is 4"):
        Spectrum.from_images(tmp_path, progress=False, channels=4)


# Sizes


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_size(measured, height, width):
    for spectrum in (Spectrum.natural(), measured):
        magnitude = spectrum.magnitude(height, width)
        assert magnitude.shape == (3, height, width // 2 + 1)
        assert magnitude.dtype == torch.float32
        assert magnitude.isfinite().all()
        assert (magnitude >= 0).all()
        magnitude.zero_()  # belongs to the caller
        assert torch.equal(spectrum.magnitude(height, width), spectrum.magnitude(height, width))
        assert spectrum.magnitude(height, width).sum() > 0 or min(height, width) == 2


@pytest.mark.parametrize("new_size", [(128, 128), (512, 512), (101, 77), (40, 256)])
@pytest.mark.parametrize("size", [(64, 64), (63, 65), (64, 97)])
def test_power_law_is_kept_at_every_size(size, new_size, tmp_path):
    """The resized magnitude of a power law is the power law at the new frequencies."""

    def power_law(height, width):
        vertical = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
        rho = torch.hypot(vertical, torch.fft.rfftfreq(width, dtype=torch.float64)[None])
        rho[0, 0] = 1
        magnitude = rho**-1.4
        lowest = (magnitude[1, 0] ** 2 * magnitude[0, 1]) ** (1 / 3)
        magnitude[0, 0] = 2.5 * lowest
        return magnitude[None]

    spectrum = spectrum_of(power_law(*size), size, tmp_path)
    assert torch.equal(spectrum.magnitude(*size, 1), power_law(*size).float())
    resized, expected = spectrum.magnitude(*new_size, 1).double(), power_law(*new_size)
    deviation = (resized / expected).log().abs()
    # Below the first bin of the source there is nothing to interpolate: rho ** 0.4 is unknown.
    vertical = torch.fft.fftfreq(new_size[0]).abs()[:, None]
    known = (vertical * size[0] >= 1) | (torch.fft.rfftfreq(new_size[1])[None] * size[1] >= 1)
    assert deviation[0][known].max() < 0.08
    assert deviation.max() < 0.4 * np.log(max(2, *np.array(new_size) / np.array(size))) + 0.1
    lowest = (resized[0, 1, 0] * resized[0, -1, 0] * resized[0, 0, 1]) ** (1 / 3)
    assert (resized[0, 0, 0] / lowest).item() == pytest.approx(2.5, rel=1e-4)


def spectrum_of(values, size, folder):
    """A measured spectrum with the given magnitudes, through the file format."""
    path = folder / "made.npz"
    Spectrum.from_images(torch.rand(1, 1, *size), progress=False, parzen_window=False).save(path)
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez_compressed(path, **{**content, "magnitude": values.float().numpy()})
    return Spectrum.from_file(path)


def test_diagonals_keep_their_side(tmp_path):
    """A spectrum with more energy at (+fy, +fx) than at (-fy, +fx) has so at every size."""
    values = torch.ones(1, 16, 9)
    values[:, 1:8, 1:8] = 10
    spectrum = spectrum_of(values, (16, 16), tmp_path)
    for height, width in ((32, 32), (33, 31), (24, 40)):
        magnitude = spectrum.magnitude(height, width, 1)[0]
        y, x = height // 4, width // 4
        assert (magnitude[y, x] / magnitude[-y, x]).item() == pytest.approx(10, rel=0.02)


def test_highest_column_of_an_odd_width_is_mirrored(tmp_path):
    """Half a cycle per pixel is between the last column of an odd width and its mirror image."""
    values = torch.ones(1, 15, 8)
    values[:, 1:8, 1:] = 10
    magnitude = spectrum_of(values, (15, 15), tmp_path).magnitude(30, 30, 1)[0]
    assert (magnitude[7, 8] / magnitude[-7, 8]).item() > 9
    assert (magnitude[7, 15] / magnitude[-7, 15]).item() == pytest.approx(1, rel=1e-5)


def test_resizing_agrees_with_measuring_smaller_photographs(measured, measured_128):
    """Up to one scale per channel: natural images look alike at every distance."""
    resized, expected = measured.magnitude(128, 128), measured_128.magnitude(128, 128)
    rows = torch.fft.fftfreq(128).abs() < 0.4
    columns = torch.fft.rfftfreq(128) < 0.4
    deviation = (resized / expected)[:, rows][:, :, columns].log()
    for channel in deviation:
        spread = (channel - channel.mean()).square().mean().sqrt()
        assert spread < 0.45
        assert abs(channel[0, 0] - channel.mean()) < 0.4  # the mean of the image, too


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_wrong_channels_are_refused(measured, channels):
    message = rf"the spectrum has 3 channels, the images have {channels}\. Measure .*natural"
    with pytest.raises(ValueError, match=message):
        measured.magnitude(32, 32, channels)
    gray = Spectrum.from_images(torch.rand(1, 1, 8, 8), progress=False)
    with pytest.raises(ValueError, match=r"the spectrum has 1 channel, the images have 3\."):
        gray.magnitude(32, 32)
    with pytest.raises(ValueError, match="channels is 0; expected at least 1"):
        Spectrum.natural().magnitude(8, 8, 0)


def test_spectra_say_what_they_are(measured, tmp_path):
    assert repr(Spectrum()) == "Spectrum(closed form of natural images)"
    assert repr(measured) == "Spectrum(measured, 3 channels, 256 x 256, 6 images)"
    one = Spectrum.from_images(torch.rand(1, 1, 8, 9), progress=False)
    assert repr(one) == "Spectrum(measured, 1 channel, 8 x 9, 1 image)"
    np.save(tmp_path / "array.npy", np.ones((2, 8, 5)))
    array = Spectrum.from_file(tmp_path / "array.npy")
    assert repr(array) == "Spectrum(array, resized bilinearly, 2 channels, 8 x 8)"


def test_sizes_below_two_are_refused(measured):
    for spectrum in (measured, Spectrum.natural()):
        for size in ((1, 8), (8, 1), (0, 0)):
            with pytest.raises(ValueError, match="at least 2 x 2"):
                spectrum.magnitude(*size)
