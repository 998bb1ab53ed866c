"""What a listener is called with while a run goes on: one small dataclass for each kind of event."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pipeline.errors import printable, where

if TYPE_CHECKING:
    from pipeline.worker.output_buffer import Line

__all__ = [
    "Event",
    "ItemDropped",
    "Listener",
    "MetadataRead",
    "Note",
    "OutputLine",
    "Resumed",
    "TaskFailed",
    "TaskRetry",
    "TasksDone",
    "WorkerLoss",
    "output_events",
    "pickled_note",
    "shared_note",
    "show_output",
]

# ``kind`` is the name of the event in the JSON lines of ``pipeline run --json``. ``step`` is everywhere the instance of
# the step (``fit[era5]``), ``item`` the item of the task, empty where it has none.


@dataclass(frozen=True)
class TasksDone:
    """Tasks of one step have finished.

    Parameters
    ----------
    key, item : of the last of them
    count : number of tasks
    seconds : sum of their run times in the worker; 0 where it is unknown
    """

    kind: ClassVar[str] = "task"
    step: str
    key: str = ""
    item: str = ""
    count: int = 1
    seconds: float = 0.0


@dataclass(frozen=True)
class TaskRetry:
    """A task failed and is run again; ``message`` is the cause."""

    kind: ClassVar[str] = "retry"
    step: str
    key: str = ""
    item: str = ""
    message: str = ""


@dataclass(frozen=True)
class TaskFailed:
    """A task failed finally, and the run keeps going without what needs it; ``message`` is the cause."""

    kind: ClassVar[str] = "failed"
    step: str
    key: str = ""
    item: str = ""
    message: str = ""


@dataclass(frozen=True)
class ItemDropped:
    """An item failed and is left out of the results; ``message`` is the cause."""

    kind: ClassVar[str] = "dropped"
    step: str
    item: str = ""
    message: str = ""


@dataclass(frozen=True)
class WorkerLoss:
    """A worker ended; its tasks are run again. ``step``, ``key`` and ``item`` are empty where its task is unknown."""

    kind: ClassVar[str] = "worker lost"
    step: str = ""
    key: str = ""
    item: str = ""
    message: str = ""


@dataclass(frozen=True)
class Note:
    """A message about the run as a whole, such as the address of a dashboard."""

    kind: ClassVar[str] = "note"
    message: str


@dataclass(frozen=True)
class MetadataRead:
    """Metadata of input files are read, before there is a Graph; a few times a second if that takes long.

    Parameters
    ----------
    done : number of files that were read up to now
    n_files : number of files that are known to be needed up to now
    """

    kind: ClassVar[str] = "metadata"
    done: int
    n_files: int


@dataclass(frozen=True)
class Resumed(Note):
    """What a run reuses from earlier ones and what it runs again; the first event, if there were earlier runs.

    Parameters
    ----------
    answers : for each step, output and check, in the types of JSON; see :mod:`pipeline.runs.resume.plan`
    """

    kind: ClassVar[str] = "resume"
    answers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OutputLine:
    """A line that a task printed or logged.

    Parameters
    ----------
    message : the line, without its end
    worker : name of the worker that ran the task
    stream : ``stdout`` or ``stderr``
    when : seconds since the epoch
    """

    kind: ClassVar[str] = "output"
    step: str
    key: str = ""
    item: str = ""
    message: str = ""
    worker: str = ""
    stream: str = "stdout"
    when: float = 0.0


Event = TasksDone | TaskRetry | TaskFailed | ItemDropped | WorkerLoss | Note | OutputLine | MetadataRead


class Listener(Protocol):
    """Something to call with each event of a run, in the process that started the run, from one thread at a time."""

    def __call__(self, event: Event, /) -> None: ...


def shared_note(step: str, kind: str) -> Note:
    """Return the message that tasks of a step share an object of this type with others."""
    return Note(f"{step}: a {kind} can't be pickled, so its tasks share it with others: none of them should change it")


def pickled_note(reason: str) -> Note:
    """Return the message that values are pickled instead of shared, since the system has refused the memory."""
    return Note(f"/dev/shm can't take all values ({reason}): those go through pipes, which gives the same results")


def output_events(worker: str, lines: Iterable[Line]) -> Iterator[OutputLine]:
    """Yield an event for each line that tasks of a worker wrote."""
    for when, step, key, item, stream, text in lines:
        yield OutputLine(step, key, item, text, worker=worker, stream=stream, when=when)


def show_output(event: Event) -> None:
    """Print what tasks write, each line with its task: the listener of a run that was given none."""
    if isinstance(event, OutputLine):
        print(printable(f"{where(event.step, event.item)}: {event.message}"), file=getattr(sys, event.stream))
