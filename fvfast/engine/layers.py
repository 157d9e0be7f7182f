"""Names, order and output shapes of a model's layers, and how a user points at one."""

import dataclasses
import difflib
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex

import torch
from torch import nn

from fvfast.engine.state import borrowed, model_device, model_dtype

Preprocess = Callable[[torch.Tensor], torch.Tensor]
OutputKey = int | str | None
LayerSpec = str | int | nn.Module | tuple[str | int | nn.Module, int | str]


@dataclasses.dataclass(frozen=True)
class LayerInfo:
    """One module of a model, as a probe forward pass saw it.

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
    """

    name: str
    type: str
    shape: tuple[int, ...] | None
    index: int | None
    is_leaf: bool
    calls: int


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
    """

    name: str
    module: nn.Module | None
    key: OutputKey
    shape: tuple[int, ...]
    calls: int


IMAGES = Layer(name="images", module=None, key=None, shape=(), calls=0)


def select_output(output: Any, key: OutputKey = None) -> torch.Tensor | None:
    """Read one tensor of a module's output.

    Parameters
    ----------
    output
        Tensor, or tuple, list, mapping or dataclass that holds tensors, possibly nested.
    key
        Index or name of the entry; None takes the first tensor found.

    Returns
    -------
    tensor
        The tensor, or None when there is none (or no such entry).
    """
    if key is not None:
        try:
            return select_output(output[key])
        except (KeyError, IndexError, TypeError):
            return None
    if isinstance(output, torch.Tensor):
        return output
    if dataclasses.is_dataclass(output) and not isinstance(output, (type, Mapping)):
        entries = [getattr(output, field.name) for field in dataclasses.fields(output)]
    elif isinstance(output, Mapping):
        entries = list(output.values())
    elif isinstance(output, Sequence) and not isinstance(output, str):
        entries = list(output)
    else:
        return None
    found = (select_output(entry) for entry in entries)
    return next((tensor for tensor in found if tensor is not None), None)


_Trace = list[tuple[LayerInfo, Any]]
_TraceKey = tuple[tuple[int, ...], int, tuple[int, ...]]
_traces: "weakref.WeakKeyDictionary[nn.Module, dict[_TraceKey, _Trace]]" = (
    weakref.WeakKeyDictionary()
)


def trace_layers(
    model: nn.Module, input_shape: tuple[int, ...], preprocess: Preprocess | None = None
) -> list[LayerInfo]:
    """List every module of a model with its output shape and its place in the order of calls.

    One image of zeros is run through the model once; the result is remembered as long as the model
    lives and keeps its modules.

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
        In the order of ``model.named_modules()``.

    Raises
    ------
    ValueError
        When the model cannot run on one image of this shape.
    """
    return [info for info, _ in _trace(model, input_shape, preprocess)]


def _trace(model: nn.Module, input_shape: tuple[int, ...], preprocess: Preprocess | None) -> _Trace:
    # The identities of the modules tell when the user has changed the network since.
    key = (tuple(input_shape), id(preprocess), tuple(id(module) for module in model.modules()))
    remembered = _traces.setdefault(model, {})
    if key not in remembered:
        remembered[key] = _run_trace(model, tuple(input_shape), preprocess)
    return remembered[key]


def _run_trace(
    model: nn.Module, input_shape: tuple[int, ...], preprocess: Preprocess | None
) -> _Trace:
    shapes: dict[nn.Module, Any] = {}
    calls: dict[nn.Module, int] = {}

    def record(module: nn.Module, _inputs: Any, output: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        shapes[module] = _shapes_of(output)

    handles = [
        module.register_forward_hook(record)
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)  # these take no hooks
    ]
    try:
        with borrowed(model, warn=False), torch.no_grad():
            image = torch.zeros(1, *input_shape, device=model_device(model))
            image = preprocess(image) if preprocess is not None else image
            model(image.to(model_dtype(model)))
    except RuntimeError as error:
        raise ValueError(
            f"the model ({type(model).__name__}) cannot run on one image of shape "
            f"(1, {', '.join(map(str, input_shape))}): {error}. Pass the (C, H, W) it expects as "
            "input_shape=."
        ) from error
    finally:
        for handle in handles:
            handle.remove()

    leaves = [module for module in calls if not any(module.children())]
    order = {module: index for index, module in enumerate(leaves)}
    return [
        (
            LayerInfo(
                name=name,
                type=type(module).__name__,
                shape=_first_shape(shapes.get(module)),
                index=order.get(module),
                is_leaf=not any(module.children()),
                calls=calls.get(module, 0),
            ),
            shapes.get(module),
        )
        for name, module in model.named_modules()
    ]


class _Shapes(dict[Any, Any]):
    """Shapes of the entries of a tuple or mapping output, by index or name."""


def _shapes_of(output: Any) -> Any:
    """Shape of a tensor, or of each entry of a container: the outputs themselves are not kept."""
    tensor = select_output(output)
    if tensor is None:
        return None
    if isinstance(output, torch.Tensor):
        return tuple(tensor.shape[1:])
    entries: dict[Any, Any] = {None: tuple(tensor.shape[1:])}
    keys = list(output) if isinstance(output, Mapping) else range(len(output))
    for key in keys:
        entry = select_output(output, key)
        entries[key] = tuple(entry.shape[1:]) if entry is not None else None
    return _Shapes(entries)


def _first_shape(shapes: Any) -> tuple[int, ...] | None:
    first = shapes[None] if isinstance(shapes, _Shapes) else shapes
    return first if first is None else tuple(first)


def find_layer(
    model: nn.Module,
    layer: LayerSpec,
    input_shape: tuple[int, ...],
    preprocess: Preprocess | None = None,
) -> Layer:
    """Resolve what a user wrote for a layer.

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
    layer, key = layer if isinstance(layer, tuple) else (layer, None)
    trace = _trace(model, input_shape, preprocess)
    name = _layer_name(model, layer, [info for info, _ in trace])
    info, shapes = next(entry for entry in trace if entry[0].name == name)
    label = name or type(model).__name__
    if info.calls == 0:
        raise ValueError(
            f"layer {label!r} is never called when the model runs; `fvfast layers` lists the "
            "layers that are. (Scripted and fused modules do not show the calls inside; "
            "Objective.from_callable takes any function of the model's output.)"
        )
    entries = shapes if isinstance(shapes, _Shapes) else {}
    shape = info.shape if key is None else entries.get(key)
    if shape is None:
        keys = [entry for entry in entries if entry is not None]
        raise ValueError(
            f"layer {label!r} has no tensor output"
            + (f" {key!r}; its outputs are {keys}." if key is not None else ".")
        )
    return Layer(label, dict(model.named_modules())[name], key, shape, info.calls)


