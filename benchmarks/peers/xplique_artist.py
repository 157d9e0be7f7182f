"""Xplique draws: its public ``maco`` with its default recipe, in a number of steps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from xplique.features_visualizations import Objective, maco

from benchmarks.peers.keras_efficientnet_lite import build
from benchmarks.peers.picture_requests import Draw, serve


def prepare(scene: dict[str, Any]) -> Draw:
    """Load the network."""
    tf.config.threading.set_intra_op_parallelism_threads(scene["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(scene["threads"])
    with np.load(scene["weights"]) as weights:
        network = build(weights, scene["model_size"])

    def draw(class_index: int, seed: int, nb_steps: int, next_step: Callable[[], None]) -> Any:
        # Its phase is drawn by numpy, its crops by TensorFlow.
        np.random.seed(seed)
        tf.random.set_seed(seed)
        # Tensors, because the graph would be traced again for each Python number.
        boxes = tf.linspace(0.5, 0.05, nb_steps)

        def box_size(step: int) -> Any:
            next_step()
            return boxes[step]

        image, _ = maco(
            Objective.neuron(network, -1, [class_index]), nb_steps=nb_steps, box_size=box_size,
            values_range=tuple(scene["values_range"]),
        )  # fmt: skip
        return np.moveaxis(np.asarray(image), -1, 0)

    return draw


if __name__ == "__main__":
    serve(prepare)
