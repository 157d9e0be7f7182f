"""Xplique: its public ``maco``, stopped when it asks for the box size of a step.

Its step is a ``tf.function``, which is traced in the first step. The box size is always the same
number, so that no later step is traced again.
"""

from collections.abc import Callable

import keras
import tensorflow as tf
import xplique
from xplique.features_visualizations import Objective, maco

from benchmarks.peers.gate import ENDLESS, Gate, serve
from benchmarks.peers.scene import Scene

NETWORKS = {
    "mobilenet_v2": keras.applications.MobileNetV2,
    "resnet50": keras.applications.ResNet50,
}


def build_network(scene: Scene) -> keras.Model:
    """Build the scene's network, with random weights and logits as its output."""
    keras.utils.set_random_seed(0)
    shape = (scene.model_size, scene.model_size, 3)
    if scene.network == "identity":
        images = keras.Input(shape)
        return keras.Model(images, keras.layers.Identity()(images))
    return NETWORKS[scene.network](weights=None, input_shape=shape, classifier_activation=None)


def prepare(scene: Scene) -> tuple[dict[str, str], Callable[[Gate], object]]:
    """Load the scene."""
    tf.config.threading.set_intra_op_parallelism_threads(scene.threads)
    tf.config.threading.set_inter_op_parallelism_threads(scene.threads)
    network = build_network(scene)
    if scene.network == "identity":
        objective = Objective.layer(network, -1)
    else:
        objective = Objective.neuron(network, -1, [0])

    def run(gate: Gate) -> None:
        def box_size(_step: int) -> float:
            gate()
            return scene.box_size

        maco(
            objective,
            nb_steps=ENDLESS,
            noise_intensity=scene.noise,
            box_size=box_size,
            nb_crops=scene.crops,
            values_range=scene.values_range,
            custom_shape=(scene.image_size, scene.image_size),
        )

    return {"library": xplique.__version__, "framework": f"tensorflow {tf.__version__}"}, run


if __name__ == "__main__":
    serve(prepare)
