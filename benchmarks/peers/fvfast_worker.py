"""fvfast: its public ``maco``, stopped in the callback that a user can give."""

from collections.abc import Callable

import fvfast
from benchmarks.peers.gate import ENDLESS, Gate, serve
from benchmarks.peers.scene import Scene
from benchmarks.peers.torch_networks import LAYERS, build_network, framework


def prepare(scene: Scene) -> tuple[dict[str, str], Callable[[Gate], object]]:
    """Load the scene."""
    network = build_network(scene)
    layer = LAYERS[scene.network]
    shape = (3, scene.model_size, scene.model_size)
    if scene.network == "identity":
        objective = fvfast.Objective.layer(network, layer, input_shape=shape)
    else:
        objective = fvfast.Objective.neuron(network, layer, 0, input_shape=shape)

    def run(gate: Gate) -> None:
        gate()  # the callback comes at the end of a step: this is the call before the first one
        fvfast.maco(
            objective,
            nb_steps=ENDLESS,
            noise_intensity=scene.noise,
            box_size=scene.box_size,
            nb_crops=scene.crops,
            values_range=scene.values_range,
            custom_shape=(scene.image_size, scene.image_size),
            progress=False,
            callback=lambda _report: gate(),
        )

    return {"library": fvfast.__version__, "framework": framework()}, run


if __name__ == "__main__":
    serve(prepare)
