"""``pipeline runs``, ``diff`` and ``report``: what earlier runs have left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.session import AsJson, Debug, app, emit
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.history import RunFolder

__all__ = ["diff", "report", "runs"]

Folder = Annotated[str, typer.Option("--runs", metavar="DIR", help="Where the run folders are.")]

_RUN = "A run folder, NAME/TIME, NAME (its newest run), or NAME~1 (the one before)."


@app.command()
def runs(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A pipeline, to see its runs alone.")] = None,
    folder: Folder = "runs",
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """List the run folders, the newest last."""
    from pipeline import history

    found = history.runs(folder, name)
    if as_json:
        emit(context.obj, "result", ok=True, exit_code=0, runs=[run.to_dict() for run in found])
    else:
        from pipeline.report.history import runs_text

        print(runs_text(found))
    return 0


@app.command()
def diff(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help=_RUN, show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help="The one that is held against it.", show_default=False)],
    folder: Folder = "runs",
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Say what has changed from run A to run B, and whether B is faster."""
    from pipeline import history

    found = history.diff(history.find(a, folder), history.find(b, folder))
    if as_json:
        emit(context.obj, "result", ok=True, exit_code=0, **found.to_dict())
    else:
        from pipeline.report.history import diff_text

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
    """Draw the report of RUN again, and the timelines of its traces for Perfetto."""
    if opened not in ("yes", "no"):
        raise ConfigError(f"--open {opened}: yes or no")
    from pipeline import history

    found = history.find(run, folder)
    _require_report(found, run)
    from pipeline.report import html

    page = html.write(found.folder)
    timelines = _timelines(found)
    if as_json:
        told = {"folder": str(found.folder), "report": str(page), "timelines": [str(path) for path in timelines]}
        emit(context.obj, "result", ok=True, exit_code=0, **told)
    else:
        print(*timelines, page, sep="\n")
    if opened == "yes":
        import webbrowser

        webbrowser.open(page.absolute().as_uri())
    return 0


def _require_report(found: RunFolder, text: str) -> None:
    """Refuse to draw what is not there.

    Raises
    ------
    ConfigError : naming what is missing, and why
    """
    if (found.folder / "report.json").is_file():
        return
    if found.exit_code is None or found.exit_code:
        why = f"the {found.kind} failed: {found.problem}" if found.exit_code else found.problem
        raise ConfigError(f"{text}: there is no report.json to draw from, since {why}")
    has = "its trace.parquet is there" if (found.folder / "trace.parquet").is_file() else "its times are there"
    raise ConfigError(
        f"{text}: there is no report.json to draw from: the {found.kind} was made by a version that left none "
        f"({has}; pipeline diff reads it). Run it again"
    )


def _timelines(found: RunFolder) -> list[Path]:
    """A timeline beside each trace that the report tells of."""
    from pipeline.report import perfetto

    traces = [trace for case in found.cases for trace in case.traces if trace.is_file()]
    return [perfetto.write(trace) for trace in traces]
