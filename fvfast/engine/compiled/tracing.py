"""Records a pass through a network, forward and back, as two graphs of torch's operations.

`torch.compile` reads Python's bytecode, which leaves checks behind for each call, splits a network
at what it cannot read, and keeps what it has compiled with the network's own functions. Here the
network is run once, and its operations are recorded. That needs no change of the network, and
whatever decides about them in Python (hooks that read layers, the early end of a pass, the types of
a precision) is done when they are recorded.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._inductor.lowering  # some decompositions use it
from torch import fx
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor.decomposition import select_decomp_table
from torch.fx.experimental.proxy_tensor import make_fx

from fvfast.engine.agreement import random_like
from fvfast.engine.compiled.folding import (
    fold_constants,
    forget_unused_images,
    lift_constants,
    mask_by_outputs,
    name_inputs,
    remove_aliases,
)
from fvfast.engine.compiled.reads import reads_refused
from fvfast.engine.passes import Network

_aten = torch.ops.aten
_MASKED = (
    _aten.threshold_backward.default, _aten.hardtanh_backward.default,
    _aten.hardswish_backward.default, _aten.hardsigmoid_backward.default,
    _aten.leaky_relu_backward.default, _aten.elu_backward.default,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Traced:
    """A pass as two graphs.

    Attributes
    ----------
    forward
        Maps views, cotangents and constants to outputs and what is kept for the backward pass.
    backward
        Maps what was kept and the cotangents to the gradient of the views.
    constants
        Tensors of the network, or computed from them.
    cotangents
        Gradients of outputs, of the memory format for which the graphs were made.
    places
        For each layer, which of the forward graph's outputs it is: several layers may share one.
    """

    forward: fx.GraphModule
    backward: fx.GraphModule
    constants: tuple[torch.Tensor, ...]
    cotangents: tuple[torch.Tensor, ...]
    places: tuple[int, ...]


def trace_pass(network: Network, views: torch.Tensor) -> Traced:
    """Record a pass through a network.

    Parameters
    ----------
    network
        Maps views to outputs of layers.
    views
        (B, C, h, w).

    Raises
    ------
    ValueError
        No output depends on the views, or one does not.
    ReadsNumbersError
        The network reads a number from a tensor, for example to decide how to go on.
    RuntimeError
        What the network does cannot be recorded.
    """
    cotangents, places = _probe(network, views)

    def run(views: torch.Tensor, *cotangents: torch.Tensor) -> list[torch.Tensor]:
        leaf = views.detach().requires_grad_()
        with torch.enable_grad(), reads_refused():
            outputs = _distinct(network(leaf))
            (gradient,) = torch.autograd.grad(outputs, leaf, cotangents)
        return [*(output.detach() for output in outputs), gradient]

    recorded = make_fx(run)(views, *cotangents)
    mask_by_outputs(recorded)
    constants = lift_constants(recorded)
    inputs = [views, *cotangents, *constants]
    functional = torch.func.functionalize(recorded, remove="mutations")
    whole = make_fx(functional, _decompositions(views.device), "fake")(*inputs)
    count = len(cotangents)
    name_inputs(whole, tangents=range(1, 1 + count))
    remove_aliases(whole)
    forget_unused_images(whole)
    folded = fold_constants(whole, dict(enumerate(constants, 1 + count)))
    name_inputs(whole, tangents=range(1, 1 + count))
    examples = [node.meta["val"] for node in whole.graph.nodes if node.op == "placeholder"]
    forward, backward = min_cut_rematerialization_partition(whole, examples, num_fwd_outputs=count)
    return Traced(forward, backward, tuple(folded), cotangents, places)


def _decompositions(device: torch.device) -> dict[Any, Callable[..., Any]]:
    """Return how operations are expressed by simpler ones, so that these can be fused.

    On a processor the gradients of ReLUs and the like are left whole. Their parts would have the
    passes keep masks of Booleans, which are slow to write and to read there, and not outputs.
    """
    table: dict[Any, Callable[..., Any]] = dict(select_decomp_table())
    if device.type == "cpu":
        for operation in _MASKED:
            table.pop(operation, None)
    return table


def _probe(
    network: Network, views: torch.Tensor
) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...]]:
    """Run a network once: cotangents of its distinct outputs, and which output each layer is."""
    leaf = views.detach().requires_grad_()
    with torch.enable_grad():
        outputs = network(leaf)
    distinct = _distinct(outputs)
    if not all(output.requires_grad and output.is_floating_point() for output in distinct):
        raise ValueError("a layer does not depend on the images")
    if any(output is leaf for output in distinct):
        raise ValueError("the images themselves are read")
    places = tuple(
        next(index for index, one in enumerate(distinct) if one is output) for output in outputs
    )
    # Not the cotangents of the check, which shows if numbers of these are in the code.
    return tuple(-random_like(output) for output in distinct), places


def _distinct(outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return list({id(output): output for output in outputs}.values())
