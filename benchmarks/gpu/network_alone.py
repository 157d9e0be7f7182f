"""The network alone, forward and back to what it sees, as the engine of a run runs it."""

import time

import torch

from benchmarks.gpu.place import Place
from fvfast.engine.engine import running_engine
from fvfast.engine.memory import reused_memory
from fvfast.engine.state import borrowed
from fvfast.maco_run import MacoRun

WARM_UP = 6
"""Passes that set up what is set up on first use, and capture a graph where that is possible."""


def time_network_alone(place: Place, run: MacoRun, size: int, passes: int) -> float:
    """Seconds of one pass.

    Parameters
    ----------
    place
        Where.
    run
        A run that has ended: its objective, and its plan.
    size
        Height and width of what the network sees.
    passes
        How many are timed together.
    """
    if run.plan is None:
        raise RuntimeError("the run has made no plan")
    tapped, scorer, names, _ = run.objective.compile([0])
    shape = (run.nb_crops, run.channels, size, size)
    views = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(place.device)
    with (
        torch.inference_mode(False),
        borrowed(run.objective.model, run.device),
        reused_memory(),
        running_engine(
            tapped, run.plan, lambda _first, _last: scorer, names[0],
            runs_user_code=run.objective.runs_user_code,
        ) as engine,
    ):  # fmt: skip
        made = views.to(engine.views_dtype).contiguous(memory_format=engine.views_format)
        for _ in range(WARM_UP):
            engine.gradients(made, 1)
        place.synchronize()
        began = time.perf_counter()
        for _ in range(passes):
            engine.gradients(made, 1)
        place.synchronize()
        return (time.perf_counter() - began) / passes
