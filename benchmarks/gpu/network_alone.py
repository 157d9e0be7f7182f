"""Times the network alone, forward and back to its input, as the engine runs it in `maco`."""

import time

import torch
from torch import nn

from benchmarks.gpu.place import Place
from fvfast import Objective
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.memory import reused_memory
from fvfast.engine.rewrite.plan import make_plan
from fvfast.engine.starting import running_engine

WARM_UP = 6
"""Passes that set up what first use needs, and capture a graph if possible."""


class NetworkAlone:
    """A network with a plan, run on the same views again and again.

    Parameters
    ----------
    place
        Where it runs.
    model, size
        The network; height and width of its input.
    views
        Number of views.
    precision
        See `fvfast.maco`.

    Attributes
    ----------
    objective
        One of the network's outputs.
    plan
        How the engine runs the network.
    passes_run
        Whether the last passes were replayed from a CUDA graph, or why not, in words.
    """

    def __init__(
        self, place: Place, model: nn.Module, size: int, views: int, precision: str
    ) -> None:
        self.place = place
        self.passes_run = ""
        self.objective = Objective.neuron(model, -1, 0, input_shape=(3, size, size))
        self._tapped, self._scorer, self._names, _ = self.objective.compile([0])
        generator = torch.Generator().manual_seed(0)
        self._views = torch.rand(views, 3, size, size, generator=generator).to(place.device)
        with borrowed(model, place.device):
            self.plan = make_plan(
                self._tapped, self._scorer, self._views, self._names[0], precision
            )

    def seconds(self, passes: int) -> float:
        """Measure the seconds of one pass; wait for the device after the last pass only."""
        with (
            borrowed(self.objective.model, self.place.device),
            reused_memory(),
            running_engine(
                self._tapped, self.plan, lambda _first, _last: self._scorer, self._names[0],
                runs_user_code=self.objective.runs_user_code,
            ) as engine,
        ):  # fmt: skip
            made = self._views.to(engine.views_dtype)
            made = made.contiguous(memory_format=engine.views_format)
            for _ in range(WARM_UP):
                engine.gradients(made, 1)
            self.place.synchronize()
            began = time.perf_counter()
            for _ in range(passes):
                engine.gradients(made, 1)
            self.place.synchronize()
            self.passes_run = engine.status
            return (time.perf_counter() - began) / passes
