"""Scores and gradients of many images, in as few passes through a network as memory allows."""

from collections.abc import Callable, Sequence

import torch

from fvfast._shared.messages import warn_user
from fvfast.engine.borrowing.interrupts import opened
from fvfast.engine.memory import free_memory

Network = Callable[[torch.Tensor], list[torch.Tensor]]
"""Maps views (B, C, h, w) to the outputs of layers."""

Scorer = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Maps outputs of layers (N*K, ...) to scores (N,)."""

MakeScorer = Callable[[int, int], Scorer]
"""Makes the scorer of images ``first`` to ``last`` (exclusive) of a batch."""


class Passes:
    """Runs a network forward and back, over as many views at once as fit.

    Attributes
    ----------
    takes_one_view
        Whether the network turned out to accept only one view at a time.

    Parameters
    ----------
    make_scorer
        Makes the function that scores images ``first`` to ``last`` (exclusive).
    name
        Of the first objective, for messages.
    views_per_pass
        How many views go through the network at once; None: all of them. Halved each time memory
        runs out.
    gradient_scale
        Factor on the scores during the network's backward pass, for types that cannot hold small
        gradients. The results are divided by it again.
    group
        How many images, next to each other, are scored together: their scores need the outputs of
        all of them.
    splits
        Whether views go through the network in parts if memory runs out; the last bits of the
        results may depend on that.
    """

    def __init__(
        self,
        make_scorer: MakeScorer,
        name: str,
        views_per_pass: int | None = None,
        gradient_scale: float = 1.0,
        group: int = 1,
        *,
        splits: bool = True,
    ) -> None:
        self.make_scorer = make_scorer
        self.name = name
        self.views_per_pass = views_per_pass
        self.gradient_scale = gradient_scale
        self.group = group
        self.splits = splits
        self._scorers: dict[tuple[int, int], Scorer] = {}
        self.takes_one_view = False
        self._takes_batches = False

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
            Not even one view fits; or not all do, and they may not be split.
        ValueError
            The scores do not depend on the views.

        Warns
        -----
        RuntimeWarning
            The memory ran out, or the network takes one view at a time only.
        """
        views = views.detach()
        while True:
            size = min(self.views_per_pass or len(views), len(views))
            watched = _Watched(network)
            try:
                result = self._run(watched, views, count, size)
            except Exception as error:
                if _is_capturing(views.device):
                    raise
                if not is_out_of_memory(error):
                    if size == 1 or self._takes_batches or not watched.has_failed:
                        raise
                    return self._one_by_one(network, views, count, error)
                if size == 1:
                    raise torch.OutOfMemoryError(
                        f"not even one view of {self.name} fits the memory of {views.device} "
                        f"({error}): use smaller images, a lower precision or another device."
                    ) from error
                if not self.splits:
                    raise
                self.views_per_pass = size // 2
            else:
                self._takes_batches = self._takes_batches or size > 1
                return result
            # Here the exception is gone, and with it the tensors in its frames.
            free_memory(views.device)
            warn_user(
                f"out of memory with {size} views at once: going on with {self.views_per_pass}.",
                RuntimeWarning,
            )

    def _one_by_one(
        self, network: Network, views: torch.Tensor, count: int, error: Exception
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Go on with one view at a time, if the network failed because it accepts no more."""
        try:
            result = self._run(network, views, count, 1)
        except Exception:  # noqa: BLE001 (the number of views is not the cause, then)
            raise error from None
        if _runs(network, views[:2]):
            raise error
        self.views_per_pass = 1
        self.takes_one_view = True
        _warn_of_one_view(len(views), error)
        return result

    def _run(
        self, network: Network, views: torch.Tensor, count: int, size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        crops = len(views) // count
        images = max(1, size // (crops * self.group)) * self.group
        if images >= count and size >= len(views):
            return self._one_pass(network, views, 0, count)
        parts = []
        for first in range(0, count, images):
            last = min(first + images, count)
            part = views[first * crops : last * crops]
            if size < crops * self.group:
                parts.append(self._split_group(network, part, first, last, size))
            else:
                parts.append(self._one_pass(network, part, first, last))
        scores, gradients = zip(*parts, strict=True)
        return torch.cat(scores), torch.cat(gradients)

    def _one_pass(
        self, network: Network, views: torch.Tensor, first: int, last: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        views = views.requires_grad_()
        scores = self._score(network(views), first, last)
        total = scores.sum() * self.gradient_scale
        (gradient,) = opened(torch.autograd.grad, total, views, allow_unused=True)
        if gradient is None:
            raise ValueError(self._no_gradient())
        return scores.detach(), self._unscaled(gradient)

    def _split_group(
        self, network: Network, views: torch.Tensor, first: int, last: int, size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run a group whose views do not fit at once: forward in parts, then forward and back.

        A score may combine the views of a group in any way, and without groups those of an image,
        so its gradient needs the outputs of all views first. These are small, unlike what is kept
        for a backward pass.
        """
        with torch.no_grad():
            outputs = [network(part) for part in views.split(size)]
        whole = [torch.cat(tensors).requires_grad_() for tensors in zip(*outputs, strict=True)]
        scores = self._score(whole, first, last)
        cotangents = torch.autograd.grad(
            scores.sum() * self.gradient_scale, whole, allow_unused=True
        )
        if all(cotangent is None for cotangent in cotangents):
            raise ValueError(self._no_gradient())
        gradients = []
        for index, part in enumerate(views.split(size)):
            leaf = part.detach().requires_grad_()
            pairs = [
                (output, cotangent.split(size)[index])
                for output, cotangent in zip(network(leaf), cotangents, strict=True)
                # Others do not depend on the views, or the scores not on them.
                if output.requires_grad and cotangent is not None
            ]
            if not pairs:
                raise ValueError(self._no_gradient())
            reached, their_cotangents = zip(*pairs, strict=True)
            (gradient,) = opened(
                torch.autograd.grad, reached, leaf, their_cotangents, allow_unused=True
            )
            if gradient is None:
                raise ValueError(self._no_gradient())
            gradients.append(gradient)
        return scores.detach(), self._unscaled(torch.cat(gradients))

    def _score(self, outputs: Sequence[torch.Tensor], first: int, last: int) -> torch.Tensor:
        if (first, last) not in self._scorers:
            self._scorers[first, last] = self.make_scorer(first, last)
        scores = opened(self._scorers[first, last], outputs)
        if not scores.requires_grad:
            raise ValueError(self._no_gradient())
        return scores

    def _no_gradient(self) -> str:
        return (
            f"the score of {self.name} does not depend on the image: no gradient reaches it. "
            "Likely causes: the layer runs within torch.utils.checkpoint(use_reentrant=True), "
            "which hides gradients (pass use_reentrant=False, or switch checkpointing off); or the "
            "network, preprocess or your function runs in torch.no_grad(), detaches, rounds, "
            "quantizes or takes indices."
        )

    def _unscaled(self, gradient: torch.Tensor) -> torch.Tensor:
        # In float32: the unscaled gradient may be too small for the network's type.
        return gradient if self.gradient_scale == 1 else gradient.float() / self.gradient_scale


def run_views(network: Network, views: torch.Tensor) -> list[torch.Tensor]:
    """Run views (B, C, h, w) forward at once, or one by one if the network accepts no more."""
    try:
        return network(views)
    except Exception as error:
        if is_out_of_memory(error) or _runs(network, views[:2]) or not _runs(network, views[:1]):
            raise
        _warn_of_one_view(len(views), error)
    return [torch.cat(parts) for parts in zip(*map(network, views.split(1)), strict=True)]


def _warn_of_one_view(count: int, error: Exception) -> None:
    warn_user(
        f"the network takes one image at a time only ({count} at once: {type(error).__name__}: "
        f"{_first_line(error)}): going on one view at a time, which is slower. A reshape with a "
        "fixed batch, such as view(1, -1), or an export with static shapes does this: "
        "x.flatten(1) and a dynamic batch take any number.",
        RuntimeWarning,
    )


class _Watched:
    """A network that remembers whether it has failed."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.has_failed = False

    def __call__(self, views: torch.Tensor) -> list[torch.Tensor]:
        self.has_failed = True
        outputs = self._network(views)
        self.has_failed = False
        return outputs


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device's memory is full."""
    # For the CPU's memory torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _runs(network: Network, views: torch.Tensor) -> bool:
    try:
        with torch.no_grad():
            network(views)
    except Exception:  # noqa: BLE001 (whatever it fails with)
        return False
    return True


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")[:160]


def _is_capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured: then memory must not be freed, nor a pass retried."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