def _layer_name(model: nn.Module, layer: str | int | nn.Module, trace: list[LayerInfo]) -> str:
    if isinstance(layer, nn.Module):
        for name, module in model.named_modules():
            if module is layer:
                return name
        raise ValueError(
            f"the given layer ({type(layer).__name__}) is not a module of the model "
            f"({type(model).__name__})."
        )
    if isinstance(layer, str):
        names = [info.name for info in trace]
        if layer in names:
            return layer
        raise ValueError(
            f"the model ({type(model).__name__}) has no layer {layer!r}. "
            f"{_suggestions(layer, names)}"
        )
    if isinstance(layer, SupportsIndex):
        called = sorted(
            (info for info in trace if info.index is not None), key=lambda info: info.index or 0
        )
        index = layer.__index__()
        if not -len(called) <= index < len(called):
            raise ValueError(
                f"layer index {index} is out of range: the model calls {len(called)} leaf modules "
                f"(0 to {len(called) - 1}, or -{len(called)} to -1)."
            )
        return called[index].name
    raise TypeError(
        f"layer must be a name, an index, a module or a pair (layer, key); got "
        f"{type(layer).__name__}."
    )


def _suggestions(name: str, names: list[str]) -> str:
    names = [candidate for candidate in names if candidate]
    # A user often knows the last part of a name only ("conv2" for "features.conv2").
    tails = [candidate for candidate in names if candidate.rsplit(".", 1)[-1] == name]
    close = list(dict.fromkeys(tails[:5] + difflib.get_close_matches(name, names, n=5, cutoff=0.4)))
    if close:
        return f"Closest names: {', '.join(close)}."
    return f"Its layers are {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
