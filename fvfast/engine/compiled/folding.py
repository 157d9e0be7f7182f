"""Changes the recorded graph of a pass: constants become inputs, and are computed beforehand."""

import operator
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import fx

_aten = torch.ops.aten
_ALIASES = (_aten.alias.default, _aten.detach.default)


def lift_constants(graph_module: fx.GraphModule) -> list[torch.Tensor]:
    """Make the constants of a graph its last inputs, and return them.

    As parts of the graph they would stay with the compiled code, which is kept for the process.

    Raises
    ------
    ValueError
        One is no tensor, but a generator, for example, from which the network draws.
    """
    graph = graph_module.graph
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    inputs: dict[str, fx.Node] = {}
    constants: list[torch.Tensor] = []
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        assert isinstance(node.target, str)
        if node.target not in inputs:
            with graph.inserting_after(last):
                last = inputs[node.target] = graph.placeholder(f"constant_{len(constants)}")
            constant = getattr(graph_module, node.target)
            if not isinstance(constant, torch.Tensor):
                raise ValueError(f"the network uses a {type(constant).__name__} of its own")
            constants.append(constant.detach())
        node.replace_all_uses_with(inputs[node.target])
        graph.erase_node(node)
    for name in inputs:
        delattr(graph_module, name)
    graph_module.recompile()
    return constants


def name_inputs(graph_module: fx.GraphModule, tangents: Collection[int]) -> None:
    """Give inputs the names by which torch tells those of the backward pass: "tangents_1", ..."""
    inputs = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    for index, node in enumerate(inputs):
        name = f"tangents_{index}" if index in tangents else f"primals_{index}"
        node._rename(name)
        node.target = name
    graph_module.recompile()


def remove_aliases(graph_module: fx.GraphModule) -> None:
    """Remove operations that only return their input: nothing is written to any more."""
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and node.target in _ALIASES:
            node.replace_all_uses_with(node.args[0])
            graph_module.graph.erase_node(node)
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()


def forget_unused_images(graph_module: fx.GraphModule) -> None:
    """Give the backward pass of convolutions images without values, which it reads the shape of.

    So these need not be kept. Gradients of weights, which would need them, are not computed.
    """
    graph = graph_module.graph
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is not _aten.convolution_backward.default:
            continue
        _, images, *_, mask = node.args
        if mask[1] or not isinstance(images, fx.Node):
            continue
        value = images.meta["val"]
        with graph.inserting_before(node):
            empty = graph.call_function(
                _aten.empty_strided.default,
                (list(value.shape), list(value.stride())),
                {"dtype": value.dtype, "device": value.device},
            )
        empty.meta["val"] = value
        node.args = (node.args[0], empty, *node.args[2:])
    graph.eliminate_dead_code()
    graph_module.recompile()


def mask_by_outputs(graph_module: fx.GraphModule) -> None:
    """Compute gradients of ReLU6 and the like from their outputs, which are kept anyway.

    The input is at or beyond a limit exactly where the output is at it.
    """
    outputs = {
        node.args: node
        for node in graph_module.graph.nodes
        if node.op == "call_function" and node.target is _aten.hardtanh.default
    }
    for node in graph_module.graph.nodes:
        if node.op == "call_function" and node.target is _aten.hardtanh_backward.default:
            gradient, *settings = node.args
            if (output := outputs.get(tuple(settings))) is not None:
                node.args = (gradient, output, *settings[1:])
    graph_module.recompile()


def fold_constants(
    graph_module: fx.GraphModule, constants: Mapping[int, torch.Tensor]
) -> list[torch.Tensor]:
    """Compute what depends on constants alone, once, and make the results inputs in their place.

    Parameters
    ----------
    graph_module
        The graph, which is changed.
    constants
        By their place among the inputs.

    Returns
    -------
    constants
        Those that the graph still needs, in the order of its inputs, which come last.
    """
    graph = graph_module.graph
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    values = {inputs[index]: value for index, value in constants.items()}
    made: set[fx.Node] = set()  # from nothing, such as zeros and ranges
    folded: list[fx.Node] = []
    for node in graph.nodes:
        if node.op != "call_function" or not _is_function(node):
            continue
        needed = node.all_input_nodes
        if not needed:
            made.add(node)
        elif all(one in values or one in made for one in needed):
            if any(one in values for one in needed):
                _compute(node, values)
                folded.append(node)
            else:
                made.add(node)
    everything = [*(inputs[index] for index in constants), *folded]
    inner = set(everything)
    results: list[torch.Tensor] = []
    place = inputs[-1]
    for node in everything:
        if inner.issuperset(node.users):
            continue
        with graph.inserting_after(place):
            place = graph.placeholder(f"folded_{len(results)}")
        place.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(place, lambda user: user not in inner)
        results.append(values[node])
    graph.eliminate_dead_code()
    for index in constants:
        graph.erase_node(inputs[index])
    graph_module.recompile()
    return results


def _is_function(node: fx.Node) -> bool:
    """Whether a node returns the same tensor for the same inputs, and changes nothing."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.target is operator.getitem
    seeded = torch.Tag.nondeterministic_seeded in node.target.tags
    return not seeded and not node.target._schema.is_mutable


def _compute(node: fx.Node, values: dict[fx.Node, Any]) -> None:
    """Compute a node, and what it needs that is made from nothing."""
    for one in node.all_input_nodes:
        if one not in values:
            _compute(one, values)
    arguments = fx.map_arg((node.args, node.kwargs), lambda one: values[one])
    assert callable(node.target)
    with torch.no_grad():
        values[node] = node.target(*arguments[0], **arguments[1])
