"""Steps that run a program, once or for each item. No shell interprets its arguments."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.model import ItemKey, Reference, Step
from pipeline.errors import DataError, ProgramError
from pipeline.graph.file_value import LARGEST_FILE, FileValue
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode
from pipeline.graph.segments import Dropped
from pipeline.ops.calls.arguments import Arguments, Folder, Slot, filled, text_of
from pipeline.ops.calls.mapping import mapped
from pipeline.worker import subprocesses
from pipeline.worker.atomic_write import write_errors
from pipeline.worker.tracebacks import describe

__all__ = ["Program", "command", "run_command"]

_SHOWN_LINES = 5  # of stderr in a message
_SHOWN = 500  # characters of stderr in a message
_CLOCK = 0.05  # seconds; longer than the resolution of file times


@dataclass(frozen=True)
class Program:
    """What all tasks of a command step share.

    Parameters
    ----------
    argv, env : values, which may contain slots, item keys and joined texts
    cwd : the folder that the program runs in; empty: a new one for each task
    stdin : what is written to its standard input; None: nothing
    files : part -> path, below that folder, of a file that it must write
    check : whether a return code other than 0 is a failure
    timeout : seconds after which it is killed
    drop : whether a failed item becomes a :class:`~pipeline.graph.segments.Dropped` in its place
    spread : whether an item is a map of the keys of ``over``
    """

    argv: tuple[Any, ...]
    env: Mapping[str, Any]
    cwd: str
    stdin: Slot | ItemKey | None
    files: Mapping[str, str]
    check: bool
    timeout: float | None = None
    drop: bool = False
    spread: bool = False


# ---------------------------------------------------------------------------------------------------------------------
# In the worker
# ---------------------------------------------------------------------------------------------------------------------


def run_command(program: Program, item: Mapping[str, Any] | None, key: str, *values: Any) -> Any:
    """Run the program for one item; ``values`` are the results for the slots.

    Returns
    -------
    ``{"stdout": text, "stderr": text, "returncode": int}`` with a :class:`~pipeline.graph.file_value.FileValue` for
    each of the files. Text is read as UTF-8, with replacement characters for invalid bytes

    Raises
    ------
    ProgramError : it is not there, failed, or did not write a file
    DataError : an argument is not a scalar, or a result is too large to be passed to other tasks
    TaskTimeout : it ran too long
    """
    for value in values:
        if isinstance(value, Dropped):
            return value
    try:
        with Folder() as folder:
            return _run(program, item or {}, values, folder)
    except Exception as error:
        if not program.drop:
            raise
        return Dropped(describe(error))


def _run(program: Program, item: Mapping[str, Any], values: Sequence[Any], folder: Folder) -> dict[str, Any]:
    given = {name: values[v.number] if isinstance(v, Slot) else v for name, v in item.items()}
    if program.spread:
        (given,) = given.values()
    read = None if program.stdin is None else filled(program.stdin, given, values)
    given, values = {name: folder.local(v) for name, v in given.items()}, [folder.local(v) for v in values]
    argv = [text for value in program.argv for text in _texts(filled(value, given, values))]
    env = {**os.environ, **{name: text_of(filled(value, given, values)) for name, value in program.env.items()}}
    cwd = program.cwd or folder.new("run")
    if not os.path.isdir(cwd):
        raise DataError(f"cwd: there is no folder {cwd!r} on this machine")
    before = {path: _file_state(os.path.join(cwd, path)) for path in program.files.values()} if program.cwd else {}
    ended = subprocesses.run(
        argv,
        executable=_found(argv[0], env),
        cwd=cwd,
        env=env,
        folder=folder.path,
        stdin=_input(read, os.path.join(folder.path, "stdin")),
        timeout=program.timeout,
    )
    stderr = _text(ended.stderr, f"{argv[0]}: stderr")
    if program.check and ended.returncode:
        raise ProgramError(f"{argv[0]} {_how(ended.returncode)}{_last_lines(stderr)}")
    parts: dict[str, Any] = {
        "stdout": _text(ended.stdout, f"{argv[0]}: stdout"),
        "stderr": stderr,
        "returncode": ended.returncode,
    }
    for name, path in program.files.items():
        parts[name] = _written(argv[0], cwd, path, before.get(path), stderr)
    return parts


def _texts(value: Any) -> list[str]:
    """Return an argument as text; of a list, each of its values."""
    if isinstance(value, list | tuple):
        return [text_of(one) for one in value]
    return [text_of(value)]


def _found(program: str, env: Mapping[str, str]) -> str:
    """Return the path of a program.

    Raises
    ------
    ProgramError : if it is not on this machine
    """
    found = shutil.which(program, path=env.get("PATH"))
    if found is not None:
        return os.path.abspath(found)
    if "/" not in program:
        raise ProgramError(f"there is no program {program!r} on this machine's PATH; install it where the workers run")
    why = "can't be executed" if os.path.exists(program) else "is not there"
    raise ProgramError(f"the program {program} {why}; it must be on every machine with workers")


def _input(value: Any, path: str) -> str:
    """Write what the program reads to a file and return its path."""
    if value is None:
        return os.devnull
    data = value.encode() if isinstance(value, str) else value.data if isinstance(value, FileValue) else value
    if not isinstance(data, bytes | bytearray | memoryview):
        raise DataError(f"stdin takes text, bytes or a file; got {type(value).__name__}")
    with write_errors(path), open(path, "wb") as file:
        file.write(data)
    return path


def _text(path: str, what: str) -> str:
    size = os.path.getsize(path)
    if size > LARGEST_FILE:
        raise DataError(
            f"{what} has {size:,} bytes; at most {LARGEST_FILE:,} are passed between tasks: write it to a file "
            "that all workers can read"
        )
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        return file.read()


def _how(code: int) -> str:
    if code > 0:
        return f"ended with {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _last_lines(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    shown = " | ".join(lines[-_SHOWN_LINES:])
    return f": {shown[-_SHOWN:]}" if shown else ", and wrote nothing to stderr"


def _file_state(path: str) -> tuple[int, int, int] | None:
    """Return what changes when a file is written; None if it does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if time.time_ns() - found.st_mtime_ns < 1e9 * _CLOCK:
        time.sleep(_CLOCK)  # else a file that is written now could get the same time
    return found.st_mtime_ns, found.st_size, found.st_ino


