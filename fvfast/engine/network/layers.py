"""Names, order and output shapes of a model's layers, and how a user selects one."""

import dataclasses
import difflib
import weakref
from collections.abc import Hashable, Mapping
from typing import Any, SupportsIndex

from torch import nn

from fvfast._shared.messages import warn_user
from fvfast.engine.borrowing.fingerprint import identity
from fvfast.engine.borrowing.state import unwrap
from fvfast.engine.network.outputs import OutputKey as OutputKey
from fvfast.engine.network.outputs import select_output as select_output
from fvfast.engine.network.preprocessing import Preprocess as Preprocess
from fvfast.engine.network.probe import ModuleRecord, OutputInfo, run_probe
from fvfast.engine.network.wrapped_names import find_wrapped_name

LayerSpec = str | int | nn.Module | tuple[str | int | nn.Module, int | str]


@dataclasses.dataclass(frozen=True)
class LayerInfo:
    """One module of a model, as seen in a probe forward pass.

    Attributes
    ----------
    name
        Dotted name, as in ``model.named_modules()``; empty for the model itself.
    type
        Class name.
    shape
        Output shape without the batch dimension; None when the module was never called or returned
        no tensor.
    index
        Position among the leaf modules in the order in which the network first calls them; None
        for modules with children and for modules that were never called.
    is_leaf
        Whether the module has no children.
    calls
        How often one forward pass calls it.
    channel_axis
        Axis of the shape that holds the channels; None if it cannot be told from the network.
    """

    name: str
    type: str
    shape: tuple[int, ...] | None
    index: int | None
    is_leaf: bool
    calls: int
    channel_axis: int | None = None


@dataclasses.dataclass(frozen=True)
class Layer:
    """A resolved layer: where an objective reads.

    Attributes
    ----------
    name
        Dotted name used in the names of objectives.
    module
        The module, or None for the images that enter the model.
    key
        Which entry of a tuple or mapping output to read; None means the first tensor.
    shape
        Shape of that output without the batch dimension; empty for the images.
    calls
        How often one forward pass calls the module.
    channel_axis
        Axis of the shape that holds the channels; None if it cannot be told from the network.
    """

    name: str
    module: nn.Module | None
    key: OutputKey
    shape: tuple[int, ...]
    calls: int
    channel_axis: int | None = None


IMAGES = Layer(name="images", module=None, key=None, shape=(), calls=0)


@dataclasses.dataclass(frozen=True)
class _Traced:
    """What the probe saw of one module: its outputs (with the batch) by entry."""

    info: LayerInfo
    outputs: Mapping[Any, OutputInfo]
    has_batch_statistics: bool


@dataclasses.dataclass
class _Trace:
    """All modules of a network, and the number of images in the probe's batch."""

    modules: list[_Traced]
    batch: int
    warned: bool = False


KEPT_TRACES = 4
"""How many traces are kept for each network: the latest, of different shapes or preprocessings."""

# The traces keep neither their network alive nor a preprocessing, which may refer to the network.
_traces: "weakref.WeakKeyDictionary[nn.Module, dict[Hashable, _Trace]]" = (
    weakref.WeakKeyDictionary()
)


def trace_layers(
    model: nn.Module, input_shape: tuple[int, ...], preprocess: Preprocess | None = None
) -> list[LayerInfo]:
    """List every module of a model with its output shape and its place in the order of calls.

    One image of zeros is run through the model; the result is kept as long as the model exists and
    keeps its modules.

    Parameters
    ----------
    model
        The network.
    input_shape
        (C, H, W) of one image.
    preprocess
        Applied to the image before the model.

    Returns
    -------
    layers
        In the order of ``model.named_modules()``. For a wrapped model (`torch.nn.DataParallel`,
        `torch.compile`), those of the network inside.

    Raises
    ------
    ValueError
        When the model cannot run on one image of this shape.
    """
    trace = _trace(unwrap(model), input_shape, preprocess)
    return [traced.info for traced in trace.modules]


def _trace(model: nn.Module, input_shape: tuple[int, ...], preprocess: Preprocess | None) -> _Trace:
    # The modules and their printed settings show whether the user has changed the network.
    modules = tuple(id(module) for module in model.modules())
    try:
        key = (tuple(input_shape), identity(preprocess), repr(model), modules)
    except TypeError:  # a preprocessing that allows no weak reference
        return _run_trace(model, tuple(input_shape), preprocess)
    remembered = _traces.setdefault(model, {})
    if key not in remembered:
        trace = _run_trace(model, tuple(input_shape), preprocess)
        for old in list(remembered)[: max(0, len(remembered) + 1 - KEPT_TRACES)]:
            del remembered[old]
        remembered[key] = trace
    return remembered[key]


def _run_trace(
    model: nn.Module, input_shape: tuple[int, ...], preprocess: Preprocess | None
) -> _Trace:
    probe = run_probe(model, input_shape, preprocess)
    leaves = [module for module in probe.modules if not any(module.children())]
    order = {module: index for index, module in enumerate(leaves)}
    traced = []
    for name, module in model.named_modules():
        seen = probe.modules.get(module, ModuleRecord(0, {}, False))
        output = seen.outputs.get(None)
        info = LayerInfo(
            name=name,
            type=type(module).__name__,
            shape=None if output is None else output.shape[1:],
            index=order.get(module),
            is_leaf=not any(module.children()),
            calls=seen.calls,
            channel_axis=None if output is None else output.channel_axis,
        )
        traced.append(_Traced(info, seen.outputs, seen.has_batch_statistics))
    return _Trace(traced, probe.batch)


