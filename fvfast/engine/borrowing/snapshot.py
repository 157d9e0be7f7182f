"""Restores everything that running a network may change about it.

Networks do not only return outputs. They write to buffers, also through ``tensor.data`` or numpy;
to attributes that hold a state, such as the membrane of a spiking neuron or a weight that is
derived from others before each pass; to lists and generators; and some to their parameters.
"""

import collections
import random
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from fvfast.engine.borrowing.fingerprint import HOOKS, contents
from fvfast.engine.memory import available_memory

_CONTAINERS = (dict, collections.OrderedDict, collections.defaultdict, list, set, collections.deque)
_PLAIN = (torch.Tensor, nn.Parameter)
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)
_CONSTANT = (type(None), bool, int, float, complex, str, bytes)

COPIED_SHARE = 0.5
"""Share of the free memory that copies of a network's parameters may take in its first run."""

# By network: its structure, and which of its parameters it has been seen to write to.
_written: "weakref.WeakKeyDictionary[nn.Module, tuple[Hashable, list[int]]]" = (
    weakref.WeakKeyDictionary()
)


class Snapshot:
    """The state of a network: modes, hooks, attributes, and the values that runs may write to.

    All parameters are copied for the first run of a network, which shows to which of them it
    writes; later runs copy only those. If the parameters take more than half of the free memory,
    the network is assumed not to write to them.

    Parameters
    ----------
    model
        The network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = weakref.ref(model)
        self._attributes = [(module, dict(module.__dict__)) for module in model.modules()]
        self._containers: dict[int, tuple[Any, Any]] = {}
        self._generators: list[tuple[Callable[[Any], object], Any]] = []
        self._tensors: dict[int, _TensorState] = {}
        self._parameters = {id(one): one for one in model.parameters()}
        self._gradients = [(one, one.requires_grad) for one in self._parameters.values()]
        self._structure = _structure(model)
        structure, written = _written.get(model, (None, []))
        self._is_first = structure != self._structure
        if self._is_first:
            self._copied = set(self._parameters) if _can_be_copied(self._parameters) else set()
        else:
            parameters = list(self._parameters)
            self._copied = {parameters[index] for index in written}
        for value in changeable(model):
            self._note(value)

    def restore(self) -> None:
        """Restore everything, in the same objects as before."""
        self.restore_objects()
        written = {key for key, state in self._tensors.items() if state.restore_values()}
        if self._is_first and (model := self._model()) is not None:
            places = [index for index, key in enumerate(self._parameters) if key in written]
            _written[model] = self._structure, places

    def restore_objects(self) -> None:
        """Restore everything except the values of tensors, which takes next to no time."""
        for module, attributes in self._attributes:
            _refill(module.__dict__, attributes)
        for container, items in self._containers.values():
            _refill(container, items)
        for tensor in self._tensors.values():
            tensor.restore_memory()
        for parameter, requires_grad in self._gradients:
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)
        for restore, state in self._generators:
            restore(state)

    def _note(self, value: Any) -> None:
        kind = type(value)
        if isinstance(value, torch.Tensor):
            copies = id(value) not in self._parameters or id(value) in self._copied
            self._tensors[id(value)] = _TensorState(value, copies=copies)
        elif kind in _CONTAINERS:
            self._containers[id(value)] = value, value.copy()
        elif kind is torch.Generator:
            self._generators.append((value.set_state, value.get_state()))
        elif isinstance(value, random.Random):
            self._generators.append((value.setstate, value.getstate()))
        elif isinstance(value, np.random.Generator):
            bits = value.bit_generator
            self._generators.append((_set_bits(bits), bits.state))
        else:
            self._generators.append((value.set_state, value.get_state()))


def changeable(model: nn.Module) -> Iterator[Any]:
    """Yield the objects that a network may change as it runs, besides its modules, each once.

    These are tensors, random generators, and containers with what they hold.
    """
    seen: set[int] = set()
    # Scripted modules do not hold their tensors in attributes.
    yield from _changeable_among((*model.parameters(), *model.buffers()), seen)
    for module in model.modules():
        yield from _changeable_among(module.__dict__.values(), seen)


def _changeable_among(values: Iterable[Any], seen: set[int]) -> Iterator[Any]:
    for value in values:
        kind = type(value)
        if kind in _CONSTANT:  # most values are
            continue
        if isinstance(value, tuple):
            yield from _changeable_among(value, seen)
            continue
        if id(value) in seen:
            continue
        if isinstance(value, torch.Tensor):
            if not value.is_inference():
                seen.add(id(value))
                yield value
        elif kind in _CONTAINERS:
            seen.add(id(value))
            yield value
            yield from _changeable_among(value.values() if isinstance(value, dict) else value, seen)
        # isinstance with torch.Generator is slow in some versions of torch.
        elif kind is torch.Generator or isinstance(value, _GENERATORS):
            seen.add(id(value))
            yield value


def state_of(model: nn.Module) -> Hashable:
    """Return what differs after a pass in which a network has changed itself.

    These are values of tensors, and numbers, objects and lengths of containers in attributes.
    """
    attributes = tuple(
        (name, value if type(value) in _CONSTANT else id(value))
        for module in model.modules()
        for name, value in module.__dict__.items()
    )
    values = []
    for value in changeable(model):
        if isinstance(value, torch.Tensor):
            values.append(contents([value]) if has_memory(value) else id(value))
        elif type(value) in _CONTAINERS:
            values.append(len(value))
    return attributes, tuple(values)


def has_memory(tensor: torch.Tensor) -> bool:
    """Whether a tensor has an address in memory, unlike sparse and meta tensors."""
    return type(tensor) in _PLAIN and tensor.layout is torch.strided and not tensor.is_meta


class _TensorState:
    """A tensor's memory, and perhaps a copy of its values."""

    def __init__(self, tensor: torch.Tensor, *, copies: bool) -> None:
        self.tensor = tensor
        # This view keeps the memory if the tensor is given another one.
        self.data = tensor.data if type(tensor) in _PLAIN else None
        readable = has_memory(tensor) and not tensor.is_quantized
        self.copy = tensor.detach().clone() if copies and readable else None

    def restore_memory(self) -> None:
        """Give the tensor its memory back, with whatever values it holds."""
        if self.data is not None and not _is_same_memory(self.tensor.data, self.data):
            self.tensor.data = self.data

    def restore_values(self) -> bool:
        """Restore the values; return whether they had changed."""
        if self.data is None or self.copy is None or _equal(self.data, self.copy):
            return False
        # Through .data, so that autograd does not count this as a change: the values are the old.
        self.data.copy_(self.copy)
        return True


