"""A stand-in for graphs of whole steps: repeats operations, with the host's numbers frozen.

Each operation that torch dispatches while steps run is kept with its arguments. A replay calls the
same operations with the same numbers and the same tensors, and writes results to where the first
ones were, as a GPU does. What a step takes from the host is what it was when it was recorded.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

UNWRITTEN = {torch.ops.aten.empty.memory_format, torch.ops.aten.empty_strided.default}


class Recording(TorchDispatchMode):
    """Keeps the operations of a ``with`` block.

    Attributes
    ----------
    calls
        (operation, arguments, keyword arguments, results) of each.
    """

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        results = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, tensors_of(results)))
        return results

    @torch.no_grad()
    def replay(self):
        """Do it all again."""
        for func, args, kwargs, results in self.calls:
            if func in UNWRITTEN:
                continue
            given = {tensor.untyped_storage().data_ptr() for tensor in tensors_of((args, kwargs))}
            again = tensors_of(func(*args, **kwargs))
            for kept, new in zip(results, again, strict=True):
                if kept.untyped_storage().data_ptr() not in given:
                    kept.copy_(new)


def tensors_of(values):
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


class StepRecorder:
    """Captures steps, and counts captures and replays.

    Attributes
    ----------
    recordings
        Of all captures.
    """

    def __init__(self):
        self.recordings = []
        self.replays = 0

    def __call__(self, steps, state):
        before = [tensor.clone() for tensor in state]
        recording = Recording()
        with recording:
            steps()
        with torch.no_grad():
            for tensor, copy in zip(state, before, strict=True):
                tensor.copy_(copy)  # a capture takes no steps
        self.recordings.append(recording)

        def replay():
            self.replays += 1
            recording.replay()

        return replay
