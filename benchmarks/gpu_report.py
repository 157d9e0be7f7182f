"""The report of `benchmarks.gpu_check`: shown while it grows, written as one Markdown file."""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Row = dict[str, object]


def slug(name: str) -> str:
    """Turn the name of a device into a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def cell(value: object) -> str:
    """Write a value with as many digits as a measurement deserves."""
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _in_markdown(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", r"\|").replace("\n", " ")


def markdown_table(rows: Sequence[Row]) -> str:
    """Write rows, which have the same keys, as a table of Markdown."""
    columns = list(rows[0])
    # What has numbers in its first row is aligned to the right.
    rules = ["---:" if isinstance(rows[0][column], (int, float)) else "---" for column in columns]
    lines = [columns, rules]
    lines += [[_in_markdown(cell(row[column])) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclasses.dataclass
class Report:
    """What was found out so far.

    Attributes
    ----------
    blocks
        Paragraphs of Markdown, in order.
    failures
        What went wrong, one line each: any makes the exit status 1.
    skipped
        What was left out and why, one line each.
    console
        Where it is shown.
    """

    title: str
    blocks: list[str] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    console: Console = dataclasses.field(
        default_factory=lambda: Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    )

    def heading(self, text: str) -> None:
        """Begin a section."""
        self.console.rule(escape(text))
        self.blocks.append(f"## {text}")

    def note(self, text: str) -> None:
        """Add a paragraph."""
        self.console.print(escape(text), soft_wrap=True)
        self.blocks.append(_in_markdown(text))

    def log(self, text: str) -> None:
        """Add the end of what a program said, as it is."""
        self.console.print(text, markup=False, soft_wrap=True)
        self.blocks.append("\n".join(f"    {line}" for line in text.splitlines()))

    def fail(self, text: str) -> None:
        """Note what went wrong."""
        self.console.print(f"[bold red]FAILED[/]  {escape(text)}", soft_wrap=True)
        self.failures.append(text)

    def skip(self, text: str) -> None:
        """Note what is left out, and why."""
        self.console.print(f"[yellow]skipped[/]  {escape(text)}", soft_wrap=True)
        self.skipped.append(text)

    def table(self, title: str, rows: Sequence[Row]) -> None:
        """Add a table of rows with the same keys."""
        if not rows:
            raise ValueError(f"the table {title!r} has no rows")
        table = Table(title=escape(title), title_justify="left")
        for column, value in rows[0].items():
            table.add_column(
                escape(column),
                justify="right" if isinstance(value, (int, float)) else "left",
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(escape(cell(value)) for value in row.values()))
        self.console.print(table)
        self.blocks += [f"### {_in_markdown(title)}", markdown_table(rows)]

    def markdown(self) -> str:
        """Return the whole report."""
        result = "failed" if self.failures else "passed"
        lists = [f"Result: **{result}**"]
        for name, lines in (("Failures", self.failures), ("Left out", self.skipped)):
            if lines:
                lists.append(
                    f"{name}:\n\n" + "\n".join(f"- {_in_markdown(line)}" for line in lines)
                )
        return "\n\n".join([f"# {self.title}", *lists, *self.blocks]) + "\n"

    def save(self, path: Path) -> None:
        """Write it to a file; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.markdown())
