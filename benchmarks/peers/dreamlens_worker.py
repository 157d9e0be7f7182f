"""DreamLens: its public ``maco``, stopped when it asks for the box size of a step."""

from collections.abc import Callable
from importlib.metadata import version

import dreamlens

from benchmarks.peers.gate import ENDLESS, Gate, serve
from benchmarks.peers.scene import Scene
from benchmarks.peers.torch_networks import LAYERS, build_network, framework


def prepare(scene: Scene) -> tuple[dict[str, str], Callable[[Gate], object]]:
    """Load the scene."""
    network = build_network(scene)
    layer = LAYERS[scene.network]
    shape = (3, scene.model_size, scene.model_size)
    if scene.network == "identity":
        objective = dreamlens.Objective.layer(network, layer, input_shape=shape)
    else:
        objective = dreamlens.Objective.neuron(network, layer, [0], input_shape=shape)

    def run(gate: Gate) -> None:
        def box_size(_step: int) -> float:
            gate()
            return scene.box_size

        dreamlens.maco(
            objective,
            nb_steps=ENDLESS,
            noise_intensity=scene.noise,
            box_size=box_size,
            nb_crops=scene.crops,
            values_range=scene.values_range,
            custom_shape=(scene.image_size, scene.image_size),
        )

    return {"library": version("dreamlens"), "framework": framework()}, run


if __name__ == "__main__":
    serve(prepare)
