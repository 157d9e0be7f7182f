"""Parametrizations, losses, regularizers and spectrum against values computed with Xplique 2.0."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from fvfast.losses import cosine_similarity, dot_cossim
from fvfast.preconditioning import (
    fft_to_rgb,
    get_fft_scale,
    maco_image_parametrization,
    to_valid_rgb,
)
from fvfast.regularizers import l1_reg, l2_reg, l_inf_reg, total_variation_reg
from fvfast.spectrum import Spectrum

GOLDEN = Path(__file__).parent / "golden"
FILES = ["xplique_48x48", "xplique_40x64"]
DTYPES = [torch.float32, torch.float64]


def xplique_spectrum_path():
    package = importlib.util.find_spec("xplique")  # finds it without importing TensorFlow
    if package is None:
        pytest.skip("xplique's data file is not installed")
    (folder,) = package.submodule_search_locations
    return Path(folder) / "features_visualizations" / "spectrum_decorrelated.npy"


def assert_close(actual, expected, tolerance):
    """Largest deviation over largest magnitude: the arrays cross zero."""
    expected = torch.from_numpy(np.asarray(expected)).double()
    assert actual.shape == expected.shape
    error = (actual.detach().double() - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"relative error {error:.2e}"


@pytest.fixture(params=FILES)
def golden(request):
    with np.load(GOLDEN / f"{request.param}.npz") as arrays:
        return dict(arrays)


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request):
    return request.param


def tensor(array, dtype):
    return torch.from_numpy(array).to(dtype)


def test_maco_image_and_phase_gradient(golden, dtype):
    phase = tensor(golden["phase"], dtype).requires_grad_()
    image = maco_image_parametrization(
        tensor(golden["magnitude"], dtype), phase, golden["values_range"]
    )
    assert image.dtype == dtype
    assert_close(image, golden["image"], 1e-5)
    (gradient,) = torch.autograd.grad(image, phase, tensor(golden["image_cotangent"], dtype))
    assert_close(gradient, golden["phase_grad"], 1e-4)


def test_maco_image_of_a_batch_has_each_image_s_own_statistics(golden):
    magnitude, phase = tensor(golden["magnitude"], torch.float64), golden["phase"]
    other = 3 * phase[:, ::-1] ** 2 + 1  # other mean and deviation
    batch = torch.from_numpy(np.stack((other, phase))).double()
    images = maco_image_parametrization(magnitude, batch, golden["values_range"])
    assert_close(images[1], golden["image"], 1e-5)


def test_fourier_images(dtype):
    with np.load(GOLDEN / "xplique_48x48.npz") as arrays:
        golden = dict(arrays)
    scale = get_fft_scale(48, 48, decay_power=0.85)
    assert_close(scale, golden["fft_scale"], 1e-6)
    buffer = tensor(golden["fft_buffer"], dtype)
    images = fft_to_rgb((2, 3, 48, 48), buffer, scale)
    assert images.dtype == dtype
    assert_close(images, golden["fft_to_rgb"], 1e-5)
    values_range = golden["values_range"]
    # These images are within 0.03 of 0, so their sigmoids are within 0.007 of 0.5: stretching them
    # to the range of values multiplies the rounding of Xplique's float32 sigmoids, 6e-8, by 150,
    # and the smallest and largest value add theirs.
    assert_close(to_valid_rgb(images, "sigmoid", values_range), golden["valid_rgb_sigmoid"], 3e-5)
    assert_close(to_valid_rgb(images, "clip", values_range), golden["valid_rgb_clip"], 1e-5)


@pytest.mark.parametrize(
    ("regularizer", "name"),
    [
        (l1_reg, "reg_l1"),
        (l2_reg, "reg_l2"),
        (l_inf_reg, "reg_l_inf"),
        (total_variation_reg, "reg_tv"),
    ],
)
def test_regularizers(golden, dtype, regularizer, name):
    assert_close(regularizer(0.5)(tensor(golden["model_input"], dtype)), golden[name], 1e-5)


def test_cosine_similarity(golden, dtype):
    a, b = tensor(golden["sim_a"], dtype), tensor(golden["sim_b"], dtype)
    assert_close(cosine_similarity(a, b), golden["cosine_similarity"], 1e-5)


@pytest.mark.parametrize("layer", ["conv2", "logits"])
def test_dot_cossim_is_the_direction_objective(golden, dtype, layer):
    outputs = tensor(golden[f"model_{layer}"], dtype)
    direction = tensor(golden[f"direction_{layer}"], dtype)[None]
    value = dot_cossim(outputs, direction, 2.0).mean()
    assert_close(value, golden[f"objective_direction_{layer}"], 1e-5)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (96, 130)])
def test_xplique_s_spectrum_is_resized_as_xplique_does(golden, height, width):
    magnitude = Spectrum.from_file(xplique_spectrum_path()).magnitude(height, width)
    name = f"spectrum_{height}x{width}"
    assert_close(magnitude.double().sum((1, 2)), golden[f"{name}_sum"], 1e-5)
    assert_close(magnitude[:, 3], golden[f"{name}_row3"], 1e-5)
