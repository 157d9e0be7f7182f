"""The random numbers of Horama's methods, in the order in which Horama draws them."""

from typing import Any, Protocol

import torch

CENTER_SPREAD = 0.15
"""Standard deviation of the centers of boxes around the middle of the image."""


class Draws(Protocol):
    """What is random in a step."""

    def boxes(self, count: int, box_size: tuple[float, float]) -> torch.Tensor:
        """Return ``count`` boxes (K, 4) as (y1, x1, y2, x2) in fractions of the image."""
        ...

    def noisy(self, crops: torch.Tensor, level: float) -> torch.Tensor:
        """Return crops with noise added."""
        ...


class TorchDraws:
    """Draws from torch's generators: after the same seed, Horama draws the same numbers.

    Parameters
    ----------
    device
        Where boxes and noise are drawn.
    seed
        Seed of generators of these draws alone. Default: torch's global generators.
    """

    def __init__(self, device: torch.device, seed: int | None = None) -> None:
        self._device = device
        self._generators: dict[str, torch.Generator] = {}
        if seed is not None:
            for one in {"cpu", str(device)}:
                self._generators[one] = torch.Generator(one).manual_seed(seed % 2**63)

    def normal(self, *shape: int) -> torch.Tensor:
        """Return the standard normal numbers of a start, which Horama draws on the CPU."""
        return torch.randn(shape, generator=self._generators.get("cpu"), device="cpu")

    def boxes(self, count: int, box_size: tuple[float, float]) -> torch.Tensor:
        """Return ``count`` boxes (K, 4) with sides U(high, 2 high - low), as Horama draws them."""
        low, high = box_size
        place: dict[str, Any] = {"generator": self._generator, "device": self._device}
        x = 0.5 + torch.randn((count,), **place) * CENTER_SPREAD
        y = 0.5 + torch.randn((count,), **place) * CENTER_SPREAD
        half = (torch.rand((count,), **place) * (high - low) + high) * 0.5
        return torch.stack([y - half, x - half, y + half, x + half], dim=1)

    def noisy(self, crops: torch.Tensor, level: float) -> torch.Tensor:
        """Add normal noise of this deviation and uniform noise of this width."""
        settings: dict[str, Any] = {
            "generator": self._generator,
            "device": crops.device,
            "dtype": crops.dtype,
        }
        normal = torch.randn(crops.shape, **settings)
        uniform = torch.rand(crops.shape, **settings) - 0.5
        return crops + normal * level + uniform * level

    @property
    def _generator(self) -> torch.Generator | None:
        return self._generators.get(str(self._device))
