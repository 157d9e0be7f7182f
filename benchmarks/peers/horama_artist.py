"""Horama draws: its public ``maco`` with its default recipe, in a number of steps.

The network's weights are frozen, as a careful user would: the library computes their gradients
otherwise.
"""

from collections.abc import Callable
from typing import Any

import horama
import torch

from benchmarks.peers.horama_worker import provide_spectrum
from benchmarks.peers.picture_requests import Draw, serve
from fvfast.models import load_model


def prepare(scene: dict[str, Any]) -> Draw:
    """Load the network."""
    provide_spectrum()
    torch.set_num_threads(scene["threads"])
    network = load_model("efficientnet_lite0").model.requires_grad_(False)

    def draw(class_index: int, seed: int, nb_steps: int, next_step: Callable[[], None]) -> Any:
        torch.manual_seed(seed)

        def objective(images: torch.Tensor) -> torch.Tensor:
            next_step()
            return network(images)[:, class_index].mean()

        image, _ = horama.maco(
            objective, total_steps=nb_steps, model_input_size=scene["model_size"],
            values_range=tuple(scene["values_range"]), device="cpu",
        )  # fmt: skip
        return image.detach().numpy()

    return draw


if __name__ == "__main__":
    serve(prepare)
