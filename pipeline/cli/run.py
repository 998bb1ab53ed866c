"""``pipeline run``, ``compare`` and ``check``."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
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
    showing_metadata,
    tell_warnings,
)
from pipeline.errors import ConfigError, PipelineError
from pipeline.units import count_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.config.model import Config
    from pipeline.runs.resume.wishes import Wishes
    from pipeline.runs.run import Run


__all__ = ["check", "compare", "run"]


ALL = "*"
"""Stands for the missing name of ``--force`` without a step."""


def with_bare_force(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``--force=*`` for a ``--force`` that no name of a step follows.

    >>> with_bare_force(["run", "--force", "a.yaml", "--force", "fit", "--force"])
    ['run', '--force=*', 'a.yaml', '--force', 'fit', '--force=*']
    """
    found = []
    for i, argument in enumerate(arguments):
        following = arguments[i + 1] if i + 1 < len(arguments) else "-"
        bare = following.startswith("-") or following.endswith((".yaml", ".yml")) or Path(following).is_file()
        found.append(f"--force={ALL}" if argument == "--force" and bare else argument)
    return found


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
        str | None,
        typer.Option(
            metavar="NAME",
            help="serial, threads, pool, processes, process-per-task, manager, dask; with options: "
            "pool[start_method=fork].  [dask]",
        ),
    ] = None,
    workers: Workers = None,
    sets: Sets = [],  # noqa: B006  (typer copies it)
    params: Params = [],  # noqa: B006
    root: Root = None,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="What output paths are relative to; outputs stay below it.")
    ] = ".",
    runs: Runs = "runs",
    force: Annotated[
        list[str],
        typer.Option("--force", metavar="[STEP]", help="Run STEP anew, or everything without one; repeatable."),
    ] = [],  # noqa: B006
    only: Annotated[
        list[str], typer.Option("--only", metavar="STEP", help="Write the outputs of STEP alone; repeatable.")
    ] = [],  # noqa: B006
    from_: Annotated[
        list[str],
        typer.Option("--from", metavar="STEP", help="Run STEP anew, and all that depends on it; repeatable."),
    ] = [],  # noqa: B006
    accept: Annotated[
        list[str],
        typer.Option("--accept", metavar="code:STEP", help="Take a change of STEP's code as harmless; repeatable."),
    ] = [],  # noqa: B006
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare files of earlier outputs by their hashes before reusing them.")
    ] = False,
    cache: Annotated[
        str | None, typer.Option("--cache", metavar="DIR", help="Keep the values of all steps in DIR for later runs.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, and what would run again and why; run nothing.")
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="After a task has failed, compute what does not need it, and commit the outputs that are complete.",
        ),
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Make report.json and report.html in the run folder, too.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Run FILE on local workers or a Dask scheduler."""
    config = loaded(context, file, sets, params, root)
    from pipeline.runs.resume.wishes import Wishes

    wishes = Wishes.of(force=ALL in force or force, only=only, from_=from_, accept=accept, verify=verify)
    wishes.require_steps(config)
    if dry_run:
        return _show_plan(context.obj, config, data=True, out=out, resume=(wishes, cache, runs))
    if backend is not None and not backend.startswith("dask"):
        if cluster and context.get_parameter_source("cluster").name != "ENVIRONMENT":  # type: ignore[union-attr]
            raise ConfigError(f"--cluster works with back end 'dask' only, not with '{backend}'; leave one of them out")
        cluster = None
    from pipeline.backends.options import with_options
    from pipeline.report.progress import listener_for
    from pipeline.runs import run as execution

    session: Session = context.obj
    session.commits = True
    _, options = with_options(backend or "dask", config.cluster)
    threads = options.get("start_method") != "fork"
    with listener_for(session.events or sys.stdout, as_json=as_json, runs=runs, threads=threads) as listener:
        session.counts = listener.counts
        try:
            result = execution.run(
                config, backend=backend or "dask", workers=workers, cluster=cluster, out=out, listener=listener,
                runs=runs, force=ALL in force or force, only=only, from_=from_, accept=accept, verify=verify,
                cache=cache, keep_going=keep_going, wall_time=session.wall_time,
            )  # fmt: skip
        except PipelineError as error:
            if report and error.run_folder is not None:
                _draw(error.run_folder)
            raise
    page = _draw(result.folder) if report else None
    session.wall_time.mark("after")
    return _show_run(session, replace(result, times=session.wall_time.parts), page)


def _draw(folder: Path) -> Path:
    """Make the report of a run folder, and return the path of its page."""
    from pipeline.report.redraw import redraw

    return redraw(folder).page


def _show_run(session: Session, result: Run, page: Path | None) -> int:
    from pipeline.report.failures import partial_lines
    from pipeline.report.terminal import run_text

    code = result.partial.exit_code if result.partial else 1 if result.dropped else 0
    if session.json:
        more = {"report": str(page)} if page is not None else {}
        emit(session, "result", ok=not code, exit_code=code, **result.to_dict(), **more)
    else:
        print(run_text(result))
        if page is not None:
            print(page)
    if session.debug:
        for task in (task for step in result.partial.failed for task in step.tasks if task.traceback):
            print(task.traceback.rstrip(), file=sys.stderr)
    if result.dropped:
        steps = sorted({step for step, _, _ in result.dropped})
        names = f"step '{steps[0]}'" if len(steps) == 1 else count_text(len(steps), "step")
        dropped = count_text(len(result.dropped), f"item of {names} was", f"items of {names} were")
        print(
            f"pipeline: error: {dropped} dropped, since they failed "
            "(on_error: drop). The outputs are committed without them; the items are named above.",
            file=sys.stderr,
        )
    if result.partial:
        lines = partial_lines(result.partial, file=session.file, options=session.options, locations=session.locations)
        print(*lines, sep="\n", file=sys.stderr)
    return code


@app.command()
def compare(
    context: typer.Context,
    file: File,
    backends: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Back ends, separated by commas, or all; serial is always added.  "
            "[those of the file, else threads,pool,processes,dask]",
        ),
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
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Measure a running Dask scheduler, too: tcp://host:port."),
    ] = None,
    tables: Annotated[bool, typer.Option("--tables", help="Print all tables, as in the report.")] = False,
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
    from pipeline.backends.options import split_names
    from pipeline.experiments.comparison import compare as comparison
    from pipeline.report.comparison_json import write_report
    from pipeline.report.html import page
    from pipeline.report.people_stream import print_bold
    from pipeline.report.terminal import bold_in, comparison_text
    from pipeline.report.verdicts import ComparisonReport

    def show(message: str) -> None:
        if as_json:
            emit(context.obj, "note", message=message)
        else:
            print(message, flush=True)

    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if address and not cluster:
        show(f"DASK_SCHEDULER_ADDRESS is not used by compare; to measure that cluster, too: --cluster {address}")
    try:
        with showing_metadata(context.obj):
            found = comparison.compare(
                config,
                backends=split_names(backends) if backends else None,
                workers=workers,
                scale=_counts(scale) if scale else None,
                cluster=cluster,
                repeat=repeat,
                budget=most,
                runs=runs,
                allow_effects=allow_effects,
                try_seconds=try_seconds,
                tell=show,
            )
    except comparison.ComparisonInterrupted as interrupt:
        found = interrupt.comparison
    result = ComparisonReport.of(found)
    write_report(result)
    page.write(Path(result.folder))
    code = result.exit_code
    if as_json:
        emit(context.obj, "result", **({"ok": not code} | result.to_dict()))
    else:
        print_bold(f"\n{comparison_text(result, tables=tables)}", bold_in(result))
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


def _show_plan(
    session: Session,
    config: Config,
    *,
    data: bool,
    out: str,
    resume: tuple[Wishes, str | None, str] | None = None,
) -> int:
    from pipeline.builder.plan import plan
    from pipeline.report.plan_text import plan_event, plan_text
    from pipeline.runs.protected_inputs import check_outputs

    graph = None
    if data:
        from pipeline.builder.build import build

        with showing_metadata(session):
            graph = build(config)
    check_outputs(config, graph, out)
    made = plan(config, graph)
    if graph is not None:
        tell_warnings(session, config.masked(list(graph.warnings)))
    resumed = None
    if resume is not None and graph is not None:
        from pipeline.runs.resume.value_stores import dry_plan

        wishes, cache, runs = resume
        resumed = dry_plan(config, graph, out=out, runs=runs, wishes=wishes, cache=cache)
    if session.json:
        more = {"resume": config.masked(resumed.to_dict())} if resumed is not None else {}
        emit(session, "result", ok=True, exit_code=0, **plan_event(made), **more)
        return 0
    print(plan_text(made))
    if resumed is not None:
        from pipeline.report.resume_text import resume_text

        print(f"\n{config.masked(resume_text(resumed))}")
    return 0
