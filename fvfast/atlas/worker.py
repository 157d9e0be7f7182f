"""A worker: one network on one device, loaded once, that draws batches of an atlas."""

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fvfast.atlas import directions
from fvfast.atlas.networks import check_planned, load_planned
from fvfast.atlas.plan import Plan, Shard
from fvfast.atlas.planned_layers import PlannedLayer
from fvfast.atlas.settings import read_settings
from fvfast.atlas.sizes import drawn_together
from fvfast.atlas.units import UNIT_KINDS, Source
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.devices import check_device
from fvfast.engine.memory import free_memory
from fvfast.models import LoadedModel
from fvfast.run.run import Run


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Pictures that were drawn together.

    Attributes
    ----------
    images, transparencies
        (N, C, H, W), on the CPU.
    scores
        (N, steps); NaN for the steps that an image did not take.
    seconds
        Of all.
    """

    images: torch.Tensor
    transparencies: torch.Tensor
    scores: torch.Tensor
    seconds: float


class DrawingStoppedError(KeyboardInterrupt):
    """The user interrupted a batch, which has no pictures."""


class Worker:
    """Draws units of a plan, with a network that is loaded once.

    Parameters
    ----------
    plan
        What is drawn.
    device
        Where. Default: a GPU if there is one, else the CPU.
    batch_size
        Pictures that are drawn together, for a plan that does not say it. Default: 64 crops.
    loaded
        The network, if it is loaded already.
    must_fit
        Whether a batch that does not fit the memory is refused, because fewer pictures at a time,
        or fewer views, would give other last bits. Default: if the plan says how many pictures are
        drawn together, except on the CPU; see `has_to_fit`.

    Attributes
    ----------
    plan
        As given.
    batch_size
        Pictures that are drawn together. Unless they must fit, a batch that does not fit the memory
        makes it smaller.
    must_fit
        As given.

    Raises
    ------
    fvfast.atlas.OtherNetworkError
        The network is not the one of the plan.
    ValueError, RuntimeError
        There is no such device, or it cannot be used; or the plan has another batch size.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        loaded: LoadedModel | None = None,
        must_fit: bool | None = None,
    ) -> None:
        self.plan = plan
        self.batch_size = drawn_together(plan, batch_size)
        self._settings = read_settings(plan.settings)
        if loaded is None:
            loaded = load_planned(plan)
        else:
            check_planned(plan, loaded)
        self._loaded = loaded
        default = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = check_device(default if device is None else device)
        # Moved once, not for each batch.
        loaded.model.to(self._device)
        self.must_fit = has_to_fit(plan, self._device) if must_fit is None else must_fit
        self._vectors: tuple[str, NDArray[np.float32]] | None = None
        self._drawing: tuple[int, Run] | None = None

    @property
    def device(self) -> str:
        """The device, in words."""
        if self._device.type != "cuda":
            return str(self._device)
        return f"{self._device} {torch.cuda.get_device_name(self._device)}"

    @property
    def values_range(self) -> tuple[float, float]:
        """The range of the network's images, which the command line takes without being told."""
        low, high = self._loaded.values_range
        return low, high

    def draw(self, shard: Shard, indices: Sequence[int]) -> Drawn:
        """Draw some units of a shard together.

        Raises
        ------
        DrawingStoppedError
            The user interrupted it.
        """
        start = time.perf_counter()
        run = self._run(shard)
        positions = [shard.indices.index(index) for index in indices]
        with borrowed(self._loaded.model, self._device):
            ascent = run.draw(positions)
        if ascent.interrupted:
            raise DrawingStoppedError
        return Drawn(
            ascent.images[-1].cpu(),
            ascent.transparencies[-1].cpu(),
            ascent.scores.cpu(),
            time.perf_counter() - start,
        )

    def free_memory(self) -> None:
        """Give back what is kept of the device's memory only to save time, after it was full."""
        self._drawing = None
        free_memory(self._device)

    def _run(self, shard: Shard) -> Run:
        """Return what draws a shard; the last one is kept."""
        if self._drawing is None or self._drawing[0] != shard.number:
            layer = shard.layer
            source = Source(self._loaded, layer.name, layer.channel_axis, self._directions(layer))
            objective = UNIT_KINDS[layer.kind].objective(source, shard.indices)
            run = Run(
                objective, self._settings, progress=False, device=self._device,
                splits=not self.must_fit,
            )  # fmt: skip
            run.prepare(min(self.batch_size, len(shard.indices)), function="fvfast.atlas")
            self._drawing = shard.number, run
        return self._drawing[1]

    def _directions(self, layer: PlannedLayer) -> NDArray[np.float32] | None:
        planned = layer.directions
        if planned is None:
            return None
        if self._vectors is None or self._vectors[0] != planned.file:
            self._vectors = planned.file, directions.read_planned(planned)
        return self._vectors[1]


def has_to_fit(plan: Plan, device: torch.device) -> bool:
    """Whether a batch that does not fit the memory of a device is refused.

    If it were drawn in parts, its pictures would be others in their last bits than those of workers
    with more memory. On the CPU only networks of linear layers show that, with few views.
    """
    return plan.batch_size is not None and device.type != "cpu"
