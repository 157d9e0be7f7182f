"""Records the calls of a native module once, and repeats them as a captured CUDA graph does.

What a call was given as a number, and where its tensors lie, stays as it was. What differs between
two repetitions is what the memory holds.
"""

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fvfast.ops._kernels import kernels_for, use_emulated


class Recorded:
    """Stands in for a native module, and keeps its calls."""

    def __init__(self, module):
        self._module = module
        self.calls = []

    def __getattr__(self, name):
        found = getattr(self._module, name)
        if not callable(found):
            return found

        def call(**arguments):
            self.calls.append((found, arguments))
            return found(**arguments)

        return call

    def replay(self):
        """Make the same calls again."""
        for function, arguments in self.calls:
            function(**arguments)


class _KeepsMemory(TorchDispatchMode):
    """Keeps every tensor alive that is made, within operations too: addresses stay valid."""

    def __init__(self):
        super().__init__()
        self.tensors = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.namespace == "fvfast":
            # Torch switches the mode off within an operation.
            with self:
                result = func.redispatch(
                    torch._C.DispatchKeySet(torch._C.DispatchKey.CPU), *args, **kwargs
                )
        else:
            result = func(*args, **kwargs)
        self.tensors += [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        return result


@contextlib.contextmanager
def recording():
    """Record the calls of the emulated module in use, with all the memory that they are given."""
    recorded, memory = Recorded(kernels_for(torch.device("cpu")).module), _KeepsMemory()
    with use_emulated(recorded), memory:
        yield recorded
    recorded.memory = memory
