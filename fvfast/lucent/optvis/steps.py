"""The loop of a run: steps of an optimizer, and the images that are kept."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch

from fvfast._shared.messages import warn_user
from fvfast._shared.progress_bars import tqdm
from fvfast.engine.borrowing.interrupts import let_interrupts_through, opened, user_insists
from fvfast.lucent.optvis.display import tensor_to_img_array
from fvfast.lucent.optvis.network import ObjectiveOnNetwork
from fvfast.lucent.optvis.settings import Images
from fvfast.transformations import Transformation

Array = np.ndarray[Any, Any]


class Steps:
    """The steps of one run.

    Parameters
    ----------
    images
        What is optimized.
    optimizer
        What updates it.
    seen
        From images to what the network is shown.
    network
        Computes losses and gradients.
    device
        That of the network.
    """

    def __init__(
        self,
        images: Images,
        optimizer: torch.optim.Optimizer,
        seen: Transformation,
        network: ObjectiveOnNetwork,
        device: torch.device,
    ) -> None:
        self._images = images
        self._optimizer = optimizer
        self._seen = seen
        self._network = network
        self._device = device
        self.loss = torch.tensor(float("nan"), device="cpu")

    def first_loss(self) -> float:
        """Compute the loss of the images as they are."""
        with torch.no_grad():
            images, views = self._views()
        return float(self._network.loss(views, images))

    def take(
        self,
        thresholds: Sequence[int],
        *,
        progress: bool,
        on_image: Callable[[int, Array, float], None],
    ) -> list[Array]:
        """Take all steps.

        Parameters
        ----------
        thresholds
            Steps after which the images are kept, ascending.
        progress
            Show a bar.
        on_image
            Called with each of these steps, its images and its loss.

        Returns
        -------
        kept
            Images (N, H, W, C), one array for each threshold; after an interrupt, those so far and
            the present ones.

        Warns
        -----
        RuntimeWarning
            The run was interrupted, or numbers are not finite.
        """
        kept: list[Array] = []
        step = 0
        try:
            for step in tqdm(range(1, thresholds[-1] + 1), disable=not progress):
                let_interrupts_through()
                self._optimizer.step(self._closure)
                if step in thresholds:
                    kept.append(self.render())
                    self._check_finite(kept[-1], step)
                    on_image(step, kept[-1], float(self.loss))
        except KeyboardInterrupt:
            if user_insists():
                raise
            warn_user(
                f"interrupted in step {step} of {thresholds[-1]}: the last images returned are "
                "those so far. Press Ctrl-C twice to end the program.",
                RuntimeWarning,
            )
            kept.append(self.render())
        return kept

    def render(self) -> Array:
        """Return the present images as an array (N, H, W, C)."""
        with torch.no_grad():
            return tensor_to_img_array(opened(self._images))

    def _closure(self) -> float:
        self._optimizer.zero_grad()
        with torch.enable_grad():
            images, views = self._views()
            self.loss = self._network.minimize(views, images)
        # A tensor, which all of torch's optimizers take: a number would wait for the GPU.
        return cast(float, self.loss)

    def _views(self) -> tuple[torch.Tensor, torch.Tensor]:
        images = opened(self._images)
        return images, opened(self._seen, images).to(self._device)

    def _check_finite(self, images: Array, step: int) -> None:
        if not np.isfinite(images).all():
            warn_user(
                f"the images after step {step} have values that are not finite. A smaller learning "
                "rate may help: optimizer=lambda params: torch.optim.Adam(params, lr=0.005).",
                RuntimeWarning,
            )
