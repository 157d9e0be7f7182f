"""Scores that functions of the user compute."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fvfast.engine.borrowing.lending import Lender
from fvfast.objectives.scores import OnDevice, Score, Scorer, by_image


class CallableScore(Score):
    """Scores images with functions of the user: each target is a function.

    Parameters
    ----------
    dtype
        Type of the images that the functions take.
    """

    runs_user_code = True

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype

    def for_targets(self, targets: Sequence[Callable[[torch.Tensor], torch.Tensor]]) -> Scorer:
        """Score each image's views with its function."""
        functions = list(targets)
        lender = Lender()

        def score(images: torch.Tensor) -> torch.Tensor:
            with lender.lent(images.to(self.dtype)) as lent:
                views = by_image(lent, len(functions))  # (N, K, C, H, W)
                return torch.stack(
                    [_mean_score(f(views[n]), views.shape[1]) for n, f in enumerate(functions)]
                )

        return score


class MaskScore(Score):
    """Xplique's form of a score: ``func(outputs, mask)`` with a mask of the layer's shape.

    Parameters
    ----------
    func
        Takes outputs (K, ...) and a mask (1, ...), returns a scalar or one score per sample (K,).
    """

    runs_user_code = True

    def __init__(self, func: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.func = func

    def for_targets(self, targets: Sequence[Any]) -> Scorer:
        """Score each image's views with its mask."""
        masks = [OnDevice(torch.as_tensor(mask, device="cpu").detach()) for mask in targets]

        def score(output: torch.Tensor) -> torch.Tensor:
            values = by_image(output, len(masks)).float()
            scores = [
                self.func(values[n], mask.on(output.device).to(values.dtype).unsqueeze(0))
                for n, mask in enumerate(masks)
            ]
            return torch.stack([_mean_score(value, values.shape[1]) for value in scores])

        return score


def _mean_score(value: torch.Tensor | float | None, views: int) -> torch.Tensor:
    """Average what a user's function returned: a scalar, or one score per view."""
    if value is None:
        raise TypeError(
            "the score function returned None; expected a scalar or one score per image."
        )
    if not isinstance(value, torch.Tensor):
        value = torch.tensor(value, dtype=torch.float32, device="cpu")
    if value.is_complex():
        raise TypeError(
            f"the score function returned complex numbers ({value.dtype}), which have no order; "
            "return torch.abs(...) or the real part of them."
        )
    if value.ndim > 1 and value.numel() == views:
        value = value.flatten()
    if value.ndim > 1 or (value.ndim == 1 and len(value) != views):
        raise ValueError(
            f"the score function returned shape {tuple(value.shape)} for {views} images; expected "
            f"a scalar or one score per image, ({views},)."
        )
    return value.float().mean()
