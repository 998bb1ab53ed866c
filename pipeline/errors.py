"""Every error that Pipeline raises on purpose, and the exit code that goes with it.

::

    PipelineError
    ├── ConfigError          2   the file, or a command or call, is wrong: all its errors at once
    ├── OpError              2   a step asks for what its op cannot do; building adds its place in the file
    ├── DataError            3   an input file is missing or unusable
    │   └── EntryDamaged     3   a value that was kept can't be read: it is computed again
    ├── TaskError            1   a task failed
    │   ├── TaskDataError    3   … because of its data: a DataError, too
    │   └── TaskWriteError   5   … because it could not write a file: an OutputError, too
    ├── ProgramError         1   the program of a command can't be run, or failed
    ├── BackendError         4   workers or the cluster are lost, unreachable or unusable
    │   ├── WorkerLost       4   a worker ended while it ran a task
    │   └── TaskTimeout      4   a task ran longer than its step's timeout
    ├── OutputError          5   the outputs could not be committed; the earlier ones are unchanged
    │   └── WriteError       5   a file could not be written: no space, no permission, a folder in its place
    ├── CheckError           6   a check of the file failed, or two results differ
    └── Bug                  70  an error in Pipeline itself

A message names the place, what was got, what is allowed, and what to do. Only the standard library is imported, so that
an error in a file is reported in a few milliseconds.
"""

from __future__ import annotations

import ast
import difflib
import errno
import itertools
import os
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeGuard

__all__ = [
    "BackendError",
    "Bug",
    "CheckError",
    "ConfigError",
    "DataError",
    "EntryDamaged",
    "Fault",
    "Location",
    "OpError",
    "OutputError",
    "PipelineError",
    "ProgramError",
    "TaskDataError",
    "TaskEntryDamaged",
    "TaskError",
    "TaskTimeout",
    "TaskWriteError",
    "WorkerLost",
    "WriteError",
    "cell_name",
    "has_no_files",
    "is_full",
    "nearest",
    "printable",
    "task_name",
    "where",
]


def where(step: str, item: str = "") -> str:
    """Return the name of an instance of a step, with an item in brackets where there is one.

    >>> where("fit", "alpha=0.1"), where("fit[t2m]", "alpha=0.1"), where("fit[t2m]")
    ('fit[alpha=0.1]', 'fit[t2m,alpha=0.1]', 'fit[t2m]')
    """
    if not item:
        return step
    return f"{step[:-1]},{item}]" if step.endswith("]") else f"{step}[{item}]"


def nearest(got: str, allowed: Iterable[str]) -> str:
    """Return ``; did you mean 'axis'?`` for the closest of ``allowed``; empty where none is close."""
    names = sorted(allowed) if isinstance(allowed, set | frozenset) else list(allowed)
    folded = {name.casefold(): name for name in reversed(names)}
    # a typo of one letter is likelier than a name that shares more letters in the same order
    typos = [name for name in folded if _is_one_typo(got.casefold(), name)]
    close = difflib.get_close_matches(got.casefold(), typos or list(folded), n=1, cutoff=0.0 if typos else 0.55)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def _is_one_typo(got: str, name: str) -> bool:
    """Return whether one letter is left out, added or replaced, or two are swapped, in ``got``."""
    if abs(len(got) - len(name)) > 1 or len(got) == len(name) == 1:  # 'a' is not a typo of 'b'
        return False
    start = next((i for i, (a, b) in enumerate(zip(got, name, strict=False)) if a != b), min(len(got), len(name)))
    rest, correct = got[start:], name[start:]
    swapped = rest[:2] == correct[1::-1] and rest[2:] == correct[2:]
    return rest[1:] == correct or rest == correct[1:] or rest[1:] == correct[1:] or swapped


