"""Calls TorchInductor."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import fx

from fvfast.engine.compiled.network import Compiled

Compile: TypeAlias = Callable[[fx.GraphModule, Sequence[torch.Tensor]], Compiled]
"""Compiles a graph of torch's operations, given examples of its inputs."""


def inductor(graph: fx.GraphModule, examples: Sequence[torch.Tensor]) -> Compiled:
    """Compile a graph with TorchInductor.

    Without CUDA graphs of its own: the engine captures whole passes.
    """
    import torch._inductor  # takes seconds, which a run that compiles nothing saves

    options = {"triton.cudagraphs": False}
    compiled: Compiled = torch._inductor.compile(graph, list(examples), options)
    return compiled
