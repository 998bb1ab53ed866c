"""Run folders: where a new one is made, which files one holds, and ``tasks.log``, which keeps what tasks printed.

A run folder is ``RUNS/NAME/TIME``: the pipeline's name, which may hold a ``/``, and when the run began (UTC), with a
number behind it if another run began in the same second.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Self

from pipeline.backends.events import Event, Listener, OutputLine
from pipeline.errors import OutputError, WriteError, printable
from pipeline.worker.atomic_write import write_errors

__all__ = ["FAILURE", "INPUTS", "MARKS", "PROVENANCE", "REPORT", "RUN", "SHAPE", "STAMP", "TASK_LOG", "TRACE",
           "TaskLog", "began", "is_recorded", "new_folder"]  # fmt: skip

RUN, PROVENANCE, INPUTS, FAILURE = "run.json", "provenance.json", "inputs.json", "failure.json"
SHAPE, TRACE, TASK_LOG = "shape.parquet", "trace.parquet", "tasks.log"
REPORT = "report.json"
MARKS = (RUN, REPORT, "comparison.json", "config.json", "graph", TRACE, FAILURE)
"""A folder that holds one of these is a run folder."""

STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)(?:\.(\d{1,6}))?", re.ASCII)
"""The name of a run folder: a time, and a number from 2 on."""

_HEAD = "time\tworker\tstep\titem\tstream\tline\n"
_MOST_CHARACTERS = 100_000_000


def new_folder(runs: Path, name: str) -> Path:
    """Make a new folder ``runs/NAME/TIME``, and return its absolute path.

    Raises
    ------
    OutputError : if it can't be made
    """
    series, stamp = runs / name, datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    try:
        series.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1_000):
            folder = series / (stamp if number == 1 else f"{stamp}.{number}")
            with contextlib.suppress(FileExistsError):  # another run began in the same second
                folder.mkdir()
                return folder.absolute()
    except FileExistsError:
        raise OutputError(f"the run folder can't be made: {series} is not a folder") from None
    except OSError as error:
        raise OutputError(f"the run folder can't be made: {error}") from error
    raise OutputError(f"the run folder can't be made: {series / stamp} and a thousand names after it are taken")


def began(folder: Path) -> float | None:
    """Return when the run of a folder began, in seconds since the epoch; None if its name is not a time."""
    match = STAMP.fullmatch(folder.name)
    return datetime.strptime(match[1], "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC).timestamp() if match else None


def is_recorded(folder: Path) -> bool:
    """Return whether a folder holds the files of a run from which its report can be made."""
    return (folder / RUN).is_file()


class TaskLog:
    """The file ``tasks.log``; it is made with the first line that a task prints, and readable while the run goes on.

    Its columns, separated by tabs: time (UTC), worker, step instance, item, ``stdout`` or ``stderr``, and the line with
    control characters escaped. After ``most`` characters a last line counts those that were left out.
    """

    def __init__(self, path: Path, *, most: int = _MOST_CHARACTERS) -> None:
        self._path, self._left, self._left_out = path, most, 0
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with write_errors(self._path), file:
                if self._left_out:
                    file.write(f"{_stamp(datetime.now(UTC))}\t\t\t\t\t… {self._left_out:,} more lines are left out\n")
        except WriteError:
            if exc[0] is None:  # else the first error is raised
                raise

    def beside(self, listener: Listener) -> Listener:
        """Return a listener that also writes the lines that tasks print to the file."""

        def listen(event: Event) -> None:
            if isinstance(event, OutputLine):
                with write_errors(self._path):
                    self._write(event)
            listener(event)

        return listen

    def _write(self, event: OutputLine) -> None:
        if self._left <= 0:
            self._left_out += 1
            return
        if self._file is None:
            self._file = open(self._path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115 - closed by __exit__
            self._file.write(_HEAD)
        when = _stamp(datetime.fromtimestamp(event.when, UTC))
        fields = (event.worker, event.step, event.item, event.stream, event.message)
        line = "\t".join([when, *(printable(text) for text in fields)])
        self._file.write(f"{line}\n")
        self._left -= len(line) + 1


def _stamp(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z"
