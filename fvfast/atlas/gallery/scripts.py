"""Data of pages as scripts: pages that open from a disk may load scripts, but no JSON."""

import json
from collections.abc import Sequence
from typing import Any

UNITS_PER_SCRIPT = 16
"""Indices whose details are in one file: a page loads it for one of them."""
_MOST_POINTS = 256  # of a score's history: as many as its chart has pixels, about


def script(key: str, value: Any) -> bytes:
    """Return a script that hands a value to the page under a key."""
    return f"fvfastAtlas.provide({_json(key)}, {_json(value)});\n".encode("ascii")


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # In case that someone copies a script into a page.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def thinned(scores: Sequence[float | None]) -> tuple[list[float | None], int]:
    """Return every so many of the scores of all steps, the last one included, and how many."""
    stride = max(1, -(-len(scores) // _MOST_POINTS))
    last = (len(scores) - 1) % stride if scores else 0
    return list(scores[last::stride]), stride
