"""The networks of the scenes for the libraries that use PyTorch."""

import torch
from torch import nn

from benchmarks.peers.scene import Scene

# The layer that the objective reads: the crops themselves, or the logits.
LAYERS = {"identity": "0", "mobilenet_v2": "classifier.1", "resnet50": "fc"}


def build_network(scene: Scene) -> nn.Module:
    """Build the scene's network in evaluation mode, with random weights."""
    torch.set_num_threads(scene.threads)
    torch.manual_seed(0)
    if scene.network == "identity":
        return nn.Sequential(nn.Identity()).eval()
    import torchvision

    return getattr(torchvision.models, scene.network)(weights=None).eval()


def framework() -> str:
    """Return the name and version of the framework."""
    return f"torch {torch.__version__}"
