"""report.formatting."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    pass


WIDTH = 80


class Column(NamedTuple):
    """One column: where its values stand in the rows, its title, whether it is a number.

    ``folded`` is the least width of a column of text that may be folded; 0: its values are never folded.
    """

    name: str
    title: str
    number: bool = False
    folded: int = 0


def table_text(
    columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], *, width: int = WIDTH, color: bool = False
) -> str:
    """A table as text; a column without any value is left out, long text is folded rather than cut."""
    rows = [{c.name: str(row.get(c.name, "") or "") for c in columns} for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    shown = [c for c in columns if any(row[c.name] not in ("", "-") for row in rows)]
    for column in shown:
        longest = max(len(row[column.name]) for row in rows)
        table.add_column(
            column.title,
            justify="right" if column.number else "left",
            no_wrap=not column.folded,
            overflow="fold",
            min_width=min(longest, column.folded) or None,
        )
    for row in rows:
        table.add_row(*(Text(row[c.name]) for c in shown))
    console = Console(file=io.StringIO(), width=width, force_terminal=color, color_system="standard" if color else None,
                      legacy_windows=False)  # fmt: skip
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))


def wrapped(lines: Iterable[str], width: int) -> list[str]:
    """The lines, those that are too long broken between words."""
    import textwrap

    return [piece for line in lines for piece in (textwrap.wrap(line, width) or [""])]
