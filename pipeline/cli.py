"""argv -> one public call -> text and an exit code.

What numbers a command prints is decided in ``report/``; what they are, below that. This module imports neither numpy
nor dask: ``--help`` and a file with faults are answered before they are loaded (a test looks into ``sys.modules``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import ConfigError, PipelineError, TaskError

if TYPE_CHECKING:
    from types import FrameType

    from pipeline.config import Config
    from pipeline.report.progress import Counts

__all__ = ["Session", "Terminated", "app", "main"]

_BUG, _INTERRUPTED, _TERMINATED, _PIPE_CLOSED = 70, 130, 143, 141


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception: everything that ends cleanly after Ctrl-C ends cleanly after it, too."""


@dataclass
class Session:
    """What one call of the program knows for what it tells; filled as the command goes on.

    ``events`` is where JSON goes; None without ``--json``. ``masked`` takes the file's secrets out of a message.
    """

    json: bool = False
    debug: bool = False
    file: str = ""
    locations: dict[str, str] = field(default_factory=dict)
    counts: Counts | None = None
    events: IO[str] | None = None
    masked: Callable[[Any], Any] = lambda told: told


app = typer.Typer(
    name="pipeline",
    help="Parallel array, dataframe and Python pipelines from one YAML file.",
    add_completion=False,
    rich_markup_mode=None,  # plain help: no need to load rich for it
    pretty_exceptions_enable=False,
)

