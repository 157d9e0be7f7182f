"""Limits what a run installs in a network to the thread of the run."""

import contextlib
import threading
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import Any

import torch
from torch import nn


def in_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a hook so that it does nothing when another thread calls the module."""
    owner = threading.get_ident()

    def only_here(*args: Any, **settings: Any) -> Any:
        return hook(*args, **settings) if threading.get_ident() == owner else None

    return only_here


class _Replaced(dict[str, Any]):
    """A module's dictionary of tensors, some of which are replaced in one thread."""

    def __init__(self, own: Mapping[str, Any], replaced: dict[str, Any]) -> None:
        super().__init__(own)
        self._replaced = replaced
        self._owner = threading.get_ident()

    def __getitem__(self, name: str) -> Any:
        if name in self._replaced and threading.get_ident() == self._owner:
            return self._replaced[name]
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self._replaced and threading.get_ident() == self._owner:
            self._replaced[name] = value
        else:
            super().__setitem__(name, value)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        return {name: self[name] for name in self}.values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        return {name: self[name] for name in self}.items()


@contextlib.contextmanager
def replaced_tensors(module: nn.Module, others: Mapping[int, torch.Tensor]) -> Iterator[None]:
    """Replace parameters and buffers of a module, for this thread.

    In a scripted module, which does not hold them in Python, they are replaced for all threads.

    Parameters
    ----------
    module
        The module.
    others
        The replacements, by the ``id`` of the module's own tensors.
    """
    with contextlib.ExitStack() as stack:
        for place in ("_parameters", "_buffers"):
            own = module.__dict__[place]
            mine = {name: one for name, one in own.items() if id(one) in others}
            replaced = {name: others[id(one)] for name, one in mine.items()}
            if not replaced:
                continue
            if isinstance(own, dict):
                stack.callback(module.__dict__.__setitem__, place, own)
                module.__dict__[place] = _Replaced(own, replaced)
            else:
                stack.callback(_assign, own, mine)
                _assign(own, replaced)
        yield


def _assign(holder: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        holder[name] = tensor
