"""The command that draws a unit again, for its record."""

import shlex
from typing import Any

from fvfast.atlas.keys import UnitKey
from fvfast.atlas.plan import Plan
from fvfast.atlas.planned_layers import PlannedLayer
from fvfast.run.maco_settings import MacoSettings

_OPTIONS = {
    "nb_steps": "--steps",
    "nb_crops": "--crops",
    "noise_intensity": "--noise",
    "box_size": "--box-size",
    "learning_rate": "--learning-rate",
    "color_shift": "--color-shift",
    "view_size": "--view-size",
    "custom_shape": "--size",
    "precision": "--precision",
    "seed": "--seed",
}


def command_for(plan: Plan, key: UnitKey, values_range: tuple[float, float]) -> str:
    """Return a command line that draws a unit again.

    Parameters
    ----------
    plan
        The plan.
    key
        The unit.
    values_range
        Of the network, which the command finds itself.
    """
    layer = plan.layer(key.layer)
    words = ["fvfast", *_units(plan, layer, key.index), "--preset", plan.settings["preset"]]
    usual = MacoSettings.with_preset(preset=plan.settings["preset"]).described()
    for name, option in _OPTIONS.items():
        value = plan.settings.get(name)
        if value != usual[name] and value is not None:
            words += [option, _written(name, value)]
    if (found := plan.settings.get("values_range")) != list(values_range) and found:
        words += ["--values-range", ",".join(map(str, found))]
    if spectrum := plan.settings.get("spectrum"):
        words += ["--spectrum", spectrum["file"]]
    return shlex.join(words)


def _units(plan: Plan, layer: PlannedLayer, index: int) -> list[str]:
    network, name = plan.network.name, layer.name
    # A name that is a number would mean an index.
    where = f"name:{name}" if name.isdecimal() or name.startswith(("name:", "index:")) else name
    axis = [] if layer.channel_axis is None else ["--channel-axis", str(layer.channel_axis)]
    if layer.directions is not None:
        # The other command draws all of a file, with random numbers of its own.
        chosen = ["--directions", layer.directions.file, "--units", str(index), *axis]
        return ["atlas", "run", network, "--layer", where, *chosen, "--out", "again"]
    return ["maco", network, "--layer", where, f"--{layer.kind}", str(index), *axis]


def _written(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ("x" if name == "custom_shape" else ",").join(map(str, value))
    return str(value)
