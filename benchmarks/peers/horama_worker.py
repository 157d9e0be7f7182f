"""Horama: its public ``maco``, stopped when it calls the user's objective.

It computes gradients of the network's weights unless the user freezes them. "--frozen" does so, as
a careful user would; without it the library runs as its documentation shows.
"""

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import horama
import torch
from horama.maco_fv import MACO_SPECTRUM_FILENAME

from benchmarks.peers.gate import ENDLESS, Gate, serve
from benchmarks.peers.scene import Scene
from benchmarks.peers.torch_networks import build_network, framework


def provide_spectrum() -> None:
    """Copy the spectrum into the working directory, where Horama looks before it downloads it.

    The same file is part of Xplique's package.
    """
    package = importlib.util.find_spec("xplique")
    if package is None or package.origin is None:
        raise SystemExit("The spectrum of xplique is missing: run make bench-peers.")
    folder = Path(package.origin).parent / "features_visualizations"
    shutil.copy(folder / "spectrum_decorrelated.npy", MACO_SPECTRUM_FILENAME)


def prepare(scene: Scene) -> tuple[dict[str, str], Callable[[Gate], object]]:
    """Load the scene."""
    provide_spectrum()
    network = build_network(scene)
    if "--frozen" in sys.argv:
        network.requires_grad_(False)

    def run(gate: Gate) -> None:
        def objective(images: torch.Tensor) -> torch.Tensor:
            gate()
            outputs = network(images)
            if scene.network == "identity":
                return (outputs**2).mean()
            return outputs[:, 0].mean()

        horama.maco(
            objective,
            total_steps=ENDLESS,
            image_size=scene.image_size,
            model_input_size=scene.model_size,
            noise=scene.noise,
            values_range=scene.values_range,
            crops_per_iteration=scene.crops,
            box_size=(scene.box_size, scene.box_size),
            device="cpu",
        )

    return {"library": horama.__version__, "framework": framework()}, run


if __name__ == "__main__":
    serve(prepare)
