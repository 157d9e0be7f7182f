"""What the file of settings beside a dictionary says: whose it is, of which place, how large."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fvfast.files.reading import open_regular, reason

_LARGEST = 16 * 2**20  # bytes; such files have a few kilobytes


@dataclasses.dataclass(frozen=True)
class Described:
    """What settings say of a dictionary.

    Attributes
    ----------
    format
        The library; None if they do not tell.
    layer
        The place in the network that the directions are of; None if they do not tell.
    count, width
        N and C; None if they do not tell.
    """

    format: str | None = None
    layer: str | None = None
    count: int | None = None
    width: int | None = None


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON file.

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        It is no JSON object.
    """
    with open_regular(path) as file:
        text = file.read(_LARGEST + 1)
    return parse_config(text, path)


def parse_config(text: bytes, what: Path | str) -> dict[str, Any]:
    """Read a JSON object; raise ValueError if it is none."""
    try:
        if len(text) > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST} bytes")
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{what} is damaged, or no JSON ({reason(error)}); expected the settings that the "
            "library saved with its dictionary."
        ) from error
    if not isinstance(values, dict):
        raise ValueError(f"{what} holds a {type(values).__name__}; expected a JSON object.")
    return values


def describe(config: Mapping[str, Any]) -> Described:
    """Say what settings tell of a dictionary, whichever library wrote them."""
    if isinstance(trainer := config.get("trainer"), dict):
        return Described(
            "dictionary_learning", _text(trainer.get("submodule_name")),
            _number(trainer.get("dict_size")), _number(trainer.get("activation_dim")),
        )  # fmt: skip
    if "hook_point_layer" in config and "layer_subtype" in config:
        return _of_prisma(config)
    if isinstance(saev := config.get("cfg"), dict):
        return Described("saev", None, _number(saev.get("d_sae")), _number(saev.get("d_model")))
    if (width := _number(config.get("d_vit"))) is not None:
        return Described("saev", None, _product(width, config.get("exp_factor")), width)
    if "d_in" in config:
        return _of_saelens(config)
    return Described()


def _of_saelens(config: Mapping[str, Any]) -> Described:
    # Since version 6 the place is part of the metadata; before, it had two other names.
    metadata = config.get("metadata")
    places = {**config, **metadata} if isinstance(metadata, dict) else config
    names = ["hook_name", "hook_point"]
    if (width := _number(config.get("d_out"))) is not None:
        # The directions of a transcoder are of the layer that it predicts.
        names.insert(0, "hook_name_out")
    layer = next((text for name in names if (text := _text(places.get(name)))), None)
    count = _number(config.get("d_sae"))
    return Described("saelens", layer, count, width or _number(config.get("d_in")))


def _of_prisma(config: Mapping[str, Any]) -> Described:
    out = "out_" if config.get("is_transcoder") is True else ""
    layer = config.get(f"{out}hook_point_layer")
    subtype = config.get("layer_out_subtype" if out else "layer_subtype")
    width = _number(config.get("d_in"))
    return Described(
        "vit-prisma",
        f"blocks.{layer}.{subtype}",
        _product(width, config.get("expansion_factor")),
        _number(config.get("d_out")) if out else width,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _product(width: int | None, factor: Any) -> int | None:
    factor = _number(factor)
    return None if width is None or factor is None else width * factor


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