File = Annotated[str, typer.Argument(metavar="FILE", help="The YAML file.", show_default=False)]
Sets = Annotated[
    list[str], typer.Option("--set", metavar="A.B=VALUE", help="Set a param (read as YAML); repeatable.")
]  # fmt: skip
Params = Annotated[list[str], typer.Option("--params", metavar="FILE", help="A YAML map of params; repeatable.")]
Root = Annotated[str | None, typer.Option(metavar="DIR", help="What input paths are relative to.  [the file's folder]")]
Workers = Annotated[int | None, typer.Option(min=1, metavar="N", help="Number of workers.  [as many as cores]")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON event a line; the last one is the result.")]
Debug = Annotated[bool, typer.Option("--debug", help="Print tracebacks.")]
Runs = Annotated[str, typer.Option(metavar="DIR", help="Where the run folders are put.")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and give its exit code; never raises, but for what interrupts an interpreter that is ending."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    session = Session(json="--json" in arguments, debug="--debug" in arguments)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (it was closed: >&-)
    with _events_apart() if session.json else contextlib.nullcontext() as session.events:
        return _ended(arguments, session)


def _ended(arguments: Sequence[str], session: Session) -> int:
    """The exit code of the program, everything told."""
    try:
        with _sigterm_raises():
            # not app(…): that answers Ctrl-C and a closed pipe itself, in silence
            command = typer.main.get_command(app)
            with command.make_context("pipeline", list(arguments) or ["--help"], obj=session) as context:
                code = command.invoke(context)
            sys.stdout.flush()
            return int(code or 0)
    except typer.Exit as done:  # --help, --version
        return done.exit_code
    except BrokenPipeError:
        if session.events is None:  # else the interpreter complains at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except BaseException as error:  # noqa: BLE001  (the last place where anything can be told)
        return _failed(error, session)


def _failed(error: BaseException, session: Session) -> int:
    """Tell what happened on stderr, and give the exit code."""
    from pipeline.report.failures import failure_event, failure_lines

    code, lines = _BUG, []
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        code = _TERMINATED if isinstance(error, Terminated) else _INTERRUPTED
        name = "SIGTERM" if code == _TERMINATED else "Ctrl-C"
        lines = [f"pipeline: error: ended by {name}. Nothing more was committed."]
    elif isinstance(error, typer.TyperException):  # how the program was called
        code = getattr(error, "exit_code", 2)
        message = getattr(error, "format_message", lambda: "no command is given")() or "no command is given"
        lines = [f"pipeline: error: {message.rstrip('.')}. See: pipeline --help"]
    elif isinstance(error, PipelineError):
        code = error.exit_code
    lines = lines or failure_lines(error, file=session.file, locations=session.locations, counts=session.counts)
    if session.debug:
        traceback.print_exception(error)
        if isinstance(error, TaskError) and error.traceback:
            print(error.traceback.rstrip(), file=sys.stderr)
    if session.json:
        event = failure_event(error, exit_code=code, locations=session.locations)
        event["message"] = lines[-1].removeprefix("pipeline: error: ")
        if lines[1:] and "faults" not in event:
            event["before"] = lines[:-1]
        with contextlib.suppress(OSError):  # nobody takes them
            _emit(session, "error", **session.masked(event))
            _emit(session, "result", ok=False, exit_code=code)
    print(*session.masked(lines), sep="\n", file=sys.stderr, flush=True)
    return code


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    def raised(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not break the cleaning up
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, raised)
    except ValueError:  # not in the main thread: whoever called us there looks after signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _events_apart() -> Iterator[IO[str]]:
    """Standard output for JSON alone: what tasks print, here or in a child process, goes to standard error."""
    events, real = sys.stdout, sys.stdout is not None and sys.stdout is sys.__stdout__
    if real:
        sys.stdout.flush()
        own = os.dup(1)
        events = open(own, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  (closed below, whatever its reader did)
        os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield events
    finally:
        if real:
            with contextlib.suppress(OSError):
                events.close()
            os.dup2(own, 1)
            os.close(own)


def _emit(session: Session, event: str, **fields: Any) -> None:
    from pipeline.report.progress import JsonLines

    JsonLines(session.events or sys.stdout).emit(event, **fields)


def _load(context: typer.Context, file: str, sets: Sequence[str], params: Sequence[str], root: str | None) -> Config:
    """The Config, with its warnings told, and the session knowing the steps' places."""
    session: Session = context.obj
    session.file = file
    for path in (file, *params):
        if not Path(path).is_file():
            from pipeline.report.failures import no_such_file

            raise no_such_file(path)
    from pipeline.config import load

    config = load(file, sets=_assignments(sets), params_files=tuple(params), root=root)
    places = {name: step.location for name, step in config.steps.items()}
    places |= {output.writer: output.location for output in config.outputs}
    session.masked = config.masked
    session.locations |= {name: f"{place.file}:{place.line}" for name, place in places.items() if place.line}
    for warning in config.warnings:
        if session.json:
            _emit(session, "warning", message=warning)
        else:
            print(f"pipeline: warning: {warning}", file=sys.stderr)
    return config


def _assignments(sets: Sequence[str]) -> Mapping[str, str]:
    pairs = {}
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {text}: a param's name and its value are joined by '=': --set smooth=12")
        pairs[name.strip()] = value
    return pairs


def _show_version(asked: bool) -> None:
    if asked:
        from pipeline import __version__

        print(f"pipeline {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Parallel array, dataframe and Python pipelines from one YAML file."""


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
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Run FILE on local workers or a Dask scheduler."""
    from pipeline.report.progress import listener_for

    config = _load(context, file, sets, params, root)
    if dry_run:
        return _show_plan(context.obj, config, data=True)
    if backend not in (None, "dask"):
        if cluster and context.get_parameter_source("cluster").name != "ENVIRONMENT":  # type: ignore[union-attr]
            raise ConfigError(f"--cluster goes with back end 'dask', not with '{backend}'; leave one of them out")
        cluster = None
    from pipeline import execution

    session: Session = context.obj
    with listener_for(session.events or sys.stdout, as_json=as_json) as listener:
        session.counts = listener.counts
        result = execution.run(
            config, backend=backend or "dask", workers=workers, cluster=cluster, out=out, listener=listener, runs=runs
        )
    return _show_run(session, result)


def _show_run(session: Session, result: Any) -> int:
    from pipeline.report.terminal import run_text

    code = 1 if result.dropped else 0
    if session.json:
        _emit(session, "result", ok=not code, exit_code=code, **result.to_dict())
    else:
        print(run_text(result))
    if code:
        steps = sorted({step for step, _, _ in result.dropped})
        n = len(result.dropped)
        items = "item" if n == 1 else "items"
        names = f"step '{steps[0]}'" if len(steps) == 1 else f"{len(steps)} steps"
        print(
            f"pipeline: error: {n} {items} of {names} {'was' if n == 1 else 'were'} dropped, since a call failed "
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
        typer.Option(metavar="A,B", help="Back ends, joined by commas; serial is always there.  [all]"),
    ] = None,
    workers: Workers = None,
    repeat: Annotated[int | None, typer.Option(min=1, metavar="N", help="Rounds.  [3]")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Make fewer rounds so that it takes no longer: 2min, 90s.")
    ] = None,
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
    """Compare back ends on FILE: speed and results."""
    config = _load(context, file, sets, params, root)
    seconds = _seconds(budget) if budget else None
    from pipeline import comparison
    from pipeline.report.terminal import comparison_text

    def tell(message: str) -> None:
        if as_json:
            _emit(context.obj, "note", message=message)
        else:
            print(message, flush=True)

    result = comparison.compare(
        config,
        backends=[name.strip() for name in backends.split(",") if name.strip()] if backends else None,
        workers=workers,
        repeat=repeat,
        budget=seconds,
        runs=runs,
        allow_effects=allow_effects,
        tell=tell,
    )
    code = result.exit_code
    if as_json:
        _emit(context.obj, "result", **({"ok": not code} | result.to_dict()))
    else:
        print(f"\n{comparison_text(result)}")
    if code:
        print(f"pipeline: error: {result.problem}", file=sys.stderr)
    return code


@app.command()
def check(
    context: typer.Context,
    file: File,
    no_data: Annotated[bool, typer.Option("--no-data", help="Look at the file alone, not at its inputs.")] = False,
    sets: Sets = [],  # noqa: B006
    params: Params = [],  # noqa: B006
    root: Root = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Find the faults of FILE and show its plan."""
    config = _load(context, file, sets, params, root)
    return _show_plan(context.obj, config, data=not no_data)


def _show_plan(session: Session, config: Config, *, data: bool) -> int:
    from pipeline.planning import plan
    from pipeline.report.terminal import plan_event, plan_text

    made = plan(config, data=data)
    if session.json:
        _emit(session, "result", ok=True, exit_code=0, **plan_event(made))
    else:
        print(plan_text(made))
    return 0


@app.command()
def ops(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="An op, to see its parameters.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """List the ops, or the parameters of one."""
    from pipeline import schema

    if as_json:
        _emit(context.obj, "result", ok=True, exit_code=0, ops=schema.ops(name))
    else:
        print(schema.ops_text(name))
    return 0


@app.command("schema")
def json_schema() -> int:
    """Print the JSON Schema of the YAML files."""
    import json

    from pipeline import schema

    print(json.dumps(schema.json_schema(), indent=2))
    return 0


def _seconds(text: str) -> float:
    """``2min``, ``90s``, ``1.5h`` or a number of seconds.

    >>> _seconds("2min"), _seconds("90")
    (120.0, 90.0)
    """
    import re

    units = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    if match is None or match[2] not in units:
        raise ConfigError(f"--budget {text}: a time is a number with s, min or h: 2min, 90s")
    return float(match[1]) * units[match[2]]
