"""The settings of a run as they are in effect: given, of the preset, or of the signature."""

import inspect
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from fvfast._version import VERSION
from fvfast.engine.fingerprint import contents
from fvfast.run.presets import DEFAULT_BOX_SIZE, FALLING_NOISE, find_preset
from fvfast.run.schedules import schedule_of

# What does not change the picture, or is told in another way.
_LEFT_OUT = frozenset({"objective", "maco_dataset", "progress", "callback", "save_every", "device"})


def default_of(function: Callable[..., Any], argument: str) -> Any:
    """Return the default of an argument, as the function's signature has it."""
    return inspect.signature(function).parameters[argument].default


def effective_settings(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of all settings of `fvfast.maco` or `fvfast.optimize` in a run.

    Parameters
    ----------
    function
        One of the two.
    given
        The arguments that it is called with.

    Returns
    -------
    settings
        By name, ready for JSON: schedules as a number or [first, last], functions by their names,
        the default optimizer as "default".
    """
    parameters = inspect.signature(function).parameters
    values = {
        name: default_of(function, name) for name in parameters if name not in _LEFT_OUT
    }  # in the order of the signature
    if "preset" in values:
        given = find_preset(given.get("preset", values["preset"])).arguments_with(given)
    values.update((name, value) for name, value in given.items() if name in values)
    if "preset" in values:
        steps = values["nb_steps"]
        for name, default in (
            ("box_size", DEFAULT_BOX_SIZE),
            ("noise_intensity", FALLING_NOISE),
            ("learning_rate", None),
        ):
            if values[name] is not None or default is not None:
                at = schedule_of(name, values[name], steps, default)
                first, last = at(0), at(steps - 1)
                values[name] = first if first == last else [first, last]
    if values["optimizer"] is None:
        values["optimizer"] = "default"
    return {name: _plain(value) for name, value in values.items()}


def versions() -> dict[str, str]:
    """Versions that a picture depends on."""
    return {"fvfast": VERSION, "torch": torch.__version__}


def weights_digest(model: nn.Module) -> str:
    """Eight digits that are others for a network of other weights, such as random ones.

    Returns
    -------
    digest
        Hexadecimal digits; "unknown" for tensors whose memory cannot be read.
    """
    tensors = dict((*model.named_parameters(), *model.named_buffers()))
    try:
        checksums = contents(tensors.values())
    except (RuntimeError, ValueError):
        return "unknown"
    shapes = [(name, tuple(one.shape), str(one.dtype)) for name, one in tensors.items()]
    return f"{zlib.crc32(repr((shapes, checksums)).encode()):08x}"


def _plain(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return getattr(value, "__name__", repr(value)).strip("_")
