"""Runs whose start, boxes, crops or CUDA graphs a test gives or records."""

import dataclasses
from collections.abc import Callable
from typing import Any

from fvfast.engine.graphs.cuda_graph import CudaGraphs
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.parametrizations.phase import Phase
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.run import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class InjectedSettings(MacoSettings):
    """Settings that let a test replace the start and the crops.

    Attributes
    ----------
    start
        From the variables as they would be, to those that the run has.
    crops
        Replaces ``draw`` and ``crop`` of `fvfast.run.views.Crops`.
    """

    start: Callable[..., Phase] = lambda phases: phases
    crops: dict[str, Any] = dataclasses.field(default_factory=dict)

    def parametrize(self, shape, *, progress):
        usual = super().parametrize(shape, progress=progress)
        return lambda identities, device: self.start(usual(identities, device))

    def views(self, shape, size):
        return dataclasses.replace(super().views(shape, size), **self.crops)


def golden_settings(golden, phases, crop):
    """Settings of Xplique's recorded run; its phases are added to a list."""

    def start(usual):
        device = usual.state.device
        phases.append(golden["phase"].clone()[None].to(device))
        width = golden["run_image"].shape[2]
        magnitude = golden["magnitude"].to(device)
        return Phase(magnitude, phases[-1], None, sorted(golden.values_range), width)

    def draw(_box_size, _nb_crops, *, step, device, **_):
        return golden["run_boxes"][step][None].to(device)

    def noisy(images, boxes, size, *, step, transparency, **_):
        noise = golden["run_normal"][step] + golden["run_uniform"][step]
        return crop(images, boxes, size, transparency=transparency) + noise.to(images.device)

    return InjectedSettings(
        nb_steps=len(golden["run_boxes"]),
        nb_crops=golden["run_boxes"].shape[1],
        values_range=golden.values_range,
        custom_shape=golden["run_image"].shape[1:],
        start=start,
        crops={"draw": draw, "crop": noisy},
    )


def graphs_by(capture, capture_steps=None):
    """A store of forms whose passes are all captured, on any device, by a stand-in for a graph.

    So are whole steps, where there is one for them.
    """
    graphs = CudaGraphs(why_not=lambda *_, **__: "", capture=capture, capture_steps=capture_steps)
    return FormStore(graphs)


def drawn_with(store, objective, settings, *, device=None):
    """Images (N, C, H, W) of all combinations, and scores (N, steps); forms are in a store."""
    run = Run(objective, settings, progress=False, device=device, forms=store)
    ascent = run.draw(range(len(objective.combination_names)))
    return ascent.images[-1], ascent.scores


def maco_with(store, objective, **settings):
    """What `maco` draws: an image (C, H, W)."""
    return drawn_with(store, objective, MacoSettings(**settings))[0][0]