def task_name(step: str, key: object, item: str = "") -> str:
    """Return the name of a task, as ``pipeline debug`` takes it.

    Parameters
    ----------
    step : the name of the instance that owns it
    key : its key, a tuple or a text, or the ``repr`` of a tuple
    item : the item that it computes; empty where there is none

    >>> task_name("fit", ("fit", 3), "alpha=0.1"), task_name("fit", "('fit.rmse', 3)", "alpha=0.1")
    ('fit[alpha=0.1]', 'fit.rmse(3)')
    >>> task_name("mean[t2m]", ("mean[t2m]/sum", 3, 0)), task_name("data", ("data",))
    ('mean[t2m]/sum(3,0)', 'data')
    """
    if isinstance(key, str) and key.startswith("("):
        try:
            key = ast.literal_eval(key)
        except (ValueError, SyntaxError):  # it contains more than texts and numbers: it is used as it is
            return where(step, item) if item else str(key)
    first, *index = key if isinstance(key, tuple) else (key,)
    if item and first == step:
        return where(step, item)
    return f"{first}({','.join(map(str, index))})" if index else str(first) or step


_CURES = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EFBIG: "raise the limit of the size of files (ulimit -f), or write elsewhere",
    errno.EROFS: "write elsewhere",
    errno.EIO: "the disk or its connection fails: look at the system's log, or write elsewhere",
    errno.EISDIR: "move the folder that is in its place",
    errno.ENOTDIR: "move the file that is in the place of its folder",
    errno.ENOENT: "make its folder",
    errno.EACCES: "get permission to write there, or write elsewhere",
}


def is_full(error: BaseException) -> TypeGuard[OSError]:
    """Return whether a disk is full, read-only or fails: no bug of ours."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
    return isinstance(error, OSError) and error.errno in full


def has_no_files(error: BaseException) -> TypeGuard[OSError]:
    """Return whether this process, or the system, can open no more files: no bug of ours."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def printable(text: str, *, keep: str = "") -> str:
    """Return the text with line ends and control characters, which could change a terminal, escaped as in Python.

    So are marks that change the direction of text, and letters that no encoding has.

    Parameters
    ----------
    keep : characters to leave as they are

    >>> printable("été\\x1b[31m")
    'été\\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def cell_name(filename: str) -> str:
    """Return ``In[3]`` for the file name that the code of a notebook's cell has, any other name as it is."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    label = getattr(getattr(shell, "compile", None), "format_code_name", lambda name: None)(filename)
    return str(label[1]) if label else filename


_OWN_FRAMES = re.compile(r'(?m)^  File "[^"\n]*/(pipeline|dask|distributed)/[^\n]*\n(    [^\n]*\n)*')
"""Those of a traceback that are in this package, or in what runs tasks for it."""

SHOWN = 2_000
"""Characters of a message that are printed; what is written to files is whole."""


def shortened(text: str, most: int = SHOWN) -> str:
    """Return the text, its middle left out where it is longer than ``most``.

    >>> shortened("abcdefghij", 4)
    'ab … (6 more characters) … ij'
    """
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … ({len(text) - 2 * half:,} more characters) … {text[-half:]}"


@dataclass(frozen=True, order=True)
class Location:
    """A place in a YAML file: the file as the user named it, line and column counted from 1."""

    file: str = "<python>"
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, order=True)
class Fault:
    """One error of a file.

    Parameters
    ----------
    location : the place of the value
    path : the keys that lead to it, joined by dots: ``steps.clim.axes``
    message : what was got, what is allowed, a hint
    """

    location: Location
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.location}: {self.path}: {self.message}" if self.path else f"{self.location}: {self.message}"


