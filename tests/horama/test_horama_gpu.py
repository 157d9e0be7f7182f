"""On a GPU, Horama's calls draw what they draw on the CPU, and accentuation does."""

import pytest
import torch
from photographs import array_of

from fvfast import Objective, accentuate, horama

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SETTINGS = {
    "total_steps": 2, "image_size": 40, "model_input_size": 20, "crops_per_iteration": 2,
    "progress": False, "seed": 0,
}  # fmt: skip
CLOSE = 0.02
"""Root mean square, of values in [-2.5, 2.5]: rounding leads NAdam where there is no gradient."""


def rms(difference):
    return difference.square().mean().sqrt().item()


@pytest.mark.parametrize("method", ["maco", "fourier", "accentuation"])
def test_the_same_image_as_on_the_cpu(method, network):
    """With fvfast's crops, whose numbers are the same on all devices."""
    start = {}
    if method == "accentuation":
        start["image_seed"] = torch.from_numpy(array_of()).permute(2, 0, 1) / 255
    images = []
    for device in ("cpu", None):  # a GPU is the default where there is one
        model = network.to(device or "cuda")
        result = getattr(horama, method)(
            lambda images, model=model: model(images)[:, 3].mean(), resampling="fvfast",
            device=device, **start, **SETTINGS,
        )  # fmt: skip
        assert result.image.device.type == (device or "cuda")
        images.append(result.image.cpu())
    assert rms(images[0] - images[1]) < CLOSE


@pytest.mark.parametrize("method", ["maco", "fourier"])
def test_horamas_resampling_runs_on_a_gpu(method, network):
    model = network.cuda()
    image, alpha = getattr(horama, method)(lambda images: model(images)[:, 3].mean(), **SETTINGS)
    assert image.isfinite().all()
    assert alpha.sum() > 0


def test_accentuate(network):
    objective = Objective.neuron(network, "7", 3, input_shape=(3, 20, 20))
    images = [
        accentuate(
            objective, array_of(), nb_steps=3, nb_crops=3, custom_shape=(24, 36), device=device,
            progress=False,
        ).image
        for device in ("cpu", "cuda")
    ]  # fmt: skip
    assert rms(images[0] - images[1]) < CLOSE
