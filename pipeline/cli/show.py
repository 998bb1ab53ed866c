"""``pipeline show`` and ``pipeline debug``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.session import AsJson, Debug, File, Params, Root, Session, Sets, Workers, app, emit, loaded

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.runs.inspect import Ready


__all__ = ["debug", "show"]

Backend = Annotated[
    str, typer.Option(metavar="NAME", help="Where it is computed: serial, threads, pool, processes, dask.")
]


@app.command()
def show(
    context: typer.Context,
    file: File,
    reference: Annotated[
        str,
        typer.Argument(metavar="REFERENCE", help="tas, 'tas[A1B]', 'tas[time=0:3]', svd.u, 'fit[alpha=0.1]'."),
    ],
    rows: Annotated[int, typer.Option(min=0, metavar="N", help="Rows, cells or items that are shown.")] = 10,
    backend: Backend = "threads",
    workers: Workers = None,
    sets: Sets = [],  # noqa: B006  (typer copies it)
    params: Params = [],  # noqa: B006
    root: Root = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Compute one value of FILE and show it; nothing is written."""
    config = loaded(context, file, sets, params, root)
    from pipeline.report.preview import preview_dict, preview_text
    from pipeline.report.progress import JsonLines, OddLines
    from pipeline.runs import inspect

    session: Session = context.obj
    with JsonLines(session.events or sys.stdout) if as_json else OddLines(sys.stderr) as listener:
        session.counts = listener.counts
        seen = inspect.preview(config, reference, backend=backend, workers=workers, listener=listener)
    told = [preview_dict(sight, rows=rows) for sight in seen]
    if as_json:
        emit(session, "result", ok=True, exit_code=0, values=config.masked(told))
    else:
        print(config.masked("\n\n\n".join(preview_text(one) for one in told)))
    return 0


@app.command()
def debug(
    context: typer.Context,
    file: File,
    task: Annotated[str, typer.Argument(metavar="TASK", help="As a message names it: 'fit[alpha=0.1]', 'mean(3,0)'.")],
    step: Annotated[
        bool, typer.Option("--step", help="Stop at the first line of its function, whether it fails or not.")
    ] = False,
    backend: Backend = "threads",
    workers: Workers = None,
    sets: Sets = [],  # noqa: B006
    params: Params = [],  # noqa: B006
    root: Root = None,
) -> int:
    """Run one task of FILE in this process, under pdb."""
    config = loaded(context, file, sets, params, root)
    from pipeline.report.progress import OddLines
    from pipeline.runs import inspect

    session: Session = context.obj
    with OddLines(sys.stderr) as listener:
        session.counts = listener.counts
        with inspect.ready(config, task, backend=backend, workers=workers, listener=listener) as given:
            session.counts = None
            return _debugged(session, config, given, step=step)


def _debugged(session: Session, config: Config, given: Ready, *, step: bool) -> int:
    """Run the task: it fails, and is looked at; or it does not, and is run again step by step."""
    from pipeline.report.preview import preview_dict, preview_text
    from pipeline.runs.debugger import post_mortem, step_in
    from pipeline.runs.inspect import Preview

    def tell(text: str) -> None:
        print(config.masked(text), file=sys.stderr, flush=True)

    place = session.locations.get(given.step, "")
    where = f"{given.name} ({place})" if place else given.name
    try:
        if not step and given.pure:
            tell(f"{where} runs in this process.")
            given.run()
            tell(f"{given.name} does not fail; it runs again, and stops at the first line of its function.")
        else:
            tell(f"{where} runs in this process, and stops at the first line of its function.")
        result = step_in(given.run, given.function)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what the user's code raises is what it is all about
        from pipeline.worker.tracebacks import describe

        tell(f"{where}: {describe(error)}")
        post_mortem(error)
        return 1
    if result is not None:
        tell(preview_text(preview_dict(Preview(given.name, "value", result), rows=5)))
    return 0