class PipelineError(Exception):
    """The root of the tree of errors; its text is a message for the user.

    ``run_folder`` is the folder of the run that failed with it; None where no run had begun.
    """

    exit_code: ClassVar[int] = 70
    run_folder: Path | None = None

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the calls of the user's code, the message, and the traceback in a task.

        Without the inner calls of this package, which are of use only for a :class:`Bug`.
        """
        if isinstance(self, Bug):
            return traceback.format_exception(self)
        package = os.path.dirname(__file__) + os.sep
        frames = traceback.extract_tb(self.__traceback__)
        calls = list(itertools.takewhile(lambda frame: not frame.filename.startswith(package), frames))
        calls = [frame for frame in calls if f"{os.sep}IPython{os.sep}" not in frame.filename]
        shown = [(cell_name(frame.filename), frame.lineno or 0, frame.name, frame.line) for frame in calls]
        task = _OWN_FRAMES.sub("", getattr(self, "traceback", ""))
        lines = [*traceback.format_list(shown), f"{type(self).__name__}: {self}\n", task and f"\nIn the task:\n{task}"]
        return "".join(lines).splitlines()


class ConfigError(PipelineError):
    """The file cannot be run as it is written.

    Parameters
    ----------
    faults : every error that was found, at least one; sorted by place
    """

    exit_code = 2

    def __init__(self, faults: Iterable[Fault] | str) -> None:
        if isinstance(faults, str):
            faults = [Fault(Location(), "", faults)]
        self.faults: tuple[Fault, ...] = tuple(sorted(set(faults)))
        super().__init__("\n".join(f.message if f.location == Location() else str(f) for f in self.faults))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Fault, ...]]]:
        return type(self), (self.faults,)


class OpError(PipelineError):
    """A step asks for something that its op cannot do: a dim that the array lacks, a window longer than its dim.

    Ops raise nothing else for it, and whatever else they raise while a Graph is built is a bug. Where a library judges
    what the user wrote (a frequency, a dtype), the op catches around that one call and raises this one from it.

    Parameters
    ----------
    field : the key of the step that it belongs to, with dots below it: ``axis``, ``columns.total``; empty: the step
    message : what was got, what is allowed, a hint
    """

    exit_code = 2

    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message
        super().__init__(field, message)

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class DataError(PipelineError):
    """An input is missing, unreadable, or not what the file says."""

    exit_code = 3


class EntryDamaged(DataError):
    """A value that an earlier run kept is gone, damaged or not ours. A run computes it again; no user meets this."""


class TaskError(PipelineError):
    """A task failed.

    Parameters
    ----------
    step : the instance of the step that owns the task: ``fit[t2m]``
    key : the task's key, as text
    cause : the exception, as ``Type: message (file:line, in function)``
    item : the item of an ``over`` that failed: ``alpha=0.1,fold=2``; empty where there is none
    traceback : the traceback of the task, for ``--debug``
    """

    exit_code = 1

    def __init__(self, step: str, key: str, cause: str, item: str = "", traceback: str = "") -> None:
        self.step, self.key, self.cause, self.item, self.traceback = step, key, cause, item, traceback
        super().__init__(step, key, cause, item, traceback)  # exceptions are pickled by their args

    @property
    def where(self) -> str:
        """Return the instance of the step, with the item in brackets where there is one."""
        return where(self.step, self.item)

    @property
    def task(self) -> str:
        """Return the name of the task, as ``pipeline debug`` takes it."""
        return task_name(self.step, self.key, self.item)

    def __str__(self) -> str:
        return f"{self.where}: {self.cause}"


class TaskDataError(TaskError, DataError):
    """The input data of a task are missing, unreadable, or not what the file says."""

    exit_code = 3


class TaskEntryDamaged(TaskDataError, EntryDamaged):
    """A task could not read a value that an earlier run kept; the entry is removed, where it could be."""


class ProgramError(PipelineError):
    """The program of a command can't be run, failed, or did not write a file that it should have."""

    exit_code = 1


class BackendError(PipelineError):
    """Workers or the cluster are lost, unreachable or unusable.

    Parameters
    ----------
    task : the name of the task concerned, as ``pipeline debug`` takes it; empty where it concerns none
    """

    exit_code = 4

    def __init__(self, message: str = "", task: str = "") -> None:
        self.task = task
        super().__init__(message)  # pickling keeps the task: it is in __dict__


class WorkerLost(BackendError):
    """A worker ended while it ran a task, and the back end cannot continue without it."""


class TaskTimeout(BackendError):
    """A task ran longer than the ``timeout`` of its step."""


class OutputError(PipelineError):
    """The outputs could not be committed; the earlier ones are unchanged."""

    exit_code = 5


class WriteError(OutputError):
    """A file could not be written; the message names it and the cure."""

    @classmethod
    def of(cls, path: str | os.PathLike[str], error: OSError) -> WriteError:
        """Return the error for a path that the system refused to write."""
        number = error.errno or 0
        why = os.strerror(number) if number else str(error)
        return cls(f"{os.fspath(path)}: can't be written: {why}; {_CURES.get(number, 'write elsewhere')}")


class TaskWriteError(TaskError, OutputError):
    """A task could not write a file of an output."""

    exit_code = 5


class CheckError(PipelineError):
    """A check of the file failed, or two back ends gave different results."""

    exit_code = 6


class Bug(PipelineError):
    """An error in Pipeline itself; the message asks for a report."""
