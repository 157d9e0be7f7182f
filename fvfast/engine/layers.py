"""Names, order and output shapes of a model's layers, and how a user points at one."""

import dataclasses
import difflib
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex

import torch
from torch import nn

from fvfast.engine.input_type import input_dtype
from fvfast.engine.randomness import drawn_from
from fvfast.engine.state import borrowed, model_device
from fvfast.engine.threads import in_this_thread

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
        entries = _entries(output)
        return select_output(entries[key]) if key in entries else None
    if isinstance(output, torch.Tensor):
        return output
    found = (select_output(entry) for entry in _entries(output).values())
    return next((tensor for tensor in found if tensor is not None), None)


def _entries(output: Any) -> dict[Any, Any]:
    """Entries of a tuple, list, mapping or dataclass by index or name; empty for all else."""
    if isinstance(output, Mapping):
        return dict(output)
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    if isinstance(output, Sequence) and not isinstance(output, str):
        return dict(enumerate(output))
    return {}


@dataclasses.dataclass(frozen=True)
class _Traced:
    """What the probe saw of one module: shapes with the batch, by entry; None is the first."""

    info: LayerInfo
    shapes: Mapping[Any, tuple[int, ...]]


_Trace = list[_Traced]
_TraceKey = tuple[tuple[int, ...], int, str, tuple[int, ...]]
# A trace keeps its preprocess alive, so that another one cannot take over its identity.
_traces: "weakref.WeakKeyDictionary[nn.Module, dict[_TraceKey, tuple[_Trace, Any]]]" = (
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
    return [traced.info for traced in _trace(model, input_shape, preprocess)]


def _trace(model: nn.Module, input_shape: tuple[int, ...], preprocess: Preprocess | None) -> _Trace:
    # Modules and their printed settings tell when the user has changed the network since.
    modules = tuple(id(module) for module in model.modules())
    key = (tuple(input_shape), id(preprocess), repr(model), modules)
    remembered = _traces.setdefault(model, {})
    if key not in remembered:
        remembered[key] = (_run_trace(model, tuple(input_shape), preprocess), preprocess)
    return remembered[key][0]


def _run_trace(
    model: nn.Module, input_shape: tuple[int, ...], preprocess: Preprocess | None
) -> _Trace:
    shapes: dict[nn.Module, dict[Any, tuple[int, ...]]] = {}
    calls: dict[nn.Module, int] = {}

    def record(module: nn.Module, _inputs: Any, output: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        keys = [None, *_entries(output)]
        tensors = {key: select_output(output, key) for key in keys}
        shapes[module] = {
            key: tuple(tensor.shape) for key, tensor in tensors.items() if tensor is not None
        }

    with torch.inference_mode(False), torch.no_grad(), borrowed(model, warn=False):
        hook = in_this_thread(record)
        handles = [
            module.register_forward_hook(hook)
            for module in model.modules()
            if not isinstance(module, torch.jit.ScriptModule)  # these take no hooks
        ]
        try:
            image = torch.zeros(1, *input_shape, device=model_device(model))
            with drawn_from(0, 0, image.device):
                image = preprocess(image) if preprocess is not None else image
                model(image.to(input_dtype(model, image)))
        except Exception as error:
            raise ValueError(
                f"the model ({type(model).__name__}) failed on one image of zeros of shape "
                f"(1, {', '.join(map(str, input_shape))}): {type(error).__name__}: {error} "
                "If it takes images of another shape, pass their (C, H, W) as input_shape=."
            ) from error
        finally:
            for handle in handles:
                handle.remove()

    leaves = [module for module in calls if not any(module.children())]
    order = {module: index for index, module in enumerate(leaves)}
    return [
        _Traced(
            LayerInfo(
                name=name,
                type=type(module).__name__,
                shape=shapes[module][None][1:] if None in shapes.get(module, {}) else None,
                index=order.get(module),
                is_leaf=not any(module.children()),
                calls=calls.get(module, 0),
            ),
            shapes.get(module, {}),
        )
        for name, module in model.named_modules()
    ]


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
    module = _layer_module(model, layer, [traced.info for traced in trace])
    first_name = next(name for name, candidate in model.named_modules() if candidate is module)
    traced = next(candidate for candidate in trace if candidate.info.name == first_name)
    # A module with several names goes by the one the user gave.
    label = (layer if isinstance(layer, str) else first_name) or type(model).__name__
    if traced.info.calls == 0:
        raise ValueError(
            f"layer {label!r} is never called when the model runs; `fvfast layers` lists the "
            "layers that are. (Scripted and fused modules do not show the calls inside; "
            "Objective.from_callable takes any function of the model's output.)"
        )
    if key not in traced.shapes:
        keys = [entry for entry in traced.shapes if entry is not None]
        raise ValueError(
            f"layer {label!r} has no tensor output"
            + (f" {key!r}; its outputs are {keys}." if key is not None else ".")
        )
    batch, *shape = traced.shapes[key]
    if batch != 1:
        raise ValueError(
            f"layer {label!r} puts out a tensor of shape {traced.shapes[key]} for one image: the "
            "batch must come first. Read a layer before or behind it, or bring the batch to the "
            "front in a function for Objective.from_callable."
        )
    return Layer(label, module, key, tuple(shape), traced.info.calls)


def _layer_module(
    model: nn.Module, layer: str | int | nn.Module, trace: list[LayerInfo]
) -> nn.Module:
    modules = dict(model.named_modules(remove_duplicate=False))
    if isinstance(layer, nn.Module):
        if any(module is layer for module in modules.values()):
            return layer
        raise ValueError(
            f"the given layer ({type(layer).__name__}) is not a module of the model "
            f"({type(model).__name__})."
        )
    if isinstance(layer, str):
        if layer in modules:
            return modules[layer]
        raise ValueError(
            f"the model ({type(model).__name__}) has no layer {layer!r}. "
            f"{_suggestions(layer, list(modules))}"
        )
    if isinstance(layer, SupportsIndex) and not isinstance(layer, bool):
        called = sorted(
            (info for info in trace if info.index is not None), key=lambda info: info.index or 0
        )
        index = layer.__index__()
        if not -len(called) <= index < len(called):
            raise ValueError(
                f"layer index {index} is out of range: the model calls {len(called)} leaf modules "
                f"(0 to {len(called) - 1}, or -{len(called)} to -1)."
            )
        return modules[called[index].name]
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
