"""Horama's README and its own tests, with only the imports changed, and fewer steps."""

import functools

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot as plt
from selection import thorough
from torch import nn

import fvfast.horama
from fvfast.horama import dot_cossim, plot_maco
from fvfast.horama.feature_accentuation import (
    SpectrumBackwardScaler,
    fa_preconditionner,
    inverse_image_spectrum,
)
from fvfast.horama.fourier_fv import get_fft_scale

mpl.use("Agg")

# The README's defaults take minutes: 1000 steps of 1280 x 1280.
maco, fourier, accentuation = (
    functools.partial(getattr(fvfast.horama, name), total_steps=2, image_size=96)
    for name in ("maco", "fourier", "accentuation")
)


class SimpleDummyModel(nn.Module):
    def forward(self, x):
        x = torch.mean(x, (1, 2, 3))
        return torch.relu(x)


@pytest.fixture(autouse=True)
def _cleanup_plot():
    yield
    plt.close("all")


@pytest.fixture
def model():
    """In the place of timm's resnet18."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 10),
    ).eval()  # fmt: skip


def test_readme(model):
    def objective(images):
        return torch.mean(model(images)[:, 1])

    # run maco
    image1, alpha1 = maco(objective, device="cpu")
    plot_maco(image1, alpha1)
    # run fourier
    image2, alpha2 = fourier(objective, device="cpu")
    plot_maco(image2, alpha2)
    drawn = [one.get_array() for one in plt.gca().get_images()]
    assert [one.shape for one in drawn] == [(96, 96, 4)] * 2
    for image in (image1, image2, alpha1, alpha2):
        assert image.shape == (3, 96, 96)
        assert not image.requires_grad
    for image in (image1, image2):
        assert image.min() >= -2.5
        assert image.max() <= 2.5


def test_direction_objective(model):
    features, direction = model[:4], torch.randn(1, 8, generator=torch.Generator().manual_seed(0))

    def objective(images):
        return dot_cossim(features(images), direction.expand(len(images), -1)).mean()

    image, alpha = maco(objective, device="cpu")
    assert image.shape == alpha.shape == (3, 96, 96)


@pytest.mark.parametrize("method", ["maco", "fourier"])
def test_methods(method):
    def objective(images):
        return torch.mean(model(images))

    torch.manual_seed(1)  # half of all starts are dark, where this model gives no gradient
    model = SimpleDummyModel()
    img_size = 200
    image, alpha = getattr(fvfast.horama, method)(
        lambda images: objective(images + 5), total_steps=10, image_size=img_size,
        model_input_size=100, device="cpu",
    )  # fmt: skip
    assert image.size() == (3, img_size, img_size)
    assert alpha.size() == (3, img_size, img_size)
    plot_maco(image, alpha)
    assert plt.gcf() is not None


def test_fa():
    model = SimpleDummyModel()
    img_size = 200
    image, alpha = fvfast.horama.accentuation(
        lambda images: torch.mean(model(images + 5)), torch.rand((3, 20, 20)), total_steps=10,
        image_size=img_size, model_input_size=100, device="cpu",
    )  # fmt: skip
    assert image.size() == (3, img_size, img_size)
    assert alpha.size() == (3, img_size, img_size)


def test_inv_fa():
    torch.manual_seed(0)
    img = torch.rand((3, 20, 20))
    img_min, img_max = torch.amin(img), torch.amax(img)
    scaler = get_fft_scale(20, 20, 1.5)
    spec_scaler = SpectrumBackwardScaler(scaler)
    img_bis = fa_preconditionner(
        inverse_image_spectrum(img), spec_scaler, (-img_min, img_max), "cpu"
    )
    assert torch.allclose(img, img_bis, atol=1e-2)


@pytest.mark.parametrize("method", ["accentuation", thorough("maco"), thorough("fourier")])
def test_timm(method):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050.lamb_in1k", pretrained=False).cpu().eval()
    image_seed = torch.rand((3, 128, 128)) * 0.01
    start = {"image_seed": image_seed} if method == "accentuation" else {}
    image_out, alpha = getattr(fvfast.horama, method)(
        lambda images: torch.mean(model(images)[:, 1]), total_steps=3, image_size=128,
        model_input_size=128, device="cpu", **start,
    )  # fmt: skip
    plot_maco(image_out, alpha)
    assert image_out.size() == alpha.size() == (3, 128, 128)
    assert image_out.min() >= -2.5
    assert image_out.max() <= 2.5
    assert torch.sum(alpha).item() > 0
    assert not torch.allclose(image_out, image_seed, atol=1e-2)
