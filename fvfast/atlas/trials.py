"""Tries how many pictures of an atlas are best drawn together, on the device of this machine."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import torch

from fvfast.atlas import directions
from fvfast.atlas.failures import runs_out_of_memory
from fvfast.atlas.plan import Plan
from fvfast.atlas.planned_layers import PlannedLayer
from fvfast.atlas.settings import read_settings
from fvfast.atlas.units import UNIT_KINDS, Source
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.memory import free_memory
from fvfast.engine.network.layers import LayerInfo, trace_layers
from fvfast.models import LoadedModel
from fvfast.run.batch_sizes import BatchCost, BatchSizes, CostMeter
from fvfast.run.run import Run
from fvfast.run.step_timer import SETUP_STEPS

TRIAL_STEPS = SETUP_STEPS + 64
"""Steps of a trial, at most."""

CostOf = Callable[[int], BatchCost | None]
"""Draws so many pictures together; None if they do not fit the memory."""


@dataclasses.dataclass(frozen=True)
class Tried:
    """What trials have found.

    Attributes
    ----------
    size
        Pictures that are best drawn together.
    seconds
        Of a picture in a step, by the number of pictures that were drawn together; NaN if it was
        not measured.
    too_many
        The smallest number that did not fit the memory; None if all did.
    """

    size: int
    seconds: Mapping[int, float]
    too_many: int | None = None

    def __str__(self) -> str:
        """Say in words what was measured."""
        known = {size: each for size, each in self.seconds.items() if not math.isnan(each)}
        texts = []
        if known:
            times = ", ".join(f"{1e3 * each:.3g} of {size}" for size, each in known.items())
            texts.append(f"a step takes so many ms for each picture: {times}")
        if self.too_many is not None:
            texts.append(f"{self.too_many} do not fit the memory")
        return "; ".join(texts) or "fits the memory"


def try_sizes(first: int, most: int, cost_of: CostOf) -> Tried:
    """Draw larger and larger batches, as long as that saves time and fits.

    Parameters
    ----------
    first
        Size of the first batch, which is halved if it does not fit.
    most
        Size of the largest batch.
    cost_of
        Draws a batch.
    """
    size, too_many = first, None
    while (cost := cost_of(size)) is None and size > 1:
        size, too_many = size // 2, size
    sizes = BatchSizes(size, grows=too_many is None)
    seconds: dict[int, float] = {}
    while cost is not None:
        seconds[size] = cost.seconds_per_step / cost.images
        sizes.learn(cost)
        if sizes.size in seconds or sizes.size > most:
            break
        size = sizes.size
        cost = cost_of(size)
        if cost is None:
            too_many = size
    chosen = sizes.size if sizes.size in seconds else max(seconds, default=size)
    return Tried(chosen, seconds, too_many)


class Trials:
    """Draws batches as an atlas does, for fewer steps, and throws the pictures away.

    Parameters
    ----------
    plan
        The units are those of the layer of which a picture costs most: the last one in the network
        of those that have more than one batch.
    loaded
        The network.
    device
        Where.
    first
        Size of the first batch.
    sharing
        Workers that will share the device's memory.
    """

    def __init__(
        self,
        plan: Plan,
        loaded: LoadedModel,
        device: torch.device,
        *,
        first: int,
        sharing: int = 1,
    ) -> None:
        settings = read_settings(plan.settings)
        steps = min(settings.nb_steps, TRIAL_STEPS)
        self._settings = dataclasses.replace(settings, nb_steps=steps)
        self._model, self._device = loaded.model, device
        self._sharing = sharing
        infos = trace_layers(loaded.model, loaded.input_shape, loaded.preprocess)
        self._layer = latest(plan.layers, infos, first)
        planned = self._layer.directions
        vectors = None if planned is None else directions.read_planned(planned)
        self._source = Source(loaded, self._layer.name, self._layer.channel_axis, vectors)
        self.most = UNIT_KINDS[self._layer.kind].count(self._source, self._source.find())
        """Units of the layer: no more can be drawn together."""

    def cost(self, size: int) -> BatchCost | None:
        """Draw a batch; return what it cost, or None if it does not fit the memory."""
        try:
            return self._cost(min(size, self.most))
        except Exception as error:
            if not runs_out_of_memory(error):
                raise
        # Outside the handler, whose traceback holds the memory of the failed batch.
        free_memory(self._device)
        return None

    def _cost(self, size: int) -> BatchCost | None:
        objective = UNIT_KINDS[self._layer.kind].objective(self._source, range(size))
        run = Run(objective, self._settings, progress=False, device=self._device, splits=False)
        meter = CostMeter(self._device)
        with borrowed(self._model, self._device):
            meter.begin()
            run.prepare(size, function="fvfast.atlas")
            ascent = run.draw(range(size))
        if ascent.interrupted:
            raise KeyboardInterrupt
        return shared(meter.end(size, run.seconds_per_step), self._sharing)

    def close(self) -> None:
        """Give back the memory: whoever draws may be another process."""
        free_memory(self._device)


def shared(cost: BatchCost, workers: int) -> BatchCost | None:
    """Return what a batch costs where workers share the memory; None if it does not fit then."""
    if cost.free_bytes is None:
        return cost
    free = cost.free_bytes // workers
    return dataclasses.replace(cost, free_bytes=free) if cost.peak_bytes <= free else None


def latest(
    layers: tuple[PlannedLayer, ...], infos: list[LayerInfo], batch_size: int
) -> PlannedLayer:
    """Return the last layer in the network, of those with several batches if there are any."""

    def place(layer: PlannedLayer) -> int:
        inside = f"{layer.name}."
        calls = (
            info.index
            for info in infos
            if info.index is not None and (info.name == layer.name or info.name.startswith(inside))
        )
        return max(calls, default=-1)

    several = [layer for layer in layers if len(layer) > batch_size]
    return max(several or layers, key=place)
