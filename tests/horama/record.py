"""Records runs of Horama's own code: makes ``horama_64x64.npz``.

Horama is no dependency of the tests. This runs in an environment of its own, which has fvfast, too:

    pip install --no-deps horama==0.3.0 && pip install torch torchvision tqdm einops matplotlib
    python tests/horama/record.py

The network, starts, boxes and noise are recorded, so that other code can be given the same. The
functions that draw them are replaced in Horama's modules, nothing else. The runs of which only the
last image is recorded draw from torch's own generators.
"""

import types
from pathlib import Path

import horama
import horama.common
import horama.feature_accentuation
import horama.fourier_fv
import horama.maco_fv
import numpy as np
import torch
from torch import nn

from fvfast import Spectrum

FILE = Path(__file__).with_name("horama_64x64.npz")
SIZE, INPUT, CROPS, STEPS, SEEDED_STEPS, SEED = 64, 32, 2, 5, 3, 7
SETTINGS = {
    "image_size": SIZE, "model_input_size": INPUT, "crops_per_iteration": CROPS, "device": "cpu",
}  # fmt: skip


def make_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 16, 3, stride=2), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    ).eval()  # fmt: skip


class Recorded:
    """Stands for torch in `horama.common`: gives recorded numbers, and watches the steps."""

    def __init__(self):
        numbers = torch.Generator().manual_seed(1)
        shape = (STEPS, CROPS, 3, INPUT, INPUT)
        self.centers = torch.randn(STEPS, 2, CROPS, generator=numbers)
        self.sides = torch.rand(STEPS, CROPS, generator=numbers)
        self.normal = torch.randn(shape, generator=numbers)
        self.uniform = torch.rand(shape, generator=numbers)
        self.step, self.drawn, self.images = 0, 0, []

    def torch(self):
        """A module with torch's functions, but for those that draw."""
        stand_in = types.ModuleType("torch")
        stand_in.__dict__.update(torch.__dict__)
        stand_in.randn = self.randn
        stand_in.rand = lambda *_, **__: self.sides[self.step]
        stand_in.randn_like = lambda _: self.normal[self.step]
        stand_in.rand_like = lambda _: self.uniform[self.step]
        return stand_in

    def randn(self, *_, **__):
        """The columns of the centers, then their rows."""
        self.drawn += 1
        return self.centers[self.step, (self.drawn - 1) % 2]

    def optimization_step(self, objective, image, *settings):
        self.images.append(image)
        self.step = len(self.images) - 1
        return original_step(objective, image, *settings)

    def boxes(self, low, high):
        """(STEPS, CROPS, 4) as (y1, x1, y2, x2)."""
        x, y = (0.5 + 0.15 * self.centers).unbind(1)
        half = (self.sides * (high - low) + high) / 2
        return torch.stack([y - half, x - half, y + half, x + half], dim=-1)


original_step = horama.common.optimization_step


def record(method, modules, network, **start):
    """Run a method on recorded numbers; return what it does."""
    recorded, scores = Recorded(), []

    def objective(images):
        scores.append(network(images)[:, 3].mean())
        return scores[-1]

    horama.common.torch = recorded.torch()
    for module in modules:
        module.optimization_step = recorded.optimization_step
    try:
        image, alpha = method(objective, total_steps=STEPS, **SETTINGS, **start)
    finally:
        horama.common.torch = torch
        for module in modules:
            module.optimization_step = original_step
    last = recorded.images[-1]
    return {
        "scores": torch.stack(scores), "image": image, "transparency": alpha,
        "first_image": recorded.images[0], "first_gradient": recorded.images[0].grad,
        "last_image": last, "last_gradient": last.grad,
    }  # fmt: skip


def main():
    network = make_network()
    numbers = torch.Generator().manual_seed(2)
    half = (3, SIZE, SIZE // 2 + 1)
    magnitude = Spectrum.natural().magnitude(SIZE, SIZE)
    phase = torch.randn(half, generator=numbers)
    spectrum = torch.complex(
        torch.randn(half, generator=numbers), torch.randn(half, generator=numbers)
    )
    # A picture with large areas, and values of which it has both ends.
    seed = torch.randn(1, 3, 6, 5, generator=numbers)
    seed = nn.functional.interpolate(seed, (48, 40), mode="bicubic")[0].sigmoid()

    arrays = {f"network.{name}": value for name, value in network.state_dict().items()}
    arrays |= {"magnitude": magnitude, "phase": phase, "spectrum": spectrum, "seed": seed}
    recorded = Recorded()
    noise = 0.05 * recorded.normal + 0.05 * (recorded.uniform - 0.5)
    arrays |= {"boxes": recorded.boxes(0.20, 0.25), "noise": noise}

    buffers = horama.maco_fv.init_maco_buffer, horama.fourier_fv.init_lucid_buffer
    horama.maco_fv.init_maco_buffer = lambda *_, **__: (magnitude, phase.clone())
    horama.fourier_fv.init_lucid_buffer = lambda *_, **__: spectrum.clone()
    results = {
        "maco": record(horama.maco, [horama.maco_fv], network),
        "fourier": record(horama.fourier, [horama.fourier_fv], network),
        "accentuation": record(
            horama.accentuation, [horama.feature_accentuation], network, image_seed=seed
        ),
    }

    def drawn(shape, std_deviation):
        return magnitude, torch.randn(3, shape[0], shape[1] // 2 + 1) * std_deviation

    horama.maco_fv.init_maco_buffer, horama.fourier_fv.init_lucid_buffer = drawn, buffers[1]
    for name, start in {"maco": {}, "fourier": {}, "accentuation": {"image_seed": seed}}.items():
        torch.manual_seed(SEED)
        results[name]["seeded_image"], _ = getattr(horama, name)(
            lambda images: network(images)[:, 3].mean(),
            total_steps=SEEDED_STEPS,
            **SETTINGS,
            **start,
        )
    for name, result in results.items():
        arrays |= {f"{name}.{key}": value for key, value in result.items()}
    np.savez_compressed(FILE, **{key: value.detach().numpy() for key, value in arrays.items()})


if __name__ == "__main__":
    main()
