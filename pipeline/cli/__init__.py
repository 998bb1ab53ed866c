"""argv -> one public call -> text and an exit code.

What numbers a command prints is decided in ``report/``; what they are, below that. This package imports neither numpy
nor dask: ``--help`` and a file with faults are answered before they are loaded (a test looks into ``sys.modules``).

==============  =========================================================
here            the program: signals, exit codes, what is told of a fault
``session``     what all commands share: options, the session, loading
``run``         ``run compare check``
``show``        ``show debug``
``graph``       ``graph``
``explain``     ``explain``
``history``     ``runs diff report``
``language``    ``ops schema``
==============  =========================================================
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING

import typer

from pipeline.cli import explain, graph, history, language, run, show
from pipeline.cli.session import Session, app, emit
from pipeline.errors import OutputError, PipelineError, TaskError, is_full

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["COMMANDS", "Session", "Terminated", "app", "main"]

COMMANDS = (run, show, graph, explain, history, language)
"""The modules whose commands the program has, in the order in which they are listed: importing one adds them."""

_MODULES = [module.__name__ for module in COMMANDS]
app.registered_commands.sort(key=lambda command: _MODULES.index(getattr(command.callback, "__module__", "")))

_BUG, _INTERRUPTED, _TERMINATED, _PIPE_CLOSED = 70, 130, 143, 141


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception: everything that ends cleanly after Ctrl-C ends cleanly after it, too."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and give its exit code; never raises, but for what interrupts an interpreter that is ending."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    session = Session(json="--json" in arguments, debug="--debug" in arguments)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (it was closed: >&-)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a letter that the terminal's encoding lacks ends no run
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
        with contextlib.suppress(OSError):  # nobody takes them
            emit(session, "error", **session.masked(event))
            emit(session, "result", ok=False, exit_code=code)
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