def _is_same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    def place(tensor: torch.Tensor) -> tuple[object, ...]:
        if tensor.layout is not torch.strided:
            return (tensor.layout,)
        address = None if tensor.is_meta else tensor.data_ptr()
        return address, tensor.shape, tensor.stride(), tensor.dtype, tensor.device

    return place(one) == place(other)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Compare bit by bit, so that NaN equals NaN."""
    return torch.equal(_bytes(one), _bytes(other))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _refill(container: Any, items: Any) -> None:
    """Restore the items of a container where they have changed."""
    if isinstance(container, dict):
        # One by one: other threads may be reading.
        for key in [key for key in container if key not in items]:
            del container[key]
        for key, value in items.items():
            if key not in container or container[key] is not value:
                container[key] = value
        if list(container) != list(items):
            container.clear()
            container.update(items)
    elif isinstance(container, set):
        if container != items:
            container.clear()
            container.update(items)
    elif len(container) != len(items) or any(
        one is not other for one, other in zip(container, items, strict=True)
    ):
        container.clear()
        container.extend(items)


def _set_bits(bits: np.random.BitGenerator) -> Callable[[Any], None]:
    def set_state(state: Any) -> None:
        bits.state = state

    return set_state


def _structure(model: nn.Module) -> Hashable:
    """List the modules and hooks of a network, which decide what it writes to."""
    return tuple(
        (id(module), tuple(tuple(getattr(module, name)) for name in HOOKS))
        for module in model.modules()
    )


def _can_be_copied(parameters: dict[int, nn.Parameter]) -> bool:
    needed: collections.Counter[torch.device] = collections.Counter()
    for parameter in parameters.values():
        if not isinstance(parameter, UninitializedParameter):
            needed[parameter.device] += parameter.numel() * parameter.itemsize
    free = {device: available_memory(device) for device in needed}
    return all(
        available is None or needed[device] <= COPIED_SHARE * available
        for device, available in free.items()
    )
