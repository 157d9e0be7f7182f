"""Tries forms of a network on a few views: results, memory and times."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch

from fvfast.engine.agreement import ALIKE, largest_difference, likeness
from fvfast.engine.borrowing.randomness import drawn_from
from fvfast.engine.exact_float32 import exact_float32
from fvfast.engine.passes import Passes, Scorer, is_out_of_memory
from fvfast.engine.rewrite.forms import Form, Running
from fvfast.engine.rewrite.recording import Convolution
from fvfast.engine.taps import TappedModel

PROBE_VIEWS = 4
"""How many views are run to try a form: at least one of each image."""

HOPELESS = 2.0
"""Ratio of two times after which the slower one is not measured again."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """The results of a form for the views tried, and the bytes it kept for the backward pass."""

    running: Running
    outputs: list[torch.Tensor]
    gradient: torch.Tensor
    kept_bytes: int

    @property
    def form(self) -> Form:
        """The form that was tried."""
        return self.running.form

    @property
    def is_finite(self) -> bool:
        """Whether all results are finite."""
        return all(bool(tensor.isfinite().all()) for tensor in (*self.outputs, self.gradient))

    def agrees_with(self, other: "Trial", tolerance: float) -> bool:
        """Whether outputs and gradients are the same up to tolerances."""
        # Comparisons with NaN are false, so results that are not finite do not agree.
        close = self.difference(other) <= tolerance
        return close and self.likeness(other) >= ALIKE

    def difference(self, other: "Trial") -> float:
        """Return the largest relative difference of the layers' outputs."""
        return largest_difference(self.outputs, other.outputs)

    def likeness(self, other: "Trial") -> float:
        """Return the likeness of the gradients."""
        return likeness(self.gradient, other.gradient)


class Trials:
    """Runs a network in several forms on a few views.

    Parameters
    ----------
    tapped
        The network, frozen and in evaluation mode.
    scorer
        Scores the outputs of the images' views.
    views
        (M*K, C, h, w), views of M images.
    name
        Of the objective, for messages.
    images
        M: one, or all that are scored together.

    Attributes
    ----------
    convolutions
        What forms with joined convolutions join.
    gradient_scale
        Factor on the scores in forms that cannot hold small gradients.
    trial_context
        Context of each trial.
    """

    def __init__(
        self,
        tapped: TappedModel,
        scorer: Scorer,
        views: torch.Tensor,
        name: str,
        *,
        images: int = 1,
    ) -> None:
        self.tapped = tapped
        self.images = images
        self.views = some_views(views, images, PROBE_VIEWS).detach()
        self.scorer = scorer
        self.passes = Passes(lambda _first, _last: self._noting_scorer, name, group=images)
        self._outputs: list[torch.Tensor] = []  # of the latest pass, for all views
        self.convolutions: list[Convolution] = []
        self.gradient_scale = 1.0
        # So that two forms do not differ by the rounding of TF32.
        self.trial_context: Callable[[], AbstractContextManager[None]] = exact_float32

    def try_form(self, form: Form) -> "Trial | Exception":
        """Run the network in a form; return its results, or what it failed with."""
        kept: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            if (memory := _memory(tensor)) is not None:
                address, size = memory
                kept[address] = size
            return tensor

        try:
            running = Running(self.tapped.model, form, self.convolutions)
            with (
                self.trial_context(),
                running.installed(self.tapped.model),
                torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            ):
                outputs, gradient = self._forward_and_back(running)
                # Parameters do not count. Here they have the type of the form.
                for tensor in (
                    self.tapped.model.parameters() if self.tapped.model is not None else ()
                ):
                    if (memory := _memory(tensor)) is not None:
                        kept.pop(memory[0], None)
        except Exception as error:
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            return error
        floats = [tensor.float() for tensor in outputs]
        return Trial(running, floats, gradient.float(), sum(kept.values()))

    def _noting_scorer(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        # Here, not in the network, which may be run on a part of the views at a time.
        self._outputs = [tensor.detach() for tensor in outputs]
        return self.scorer(outputs)

    def _forward_and_back(self, running: Running) -> tuple[list[torch.Tensor], torch.Tensor]:
        def network(views: torch.Tensor) -> list[torch.Tensor]:
            return self.tapped(running.form.feed(views))

        self.passes.gradient_scale = self.scale_in(running.form)
        # A network that draws random numbers gets the same ones in each trial.
        with (
            torch.enable_grad(),
            running.context(self.views.device),
            drawn_from(0, 0, self.views.device),
        ):
            scores, gradient = self.passes.run(network, self.views, self.images)
        outputs = self._outputs
        if all(layer.module is None for layer in self.tapped.layers):
            # No layer was read: the score itself calls the network.
            outputs.append(scores)
        return outputs, gradient

    def seconds_of(self, forms: Sequence[Running], rounds: int = 3) -> list[float]:
        """Measure the median seconds of a pass in each form, in turns; far slower ones once."""
        seconds: list[list[float]] = [[] for _ in forms]
        for _ in range(rounds if len(forms) > 1 else 0):
            for running, taken in zip(forms, seconds, strict=True):
                if taken and taken[0] > HOPELESS * min(filter(None, seconds))[0]:
                    continue
                with running.installed(self.tapped.model):
                    self._forward_and_back(running)  # fills the caches with its weights
                    wait_for(self.views.device)
                    start = time.perf_counter()
                    self._forward_and_back(running)
                    wait_for(self.views.device)
                    taken.append(time.perf_counter() - start)
        return [statistics.median(taken) if taken else 0.0 for taken in seconds]

    def scale_in(self, form: Form) -> float:
        """Return the factor on the scores in a form."""
        return self.gradient_scale if self.is_scaled(form) else 1.0

    def is_scaled(self, form: Form) -> bool:
        """Whether a form needs a gradient scale: only float16 cannot hold small gradients."""
        if form.dtype is not None:
            return form.dtype == torch.float16
        model = self.tapped.model
        return model is not None and any(p.dtype == torch.float16 for p in model.parameters())


def some_views(views: torch.Tensor, images: int, most: int) -> torch.Tensor:
    """Return the first views of each of several images, as many of each, and at least one.

    Parameters
    ----------
    views
        (M*K, C, h, w).
    images
        M.
    most
        How many views to return, unless M is more.
    """
    return views.unflatten(0, (images, -1))[:, : max(1, most // images)].flatten(0, 1)


def gradient_scale(scorer: Scorer, outputs: Sequence[torch.Tensor]) -> float:
    """Return the power of two that brings the gradient at the layers' outputs close to 1."""
    leaves = [tensor.detach().requires_grad_() for tensor in outputs]
    with torch.enable_grad():
        gradients = torch.autograd.grad(
            scorer(leaves).sum(), leaves, allow_unused=True, materialize_grads=True
        )
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    if largest == 0 or not math.isfinite(largest):
        return 1.0
    return 2.0 ** -math.floor(math.log2(largest))


def brief(error: Exception) -> str:
    """Return type and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        # The stream, not the device: that fails while another thread captures a graph.
        torch.cuda.current_stream(device).synchronize()


def _memory(tensor: torch.Tensor) -> tuple[int, int] | None:
    """Return address and bytes of a tensor's memory; None for subclasses without their own."""
    try:
        storage = tensor.untyped_storage()
        return storage.data_ptr(), storage.nbytes()
    except (RuntimeError, NotImplementedError):
        return None