def find_layer(
    model: nn.Module,
    layer: LayerSpec,
    input_shape: tuple[int, ...],
    preprocess: Preprocess | None = None,
) -> Layer:
    """Find the layer that a user named.

    Parameters
    ----------
    model
        The network.
    layer
        Dotted name; index in the order in which the network calls its leaf modules (-1 is the last
        one); the module itself; or a pair (one of these, key) to read one entry of a tuple or
        mapping output.
    input_shape, preprocess
        As in `trace_layers`.

    Returns
    -------
    layer
        The resolved layer.

    Raises
    ------
    ValueError
        Unknown name (the closest names are listed), index out of range, a module that is not part
        of the model, is never called, or returns no tensor.
    """
    model = unwrap(model)
    layer, key = layer if isinstance(layer, tuple) else (layer, None)
    trace = _trace(model, input_shape, preprocess)
    module, label = _layer_module(model, layer, [traced.info for traced in trace.modules])
    first_name = next(name for name, candidate in model.named_modules() if candidate is module)
    traced = next(candidate for candidate in trace.modules if candidate.info.name == first_name)
    label = label or first_name or type(model).__name__
    output = _checked_output(label, key, traced, trace.batch)
    if traced.has_batch_statistics and not trace.warned:
        trace.warned = True
        _warn_of_batch_statistics(label)
    return Layer(label, module, key, output.shape[1:], traced.info.calls, output.channel_axis)


def _checked_output(label: str, key: OutputKey, traced: _Traced, batch: int) -> OutputInfo:
    """Return the output of a layer that an objective can read; raise ValueError otherwise."""
    if traced.info.calls == 0:
        raise ValueError(
            f"layer {label!r} is never called when the model runs; `fvfast layers` lists the "
            "layers that are. (Scripted and fused modules do not show the calls inside; "
            "Objective.from_callable takes any function of the model's output.)"
        )
    keys = [entry for entry in traced.outputs if entry is not None]
    if key not in traced.outputs:
        raise ValueError(
            f"layer {label!r} has no tensor output"
            + (f" {key!r}; its outputs are {keys}." if key is not None else ".")
        )
    output = traced.outputs[key]
    if output.dtype.is_complex:
        raise ValueError(
            f"layer {label!r} puts out complex numbers ({output.dtype}), which have no order: say "
            "what is to be large with Objective.from_callable(model, f), where f returns, for "
            "example, torch.abs(...) or torch.view_as_real(...) of what the network puts out; or "
            "read a layer behind it."
        )
    if not output.dtype.is_floating_point:
        raise ValueError(
            f"layer {label!r} puts out {output.dtype}, through which no gradient passes: read a "
            "layer before it"
            + (f", or another of its outputs: (layer, key) with a key of {keys}." if keys else ".")
        )
    if not output.shape or output.shape[0] != batch:
        images = "one image" if batch == 1 else f"{batch} images"
        raise ValueError(
            f"layer {label!r} puts out a tensor of shape {output.shape} for {images}: the "
            "batch must come first. Read a layer before or behind it, or bring the batch to the "
            "front in a function for Objective.from_callable."
        )
    return output


def _warn_of_batch_statistics(label: str) -> None:
    warn_user(
        f"layer {label!r} lies behind a batch normalization without running statistics "
        "(track_running_stats=False, or training=True in a function): what it puts out for one "
        "view depends on the views that are run with it, so a picture differs alone, in a batch, "
        "and with the memory that there is. Give the network running statistics, or take "
        "batch_size=1.",
        UserWarning,
    )


def _layer_module(
    model: nn.Module, layer: str | int | nn.Module, trace: list[LayerInfo]
) -> tuple[nn.Module, str | None]:
    """Find a module, and the name that the user gave for it, if any."""
    modules = dict(model.named_modules(remove_duplicate=False))
    if isinstance(layer, nn.Module):
        # A compiled or parallel layer means the layer inside, if the network has only that.
        for candidate in (layer, unwrap(layer)):
            if any(module is candidate for module in modules.values()):
                return candidate, None
        raise ValueError(
            f"the given layer ({type(layer).__name__}) is not a module of the model "
            f"({type(model).__name__})."
        )
    if isinstance(layer, str):
        name = layer if layer in modules else find_wrapped_name(layer, modules)
        if name is not None:
            return modules[name], name
        raise ValueError(
            f"the model ({type(model).__name__}) has no layer {layer!r}. "
            f"{_suggestions(layer, list(modules))}"
        )
    if isinstance(layer, SupportsIndex) and not isinstance(layer, bool):
        called = sorted(
            (info for info in trace if info.index is not None), key=lambda info: info.index or 0
        )
        index = layer.__index__()
        if not called:
            raise ValueError(
                f"layer index {index}: the model ({type(model).__name__}) calls no module that "
                "could be watched, as is the case with TorchScript. Use the network that it was "
                "made of, or Objective.from_callable(model, function)."
            )
        if not -len(called) <= index < len(called):
            raise ValueError(
                f"layer index {index} is out of range: the model calls {len(called)} leaf modules "
                f"(0 to {len(called) - 1}, or -{len(called)} to -1)."
            )
        return modules[called[index].name], None
    raise TypeError(
        f"layer must be a name, an index, a module or a pair (layer, key); got "
        f"{type(layer).__name__}."
    )


def _suggestions(name: str, names: list[str]) -> str:
    names = [candidate for candidate in names if candidate]
    # Users often know only the last part of a name ("conv2" for "features.conv2").
    tails = [candidate for candidate in names if candidate.rsplit(".", 1)[-1] == name]
    close = list(dict.fromkeys(tails[:5] + difflib.get_close_matches(name, names, n=5, cutoff=0.4)))
    if close:
        return f"Closest names: {', '.join(close)}."
    return f"Its layers are {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
