"""Draws one picture for each kind of network: the row of pictures in the README.

A class and a channel of EfficientNet-Lite0, a channel of a vision transformer with random weights,
and an output of a small network that learns scikit-learn's digits first. It needs the packages of
``pip install '.[models,torchvision,timm]' scikit-learn`` and takes one to two minutes on two cores.

    python examples/kinds_of_networks.py [FILE]
"""

import sys
from pathlib import Path

import matplotlib as mpl
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from fvfast import MacoBatch, Objective, maco_batch
from fvfast.models import LoadedModel, load_model
from fvfast.plot import plot_grid

DIGIT = 0
TRANSFORMER = "timm:vit_tiny_patch16_224?weights=none"


def fast(objective: Objective, loaded: LoadedModel) -> MacoBatch:
    """Draw units of a network with large inputs."""
    return maco_batch(
        objective, preset="fast", values_range=loaded.values_range, custom_shape=256, progress=False
    )


def digits_network() -> nn.Module:
    """Learn the digits of scikit-learn, (1, 8, 8) with values in [0, 1]."""
    data = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(data.target)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(64 * 16, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(12):
        for chosen in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    return network.eval()


def main(path: Path) -> None:
    """Draw the four pictures into one file."""
    mpl.use("Agg")
    lite = load_model("efficientnet_lite0")
    torch.manual_seed(0)
    transformer = load_model(TRANSFORMER)
    block = Objective.channel(transformer.model, "blocks.5", 10, preprocess=transformer.preprocess)
    output = Objective.neuron(digits_network(), -1, DIGIT)
    drawn = {
        "class: macaw": fast(Objective.neuron(lite.model, -1, "macaw"), lite),
        "channel: _blocks.9, 90": fast(Objective.channel(lite.model, "_blocks.9", 90), lite),
        "ViT, random weights: blocks.5, 10": fast(block, transformer),
        f"digits: {DIGIT}": maco_batch(output, preset="small", values_range=(0, 1), progress=False),
    }
    images = [batch.images[0] for batch in drawn.values()]
    transparencies = [batch.transparencies[0] for batch in drawn.values()]
    transparencies[-1] = torch.ones_like(transparencies[-1])  # every pixel of a digit matters
    figure = plot_grid(images, transparencies, list(drawn), columns=4)
    figure.savefig(path, dpi=80)
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/kinds_of_networks.png"))
