"""The steps of Horama's methods, by the loop that all runs of fvfast share."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from fvfast.engine.borrowing.interrupts import opened, shielded, torch_state_kept
from fvfast.horama.drawing import CENTER_SPREAD, Draws, TorchDraws
from fvfast.horama.recipe import Recipe
from fvfast.horama.resampling import horama_crops
from fvfast.ops import random_crops
from fvfast.ops.boxes import BoxDistribution, draw_boxes
from fvfast.parametrizations.base import Parametrization
from fvfast.parametrizations.optimizers import ascend, bind_optimizer
from fvfast.run.loop import run_ascent
from fvfast.run.progress import BarOfSteps
from fvfast.run.results import MacoImage
from fvfast.run.step_update import Gradients

Views = Callable[[torch.Tensor, int], torch.Tensor]
"""Makes crops (K, 3, h, w) of an image (1, 3, H, W) in a step."""

Penalty = Callable[[torch.Tensor], torch.Tensor]
"""From the image (1, 3, H, W) to a number, which is subtracted from the score."""


class Preconditioned:
    """A state that autograd follows to an image, moved by torch's NAdam.

    Parameters
    ----------
    state
        (1, ...).
    precondition
        From the state to the image (1, 3, H, W).
    learning_rate
        Of NAdam.
    """

    def __init__(
        self,
        state: torch.Tensor,
        precondition: Callable[[torch.Tensor], torch.Tensor],
        learning_rate: float,
    ) -> None:
        self.state = state.requires_grad_()
        self.optimizer = bind_optimizer(
            lambda tensors: torch.optim.NAdam(tensors, lr=learning_rate), self.state, _none
        )
        self._precondition = precondition
        self._graph: torch.Tensor | None = None
        self._image: torch.Tensor | None = None

    def image(self) -> torch.Tensor:
        """Return the image, whose gradient will be asked for."""
        self._graph = self._precondition(self.state)
        self._image = self._graph.detach().requires_grad_()
        return self._image

    @property
    def source(self) -> torch.Tensor:
        """The last `image`."""
        assert self._image is not None
        return self._image

    def render(self) -> torch.Tensor:
        """Return the image, without a gradient."""
        with torch.no_grad():
            return self._precondition(self.state)

    def ascend(self, gradient: torch.Tensor) -> None:
        """Take one step up a gradient with respect to the last image."""
        assert self._graph is not None
        (of_state,) = torch.autograd.grad(self._graph, self.state, gradient)
        self._graph = self._image = None
        ascend(self.optimizer, self.state, of_state)


def _none(_tensors: list[torch.Tensor]) -> torch.optim.Optimizer:
    raise AssertionError("an optimizer is given")


def horama_views(recipe: Recipe, draws: Draws) -> Views:
    """Return what makes crops as Horama does, with random numbers of torch's generators."""

    def views(image: torch.Tensor, _step: int) -> torch.Tensor:
        boxes = draws.boxes(recipe.crops_per_iteration, recipe.box_size)  # type: ignore[arg-type]
        return draws.noisy(horama_crops(image[0], boxes, recipe.crop_size), recipe.noise)

    return views


def fvfast_views(recipe: Recipe, seed: int) -> Views:
    """Return what makes crops of the same distribution by fvfast's kernel, in one pass."""
    low, high = recipe.box_size
    smallest, largest = high, 2 * high - low
    boxes = BoxDistribution("uniform", (high - low) / 2, CENTER_SPREAD, smallest, largest)
    random: dict[str, Any] = {"seed": seed, "identities": [0]}

    def views(image: torch.Tensor, step: int) -> torch.Tensor:
        drawn = draw_boxes(
            (smallest + largest) / 2, recipe.crops_per_iteration, step=step, distribution=boxes,
            device=image.device, **random,
        )  # fmt: skip
        return random_crops(image, drawn, recipe.crop_size, std=recipe.noise, step=step, **random)

    return views


def views_of(recipe: Recipe, draws: TorchDraws) -> Views:
    """Return the views that a recipe asks for."""
    if recipe.resampling == "horama":
        return horama_views(recipe, draws)
    seed = recipe.seed
    if seed is None:  # follows torch.manual_seed, too
        seed = int(torch.randint(2**63 - 1, (), device="cpu"))
    return fvfast_views(recipe, seed)


@contextlib.contextmanager
def modes_of_a_run() -> Iterator[None]:
    """Let Ctrl-C wait, and gradients be computed, also within the user's inference mode."""
    with shielded(), torch_state_kept(), torch.inference_mode(False):
        yield


def draw_image(
    recipe: Recipe,
    parametrization: Parametrization,
    views: Views,
    penalty: Penalty | None = None,
) -> MacoImage:
    """Take all steps of a recipe, within `modes_of_a_run`.

    Parameters
    ----------
    recipe
        Objective and settings.
    parametrization
        Its start.
    views
        See `views_of`.
    penalty
        See `Penalty`; it counts for the transparency, as in Horama.

    Returns
    -------
    result
        Image and transparency, on the device of the recipe.

    Raises
    ------
    TypeError, ValueError
        The objective returns something other than a number that depends on the crops.
    """
    transparency = torch.zeros_like(parametrization.render())

    def gradients(step: int) -> Gradients:
        with torch.enable_grad():
            image = parametrization.image()
            crops = views(image, step)
            score, cotangent = _score_and_gradient(recipe, crops.detach().requires_grad_())
            loss = (crops * cotangent).sum()
            if penalty is not None:
                value = penalty(image)
                score, loss = score - value.detach(), loss - value
            (gradient,) = torch.autograd.grad(loss, image)
        transparency.add_(gradient.abs())
        return Gradients(score.reshape(1), gradient)

    name = recipe.function.rpartition(".")[2]
    bar = BarOfSteps([name], recipe.total_steps, progress=recipe.progress)
    ascent = run_ascent(
        parametrization, gradients, parametrization.render, names=[name],
        nb_steps=recipe.total_steps, transparency=transparency, bar=bar,
    )  # fmt: skip
    image, transparency = ascent.images[-1][0], ascent.transparencies[-1][0]
    return MacoImage.of(
        image.to(recipe.device), transparency.to(recipe.device), interrupted=ascent.interrupted
    )


def _score_and_gradient(recipe: Recipe, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Call the user's objective; only the gradient of the crops is computed, none of weights."""
    score = opened(recipe.objective_function, crops)
    where = f"{recipe.function}: objective_function returned"
    if not isinstance(score, torch.Tensor):
        raise TypeError(f"{where} {type(score).__name__}; expected a tensor with one number.")
    if score.numel() != 1 or score.is_complex():
        raise ValueError(
            f"{where} a tensor of {score.dtype} and of shape {tuple(score.shape)}; expected one "
            "real number: take the mean, as in torch.mean(model(images)[:, 1])."
        )
    gradient = None
    if score.requires_grad:
        (gradient,) = opened(torch.autograd.grad, score.sum(), crops, allow_unused=True)
    if gradient is None:
        raise ValueError(
            f"{where} a score that does not depend on the images: compute it from them with "
            "operations that pass gradients on, without detach(), torch.no_grad() or numpy."
        )
    return score.detach().float(), gradient
