"""The commands ``show`` and ``debug``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.session import AsJson, Debug, File, Params, Root, Session, Sets, Workers, app, emit, loaded

if TYPE_CHECKING:
    from pipeline.runs.inspect import Ready


__all__ = ["debug", "show"]

Backend = Annotated[str, typer.Option(metavar="NAME", help="Back end that computes it, as for run.")]


@app.command()
def show(
    context: typer.Context,
    file: File,
    reference: Annotated[
        str,
        typer.Argument(metavar="REFERENCE", help="tas, 'tas[A1B]', 'tas[time=0:3]', svd.u, 'fit[alpha=0.1]'."),
    ],
    rows: Annotated[int, typer.Option(min=0, metavar="N", help="Number of rows, cells or items to show.")] = 10,
    backend: Backend = "threads",
    workers: Workers = None,
    sets: Sets = [],  # noqa: B006  (typer copies it)
    params: Params = [],  # noqa: B006
    root: Root = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Compute one value of FILE and show a summary of it; nothing is written."""
    config = loaded(context, file, sets, params, root)
    from pipeline.report.preview import preview_dict, preview_text
    from pipeline.report.progress import EventLines, JsonLines
    from pipeline.runs import inspect

    session: Session = context.obj
    with JsonLines(session.events or sys.stdout) if as_json else EventLines(sys.stderr) as listener:
        session.counts = listener.counts
        previews = inspect.preview(config, reference, backend=backend, workers=workers, listener=listener)
    summaries = [preview_dict(preview, rows=rows) for preview in previews]
    if as_json:
        emit(session, "result", ok=True, exit_code=0, values=summaries)
    else:
        print("\n\n\n".join(map(preview_text, summaries)))
    return 0


@app.command()
def debug(
    context: typer.Context,
    file: File,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Its name in messages: 'fit[alpha=0.1]', 'mean(3,0)'.")],
    step: Annotated[
        bool, typer.Option("--step", help="Stop at the first line of its function, even if it does not fail.")
    ] = False,
    backend: Backend = "threads",
    workers: Workers = None,
    sets: Sets = [],  # noqa: B006
    params: Params = [],  # noqa: B006
    root: Root = None,
) -> int:
    """Run one task of FILE in this process under pdb."""
    config = loaded(context, file, sets, params, root)
    from pipeline.report.progress import EventLines
    from pipeline.runs import inspect

    session: Session = context.obj
    with EventLines(sys.stderr) as listener:
        session.counts = listener.counts
        with inspect.ready(config, task, backend=backend, workers=workers, listener=listener) as task_call:
            session.counts = None
            return _debug(session, task_call, step=step)


def _debug(session: Session, task: Ready, *, step: bool) -> int:
    """Run the task: if it fails, debug it where it failed; if not, run it again from its first line."""
    from pipeline.report.preview import preview_dict, preview_text
    from pipeline.runs.debugger import post_mortem, step_in
    from pipeline.runs.inspect import Preview

    def show_message(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    place = session.locations.get(task.step, "")
    where = f"{task.name} ({place})" if place else task.name
    try:
        if not step and task.pure:
            show_message(f"{where} runs in this process.")
            task.run()
            show_message(f"{task.name} does not fail; it runs again and stops at the first line of its function.")
        else:
            show_message(f"{where} runs in this process and stops at the first line of its function.")
        result = step_in(task.run, task.function)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - any exception of the user's code is what to debug
        from pipeline.worker.tracebacks import describe

        show_message(f"{where}: {describe(error)}")
        post_mortem(error)
        return 1
    if result is not None:
        show_message(preview_text(preview_dict(Preview(task.name, "value", result), rows=5)))
    return 0
