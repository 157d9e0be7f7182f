"""Runs a network for objectives of T: through the engine, or by hooks alone."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import nn

from fvfast._shared.messages import warn_user
from fvfast.engine.borrowing.interrupts import opened
from fvfast.engine.borrowing.randomness import drawn_from
from fvfast.engine.engine import Engine
from fvfast.engine.network.input_type import input_dtype
from fvfast.engine.network.layers import Layer
from fvfast.engine.passes import is_out_of_memory
from fvfast.engine.rewrite.kept_forms import SHARED, FormStore
from fvfast.engine.starting import kept_engine
from fvfast.engine.taps import TappedModel
from fvfast.lucent.layer_names import LayerNames
from fvfast.lucent.optvis.features import LayerOutputs, not_reached
from fvfast.lucent.optvis.objective import Features, Objective


class _OtherLayerError(Exception):
    """The objective asks for a layer that it did not read before."""


class ObjectiveOnNetwork:
    """The loss of an objective for views of images, and its gradient.

    The first views are run with hooks on all layers, which shows what the objective reads. If those
    are tensors with the batch first, the engine runs the network from then on, in its fastest form
    and up to the last of these layers. Otherwise, or when the objective turns to other layers,
    hooks read the network as it is.

    Parameters
    ----------
    model
        The network, frozen and in evaluation mode.
    names
        Its layers.
    objective
        What is minimized.
    forms
        Where forms of the network are kept. Default: what all runs share, or, as functions of the
        user may change with what they refer to, a store of this run.
    """

    def __init__(
        self,
        model: nn.Module,
        names: LayerNames,
        objective: Objective,
        *,
        forms: FormStore | None = None,
    ) -> None:
        self._forms = forms
        self._model = model
        self._names = names
        self._objective = objective
        self._stack = contextlib.ExitStack()
        self._outputs: LayerOutputs | None = None
        self._engine: Engine | None = None
        self._read: dict[nn.Module, Layer] = {}
        self._reads_images = False
        self._failed = False

    def __enter__(self) -> "ObjectiveOnNetwork":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove all hooks, and end the engine."""
        self._engine = None
        # With the exception: after one, the engine does not keep its form.
        self._stack.__exit__(kind, error, trace)

    def loss(self, views: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Compute the loss of views, without a gradient.

        Parameters
        ----------
        views
            (N, C, h, w), what the network is shown.
        images
            (N, C, H, W), the images as they are: T("input").
        """
        with torch.no_grad(), self._hooked():
            return self._loss_by_hooks(views, images)

    def minimize(self, views: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Compute the loss and add its gradient to that of what the images are made of.

        Parameters
        ----------
        views, images
            See `loss`, with their graphs.

        Returns
        -------
        loss
            A scalar.
        """
        if self._engine is None and self._outputs is None:
            self._look(views.detach(), images)
        if self._engine is None:
            loss = self._loss_by_hooks(views, images)
        elif self._engine.runs_user_code:
            try:
                loss = self._loss_by_engine(self._engine, views, images)
            except _OtherLayerError:
                self._read_all_layers()
                loss = self._loss_by_hooks(views, images)
        else:
            _require_gradient(views)
            scores, gradient = self._engine.gradients(views, 1)
            opened(torch.autograd.backward, views, -gradient.to(views.dtype))
            return -scores.sum()
        _require_gradient(loss)
        opened(torch.autograd.backward, loss)
        return loss.detach()

    # The first views

    def _look(self, views: torch.Tensor, images: torch.Tensor) -> None:
        """Find out what the objective reads, and start the engine if it can run that."""
        own = not self._objective.runs_user_code
        # Functions of the user may take gradients of their own.
        with (
            torch.set_grad_enabled(not own),
            drawn_from(0, 0, views.device),
            self._hooked() as outputs,
        ):
            self._loss_by_hooks(views, images)
            calls = dict(outputs.calls)
            tensors = {module: outputs.of(module) for module in self._read}
        fits = all(
            isinstance(tensor, torch.Tensor)
            and tensor.is_floating_point()
            and tensor.shape[:1] == views.shape[:1]
            for tensor in tensors.values()
        )
        if not fits or not tensors:
            self._read_all_layers()
            return
        self._read = {
            module: Layer(layer.name, module, None, tuple(tensors[module].shape[1:]), calls[module])
            for module, layer in self._read.items()
        }
        self._start(views, runs_user_code=not own or self._reads_images)

    def _start(self, views: torch.Tensor, *, runs_user_code: bool) -> None:
        tapped = TappedModel(self._model, list(self._read.values()))
        scorer = _Scorer(self._objective, self._features, len(views), tries_only=runs_user_code)
        forms = self._forms
        if forms is None:
            forms = FormStore() if runs_user_code else SHARED
        engine = kept_engine(
            tapped, views, lambda _first, _last: scorer, self._objective.name or "the objective",
            None, runs_user_code=runs_user_code, store=forms, seed=torch.initial_seed(),
        )  # fmt: skip
        self._engine = self._stack.enter_context(engine)

    # By the engine

    def _loss_by_engine(
        self, engine: Engine, views: torch.Tensor, images: torch.Tensor
    ) -> torch.Tensor:
        with engine.running.context(views.device):
            outputs = engine.tapped(engine.running.form.feed(views))
            return _scalar(opened(self._objective, self._features(outputs, images)))

    def _features(self, outputs: Sequence[torch.Tensor], images: torch.Tensor | None) -> Features:
        tensors = dict(zip(self._read, outputs, strict=True))

        def features(layer: str) -> torch.Tensor:
            if layer == "input" and images is not None:
                return images
            module = self._module(layer)
            if module not in tensors:
                raise _OtherLayerError(layer)
            return tensors[module]

        return features

    # By hooks

    def _read_all_layers(self) -> None:
        self._engine = None
        self._stack.close()
        self._outputs = self._stack.enter_context(self._hooked())

    @contextlib.contextmanager
    def _hooked(self) -> Iterator[LayerOutputs]:
        if self._outputs is not None:
            yield self._outputs
            return
        self._outputs = LayerOutputs(self._model, self._names.modules.values())
        try:
            yield self._outputs
        finally:
            self._outputs.close()
            self._outputs = None

    def _loss_by_hooks(self, views: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        assert self._outputs is not None
        outputs = self._outputs
        failure: RuntimeError | None = None
        # A copy: a network may write to its images, which are used again, and may be what is
        # optimized.
        copy = views.clone()
        try:
            opened(self._model, copy.to(input_dtype(self._model, copy)))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            failure = error

        def features(layer: str) -> Any:
            if layer == "input":
                self._reads_images = True
                return images
            module = self._module(layer)
            self._read.setdefault(module, Layer(layer, module, None, (), 0))
            output = outputs.of(module)
            if output is None and failure is not None:
                raise RuntimeError(self._failed_before(layer, views, failure)) from failure
            if output is None:
                raise RuntimeError(not_reached(layer, type(self._model).__name__))
            return output

        loss = _scalar(opened(self._objective, features))
        if failure is not None and not self._failed:
            self._failed = True
            self._warn_of(failure, views)
        return loss

    def _module(self, layer: str) -> nn.Module:
        return self._names.last() if layer == "labels" else self._names.find(layer)

    def _failed_before(self, layer: str, views: torch.Tensor, failure: RuntimeError) -> str:
        return (
            f"layer {layer!r} has no output: the model ({type(self._model).__name__}) failed "
            f"before it on images of shape {tuple(views.shape)}: {failure} If they have the wrong "
            "size, pass another one: param_f=lambda: param.image(224), or fixed_image_size=224."
        )

    def _warn_of(self, failure: RuntimeError, views: torch.Tensor) -> None:
        warn_user(
            f"the model ({type(self._model).__name__}) fails on images of shape "
            f"{tuple(views.shape)}, behind the layers that the objective reads: {failure} These "
            "layers are not affected. Images of another size (fixed_image_size=) may suit the "
            "other layers.",
            UserWarning,
        )


class _Scorer:
    """Scores outputs for the engine: minus the loss, one score for all views together.

    The engine tries a network on a few of the views. Not every objective is defined for those: it
    may compare the images of a batch. Then, and if the engine only tries, the mean squares of the
    outputs stand in for it, which depend on each of their values.
    """

    def __init__(
        self,
        objective: Objective,
        features: Callable[[Sequence[torch.Tensor], torch.Tensor | None], Features],
        views: int,
        *,
        tries_only: bool,
    ) -> None:
        self._objective = objective
        self._features = features
        self._views = views
        self._tries_only = tries_only

    def __call__(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the score (1,), float32."""
        if self._tries_only or len(outputs[0]) != self._views:
            means = [output.float().square().mean() for output in outputs]
            return torch.stack(means).sum()[None]
        return -_scalar(self._objective(self._features(outputs, None))).float()[None]


def _scalar(loss: Any) -> torch.Tensor:
    """Return a loss as a scalar tensor; raise TypeError or ValueError unless it is one number."""
    if not isinstance(loss, torch.Tensor):
        raise TypeError(
            f"the objective returned {loss!r}; expected a loss, a tensor with one number such as "
            "-T('layer4')[:, 10].mean()."
        )
    if loss.numel() != 1:
        raise ValueError(
            f"the objective returned a tensor of shape {tuple(loss.shape)}; expected a loss, one "
            "number for all images: take its mean() or sum()."
        )
    return loss.reshape(())


def _require_gradient(loss: torch.Tensor) -> None:
    if not loss.requires_grad:
        raise ValueError(
            "the loss does not depend on what is optimized: no gradient reaches it. Does image_f "
            "use the parameters that param_f returns, and does nothing on the way (transforms, the "
            "objective, the network) detach, round or run in torch.no_grad()?"
        )
