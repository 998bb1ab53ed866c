"""Tables of text and wrapped lines for a terminal of 80 columns."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["WIDTH", "Column", "Sentence", "labelled", "table_text", "wrapped"]

WIDTH = 80
_GAP = 2  # between two columns


class Column(NamedTuple):
    """One column of a table.

    Parameters
    ----------
    name : key of its values in the rows
    title : may have several lines
    number : whether it is aligned to the right
    folded : smallest width to which its text may be folded; 0 means that it is never folded
    """

    name: str
    title: str
    number: bool = False
    folded: int = 0


class Sentence(NamedTuple):
    """What to do, which is shown in bold, and why.

    >>> str(Sentence("Use `--backend threads`", "nothing is moved")), str(Sentence("Measure again"))
    ('Use `--backend threads`. Nothing is moved.', 'Measure again.')
    """

    do: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.do}. {self.rest}" if self.why else f"{self.do}."

    @property
    def rest(self) -> str:
        """Return why, as a sentence of its own; empty if there is no reason. Names stay as they are."""
        why = self.why
        if why.partition(" ")[0].isalpha():
            why = f"{why[0].upper()}{why[1:]}"
        return f"{why}." if why and why[-1] not in ".!?" else why


def table_text(
    columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], *, width: int = WIDTH, color: bool = False
) -> str:
    """Return a table as text; columns without any value are left out.

    Long text is folded, never cut: a table whose columns can't be narrower is wider than ``width``.
    """
    rows = [{c.name: str(row.get(c.name, "") or "") for c in columns} for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    shown = [c for c in columns if any(row[c.name] not in ("", "-") for row in rows)]
    needed = 0
    for column in shown:
        longest = max(cell_len(row[column.name]) for row in rows)
        pieces = column.title.split() if column.folded else column.title.split("\n")
        least = min(longest, column.folded) if column.folded else longest
        needed += max([least, *map(cell_len, pieces)]) + _GAP
        table.add_column(
            Text(column.title),  # as text: it may be the name of a back end with options in brackets
            justify="right" if column.number else "left",
            no_wrap=not column.folded,
            overflow="fold",
            min_width=min(longest, column.folded) or None,
        )
    for row in rows:
        table.add_row(*(Text(row[c.name]) for c in shown))
    console = Console(file=io.StringIO(), width=max(width, needed), force_terminal=color, legacy_windows=False,
                      color_system="standard" if color else None)  # fmt: skip
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))


def wrapped(lines: Iterable[Any], width: int) -> list[str]:
    """Return the lines, with those that are too long broken between words."""
    return [piece for line in lines for piece in (_wrap(str(line), width) or [""])]


def labelled(lines: Mapping[str, Any], width: int) -> list[str]:
    """Return lines with their labels before them, all beginning in one column."""
    indent = min(max(map(len, lines), default=0) + _GAP, width // 3)
    found = []
    for label, line in lines.items():
        if len(label) + _GAP > indent:
            found.append(label)
            label = ""
        first, *others = _wrap(str(line), width - indent) or [""]
        found += [f"{label:<{indent}}{first}", *(" " * indent + other for other in others)]
    return found


def _wrap(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, break_on_hyphens=False)  # options and paths have hyphens
