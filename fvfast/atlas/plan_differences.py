"""How a plan that is there differs from one that is asked for, field by field."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fvfast._shared.messages import printable, shortened
from fvfast.atlas.plan import Plan
from fvfast.atlas.sizes import goes_on_with

_SHOWN = 3
_NO_DIFFERENCE = frozenset({"batch_size_chosen"})


def differences(there: Plan, asked: Plan) -> list[str]:
    """Say field by field how a plan that is there differs from one that is asked for."""
    old, new = (dict(_flat(json.loads(plan.text))) for plan in (there, asked))
    return [
        f"{printable(name)} is {_shown(old, name)} there and {_shown(new, name)} here"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name) and name not in _NO_DIFFERENCE
    ]


def refuse_other(there: Plan, asked: Plan, where: str) -> None:
    """Raise ValueError, with the differences, unless an atlas goes on with what is asked for."""
    if goes_on_with(there, asked):
        return
    found = differences(there, asked)
    more = f", and {len(found) - _SHOWN} more differences" if len(found) > _SHOWN else ""
    raise ValueError(
        f"{where} has an atlas with another plan: {'; '.join(found[:_SHOWN])}{more}. Ask for the "
        "same as before to go on with it, or choose another place with --out."
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name == "layers":
            for layer in value:
                yield from _flat(
                    {k: v for k, v in layer.items() if k != "name"}, f"layer {layer['name']}: "
                )
        elif isinstance(value, dict) and name in ("network", "settings"):
            yield from _flat(value, "" if name == "settings" else f"{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "missing"
    value = values[name]
    if name.endswith(": units"):
        value = ",".join(f"{a}-{b - 1}" if b - a > 1 else str(a) for a, b in value)
        return shortened(value, 60)
    return shortened(printable(json.dumps(value)), 60)
