"""Networks that visualisation libraries are known to stumble over."""

import warnings

import pytest
import timm
import torch
import torchvision
from engine.test_state import assert_same, fingerprint
from torch import nn

from fvfast import Objective, maco, optimize

SHORT = {"nb_steps": 2, "nb_crops": 2, "progress": False}


class TupleOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        y = self.conv(x)
        return y.mean((2, 3)), y


def vit():
    return timm.create_model("vit_tiny_patch16_224", pretrained=False).eval()


CASES = {
    "vit logit": (vit, lambda m: Objective.neuron(m, "head", 3)),
    "vit token channel": (vit, lambda m: Objective.channel(m, "blocks.5", 7)),
    "vit token neuron": (vit, lambda m: Objective.neuron(m, "blocks.5.mlp", [(12, 7)])),
    "vit direction": (vit, lambda m: Objective.direction(m, "blocks.3", torch.randn(192))),
    "tuple": (TupleOutput, lambda m: Objective.neuron(m, "", 1)),
    "tuple entry": (TupleOutput, lambda m: Objective.channel(m, ("", 1), 1)),
    "one channel": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()),
        lambda m: Objective.channel(m, 0, 1, input_shape=(1, 28, 28)),
    ),
    "in-place and skips": (
        lambda: torchvision.models.resnet18(weights=None),
        lambda m: Objective.channel(m, "layer2.0", 5) + Objective.neuron(m, "fc", 3),
    ),
    "channels last": (
        lambda: torchvision.models.swin_t(weights=None),
        lambda m: Objective.channel(m, "features.3", 5, channel_axis=-1),
    ),
    "half precision": (
        lambda: torchvision.models.mobilenet_v3_small(weights=None).bfloat16(),
        lambda m: Objective.neuron(m, "classifier.3", 5),
    ),
    "data parallel": (
        lambda: nn.DataParallel(nn.Sequential(nn.Conv2d(3, 4, 3))),
        lambda m: Objective.channel(m, 0, 1),
    ),
}


@pytest.mark.parametrize("shape", [(64, 48), (225, 225)])
@pytest.mark.parametrize("case", CASES)
def test_maco(case, shape):
    torch.manual_seed(0)
    make_model, make_objective = CASES[case]
    model = make_model().eval()
    before = fingerprint(model)
    objective = make_objective(model)
    image, transparency = maco(objective, **SHORT, custom_shape=shape)
    assert image.shape == (objective.image_shape[0], *shape)
    assert image.isfinite().all()
    assert transparency.any()
    assert_same(before, fingerprint(model))


def test_optimize_on_a_vit():
    images, _ = optimize(
        Objective.channel(vit(), "blocks.2", [1, 2]),
        nb_steps=1,
        custom_shape=(225, 224),
        progress=False,
    )
    assert images[0].shape == (2, 3, 225, 224)


def test_scripted_submodules_are_explained():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script itself is deprecated
        model = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())).eval()
    with pytest.raises(ValueError, match="Scripted and fused modules"):
        Objective.channel(model, "0", 1)
