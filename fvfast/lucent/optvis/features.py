"""T: the outputs of a network's layers by name, read by hooks."""

import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only
from torch.utils.hooks import RemovableHandle

from fvfast.engine.borrowing.state import unwrap
from fvfast.engine.borrowing.threads import in_this_thread
from fvfast.lucent.layer_names import LayerNames
from fvfast.lucent.optvis.param.color import ImageFunction


class LayerOutputs:
    """What the modules of a network put out in its latest forward pass.

    The hooks are removed by `close`, or when the object is freed. What a hook keeps is a copy,
    because the next module may change an output in place (``ReLU(inplace=True)``).

    Attributes
    ----------
    calls
        How often the latest pass has called each module.

    Parameters
    ----------
    model
        The network; what an earlier pass put out is forgotten when the next one begins.
    modules
        The modules to read.
    """

    def __init__(self, model: nn.Module, modules: Iterable[nn.Module]) -> None:
        outputs: dict[nn.Module, Any] = {}
        calls: dict[nn.Module, int] = {}

        def forget(_module: nn.Module, _inputs: Any) -> None:
            outputs.clear()
            calls.clear()

        def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs[module] = tree_map_only(torch.Tensor, torch.clone, output)
            calls[module] = calls.get(module, 0) + 1

        handles: list[RemovableHandle] = [model.register_forward_pre_hook(in_this_thread(forget))]
        hook = in_this_thread(keep)
        handles += [
            module.register_forward_hook(hook)
            for module in dict.fromkeys(modules)
            if not isinstance(module, torch.jit.ScriptModule)  # accepts no hooks
        ]
        self.calls = calls
        self._outputs = outputs
        # The hooks must not refer to this object: they would keep it alive.
        self._close = weakref.finalize(self, _remove, handles)

    def of(self, module: nn.Module) -> Any:
        """Return the output of a module; None if the latest pass did not reach it."""
        return self._outputs.get(module)

    def close(self) -> None:
        """Remove the hooks."""
        self._close()


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


class ModuleHook:
    """Reads one module, until `close` is called or the object is freed.

    Attributes
    ----------
    module
        The module, once it was called.
    features
        What it put out last.

    Parameters
    ----------
    module
        The module.
    """

    def __init__(self, module: nn.Module) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"ModuleHook takes a torch.nn.Module, got {module!r}.")
        self.module: nn.Module | None = None
        self.features: Any = None
        owner = weakref.ref(self)

        def keep(called: nn.Module, _inputs: Any, output: Any) -> None:
            hook = owner()
            if hook is not None:
                hook.module = called
                hook.features = tree_map_only(torch.Tensor, torch.clone, output)

        self._close = weakref.finalize(self, _remove, [module.register_forward_hook(keep)])

    def close(self) -> None:
        """Remove the hook; the features stay."""
        self._close()


class HookedModel:
    """T of a network that its owner runs: what `hook_model` returns.

    Use it in a ``with`` statement, or call `close`, to remove the hooks; they are also removed when
    the object is freed.

    Parameters
    ----------
    model
        The network.
    image_f
        Returns the images of "input".
    """

    def __init__(self, model: nn.Module, image_f: ImageFunction) -> None:
        self._names = LayerNames(model)
        network = unwrap(model)
        self._network = type(network).__name__
        self._image = image_f
        self._outputs = LayerOutputs(network, self._names.modules.values())

    def __call__(self, layer: str) -> Any:
        """Return the output of a layer, the images of "input", or the last output of "labels".

        Raises
        ------
        ValueError
            There is no such layer.
        RuntimeError
            The latest pass did not reach it, or there was none.
        """
        if layer == "input":
            return self._image()
        module = self._names.last() if layer == "labels" else self._names.find(layer)
        output = self._outputs.of(module)
        if output is None:
            raise RuntimeError(not_reached(layer, self._network))
        return output

    def close(self) -> None:
        """Remove the hooks."""
        self._outputs.close()

    def __enter__(self) -> "HookedModel":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def not_reached(layer: str, network: str) -> str:
    """Say that a layer was not called."""
    return (
        f"layer {layer!r} has no output: the latest forward pass of the model ({network}) did not "
        "call it, or there was none yet. Layers for training only, such as GoogLeNet's aux1, are "
        "not called in evaluation mode."
    )


def hook_model(model: nn.Module, image_f: Callable[[], torch.Tensor]) -> HookedModel:
    """Read all layers of a network while you run it yourself.

    Parameters
    ----------
    model
        The network. After ``model(images)``, the result has the outputs of its layers.
    image_f
        Function without arguments that returns the images of "input".

    Returns
    -------
    T
        Function from the name of a layer to its output. `HookedModel.close` removes the hooks.
    """
    return HookedModel(model, image_f)
