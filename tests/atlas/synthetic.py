"""Writes atlases of small pictures, in the files that an atlas has, without drawing anything."""

import dataclasses
import hashlib
import io
import json
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 48
VARIANTS = 6  # of pictures; the bytes of one serve many units
STEPS = 12


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of a synthetic atlas.

    Attributes
    ----------
    name
        Its name.
    count
        Number of units.
    kind
        What its units are.
    names
        Names of some of them.
    examples
        Examples of each unit; 0: the layer has no records of examples.
    transparent
        Whether the pictures have a transparency.
    """

    name: str
    count: int
    kind: str = "channel"
    names: dict[int, str] = dataclasses.field(default_factory=dict)
    examples: int = 3
    transparent: bool = True

    @property
    def quoted(self) -> str:
        return urllib.parse.quote(self.name, safe="")


SETTINGS = {"preset": "fast", "nb_steps": STEPS, "custom_shape": [SIDE, SIDE], "precision": None}


def write_atlas(place: Path, *layers: Layer, network: str = "efficientnet_lite0") -> str:
    """Write an atlas of which all is there; return the hash of its plan."""
    plan = canonical(
        {
            "format": 1,
            "fvfast": "0.1.0",
            "network": {"name": network, "weights_sha256": "5" * 64, "input_shape": [3, 64, 64]},
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "units": [[0, layer.count]] if layer.count else [],
                    "names": {str(index): name for index, name in layer.names.items()} or None,
                    "directions": None,
                    "channel_axis": None,
                }
                for layer in layers
            ],
            "settings": SETTINGS,
            "shard_size": 64,
        }
    )
    place.mkdir(parents=True, exist_ok=True)
    (place / "plan.json").write_bytes(plan)
    digest = hashlib.sha256(plan).hexdigest()
    for layer in layers:
        _write_layer(place, layer, digest)
    return digest


def canonical(values: Any) -> bytes:
    return (json.dumps(values, sort_keys=True, separators=(",", ":")) + "\n").encode("ascii")


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the values of a JSON file."""
    values = json.loads(path.read_bytes())
    change(values)
    path.write_bytes(canonical(values))


def score_of(index: int) -> float:
    """The last score of a unit: another order than that of the indices."""
    return round(5 + 4 * float(np.sin(index)), 4)


def active_of(index: int) -> float:
    """The share of images where a unit is active."""
    return round((index * 37 % 100) / 100, 4)


def _write_layer(place: Path, layer: Layer, digest: str) -> None:
    units = place / "units" / layer.quoted
    units.mkdir(parents=True)
    pictures = [_png(_colors(variant)) for variant in range(VARIANTS)]
    transparency = _png(_alpha())
    crops = [_webp(_colors(variant)) for variant in range(VARIANTS)]
    for index in range(layer.count):
        picture = pictures[index % VARIANTS]
        record = _record(layer, index, digest, picture, transparency)
        (units / f"{index}.png").write_bytes(picture)
        if layer.transparent:
            (units / f"{index}.transparency.png").write_bytes(transparency)
        (units / f"{index}.json").write_bytes(canonical(record))
    if layer.examples:
        _write_examples(place / "examples" / layer.quoted, layer, crops)


def _record(
    layer: Layer, index: int, digest: str, picture: bytes, transparency: bytes
) -> dict[str, Any]:
    stem = f"units/{layer.quoted}/{index}"
    score = score_of(index)
    return {
        "format": 1,
        "plan": digest,
        "key": f"{layer.quoted}/{index}",
        "layer": layer.name,
        "index": index,
        "kind": layer.kind,
        "name": layer.names.get(index),
        "picture": _stored(f"{stem}.png", picture),
        "transparency": (
            _stored(f"{stem}.transparency.png", transparency) if layer.transparent else None
        ),
        "scores": [round(score * (step + 1) / STEPS, 4) for step in range(STEPS)],
        "score": score,
        "steps": STEPS,
        "seconds": 1.5,
        "batch_size": 8,
        "device": "cpu",
        "host": "a-private-host",
        "attempt": 1,
        "drawn_at": f"2026-11-{10 + index % 10}T21:00:00Z",
        "fvfast": "0.1.0",
        "command": f"fvfast maco net --layer '{layer.name}' --channel {index} --preset fast",
    }


def _stored(file: str, data: bytes) -> dict[str, Any]:
    return {
        "file": file,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "width": SIDE,
        "height": SIDE,
    }


def _write_examples(folder: Path, layer: Layer, crops: list[bytes]) -> None:
    folder.mkdir(parents=True)
    edges = [round(bin_ * 0.25, 2) for bin_ in range(33)]
    for index in range(layer.count):
        top = []
        for rank in range(layer.examples):
            crop = crops[(index + rank) % VARIANTS]
            (folder / f"{index}.{rank}.webp").write_bytes(crop)
            top.append(
                {
                    "rank": rank,
                    "value": round(7.5 - rank / 2, 3),
                    "file": f"examples/{layer.quoted}/{index}.{rank}.webp",
                    "sha256": hashlib.sha256(crop).hexdigest(),
                    "source": f"photographs/{index:05d}-{rank}.jpg",
                    "label": "parrot" if rank == 0 else None,
                    "position": [rank, 2],
                    "box": [0, 8, 48, 56],
                    "image_size": [64, 64],
                }
            )
        record = {
            "format": 1,
            "key": f"{layer.quoted}/{index}",
            "layer": layer.name,
            "index": index,
            "images": 320,
            "images_unreadable": 2,
            "mean": 0.75,
            "active_share": active_of(index),
            "histogram": {"edges": edges, "counts": [32 - bin_ for bin_ in range(32)]},
            "top": top,
        }
        (folder / f"{index}.json").write_bytes(canonical(record))


def _colors(variant: int) -> Image.Image:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = [np.sin(3 * (x + channel * y) + variant) for channel in range(3)]
    return Image.fromarray((127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8))


def _alpha() -> Image.Image:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    return Image.fromarray((255 * np.clip(1.4 - 3 * np.hypot(x, y), 0, 1)).astype(np.uint8))


def _png(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def _webp(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.save(target, "WEBP")
    return target.getvalue()
