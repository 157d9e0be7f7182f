"""The table of all units, which one writer makes at the end: Parquet, or CSV without pyarrow."""

import csv
import importlib.util
import io
from typing import Any

from fvfast.atlas.keys import MANIFESTS, UnitKey
from fvfast.atlas.places import Place
from fvfast.atlas.plan import Plan
from fvfast.atlas.progress import side_by_side
from fvfast.atlas.records import Record

_PARQUET, _CSV = MANIFESTS


def write_manifest(plan: Plan, place: Place) -> str:
    """Write the table of all units with a record; return its name.

    Raises
    ------
    fvfast.atlas.WrongFileError
        A record is damaged: `fvfast atlas retry` draws it again.
    """
    keys = (UnitKey(layer.name, index) for layer in plan.layers for index in layer)
    rows = [row for row in side_by_side(lambda key: _row(place, key), keys) if row is not None]
    if importlib.util.find_spec("pyarrow") is not None:
        place.put(_PARQUET, _as_parquet(rows))
        return _PARQUET
    place.put(_CSV, _as_csv(rows))
    return _CSV


def _row(place: Place, key: UnitKey) -> dict[str, Any] | None:
    try:
        record = Record.parse(place.read(key.record), key)
    except FileNotFoundError:
        return None
    transparency = record.transparency
    return {
        "key": str(key),
        "layer": key.layer,
        "index": key.index,
        "kind": record.kind,
        "name": record.name,
        "score": record.score,
        "steps": record.steps,
        "seconds": record.seconds,
        "batch_size": record.batch_size,
        "device": record.device,
        "host": record.host,
        "attempt": record.attempt,
        "drawn_at": record.drawn_at,
        "fvfast": record.fvfast,
        "picture": record.picture.file,
        "picture_sha256": record.picture.sha256,
        "width": record.picture.width,
        "height": record.picture.height,
        "transparency": None if transparency is None else transparency.file,
        "transparency_sha256": None if transparency is None else transparency.sha256,
        "command": record.command,
    }


def _as_parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, compression="zstd")
    return file.getvalue()


def _as_csv(rows: list[dict[str, Any]]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]) if rows else ["key"])
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()
