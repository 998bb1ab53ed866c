"""``pipeline run``, ``compare`` and ``check``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.session import (
    AsJson,
    Debug,
    File,
    Params,
    Root,
    Runs,
    Session,
    Sets,
    Workers,
    app,
    emit,
    loaded,
    seconds,
    tell_warnings,
)
from pipeline.errors import ConfigError, PipelineError
from pipeline.units import count_text

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.runs.run import Run


__all__ = ["check", "compare", "run"]


@app.command()
def run(
    context: typer.Context,
    file: File,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", envvar="DASK_SCHEDULER_ADDRESS", help="A running Dask scheduler: tcp://host:port."
        ),
    ] = None,
    backend: Annotated[
        str | None, typer.Option(metavar="NAME", help="serial, threads, pool, processes, dask.  [dask]")
    ] = None,
    workers: Workers = None,
    sets: Sets = [],  # noqa: B006  (typer copies it)
    params: Params = [],  # noqa: B006
    root: Root = None,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="What output paths are relative to; outputs stay below it.")
    ] = ".",
    runs: Runs = "runs",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build and show the plan; run nothing.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Make report.json and report.html in the run folder, too.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Run FILE on local workers or a Dask scheduler."""
    config = loaded(context, file, sets, params, root)
    if dry_run:
        return _show_plan(context.obj, config, data=True, out=out)
    if backend not in (None, "dask"):
        if cluster and context.get_parameter_source("cluster").name != "ENVIRONMENT":  # type: ignore[union-attr]
            raise ConfigError(f"--cluster works with back end 'dask' only, not with '{backend}'; leave one of them out")
        cluster = None
    from pipeline.report.progress import listener_for
    from pipeline.runs import run as execution

    session: Session = context.obj
    with listener_for(session.events or sys.stdout, as_json=as_json, runs=runs) as listener:
        session.counts = listener.counts
        try:
            result = execution.run(
                config, backend=backend or "dask", workers=workers, cluster=cluster, out=out, listener=listener,
                runs=runs,
            )  # fmt: skip
        except PipelineError as error:
            if report and error.run_folder is not None:
                _draw(error.run_folder)
            raise
    return _show_run(session, result, _draw(result.folder) if report else None)


def _draw(folder: Path) -> Path:
    """Make the report of a run folder, and return the path of its page."""
    from pipeline.report.redraw import redraw

    return redraw(folder).page


def _show_run(session: Session, result: Run, page: Path | None) -> int:
    from pipeline.report.terminal import run_text

    code = 1 if result.dropped else 0
    if session.json:
        more = {"report": str(page)} if page is not None else {}
        emit(session, "result", ok=not code, exit_code=code, **result.to_dict(), **more)
    else:
        print(run_text(result))
        if page is not None:
            print(page)
    if code:
        steps = sorted({step for step, _, _ in result.dropped})
        names = f"step '{steps[0]}'" if len(steps) == 1 else count_text(len(steps), "step")
        dropped = count_text(len(result.dropped), f"item of {names} was", f"items of {names} were")
        print(
            f"pipeline: error: {dropped} dropped, since they failed "
            "(on_error: drop). The outputs are committed without them; the items are named above.",
            file=sys.stderr,
        )
    return code


@app.command()
def compare(
    context: typer.Context,
    file: File,
    backends: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Back ends, separated by commas; serial is always added.  [all]"),
    ] = None,
    workers: Workers = None,
    scale: Annotated[
        str | None, typer.Option(metavar="N,N", help="Measure with each of these numbers of workers: 1,2,4.")
    ] = None,
    repeat: Annotated[int | None, typer.Option(min=1, metavar="N", help="Rounds.  [3]")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Make fewer rounds so that it takes no longer: 2min, 90s.")
    ] = None,
    try_: Annotated[
        str,
        typer.Option("--try", metavar="TIME", help="Try the first recommendation if a round takes no longer.  [60s]"),
    ] = "60s",
    no_try: Annotated[bool, typer.Option("--no-try", help="Try no recommendation.")] = False,
    sets: Sets = [],  # noqa: B006
    params: Params = [],  # noqa: B006
    root: Root = None,
    runs: Runs = "runs",
    allow_effects: Annotated[
        bool, typer.Option("--allow-effects", help="Compare although steps are marked pure: false.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Compare back ends on FILE: speed, results, and where the core-seconds went."""
    if workers is not None and scale:
        raise ConfigError("--scale and --workers exclude each other; leave one of them out")
    config = loaded(context, file, sets, params, root)
    most = seconds(budget) if budget else None
    try_seconds = 0.0 if no_try else seconds(try_, "--try")
    from pipeline.experiments.comparison import compare as comparison
    from pipeline.report.comparison_json import write_report
    from pipeline.report.html import page
    from pipeline.report.terminal import comparison_text
    from pipeline.report.verdicts import ComparisonReport

    def show(message: str) -> None:
        if as_json:
            emit(context.obj, "note", message=message)
        else:
            print(message, flush=True)

    found = comparison.compare(
        config,
        backends=[name.strip() for name in backends.split(",") if name.strip()] if backends else None,
        workers=workers,
        scale=_counts(scale) if scale else None,
        repeat=repeat,
        budget=most,
        runs=runs,
        allow_effects=allow_effects,
        try_seconds=try_seconds,
        tell=show,
    )
    result = ComparisonReport.of(found)
    write_report(result)
    page.write(Path(result.folder))
    code = result.exit_code
    if as_json:
        emit(context.obj, "result", **({"ok": not code} | result.to_dict()))
    else:
        print(f"\n{comparison_text(result)}")
    if code:
        print(f"pipeline: error: {result.problem}", file=sys.stderr)
    return code


def _counts(text: str) -> list[int]:
    """Parse ``1,2,4`` as numbers of workers."""
    try:
        counts = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise ConfigError(f"--scale {text}: write numbers of workers, separated by commas: --scale 1,2,4")
    return counts


@app.command()
def check(
    context: typer.Context,
    file: File,
    no_data: Annotated[bool, typer.Option("--no-data", help="Check the file alone, without its inputs.")] = False,
    resolved: Annotated[
        bool,
        typer.Option(
            "--resolved", help="Print the file with includes and params filled in, and where each value is from."
        ),
    ] = False,
    imports: Annotated[
        bool, typer.Option("--import", help="Also import the modules, in another process, to check all functions.")
    ] = False,
    sets: Sets = [],  # noqa: B006
    params: Params = [],  # noqa: B006
    root: Root = None,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="What output paths are relative to in the run that is checked.")
    ] = ".",
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Find the errors of FILE and show its plan."""
    config = loaded(context, file, sets, params, root, imports=imports)
    if not resolved:
        return _show_plan(context.obj, config, data=not no_data, out=out)
    from pipeline.config.resolved_yaml import resolved_text

    text = resolved_text(config)
    if as_json:
        emit(context.obj, "result", ok=True, exit_code=0, resolved=text)
    else:
        print(text, end="")
    return 0


def _show_plan(session: Session, config: Config, *, data: bool, out: str) -> int:
    from pipeline.builder.plan import plan
    from pipeline.report.terminal import plan_event, plan_text
    from pipeline.runs.protected_inputs import check_outputs

    graph = None
    if data:
        from pipeline.builder.build import build

        graph = build(config)
    check_outputs(config, graph, out)
    made = plan(config, graph)
    if graph is not None:
        tell_warnings(session, config.masked(list(graph.warnings)))
    if session.json:
        emit(session, "result", ok=True, exit_code=0, **plan_event(made))
    else:
        print(plan_text(made))
    return 0
