"""Scores and gradients of many images in as few passes through a network as the memory allows."""

import gc
from collections.abc import Callable, Sequence

import torch

from fvfast._warnings import warn_user
from fvfast.engine.captures import CAPTURES

Network = Callable[[torch.Tensor], list[torch.Tensor]]
"""Maps views (B, C, h, w) to the outputs of layers."""

Scorer = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Maps outputs of layers (N*K, ...) to scores (N,)."""


class Passes:
    """Runs a network forward and back, over as many views at once as fit.

    Parameters
    ----------
    scorer
        Makes the function that scores images ``first`` to ``last`` (exclusive).
    name
        Of the first objective, for messages.
    views_per_pass
        Views that go through the network at once; None: all of them. Halved whenever the memory
        does not suffice.
    gradient_scale
        Factor of the scores within the network's backward pass, for types that cannot hold small
        gradients; the results do not have it.
    """

    def __init__(
        self,
        scorer: Callable[[int, int], Scorer],
        name: str,
        views_per_pass: int | None = None,
        gradient_scale: float = 1.0,
    ) -> None:
        self.scorer = scorer
        self.name = name
        self.views_per_pass = views_per_pass
        self.gradient_scale = gradient_scale
        self._scorers: dict[tuple[int, int], Scorer] = {}

    def run(
        self, network: Network, views: torch.Tensor, count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute scores and their gradients.

        Parameters
        ----------
        network
            Maps views to outputs of layers.
        views
            (N*K, C, h, w): the K views of each image stand next to each other.
        count
            N.

        Returns
        -------
        scores
            (N,), float32.
        gradient
            Of the sum of the scores with respect to the views, of their shape and type.

        Raises
        ------
        torch.OutOfMemoryError
            Not even one view fits.
        ValueError
            The scores do not depend on the views.
        """
        while True:
            try:
                return self._run(network, views.detach(), count)
            except RuntimeError as error:
                if not is_out_of_memory(error) or _is_capturing(views.device):
                    raise
                size = min(self.views_per_pass or len(views), len(views))
                if size == 1:
                    raise torch.OutOfMemoryError(
                        f"not even one view of {self.name} fits the memory of {views.device} "
                        f"({error}): use smaller images, a lower precision or another device."
                    ) from error
                self.views_per_pass = size // 2
            # After the exception is gone, and with it the tensors of its frames.
            _free_memory(views.device)
            warn_user(
                f"out of memory with {size} views at once: going on with {self.views_per_pass}.",
                RuntimeWarning,
            )

    def _run(
        self, network: Network, views: torch.Tensor, count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        crops = len(views) // count
        size = min(self.views_per_pass or len(views), len(views))
        images = max(1, size // crops)
        if images >= count and size >= len(views):
            return self._one_pass(network, views, 0, count)
        parts = []
        for first in range(0, count, images):
            last = min(first + images, count)
            part = views[first * crops : last * crops]
            if size < crops:
                parts.append(self._split_image(network, part, first, size))
            else:
                parts.append(self._one_pass(network, part, first, last))
        scores, gradients = zip(*parts, strict=True)
        return torch.cat(scores), torch.cat(gradients)

    def _one_pass(
        self, network: Network, views: torch.Tensor, first: int, last: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        views = views.requires_grad_()
        scores = self._score(network(views), first, last)
        (gradient,) = torch.autograd.grad(scores.sum() * self.gradient_scale, views)
        return scores.detach(), self._unscaled(gradient)

    def _split_image(
        self, network: Network, views: torch.Tensor, image: int, size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One image whose views do not fit at once: forward in parts, then forward and back.

        A score may join the views of an image in any way, so its gradient needs the outputs of all
        of them first: these are small, unlike what is kept for a backward pass.
        """
        with torch.no_grad():
            outputs = [network(part) for part in views.split(size)]
        whole = [torch.cat(tensors).requires_grad_() for tensors in zip(*outputs, strict=True)]
        scores = self._score(whole, image, image + 1)
        cotangents = torch.autograd.grad(
            scores.sum() * self.gradient_scale, whole, allow_unused=True, materialize_grads=True
        )
        gradients = []
        for index, part in enumerate(views.split(size)):
            leaf = part.detach().requires_grad_()
            pairs = [
                (output, cotangent.split(size)[index])
                for output, cotangent in zip(network(leaf), cotangents, strict=True)
                if output.requires_grad  # one that no view reaches has no part in the gradient
            ]
            if not pairs:
                raise ValueError(self._no_gradient())
            reached, their_cotangents = zip(*pairs, strict=True)
            (gradient,) = torch.autograd.grad(reached, leaf, their_cotangents)
            gradients.append(gradient)
        return scores.detach(), self._unscaled(torch.cat(gradients))

    def _score(self, outputs: Sequence[torch.Tensor], first: int, last: int) -> torch.Tensor:
        if (first, last) not in self._scorers:
            self._scorers[first, last] = self.scorer(first, last)
        scores = self._scorers[first, last](outputs)
        if not scores.requires_grad:
            raise ValueError(self._no_gradient())
        return scores

    def _no_gradient(self) -> str:
        return f"the score of {self.name} does not depend on the image: no gradient reaches it."

    def _unscaled(self, gradient: torch.Tensor) -> torch.Tensor:
        # In float32: the type of the network may not hold what is left.
        return gradient if self.gradient_scale == 1 else gradient.float() / self.gradient_scale


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that a device's memory is full."""
    # torch has no class of its own for the processor's memory.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _is_capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured, which must neither free memory nor begin again."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        CAPTURES.empty_cache()
