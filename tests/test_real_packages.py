"""Networks as packages build them, with random weights: drawn from, and left as they were."""

import warnings

import open_clip
import pytest
import timm
import torch
from misbehaving import everything, global_state
from selection import short_for
from torch import nn
from torch.ao.quantization import get_default_qat_qconfig_mapping
from torch.ao.quantization.quantize_fx import prepare_qat_fx
from transformers import ViTConfig, ViTModel

import fvfast.engine
from fvfast import Objective, maco, optimize

SHORT = {"nb_steps": 2, "custom_shape": (64, 64), "progress": False}


def swin():
    return timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=2, depths=(1, 1, 2, 1)
    )


def convnext():
    return timm.create_model("convnext_atto", num_classes=7)


def dinov2():
    return timm.create_model("vit_small_patch14_dinov2", img_size=56, depth=2)


def open_clip_tower(dtype=torch.bfloat16):
    """Weights in bfloat16, layer norms and the scale of the logits in float32."""
    model = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={"layers": 2, "width": 64, "patch_size": 16, "image_size": 64},
        text_cfg={"layers": 1, "width": 32, "heads": 2, "vocab_size": 50, "context_length": 8},
        cast_dtype=dtype,
    )
    open_clip.model.convert_weights_to_lp(model, dtype)
    return model


def hugging_face():
    return ViTModel(
        ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            image_size=64,
        )
    )  # fmt: skip


def quantization_aware():
    """Observers write to their buffers, also in evaluation mode, and resize them."""
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    images = torch.zeros(1, 3, 64, 64)
    return prepare_qat_fx(body, get_default_qat_qconfig_mapping("fbgemm"), images)


def channel(layer, index, shape=(3, 64, 64), **settings):
    return lambda model: Objective.channel(model, layer, index, input_shape=shape, **settings)


NETWORKS = {
    "timm's Swin": (swin, channel("layers.3", 700, channel_axis=2)),
    "timm's ConvNeXt": (convnext, channel("stages.3", 300)),
    "timm's DINOv2": (dinov2, channel("blocks.1", 300, (3, 56, 56))),
    "open_clip's tower in bfloat16": (
        open_clip_tower,
        channel("visual.transformer.resblocks.1", 50),
    ),
    "open_clip's tower in float16": (
        lambda: open_clip_tower(torch.float16),
        channel("visual.transformer.resblocks.1", 50),
    ),
    "Hugging Face's ViT": (hugging_face, channel("layernorm", 20)),
    "PyTorch's quantization-aware training": (quantization_aware, channel(-1, 3)),
}


# Of each package one, and what writes to its buffers.
SHORT_NETWORKS = [
    "timm's DINOv2", "open_clip's tower in bfloat16", "Hugging Face's ViT",
    "PyTorch's quantization-aware training",
]  # fmt: skip


@pytest.fixture(params=short_for(SHORT_NETWORKS, NETWORKS))
def case(request):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, about their own names and defaults
        make, objective = NETWORKS[request.param]
        model = make().eval()
    fvfast.engine.clear()
    return model, objective


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("call", [maco, optimize])
def test_pictures_of_networks_from_packages(case, call):
    model, objective = case
    before = everything(model)
    around = global_state()
    pictures = []
    for _ in range(2):
        settings = {"nb_crops": 2} if call is maco else {"transformations": None}
        result = call(objective(model), **SHORT, **settings)
        pictures.append(result[0] if call is maco else result[0][-1][0])
        assert everything(model) == before
        assert global_state() == around
    assert pictures[0].isfinite().all()
    assert pictures[0].std() > 0.01
    assert torch.equal(*pictures)
