"""The network alone, forward and back to its input: the least that a step takes.

The views are made once. "--precision" is the precision in which the engine runs the network;
"--eager" runs it as PyTorch does, without the engine.
"""

import sys
from collections.abc import Callable

import torch

import fvfast
from benchmarks.peers.fvfast_worker import make_objective, precision_argument
from benchmarks.peers.gate import ENDLESS, Gate, serve
from benchmarks.peers.scene import Scene
from benchmarks.peers.torch_networks import build_network, framework
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.memory import reused_memory
from fvfast.engine.rewrite.plan import Plan, make_plan
from fvfast.engine.starting import running_engine


def prepare(scene: Scene) -> tuple[dict[str, str], Callable[[Gate], object]]:
    """Load the scene."""
    objective = make_objective(scene, build_network(scene))
    low, high = scene.values_range
    generator = torch.Generator().manual_seed(0)
    shape = (scene.crops, 3, scene.model_size, scene.model_size)
    random_views = low + (high - low) * torch.rand(shape, generator=generator)

    def run(gate: Gate) -> None:
        gate()  # the call before the first step
        tapped, scorer, names, _ = objective.compile()
        with borrowed(objective.model) as device, reused_memory():
            views = random_views.to(device)
            plan = Plan()
            if "--eager" not in sys.argv:
                plan = make_plan(tapped, scorer, views, names[0], precision_argument())
            with running_engine(
                tapped, plan, lambda _first, _last: scorer, names[0],
                runs_user_code=objective.runs_user_code,
            ) as engine:  # fmt: skip
                # In the type and memory format in which a run makes its views.
                made = views.to(engine.views_dtype).contiguous(memory_format=engine.views_format)
                for _ in range(ENDLESS):
                    engine.gradients(made, 1)
                    gate()

    return {"library": fvfast.__version__, "framework": framework()}, run


if __name__ == "__main__":
    serve(prepare)
