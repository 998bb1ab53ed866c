"""``pipeline runs``, ``diff`` and ``report``: commands on the folders of earlier runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.session import AsJson, Debug, app, emit
from pipeline.errors import ConfigError, DataError, WriteError
from pipeline.runs.folders import REPORT, is_recorded

if TYPE_CHECKING:
    from pipeline.runs.history.read import RunFolder


__all__ = ["diff", "report", "runs"]

Folder = Annotated[str, typer.Option("--runs", metavar="DIR", help="Where the run folders are.")]

_RUN = "A run folder, NAME/TIME, NAME (its newest run), or NAME~1 (the one before)."


@app.command()
def runs(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="List the runs of this pipeline only.")] = None,
    folder: Folder = "runs",
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """List the run folders, the newest last."""
    from pipeline.runs.history import find

    found = find.runs(folder, name)
    if as_json:
        emit(context.obj, "result", ok=True, exit_code=0, runs=[run.to_dict() for run in found])
    else:
        from pipeline.report.history_text import runs_text

        print(runs_text(found))
    return 0


@app.command()
def diff(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help=_RUN, show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help="The run to compare with A.", show_default=False)],
    folder: Folder = "runs",
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show what changed from run A to run B, and whether B is faster; make their reports."""
    from pipeline.runs.history import diff as differences
    from pipeline.runs.history import find

    pair = find.find(a, folder), find.find(b, folder)
    found = differences.diff(*pair)
    _make_reports(pair)
    if as_json:
        emit(context.obj, "result", ok=True, exit_code=0, **found.to_dict())
    else:
        from pipeline.report.history_text import diff_text

        print(diff_text(found))
    return 0


@app.command()
def report(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help=_RUN, show_default=False)],
    folder: Folder = "runs",
    opened: Annotated[str, typer.Option("--open", metavar="yes|no", help="Open the report in a browser.")] = "no",
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Make the report of RUN, and the timelines of its traces for Perfetto."""
    if opened not in ("yes", "no"):
        raise ConfigError(f"--open {opened}: write yes or no")
    from pipeline.runs.history import find

    found = find.find(run, folder)
    _require_report(found, run)
    from pipeline.report.redraw import redraw

    drawn = redraw(found.folder)
    if as_json:
        emit(context.obj, "result", ok=True, exit_code=0, **drawn.to_dict())
    else:
        print(*drawn.timelines, drawn.page, sep="\n")
        for note in drawn.notes:
            print(f"pipeline: warning: {note}", file=sys.stderr)
    if opened == "yes":
        import webbrowser

        webbrowser.open(drawn.page.as_uri())
    return 0


def _make_reports(pair: Iterable[RunFolder]) -> None:
    """Make the report of each run that has none yet; a folder that can't be read or written is skipped."""
    from pipeline.report.redraw import redraw

    for found in pair:
        if found.exit_code is not None and is_recorded(found.folder) and not (found.folder / REPORT).is_file():
            with contextlib.suppress(OSError, WriteError, DataError):  # the folder may be read-only, or damaged
                redraw(found.folder)


def _require_report(found: RunFolder, text: str) -> None:
    """Check that there is a report, or the files to make it from.

    Raises
    ------
    ConfigError : naming what is missing, and why
    """
    if (found.folder / REPORT).is_file() or (found.exit_code is not None and is_recorded(found.folder)):
        return
    if found.exit_code is None or found.exit_code:
        why = f"the {found.kind} failed: {found.problem}" if found.exit_code else found.problem
        raise ConfigError(f"{text}: there is nothing to make a report from: {why}")
    has = "its trace.parquet is there" if (found.folder / "trace.parquet").is_file() else "its times are there"
    raise ConfigError(
        f"{text}: there is no report.json: the {found.kind} was made by a version that wrote none ({has}, which "
        "pipeline diff reads). Run it again"
    )
