"""Tells whether a network is what it was: its modules, hooks and tensors, and their values."""

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
    """Modules, hooks, and the identity, version, type and shape of each tensor.

    It takes microseconds for each module. Writing through ``tensor.data`` or numpy does not show
    in it (see `contents`), nor does what modules keep in other attributes.
    """
    hooks = tuple(tuple(getattr(torch_module, name)) for name in GLOBAL_HOOKS)
    return hooks, tuple(map(_module_structure, model.modules()))


def _module_structure(module: nn.Module) -> Hashable:
    return (
        id(module),
        type(module),
        # Each hook has a number that no other one gets.
        tuple(tuple(getattr(module, name)) for name in HOOKS),
        tuple((name, *_tensor(one), _version(one)) for name, one in module._parameters.items()),
        # A run puts back buffers that the network has written to, which is a new version.
        tuple((name, *_tensor(one)) for name, one in module._buffers.items()),
    )


def _tensor(tensor: torch.Tensor | None) -> tuple[Hashable, ...]:
    if tensor is None:
        return (None,)
    return id(tensor), tensor.dtype, tensor.shape, tensor.device


def _version(tensor: torch.Tensor | None) -> int | None:
    # Tensors that were made in inference mode have no version.
    return None if tensor is None or tensor.is_inference() else tensor._version


def has_global_hooks() -> bool:
    """Whether there are hooks on the calls of all modules."""
    return any(getattr(torch_module, name) for name in GLOBAL_HOOKS)


def addresses(model: nn.Module) -> Hashable:
    """Where the tensors of a network lie in memory."""
    return tuple(tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers()))


def contents(tensors: Iterable[torch.Tensor | None]) -> Hashable:
    """Checksums of the values of tensors.

    Raises
    ------
    RuntimeError
        A tensor has no memory that can be read, as some subclasses of `torch.Tensor`.
    """
    return tuple(0 if tensor is None else _checksum(tensor) for tensor in tensors)


def _checksum(tensor: torch.Tensor) -> int:
    values = tensor.detach().cpu().contiguous()
    # Not through numpy: torch would refuse ever after to resize the memory that it shares.
    size, address = values.numel() * values.element_size(), values.data_ptr()
    if size == 0:
        return 0
    if address == 0:  # of a subclass, where torch does not raise the error itself
        raise RuntimeError(f"a {type(tensor).__name__} has no memory that can be read.")
    return zlib.crc32((ctypes.c_char * size).from_address(address))


def identity(function: Callable[..., Any] | None) -> Hashable:
    """Return what is equal for the same function only, and does not keep it alive.

    Raises
    ------
    TypeError
        The function allows no weak reference.
    """
    if function is None:
        return None
    if hasattr(function, "__self__") and hasattr(function, "__func__"):
        # Each time a method is read from its object it is a new function.
        return weakref.WeakMethod(function)
    return weakref.ref(function)
