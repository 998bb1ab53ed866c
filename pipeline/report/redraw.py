"""Make the report of a run folder: ``report.json``, the page, and a timeline for Perfetto beside each Trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import printable
from pipeline.report import perfetto
from pipeline.report.html import page
from pipeline.runs import report_schema, run_report
from pipeline.runs.folders import REPORT, is_recorded
from pipeline.runs.history.read import BROKEN
from pipeline.trace.trace import Trace

__all__ = ["Redrawn", "redraw"]

TIMELINE = "perfetto.json"


@dataclass(frozen=True)
class Redrawn:
    """The written page and timelines, and notes about those that could not be written."""

    page: Path
    timelines: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the files and notes in the types of JSON."""
        return {
            "report": str(self.page),
            "timelines": [str(path) for path in self.timelines],
            "notes": list(self.notes),
        }


def redraw(folder: Path) -> Redrawn:
    """Make ``report.json`` of a run, then the page and the timelines; a Trace that can't be read is noted.

    The ``report.json`` of a comparison, and of a run of an earlier version, is read as it is.

    Raises
    ------
    DataError : if the run has not ended, a file that is needed can't be read, or ``report.json`` doesn't fit its schema
    """
    if is_recorded(folder):
        run_report.write(folder)
    report = report_schema.read(folder / REPORT)
    drawn = page.write(folder)
    notes: list[str] = []
    return Redrawn(drawn.absolute(), tuple(_timelines(folder, report, notes)), tuple(notes))


def _timelines(folder: Path, report: Mapping[str, Any], notes: list[str]) -> Iterator[Path]:
    for account in report["accounts"]:
        name = account["trace"]
        path = folder / name
        if not name or "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
            notes.append(f"no timeline: {printable(name)!r} is not a Trace in this folder")
        elif not path.is_file():
            notes.append(f"no timeline: {printable(name)} is missing")
        else:
            try:
                yield perfetto.write(Trace.load(path), path.with_name(TIMELINE), critical=account["critical_path"])
            except BROKEN as error:
                why = printable((str(error) or type(error).__name__).split("\n")[0][:200])
                notes.append(f"no timeline: {printable(name)}: {why}")
