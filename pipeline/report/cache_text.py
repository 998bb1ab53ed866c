"""The results of ``cache`` for a terminal of 80 columns."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipeline.errors import printable
from pipeline.report.text_tables import WIDTH, Column, table_text
from pipeline.units import bytes_text, count_text, duration_text

if TYPE_CHECKING:
    from pipeline.config.model import Cache
    from pipeline.runs.kept_values import CacheContents, StepValues

__all__ = ["contents_text", "info_text"]

_DAY = 86_400

_STEPS = (
    Column("step", "step", folded=12),
    Column("pipeline", "pipeline", folded=10),
    Column("entries", "values", True),
    Column("bytes", "bytes", True),
    Column("seconds", "computed\nin", True),
    Column("age", "newest\nkept for", True),
    Column("used", "unused\nfor", True),
)


def contents_text(found: CacheContents, *, width: int = WIDTH) -> str:
    """Return a table of the steps, the one with most bytes first, and a line with the sums."""
    if not found.entries and not found.damaged:
        return f"no values are kept in {found.folder}"
    now = time.time()
    by_name: dict[tuple[str, str], list[StepValues]] = {}
    for step in found.steps:
        by_name.setdefault((step.pipeline, step.step.partition("[")[0]), []).append(step)
    rows = [
        {
            "step": printable(name) or "?",
            "pipeline": printable(pipeline) or "?",
            "entries": f"{sum(step.entries for step in own):,}",
            "bytes": bytes_text(sum(step.bytes for step in own)),
            "seconds": duration_text(sum(step.seconds for step in own)),
            "age": _span(now - max(step.created for step in own)),
            "used": _span(now - max(step.used for step in own)),
        }
        for (pipeline, name), own in sorted(by_name.items(), key=lambda pair: -sum(step.bytes for step in pair[1]))
    ]
    lines = [table_text(_STEPS, rows, width=width), ""] if rows else []
    return "\n".join([*lines, f"{_sums(found)} in {found.folder}", *_damaged(found)])


def info_text(found: CacheContents, limits: Cache | None) -> str:
    """Return sums, limits and free space, a line each.

    Parameters
    ----------
    limits : those of the file; None: none are known
    """
    took = duration_text(found.seconds)
    lines = [f"folder   {found.folder}", f"values   {_sums(found)}, computed in {took}"]
    if limits is not None:
        named = [
            *([f"{bytes_text(limits.bytes)}"] if limits.bytes is not None else []),
            *([count_text(limits.entries, "value")] if limits.entries is not None else []),
            *([f"unused for {_span(limits.age)}"] if limits.age is not None else []),
        ]
        lines.append(f"limits   {', '.join(named) or 'none'}")
    lines.append(f"free     {bytes_text(found.free)} on its disk")
    return "\n".join([*lines, *_damaged(found)])


def _sums(found: CacheContents) -> str:
    return f"{count_text(found.entries, 'value')}, {bytes_text(found.bytes)}"


def _damaged(found: CacheContents) -> list[str]:
    if not found.damaged:
        return []
    files = count_text(found.damaged, "file")
    return [f"{files} can't be used ({bytes_text(found.damaged_bytes)}): pipeline cache rm --damaged"]


def _span(seconds: float) -> str:
    """Return a duration in its largest unit, rounded down."""
    for unit, size in (("day", _DAY), ("h", 3600), ("min", 60)):
        n = int(seconds // size)
        if n >= (2 if unit == "day" else 1):
            return count_text(n, unit) if unit == "day" else f"{n} {unit}"
    return f"{int(max(0.0, seconds))} s"
