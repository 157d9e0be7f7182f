"""Detects whether a network has changed: its modules, hooks and tensors, and their values."""

import ctypes
import weakref
import zlib
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
GLOBAL_HOOKS = tuple(f"_global{name}" for name in HOOKS)


def structure(model: nn.Module) -> Hashable:
    """List modules, hooks, and the identity, version, type and shape of each tensor.

    This takes microseconds per module. It does not show values written through ``tensor.data`` or
    numpy (see `contents`), or what modules keep in other attributes.
    """
    hooks = tuple(tuple(getattr(torch_module, name)) for name in GLOBAL_HOOKS)
    return hooks, tuple(map(_module_structure, model.modules()))


def _module_structure(module: nn.Module) -> Hashable:
    return (
        id(module),
        type(module),
        # The keys are numbers, and no two hooks get the same one.
        tuple(tuple(getattr(module, name)) for name in HOOKS),
        tuple((name, *_tensor(one), _version(one)) for name, one in module._parameters.items()),
        # Without the versions of buffers: a run that restores a buffer raises its version.
        tuple((name, *_tensor(one)) for name, one in module._buffers.items()),
    )


def _tensor(tensor: torch.Tensor | None) -> tuple[Hashable, ...]:
    if tensor is None:
        return (None,)
    return id(tensor), tensor.dtype, tensor.shape, tensor.device


def _version(tensor: torch.Tensor | None) -> int | None:
    # Tensors made in inference mode have no version.
    return None if tensor is None or tensor.is_inference() else tensor._version


def has_global_hooks() -> bool:
    """Whether there are hooks on the calls of all modules."""
    return any(getattr(torch_module, name) for name in GLOBAL_HOOKS)


def addresses(model: nn.Module) -> Hashable:
    """List the memory addresses of a network's tensors."""
    return tuple(tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers()))


def contents(tensors: Iterable[torch.Tensor | None]) -> Hashable:
    """Compute checksums of the values of tensors.

    Raises
    ------
    RuntimeError
        The memory of a tensor cannot be read, as with some subclasses of `torch.Tensor`.
    """
    return tuple(0 if tensor is None else _checksum(tensor) for tensor in tensors)


def _checksum(tensor: torch.Tensor) -> int:
    values = tensor.detach().cpu().contiguous()
    # Not through numpy: torch never again resizes memory that it has shared with numpy.
    size, address = values.numel() * values.element_size(), values.data_ptr()
    if size == 0:
        return 0
    if address == 0:  # of a subclass, where torch does not raise the error itself
        raise RuntimeError(f"a {type(tensor).__name__} has no memory that can be read.")
    return zlib.crc32((ctypes.c_char * size).from_address(address))


def identity(function: Callable[..., Any] | None) -> Hashable:
    """Return a key that is equal only for the same function, and does not keep it alive.

    Raises
    ------
    TypeError
        The function allows no weak reference.
    """
    if function is None:
        return None
    if hasattr(function, "__self__") and hasattr(function, "__func__"):
        # A bound method is a new object each time it is read.
        return weakref.WeakMethod(function)
    return weakref.ref(function)
