"""The network alone, forward and back to what it sees, as the engine runs it in a run of `maco`."""

import time

import torch
from torch import nn

from benchmarks.gpu.place import Place
from fvfast import Objective
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.engine import running_engine
from fvfast.engine.memory import reused_memory
from fvfast.engine.rewrite.plan import make_plan

WARM_UP = 6
"""Passes that set up what is set up on first use, and capture a graph where that is possible."""


class NetworkAlone:
    """A network, how it is run, and views that it sees again and again.

    Parameters
    ----------
    place
        Where.
    model, size
        The network; height and width of what it sees.
    views
        How many.
    precision
        See `fvfast.maco`.

    Attributes
    ----------
    objective
        One of the network's outputs.
    plan
        What the engine has found out.
    passes_run
        Whether the last passes were replayed from a CUDA graph, and why not, for people.
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
        """Seconds of one pass, the device waited for at the end of all."""
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
