"""``pipeline explain``."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Annotated

import typer

from pipeline.cli.session import (
    AsJson,
    Debug,
    File,
    Params,
    Root,
    Runs,
    Sets,
    Workers,
    app,
    emit,
    loaded,
    seconds,
    showing_metadata,
)

__all__ = ["explain"]


@app.command()
def explain(
    context: typer.Context,
    file: File,
    workers: Workers = None,
    budget: Annotated[str, typer.Option(metavar="TIME", help="Stop after this time: 2min, 90s.")] = "60s",
    steps: Annotated[
        list[str], typer.Option("--step", metavar="NAME", help="Probe this step; repeatable.  [those that cost most]")
    ] = [],  # noqa: B006  (typer copies it)
    sets: Sets = [],  # noqa: B006
    params: Params = [],  # noqa: B006
    root: Root = None,
    runs: Runs = "runs",
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Find out by experiment why FILE is not faster on more workers, and what to change."""
    began = perf_counter()
    limit = seconds(budget)
    config = loaded(context, file, sets, params, root)
    from pipeline.experiments.explanation import explain as explanation
    from pipeline.report.explain_cause_text import ExplanationReport
    from pipeline.report.explanation_text import explanation_text
    from pipeline.report.people_stream import print_bold

    def tell(message: str) -> None:
        if as_json:
            emit(context.obj, "note", message=message)
        else:
            print(message, file=sys.stderr, flush=True)

    spent = perf_counter() - began  # loading the file counts
    with showing_metadata(context.obj):
        result = explanation.explain(
            config, workers=workers, budget=limit, spent=spent, steps=steps or None, runs=runs, tell=tell
        )
    if as_json:
        emit(context.obj, "result", ok=True, exit_code=0, **ExplanationReport.of(result).to_dict())
    else:
        print_bold(explanation_text(result), [ExplanationReport.of(result).advice.do])
    return 0
