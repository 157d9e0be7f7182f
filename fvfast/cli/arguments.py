"""Parses values of the command line (lists of numbers, sizes, layers) and makes file names."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import typer

from fvfast._shared.messages import shortened
from fvfast.engine.network.layers import LayerInfo
from fvfast.run.schedules import Linear

# Limits of options. More is a typing error, and would only run out of memory.
MOST_STEPS = 10_000_000
MOST_CROPS = 100_000
MOST_TOGETHER = 100_000
LARGEST_SEED = 2**63 - 1
_MOST_IDS = 1_000_000
_MOST_PIXELS = 2**27  # Pillow opens no picture that is much larger
_LONGEST_NAME = 100
# No number has more digits here; Python refuses to read thousands of them.
_NUMBER = r"(\d{1,18})"
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


def parse_ids(text: str) -> list[int]:
    """Parse a list such as ``3,5-9``; return its numbers in the order given, each once.

    Raises
    ------
    typer.BadParameter
        The text is not such a list, or lists more than a million numbers.
    """
    ids: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(rf"\s*{_NUMBER}\s*(?:-\s*{_NUMBER}\s*)?", part, re.ASCII)
        if match is None:
            raise typer.BadParameter(
                f"{_quoted(text)} is not a list of numbers; expected numbers and ranges, such as "
                "3,5-9."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise typer.BadParameter(
                f"the range {part.strip()} ends before it begins; expected FIRST-LAST such as 5-9."
            )
        if last - first >= _MOST_IDS - len(ids):
            raise typer.BadParameter(
                f"{_quoted(text)} lists more than {_MOST_IDS:,} numbers; expected one number for "
                "each picture, such as 3,5-9."
            )
        ids.update(dict.fromkeys(range(first, last + 1)))
    return list(ids)


def parse_ids_or_all(text: str) -> list[int] | Literal["all"]:
    """Parse what `parse_ids` does, or the word ``all``."""
    return "all" if text.strip().lower() == "all" else parse_ids(text)


def parse_together(text: str) -> int | Literal["auto"]:
    """Parse how many pictures are drawn together: a number, or the word ``auto``.

    Raises
    ------
    typer.BadParameter
        The text is neither, or the number is out of range.
    """
    if text.strip().lower() == "auto":
        return "auto"
    match = re.fullmatch(rf"\s*{_NUMBER}\s*", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= MOST_TOGETHER:
        raise typer.BadParameter(
            f"{_quoted(text)} is no number of pictures; expected 1 to {MOST_TOGETHER:,}, or auto."
        )
    return int(match[1])


def parse_schedule(text: str) -> float | Linear:
    """Parse a number such as ``0.3``, or the numbers of the first and the last step: ``0.9,0.3``.

    Raises
    ------
    typer.BadParameter
        The text is not one or two finite numbers of at least 0.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 <= value < math.inf for value in values):
        raise typer.BadParameter(
            f"{_quoted(text)} is not a number or FIRST,LAST; expected numbers of at least 0, such "
            "as 0.3 or 0.9,0.3."
        )
    return values[0] if len(values) == 1 else Linear(*values)


def parse_size(text: str) -> tuple[int, int]:
    """Parse a size such as ``512`` or ``480x640``; return (height, width).

    Raises
    ------
    typer.BadParameter
        The text is not a size, a side is below 2 pixels, or there are more than 134 million pixels.
    """
    match = re.fullmatch(rf"\s*{_NUMBER}\s*(?:[xX]\s*{_NUMBER}\s*)?", text, re.ASCII)
    if match is None:
        raise typer.BadParameter(
            f"{_quoted(text)} is not a size; expected a side in pixels such as 512, or "
            "HEIGHTxWIDTH such as 480x640."
        )
    height, width = int(match[1]), int(match[2] or match[1])
    if min(height, width) < 2:
        raise typer.BadParameter(f"{text!r} is too small; expected at least 2 x 2 pixels.")
    if height * width > _MOST_PIXELS:
        raise typer.BadParameter(
            f"{text!r} is too large; expected at most {_MOST_PIXELS:,} pixels in all, which is "
            f"{math.isqrt(_MOST_PIXELS)} x {math.isqrt(_MOST_PIXELS)}."
        )
    return height, width


def parse_range(text: str) -> tuple[float, float]:
    """Parse a range such as ``-1,1``; return (low, high).

    Raises
    ------
    typer.BadParameter
        The text is not two finite numbers, the lower one first.
    """
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low, high = math.nan, math.nan
    if not -math.inf < low < high < math.inf:
        raise typer.BadParameter(
            f"{_quoted(text)} is not a range of values; expected LOW,HIGH such as 0,1 or -1,1."
        )
    return low, high


def parse_layer(text: str, layers: Sequence[LayerInfo]) -> str | int:
    """Parse the name or index of a layer.

    Parameters
    ----------
    text
        ``name:NAME``, ``index:NUMBER``, or one of the two without its prefix if that can only mean
        one layer.
    layers
        The layers of the network.

    Raises
    ------
    typer.BadParameter
        The index is not a number; or a number without prefix is both the name of one layer and the
        index of another.
    """
    prefix, colon, rest = text.partition(":")
    if colon and prefix == "name":
        return rest
    if colon and prefix == "index":
        if not _INTEGER.fullmatch(rest):
            raise typer.BadParameter(
                f"{_quoted(text)} is not an index; expected a number, as in index:3."
            )
        return int(rest)
    if not _INTEGER.fullmatch(text):
        return text
    meant = ambiguous_layers(layers).get(text)
    if meant is not None:
        named, counted = meant
        raise typer.BadParameter(
            f"--layer {text} may mean two layers: the one named {named.name!r} ({named.type}), "
            f"name:{text}, or the one with index {text}, which is {counted.name!r} "
            f"({counted.type}), index:{text}. Write one of the two."
        )
    return text if any(info.name == text for info in layers) else int(text)


def ambiguous_layers(layers: Sequence[LayerInfo]) -> dict[str, tuple[LayerInfo, LayerInfo]]:
    """Find the numbers that are the name of a layer and the index of another one."""
    by_index = {str(info.index): info for info in layers if info.index is not None}
    return {
        info.name: (info, by_index[info.name])
        for info in layers
        if info.name in by_index and by_index[info.name] is not info
    }


def check_finite_option(value: float | None) -> float | None:
    """Return a number; raise typer.BadParameter if it is NaN or infinite."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number; expected one such as 0.1.")
    return value


def _quoted(text: str) -> str:
    return shortened(repr(text), 80)


def file_names(names: Iterable[str], prefix: str) -> list[str]:
    """Make distinct PNG file names for objectives, of letters, digits and ``. _ -`` only."""
    taken: set[str] = set()
    files = []
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{prefix} {name}")[:_LONGEST_NAME].strip("._")
        candidate, number = stem, 1
        # Some file systems do not distinguish upper and lower case.
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{stem}_{number}"
        taken.add(candidate.casefold())
        files.append(f"{candidate}.png")
    return files
