"""Scores that compare how a layer's activations are distributed with how they are in images."""

import hashlib
from collections.abc import Hashable, Sequence
from typing import Any

import torch

from fvfast.objectives.scores import OnDevice, TensorScore, by_image


class SortMatchingScore(TensorScore):
    """How closely the sorted activations of each channel follow given ones.

    Of each view and channel the activations at all D positions are sorted, and compared with the
    given ones of the same rank, in units of the channel's deviation:

        score = - mean over views, channels c and ranks j of ((sort(A[c])[j] - q[c, j]) / s[c])^2

    Parameters
    ----------
    quantiles
        (C, D): q, ascending along ranks. For an output with another number of positions it is
        interpolated linearly.
    deviations
        (C,): s, above 0.
    channel_axis
        Axis of the channels in the layer's output, without the batch.

    References
    ----------
    Sort-matching: Hahm et al., "VITAL", ICCV 2025. The units of deviation are fvfast's own.
    """

    def __init__(
        self, quantiles: torch.Tensor, deviations: torch.Tensor, channel_axis: int
    ) -> None:
        scale = deviations.float().unsqueeze(1)
        self._wanted = {quantiles.shape[1]: OnDevice(quantiles.float() / scale)}
        self._scale = OnDevice(scale)
        self._positions = quantiles.shape[1]
        self._channel_axis = channel_axis
        self._checksum = _checksum(quantiles, deviations)

    @property
    def settings(self) -> Hashable:
        """The given activations, by their checksum, and the axis."""
        return self._checksum, self._channel_axis

    def encode(self, targets: Sequence[Any]) -> torch.Tensor:
        """Return an empty row for each target, (N, 0): all are compared with the same."""
        return torch.empty(len(targets), 0, device="cpu")

    def score(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Score each image's views."""
        values = _by_channel(output, self._channel_axis) / self._scale.on(output.device)
        ranked = values.sort(-1).values
        wanted = self._resampled(ranked.shape[-1]).on(output.device)
        distances = (ranked - wanted).square().mean((1, 2))
        return -by_image(distances, len(targets)).mean(1)

    def _resampled(self, positions: int) -> OnDevice:
        """Return the given activations, in units of the deviation, for so many positions."""
        if positions not in self._wanted:
            whole = self._wanted[self._positions].on(torch.device("cpu"))
            self._wanted[positions] = OnDevice(
                torch.nn.functional.interpolate(whole[None], positions, mode="linear")[0]
            )
        return self._wanted[positions]


class MomentScore(TensorScore):
    """How closely mean and deviation of each channel follow given ones.

    They are taken over all positions of all views of an image:

        score = - mean over channels c of ((mean A[c] - m[c]) / s[c])^2 + (std A[c] / s[c] - 1)^2

    Parameters
    ----------
    means, deviations
        (C,): m and s, which is above 0.
    channel_axis
        Axis of the channels in the layer's output, without the batch.

    References
    ----------
    Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", CVPR 2020,
    which compares the inputs of batch normalizations. Their outputs differ only in scale and
    offset, so that in units of the deviation the distances are the same.
    """

    def __init__(self, means: torch.Tensor, deviations: torch.Tensor, channel_axis: int) -> None:
        self._means = OnDevice(means.float())
        self._deviations = OnDevice(deviations.float())
        self._channel_axis = channel_axis
        self._checksum = _checksum(means, deviations)

    @property
    def settings(self) -> Hashable:
        """The given moments, by their checksum, and the axis."""
        return self._checksum, self._channel_axis

    def encode(self, targets: Sequence[Any]) -> torch.Tensor:
        """Return an empty row for each target, (N, 0): all are compared with the same."""
        return torch.empty(len(targets), 0, device="cpu")

    def score(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Score all views of each image together."""
        device = output.device
        values = by_image(_by_channel(output, self._channel_axis), len(targets))  # (N, K, C, D)
        deviations = self._deviations.on(device)
        variances, means = torch.var_mean(values, dim=(1, 3), correction=0)
        offset = (means - self._means.on(device)) / deviations
        # The square root has no finite gradient at 0, where all activations are equal.
        spread = (variances + _SMALLEST_VARIANCE).sqrt() / deviations - 1
        return -(offset.square() + spread.square()).mean(1)


_SMALLEST_VARIANCE = 1e-12


def _by_channel(output: torch.Tensor, channel_axis: int) -> torch.Tensor:
    """Bring the channels forward, and join the positions: (V, ...) to (V, C, D), float32."""
    return output.movedim(channel_axis + 1, 1).flatten(2).float()


def _checksum(*tensors: torch.Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
