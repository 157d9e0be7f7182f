"""Makes tables of the records: a short one for the screen, and a report with everything."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.gpu.records import Record, read_records

REPORT = "report.md"
_HIDDEN = {"stage", "kind", "time", "details"}
_PLAIN = ("begin", "end", "failure", "left out")

SHORT = {
    ("build", "build"): (),
    ("tests", "tests"): (),
    ("kernels", "copy"): (),
    ("kernels", "kernel"): (
        "images", "crops are", "box", "kernel", "cache", "us", "floor us", "% of copy",
    ),
    ("steps", "step"): (
        "network", "precision", "graph", "step ms", "whole step ms", "network ms", "launches",
        "waits", "form", "passes run", "steps run",
    ),
    ("steps", "around"): (),
    ("counters", "kernel"): (),
    ("sanitizers", "tool"): (),
    ("variants", "variant"): ("variant", "operation", "images", "us"),
}  # fmt: skip
"""Columns that the short table shows, by stage and kind; all if none are listed."""

SHORT_FAILURES = 15
SHORT_ROWS = 24
"""Most rows of one kind in the short table; the report has all."""


def slug(name: str) -> str:
    """Turn the name of a device into a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def cell(value: object) -> str:
    """Format a value, a float with four digits."""
    if not isinstance(value, float):
        return "" if value is None else str(value)
    if value != value:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _in_markdown(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", r"\|").replace("\n", " ")


def columns_of(rows: Iterable[Record]) -> list[str]:
    """Return the names of all values, in the order in which they were first recorded."""
    return list(dict.fromkeys(name for row in rows for name in row if name not in _HIDDEN))


def is_number(value: object) -> bool:
    """Whether a value is a number, which is aligned to the right."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def markdown_table(rows: Sequence[Record]) -> str:
    """Format rows as a Markdown table; missing values stay empty."""
    columns = columns_of(rows)
    right = {name for name in columns if all(is_number(row.get(name, 0)) for row in rows)}
    lines = [columns, ["---:" if name in right else "---" for name in columns]]
    lines += [[_in_markdown(cell(row.get(column))) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text_table(rows: Sequence[Record], columns: Sequence[str]) -> str:
    """Format some columns of rows for the screen."""
    cells = [list(columns)] + [[cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def outcomes(records: Sequence[Record]) -> list[Record]:
    """Return one row for each stage that was begun; a stage without an end was cut off."""
    rows: list[Record] = []
    for record in records:
        if record["kind"] == "begin":
            rows.append({"name": record["stage"], "outcome": "cut off", "seconds": None})
        elif record["kind"] == "end":
            if not rows or rows[-1]["name"] != record["stage"] or rows[-1]["seconds"] is not None:
                rows.append({"name": record["stage"]})
            rows[-1] |= {"outcome": record["outcome"], "seconds": record["seconds"]}
    for row in rows:
        mine = [r for r in records if r["stage"] == row["name"]]
        row["numbers"] = sum(r["kind"] not in _PLAIN for r in mine)
        row["failures"] = sum(r["kind"] == "failure" for r in mine)
    return rows


def worst_errors(records: Sequence[Record]) -> list[Record]:
    """Return, for each operation, the result with the largest share of the allowed error."""
    worst: dict[str, Record] = {}
    for record in records:
        if (record["stage"], record["kind"]) == ("accuracy", "error"):
            name = record["operation"]
            if name not in worst or not record["of allowed"] <= worst[name]["of allowed"]:
                worst[name] = record
    names = ("operation", "images", "error", "allowed", "of allowed")
    return [{name: record[name] for name in names} for record in worst.values()]


def short_table(records: Sequence[Record]) -> str:
    """Format a screen or two: outcomes, failures, and the most important numbers."""
    rows = outcomes(records)
    parts = [text_table(rows, columns_of(rows))] if rows else ["nothing was recorded"]
    for (stage, kind), chosen in SHORT.items():
        found = [r for r in records if (r["stage"], r["kind"]) == (stage, kind)]
        if found:
            part = text_table(found[:SHORT_ROWS], chosen or columns_of(found))
            more = len(found) - SHORT_ROWS
            rest = f"\n... {more} more in {REPORT}" if more > 0 else ""
            parts.append(f"{stage}, {kind}\n{part}{rest}")
    if errors := worst_errors(records):
        part = text_table(errors, columns_of(errors))
        parts.insert(1, f"accuracy, the largest share of what is allowed\n{part}")
    failures = [r for r in records if r["kind"] == "failure"]
    parts += [
        f"FAILED  {r['stage']}: {r['what']}: {r['message']}"[:300]
        for r in failures[:SHORT_FAILURES]
    ]
    if len(failures) > SHORT_FAILURES:
        parts.append(f"... {len(failures) - SHORT_FAILURES} more failures in {REPORT}")
    return "\n\n".join(parts)


def report(records: Sequence[Record]) -> str:
    """Format everything as Markdown."""
    rows = outcomes(records)
    blocks = ["# fvfast on a GPU", "## Stages", markdown_table(rows)]
    failures = [r for r in records if r["kind"] == "failure"]
    if failures:
        blocks.append("## Failures")
    for record in failures:
        what = f"**{_in_markdown(record['stage'])}**, {_in_markdown(record['what'])}"
        blocks.append(f"{what}: {_in_markdown(record['message'])}")
        if record.get("details"):
            blocks.append("\n".join(f"    {line}" for line in record["details"].splitlines()))
    for stage in dict.fromkeys(r["stage"] for r in records):
        mine = [r for r in records if r["stage"] == stage]
        kinds = [k for k in dict.fromkeys(r["kind"] for r in mine) if k not in _PLAIN]
        blocks += [f"## {stage}"] if kinds else []
        for kind in kinds:
            blocks += [f"### {kind}", markdown_table([r for r in mine if r["kind"] == kind])]
        blocks += [
            f"Left out: {_in_markdown(r['what'])} ({_in_markdown(r['reason'])})"
            for r in mine
            if r["kind"] == "left out"
        ]
    return "\n\n".join(blocks) + "\n"


def write_report(folder: Path) -> Path:
    """Write the report of a folder's results; the old one is kept until the new one is complete."""
    path = folder / REPORT
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(report(read_records(folder)), encoding="utf-8")
    os.replace(unfinished, path)
    return path
