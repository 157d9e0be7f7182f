"""Runs images through a network, and reads the largest activation of each unit."""

import sys
from collections.abc import Sequence

import torch

from fvfast.atlas.examples.layers import LayerReader
from fvfast.engine.borrowing.randomness import drawn_from
from fvfast.engine.memory import free_memory
from fvfast.engine.passes import is_out_of_memory, run_views
from fvfast.engine.taps import TappedModel
from fvfast.models import LoadedModel


class Activations:
    """The largest activations of units in images.

    Attributes
    ----------
    network
        Returns the outputs of the readers' layers.

    Parameters
    ----------
    loaded
        The network, borrowed, and how it takes images.
    readers
        The units.
    device
        Where the network is.
    home
        Where the activations are wanted.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        readers: Sequence[LayerReader],
        device: torch.device,
        home: torch.device,
    ) -> None:
        layers = [reader.units.layer for reader in readers]
        self.network = TappedModel(loaded.model, layers, loaded.preprocess)
        self._values_range = loaded.values_range
        self._readers = readers
        self._device = device
        self._home = home
        self._most = sys.maxsize  # images that the memory suffices for

    def largest(self, pixels: torch.Tensor, first: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Run images through the network, in as many parts as the memory needs.

        Parameters
        ----------
        pixels
            uint8 (B, C, H, W).
        first
            Number of the first image, on which random numbers of the network depend.

        Returns
        -------
        values
            float32 (U, B), of the U units of all readers.
        positions
            int64 (U, B).
        """
        low, high = self._values_range
        images = pixels.to(self._device, non_blocking=True).float()
        images = images.mul_((high - low) / 255).add_(low)
        found: list[tuple[torch.Tensor, torch.Tensor]] = []
        done = 0
        with drawn_from(0, first, self._device):
            while done < len(images):
                part = images[done : done + self._most]
                try:
                    found.append(self._run(part))
                except Exception as error:
                    if len(part) == 1 or not is_out_of_memory(error):
                        raise
                    self._most = len(part) // 2
                    free_memory(self._device)
                else:
                    done += len(part)
        values, positions = zip(*found, strict=True)
        return torch.cat(values, dim=1), torch.cat(positions, dim=1)

    def _run(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = run_views(self.network, images)
        found = [
            reader.largest(output) for reader, output in zip(self._readers, outputs, strict=True)
        ]
        values = torch.cat([value.to(self._home) for value, _ in found])
        return values, torch.cat([position.to(self._home) for _, position in found])