def _written(program: str, cwd: str, path: str, before: tuple[int, int, int] | None, stderr: str) -> FileValue:
    """Return a file that the program wrote.

    Raises
    ------
    ProgramError : it did not write the file
    """
    full = os.path.join(cwd, path)
    if os.path.isfile(full):
        found = os.stat(full)
        if before == (found.st_mtime_ns, found.st_size, found.st_ino):
            raise ProgramError(f"{program} did not write {path!r}: the file is unchanged")
        return FileValue.read(full)
    there = ", ".join(sorted(os.listdir(cwd))[:10]) or "nothing"
    what = "it is a folder" if os.path.isdir(full) else f"its folder has {there}"
    raise ProgramError(f"{program} wrote no file {path!r}; {what}{_last_lines(stderr) if stderr.strip() else ''}")


# ---------------------------------------------------------------------------------------------------------------------
# While building
# ---------------------------------------------------------------------------------------------------------------------


def command(
    step: Step,
    *,
    whole: Callable[[Reference], Key],
    enter: Callable[[Reference], Any],
    tasks: dict[Key, GraphNode],
) -> Any:
    """Return the collection of a command step; arguments as of :func:`pipeline.ops.calls.calls.call`."""
    asked = step.command
    assert asked is not None
    arguments = Arguments(whole)
    read = [arguments.slot(reference) for reference in step.inputs.get("stdin", ())]
    made = Program(
        argv=tuple(arguments.slotted(value) for value in asked.argv),
        env={name: arguments.slotted(value) for name, value in asked.env.items()},
        cwd=asked.cwd,
        stdin=read[0] if read else asked.stdin,
        files=dict(asked.files),
        check=asked.check,
        timeout=step.timeout,
        drop=step.on_error == "drop",
        spread=step.over is not None and step.over.maps is not None,
    )
    return mapped(step, run_command, made, arguments.keys, enter=enter, tasks=tasks)
