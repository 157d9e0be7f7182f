"""Runs a model up to the last layer that is needed and returns the outputs of the layers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fvfast.engine.borrowing.interrupts import opened
from fvfast.engine.borrowing.lending import Lender
from fvfast.engine.borrowing.threads import in_this_thread
from fvfast.engine.network.input_type import input_dtype
from fvfast.engine.network.layers import Layer, Preprocess, select_output


class _LastTapReached(BaseException):
    """Ends the forward pass early.

    Not an `Exception`: networks that catch those must not swallow it.
    """


class TappedModel:
    """A model that returns the outputs of chosen layers.

    Calling it with images (B, C, H, W) returns a list with one tensor per layer, in the order
    given. The forward pass stops after the last of these layers. Hooks exist only during a call.

    A layer that is called several times in one forward pass gives the output of its last call.

    Parameters
    ----------
    model
        The network, or None when only the images are read.
    layers
        The layers to read.
    preprocess
        Applied to the images before the model.
    """

    def __init__(
        self, model: nn.Module | None, layers: Sequence[Layer], preprocess: Preprocess | None = None
    ) -> None:
        self.model = model
        self.layers = list(layers)
        self.preprocess = preprocess
        self._lender = Lender()
        self._reads_images = any(layer.module is None for layer in self.layers)

    def __call__(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Run images (B, C, H, W) and return the layers' outputs."""
        with self._lender.lent(images) as lent:
            seen = opened(self.preprocess, lent) if self.preprocess is not None else lent
            # A layer that is the images themselves reads them as they are before the network.
            kept = seen.clone() if lent is not images and self._reads_images else seen
            outputs = self._run(seen)
        return [kept if layer.module is None else outputs[layer] for layer in self.layers]

    def _run(self, images: torch.Tensor) -> dict[Layer, torch.Tensor]:
        tapped = {layer for layer in self.layers if layer.module is not None}
        remaining = {layer.module: layer.calls for layer in tapped}
        outputs: dict[Layer, torch.Tensor] = {}
        if self.model is None or not tapped:
            return outputs

        is_called = True
        # Before the hooks are set: this may run the network up to its first weights.
        images = images.to(input_dtype(self.model, images))

        def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
            if not is_called:
                return
            remaining[module] -= 1
            finished = all(calls <= 0 for calls in remaining.values())
            for layer in tapped:
                tensor = select_output(output, layer.key) if layer.module is module else None
                if tensor is not None:
                    # The next module may change this output in place (ReLU(inplace=True)).
                    outputs[layer] = tensor if finished else tensor.clone()
            if finished:
                raise _LastTapReached

        hook = in_this_thread(keep)
        handles = [module.register_forward_hook(hook) for module in remaining if module is not None]
        try:
            opened(self.model, images)
        except _LastTapReached:
            pass
        finally:
            is_called = False  # an interrupt could leave a hook in place
            for handle in handles:
                handle.remove()
        for layer in tapped:
            self._check(layer, outputs.get(layer), len(images))
        return outputs

    def _check(self, layer: Layer, output: torch.Tensor | None, batch: int) -> None:
        if output is None:
            assert self.model is not None
            if not any(module is layer.module for module in self.model.modules()):
                raise RuntimeError(
                    f"layer {layer.name!r} is no longer part of the model: it was replaced since "
                    "the objective was made. Make the objective again."
                )
            raise RuntimeError(
                f"layer {layer.name!r} was called in the probe run but gave no tensor in this one: "
                "the model's forward pass depends on its input."
            )
        if output.shape[0] != batch:
            raise RuntimeError(
                f"layer {layer.name!r} puts out a tensor of shape {tuple(output.shape)} for "
                f"{batch} images: the batch must come first."
            )
