"""Finds the type of the images that a network takes: that of the weights that read them first."""

import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from fvfast.engine.borrowing.modes import Mode

_NO_USE = ("__get__", "__set__", "size", "dim", "stride", "is_contiguous", "numel", "to", "type_as")
"""Calls that look at a tensor's properties, not at its values."""

_found: "weakref.WeakKeyDictionary[nn.Module, tuple[Hashable, torch.dtype]]" = (
    weakref.WeakKeyDictionary()
)


def input_dtype(model: nn.Module | None, images: torch.Tensor) -> torch.dtype:
    """Return the floating-point type in which a network takes its images.

    This is the type of its parameters, or float32 if it has none. If they have several types, such
    as a scale in float32 beside a body in bfloat16, it is the type of those that read the images
    first. To find them, the network is run up to that point once.

    Parameters
    ----------
    model
        The network.
    images
        (B, C, H, W), as the network takes them, in any floating-point type.
    """
    types = [] if model is None else [p.dtype for p in model.parameters() if p.is_floating_point()]
    if not types:
        return torch.float32
    if len(set(types)) == 1:
        return types[0]
    assert model is not None
    key = tuple(types)
    known, dtype = _found.get(model, (None, types[0]))
    if known != key:
        dtype = _first_reader(model, images[:1].detach()) or types[0]
        _found[model] = key, dtype
    return dtype


class _ReaderFoundError(BaseException):
    """Ends the forward pass. Not an `Exception`: networks that catch those must not swallow it."""


def _first_reader(model: nn.Module, image: torch.Tensor) -> torch.dtype | None:
    """Run a network until a parameter meets the image; None if that is not seen."""
    watch = _Watch(model.parameters(), image)
    try:
        with torch.no_grad(), watch:
            model(image)
    except _ReaderFoundError:
        pass
    except Exception:  # noqa: BLE001 (the run itself raises it again, with advice)
        return None
    return watch.found


class _Watch(Mode):
    """Waits for a call that gets both a tensor made of parameters and one made of the image."""

    def __init__(self, parameters: Iterable[nn.Parameter], image: torch.Tensor) -> None:
        super().__init__()
        self.found: torch.dtype | None = None
        # By id; the tensors are kept so that no other tensor gets the same id.
        self._weights: dict[int, torch.Tensor] = {id(one): one for one in parameters}
        self._images = {id(image): image}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        settings = dict(kwargs or {})
        tensors = _tensors((args, settings))
        weights = [one for one in tensors if id(one) in self._weights and one.is_floating_point()]
        reads_image = any(id(one) in self._images for one in tensors)
        if reads_image and weights and getattr(func, "__name__", "") not in _NO_USE:
            self.found = weights[0].dtype
            raise _ReaderFoundError
        made = func(*args, **settings)
        if reads_image:
            self._images.update((id(one), one) for one in _tensors(made))
        elif weights:
            self._weights.update((id(one), one) for one in _tensors(made))
        return made


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
