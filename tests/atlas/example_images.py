"""Images, networks and a brute-force computation for the tests of dataset examples."""

import numpy as np
import torch
from PIL import Image
from torch import nn

SIDE = 20


def pictures(count, *, side=SIDE, seed=0):
    """Arrays (H, W, 3) of uint8: blotches of color, each of its own."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    return [np.array(Image.fromarray(one).resize((side, side))) for one in small]


def write_folder(folder, images):
    """Write arrays as PNG files, whose names are in their order; labels are folders."""
    for number, image in enumerate(images):
        path = folder / f"class{number % 3}" / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def convolutions():
    """A small network on 3 x 20 x 20 images."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 10),
    ).eval()


def all_activations(model, names, images):
    """Outputs (N, ...) of layers for all images at once, in float64."""
    found = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: found.__setitem__(name, output)
        )
        for name in names
    ]
    exact = np.stack(images).astype(np.float64) / 255 * 2 - 1
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        with torch.no_grad():
            model.double()(torch.from_numpy(exact).permute(0, 3, 1, 2))
    finally:
        for hook in hooks:
            hook.remove()
        model.float().load_state_dict(before)
    return found


def best(values, k):
    """Numbers of the k images with the largest of values (N,); of equal ones the first."""
    return sorted(range(len(values)), key=lambda number: (-values[number], number))[:k]
