"""The program: signals, the exit code, and messages for errors."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import IO, Any, cast

import typer

from pipeline.cli import cache, explain, graph, history, language, run, show, tour, verify, worker
from pipeline.cli.session import Session, app, emit
from pipeline.cli.signals import raising
from pipeline.config import secret_values
from pipeline.errors import BackendError, OutputError, PipelineError, TaskError, has_no_files, is_full
from pipeline.report.people_stream import PeopleStream, cleaned
from pipeline.runs.wall_time import WallTime, process_age

__all__ = ["main"]

# Importing a module of commands registers them; --help lists them in the order of this list.
_MODULES = [module.__name__ for module in (run, show, graph, explain, history, verify, cache, tour, worker, language)]
app.registered_commands.sort(key=lambda command: _MODULES.index(getattr(command.callback, "__module__", "")))

_BUG, _INTERRUPTED, _PIPE_CLOSED = 70, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    clock = WallTime(before=process_age() if argv is None else 0.0)
    session = Session(json="--json" in arguments, debug="--debug" in arguments, wall_time=clock)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (closed by >&-)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # print escapes for letters that the encoding lacks
    try:
        with (
            raising(),
            secret_values.recorded() as session.secrets,
            _json_stdout() if session.json else contextlib.nullcontext() as events,
            cleaned(session.masked),
        ):
            session.events = cast("IO[str]", PeopleStream(events, session.masked)) if events is not None else None
            return _exit_code(arguments, session)
    except KeyboardInterrupt as error:  # it came while the program began or ended
        return _failed(error, session)


@functools.cache
def _command() -> Any:
    """Return the command of the program; made once: typer looks at the parameters of every command for it."""
    return typer.main.get_command(app)


_IN_OUR_WORDS = (
    ("Input should be a valid integer, unable to parse string as an integer", "write a whole number"),
    ("Input should be greater than or equal to", "write a whole number >="),
)
"""Parts of messages of the library that reads the arguments, and what stands there instead."""


def _exit_code(arguments: Sequence[str], session: Session) -> int:
    """Run a command, and return the exit code after printing a message for every error."""
    try:
        # not app(…), which handles Ctrl-C and a closed pipe itself, without a message
        with _command().make_context("pipeline", run.with_bare_force(arguments) or ["--help"], obj=session) as context:
            code = context.command.invoke(context)
        sys.stdout.flush()
        return int(code or 0)
    except typer.Exit as done:  # --help, --version
        return done.exit_code
    except BrokenPipeError:
        if session.events is None:  # or the interpreter reports the closed pipe when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except BaseException as error:  # noqa: BLE001  (the last place to report anything)
        return _failed(error, session)


def _committed(error: BaseException, session: Session) -> str:
    """Return the sentences on what a run that was ended leaves: all outputs are committed together, or none."""
    if session.wall_time.parts["commit"]:
        return " The outputs were committed before."
    return " ".join([" Nothing was committed.", *getattr(error, "__notes__", ())])


def _failed(error: BaseException, session: Session) -> int:
    """Print what happened to stderr, and return the exit code."""
    from pipeline.report.failures import failure_event, failure_lines

    code, lines = _BUG, []
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        code, name = getattr(error, "exit_code", _INTERRUPTED), getattr(error, "name", "Ctrl-C")
        lines = [f"pipeline: error: ended by {name}.{_committed(error, session) if session.commits else ''}"]
    elif isinstance(error, typer.TyperException):  # wrong arguments
        code = getattr(error, "exit_code", 2)
        message = getattr(error, "format_message", lambda: "no command is given")() or "no command is given"
        for theirs, ours in _IN_OUR_WORDS:
            message = message.replace(theirs, ours)
        end = "" if message.endswith((".", "?", "!")) else "."
        context = getattr(error, "ctx", None)
        lines = [f"pipeline: error: {message}{end} See: {getattr(context, 'command_path', 'pipeline')} --help"]
    elif isinstance(error, PipelineError):
        code = error.exit_code
    elif has_no_files(error):
        code = BackendError.exit_code
    elif is_full(error):
        code = OutputError.exit_code
    lines = lines or failure_lines(
        error, file=session.file, options=session.options, locations=session.locations, counts=session.counts
    )
    if session.debug:
        traceback.print_exception(error)
        if isinstance(error, TaskError) and error.traceback:
            print(error.traceback.rstrip(), file=sys.stderr)
    if session.json:
        event = failure_event(error, exit_code=code, locations=session.locations)
        event["message"] = lines[-1].removeprefix("pipeline: error: ")
        if lines[1:] and "faults" not in event:
            event["before"] = lines[:-1]
        with contextlib.suppress(OSError):  # the reader has closed the pipe
            emit(session, "error", **event)
            emit(session, "result", ok=False, exit_code=code)
    print(*lines, sep="\n", file=sys.stderr, flush=True)
    return code


@contextlib.contextmanager
def _json_stdout() -> Iterator[IO[str]]:
    """Keep standard output for JSON alone: what tasks print, in any process, goes to standard error."""
    events, real = sys.stdout, sys.stdout is not None and sys.stdout is sys.__stdout__
    if real:
        sys.stdout.flush()
        own = os.dup(1)
        events = open(own, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  (closed below, even if its reader has gone)
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
