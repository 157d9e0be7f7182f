"""fvfast: its public ``maco``, stopped in the callback.

An argument such as "--precision auto" is passed on to it.
"""

import sys
from collections.abc import Callable
from typing import Any

from torch import nn

import fvfast
from benchmarks.peers.gate import ENDLESS, Gate, serve
from benchmarks.peers.scene import Scene
from benchmarks.peers.torch_networks import LAYERS, build_network, framework


def make_objective(scene: Scene, network: nn.Module) -> fvfast.Objective:
    """Make the objective of a scene on its network."""
    layer = LAYERS[scene.network]
    shape = (3, scene.model_size, scene.model_size)
    if scene.network == "identity":
        return fvfast.Objective.layer(network, layer, input_shape=shape)
    return fvfast.Objective.neuron(network, layer, 0, input_shape=shape)


def settings_of(scene: Scene) -> dict[str, Any]:
    """Return the arguments of `fvfast.maco` for a scene."""
    return {
        "noise_intensity": scene.noise,
        "box_size": scene.box_size,
        "nb_crops": scene.crops,
        "values_range": scene.values_range,
        "custom_shape": (scene.image_size, scene.image_size),
        "progress": False,
    }


def precision_argument() -> str | None:
    """Return what follows "--precision" on the command line."""
    if "--precision" not in sys.argv:
        return None
    return sys.argv[sys.argv.index("--precision") + 1]


def prepare(scene: Scene) -> tuple[dict[str, str], Callable[[Gate], object]]:
    """Load the scene."""
    objective = make_objective(scene, build_network(scene))

    def run(gate: Gate) -> None:
        gate()  # the callback follows a step: this is the call before the first step
        fvfast.maco(
            objective,
            nb_steps=ENDLESS,
            **settings_of(scene),
            callback=lambda _report: gate(),
            precision=precision_argument(),
        )

    return {"library": fvfast.__version__, "framework": framework()}, run


if __name__ == "__main__":
    serve(prepare)
