"""Borrows a user's model for a run and gives it back unchanged."""

import collections
import contextlib
import itertools
from collections.abc import Hashable, Iterator

import torch
from torch import nn

from fvfast._shared.messages import warn_user
from fvfast.engine.borrowing.interrupts import shielded, torch_state_kept
from fvfast.engine.borrowing.snapshot import Snapshot, changeable, has_memory
from fvfast.engine.locks import USES, Parts


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network inside wrappers that hide layers from forward hooks.

    `torch.nn.DataParallel` runs copies, and a compiled model inlines its submodules, so hooks
    would not be called.

    Raises
    ------
    TypeError
        ``model`` is not a module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module, got {type(model).__name__}; "
            "Objective.from_callable(None, f) takes a plain function."
        )
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def model_device(model: nn.Module | None) -> torch.device:
    """Return the device of the model's first parameter or buffer; the CPU if it has none."""
    tensors = itertools.chain(model.parameters(), model.buffers()) if model is not None else ()
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


@contextlib.contextmanager
def borrowed(
    model: nn.Module | None, device: torch.device | str | None = None, *, warn: bool = True
) -> Iterator[torch.device]:
    """Freeze a model and put it in evaluation mode; restore it at the end, also after an exception.

    Other threads that want the model, or one that shares modules, parameters, buffers or memory
    with it, wait. So does Ctrl-C, except in calls made with
    `fvfast.engine.borrowing.interrupts.opened`.

    Parameters
    ----------
    model
        The network, or None when the objective is a plain function.
    device
        Where to run it. None leaves it where it is. A model that is moved for the run gets its
        original tensors back; nothing is copied back.
    warn
        Whether to warn of a model in training mode.

    Yields
    ------
    device
        The device the model is on.

    Raises
    ------
    RuntimeError
        A deadlock: this thread wants a model that another thread has borrowed, and that thread
        waits for one that this thread has borrowed.
    """
    if model is None:
        yield torch.device(device) if device is not None else torch.device("cpu")
        return
    with shielded(), torch_state_kept(), USES.of(lambda: parts_of(model)) as use:
        modes = [(module, module.training) for module in model.modules()]
        if warn and any(training for _, training in modes):
            warn_user(
                f"the model ({type(model).__name__}) is in training mode: it runs in evaluation "
                "mode here and is set back afterwards. Call model.eval() to silence this warning.",
                UserWarning,
            )
        with preserved(model) as snapshot:
            assert snapshot is not None
            use.undo = snapshot.restore_objects
            for parameter in model.parameters():
                parameter.requires_grad_(False)
            # Set directly: train() and eval() may be overridden with side effects.
            for module, _ in modes:
                module.training = False
                # What nn.Module.compile has set: it would trace fvfast's functions, too.
                if module._compiled_call_impl is not None:
                    module._compiled_call_impl = None
            _move(model, device)
            yield model_device(model)


@contextlib.contextmanager
def preserved(model: nn.Module | None) -> Iterator[Snapshot | None]:
    """Undo, at the end of a ``with`` statement, all changes to a network."""
    snapshot = None if model is None else Snapshot(model)
    try:
        yield snapshot
    finally:
        if snapshot is not None:
            snapshot.restore()


def parts_of(model: nn.Module) -> Parts:
    """Find what no other thread may use during a run: what the run changes and restores.

    Containers themselves are left out, because networks of one class may share constant ones; what
    they hold is included.
    """
    parts: dict[Hashable, object] = {id(module): module for module in model.modules()}
    for value in changeable(model):
        if not isinstance(value, dict | list | set | collections.deque):
            parts[id(value)] = value
        if isinstance(value, torch.Tensor) and has_memory(value):
            memory = value.untyped_storage().data_ptr()
            if memory:  # 0 for an empty tensor
                parts[value.device, memory] = value
    return parts


def _move(model: nn.Module, device: torch.device | str | None) -> None:
    """Move a network; `preserved` gives it its own tensors back."""
    tensors = [*model.parameters(), *model.buffers()]
    if device is None or all(tensor.device == torch.device(device) for tensor in tensors):
        return
    if len({tensor.device for tensor in tensors}) > 1:
        raise ValueError(
            f"device={str(device)!r} was asked for, but the model's parameters are spread over "
            "several devices; leave device=None to run it where it is."
        )
    model.to(device)
