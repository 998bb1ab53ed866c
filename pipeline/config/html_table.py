"""Tables in HTML, as notebooks show them below a cell."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence

__all__ = ["html_table"]


def html_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Collection[str] = (), most: int = 60
) -> str:
    """Return a table; text is aligned to the left, which Jupyter does not do by itself.

    Parameters
    ----------
    numbers : columns that are aligned to the right
    most : number of rows to show; how many others there are is the last row
    """
    styles = ["text-align: right" if name in numbers else "text-align: left" for name in columns]
    lines = [_row("th", columns, styles), *(_row("td", row, styles) for row in rows[:most])]
    if len(rows) > most:
        style = "text-align: left"
        lines.append(f'<tr><td colspan="{len(columns)}" style="{style}">… {len(rows) - most:,} more</td></tr>')
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[object], styles: Sequence[str]) -> str:
    pairs = zip(cells, styles, strict=True)
    inner = "".join(f'<{tag} style="{style}">{html.escape(str(cell))}</{tag}>' for cell, style in pairs)
    return f"<tr>{inner}</tr>"
