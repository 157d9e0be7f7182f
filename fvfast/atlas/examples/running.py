"""What is known of units while images go by: the best k images, means, histograms."""

import torch

from fvfast.atlas.examples.histograms import RunningHistograms

NONE = -1
"""In the place of an image's number or a position: there is none."""


class RunningExamples:
    """The best images of U units, and numbers about all images; its size does not depend on theirs.

    Attributes
    ----------
    values
        float32 (U, k): the largest activations, largest first; -inf where there are fewer images.
    images
        int64 (U, k): numbers of the images that gave them. Of equal activations, that of the image
        with the smaller number comes first.
    positions
        int64 (U, k): where in the layer; see `fvfast.atlas.examples.layers.LayerReader`.
    total
        float64 (U,): sum of the images' activations.
    seen, active
        int64 (U,): how many images had a finite activation, and one above 0.
    histograms
        Of the images' activations.

    Parameters
    ----------
    units
        U.
    count
        k.
    device
        Where all this is kept.
    """

    def __init__(self, units: int, count: int, device: torch.device) -> None:
        shape = (units, count)
        self.values = torch.full(shape, -torch.inf, device=device)
        self.images = torch.full(shape, NONE, dtype=torch.int64, device=device)
        self.positions = self.images.clone()
        self.total = torch.zeros(units, dtype=torch.float64, device=device)
        self.seen = torch.zeros(units, dtype=torch.int64, device=device)
        self.active = self.seen.clone()
        self.histograms = RunningHistograms(units, device)

    def add(self, values: torch.Tensor, positions: torch.Tensor, images: torch.Tensor) -> None:
        """Take in a batch of B images.

        Parameters
        ----------
        values
            float32 (U, B): the largest activation of each unit in each image. What is not finite
            is left out.
        positions
            int64 (U, B): where it is.
        images
            int64 (B,): numbers of the images, ascending, and larger than those before.
        """
        finite = values.isfinite()
        exact = values.double()
        self.histograms.add(exact, finite)
        self.total += exact.where(finite, 0.0).sum(1)
        self.seen += finite.sum(1)
        self.active += (finite & (values > 0)).sum(1)
        known = torch.cat([self.values, values.where(finite, -torch.inf)], dim=1)
        # Not topk, which promises nothing about the order of equal numbers. Earlier images stand
        # before later ones, and a stable sort leaves it so.
        order = known.sort(dim=1, descending=True, stable=True).indices[:, : self.values.shape[1]]
        numbers = images.expand_as(values).where(finite, NONE)
        self.values = known.gather(1, order)
        self.images = torch.cat([self.images, numbers], dim=1).gather(1, order)
        self.positions = torch.cat([self.positions, positions], dim=1).gather(1, order)

    def state(self) -> dict[str, torch.Tensor]:
        """Return all of it as tensors on the CPU."""
        return {name: tensor.cpu() for name, tensor in self._tensors().items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` returned, of an object with the same units and k.

        Raises
        ------
        ValueError
            The state is of others.
        """
        for name, tensor in self._tensors().items():
            other = state.get(name)
            if other is None or other.shape != tensor.shape or other.dtype != tensor.dtype:
                found = "is missing" if other is None else f"is {other.dtype} {tuple(other.shape)}"
                raise ValueError(
                    f"{name!r} {found}; expected {tensor.dtype} {tuple(tensor.shape)}."
                )
            tensor.copy_(other)

    def _tensors(self) -> dict[str, torch.Tensor]:
        histograms = self.histograms
        return {
            "values": self.values,
            "images": self.images,
            "positions": self.positions,
            "total": self.total,
            "seen": self.seen,
            "active": self.active,
            "counts": histograms.counts,
            "lowest": histograms.lowest,
            "highest": histograms.highest,
        }
