"""What the loop needs from a back end: an executor that takes segments and later returns their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pipeline.backends.base import Capabilities
from pipeline.errors import where
from pipeline.graph.graph import Graph, Key
from pipeline.graph.segments import Segment, SegmentTask
from pipeline.worker.output_buffer import Line
from pipeline.worker.segment_result import SegmentResult

__all__ = ["Executor", "Finished", "Job", "LostWorker"]


@dataclass(frozen=True, eq=False)
class Job:
    """A segment to run, with the values that it needs as the executor stores them.

    Parameters
    ----------
    attempt : how often the segment was run before; 0 for a batch, whose tasks are counted one by one
    emit : takes the name of a worker and the lines that tasks printed there; to be called in the thread that calls
        ``submit`` and ``wait``. An executor that gets no lines before the end leaves them in the SegmentResult
    """

    segment: Segment
    inputs: Mapping[Key, Any]
    attempt: int = 0
    emit: Callable[[str, Sequence[Line]], None] = lambda worker, lines: None


@dataclass(frozen=True)
class LostWorker:
    """A worker process that ended.

    Parameters
    ----------
    worker : its name and process id, as text
    ended_by : ``SIGKILL``, ``exit code 1``
    task : the task that it ran; None if it ran none
    """

    worker: str
    ended_by: str
    task: SegmentTask | None = None

    @property
    def cause(self) -> str:
        """What happened, without the name of the task."""
        likely = "; it was out of memory, or somebody killed it" if self.ended_by == "SIGKILL" else ""
        running = "no task" if self.task is None else f"task {self.task.key}"
        return f"{self.worker} ended by {self.ended_by} while it ran {running}{likely}"

    def message(self) -> str:
        """Return the message for the user."""
        return self.cause if self.task is None else f"{where(self.task.step, self.task.item)}: {self.cause}"


@dataclass(frozen=True, eq=False)
class Finished:
    """A job that is over: it has a result, or its worker was lost.

    Parameters
    ----------
    blame : whether the job may have caused the loss; False if it only waited at that worker
    bytes_in, bytes_sent : bytes that moved to the worker and back
    kept : of a batch whose worker was lost: what its items gave before that
    """

    job: Job
    result: SegmentResult | None = None
    lost: LostWorker | None = None
    blame: bool = True
    bytes_in: int = 0
    bytes_sent: int = 0
    kept: SegmentResult | None = None


class Executor(Protocol):
    """Runs segments. Its methods are called from one thread."""

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    n_workers: int

    def prepare(self, graph: Graph) -> float:
        """Start the workers that are missing and get all ready for a graph.

        Returns
        -------
        the seconds that starting took since the last run
        """
        ...

    def has_room(self, n_ready: int) -> bool:
        """Whether a job may be submitted now; ``n_ready`` segments are ready to run."""
        ...

    def submit(self, job: Job) -> None:
        """Start a job. Returns at once, unless the caller's thread is the worker."""
        ...

    def wait(self) -> Sequence[Finished]:
        """Wait until something has happened; return the jobs that are over since the last call, which may be none."""
        ...

    def abandon(self) -> None:
        """End what still runs; the next ``prepare`` replaces the workers that this costs."""
        ...

    def encode(self, value: Any) -> Any:
        """Return a value of this process as the executor stores it; by default the value itself."""
        return value

    def decode(self, stored: Any) -> Any:
        """Return the value that was stored."""
        return stored

    def release(self, stored: Any) -> None:
        """Free what a stored value takes outside this process: nothing needs it any more."""
        return

    def notes(self) -> Mapping[str, Any]:
        """Return what the Trace should record about the workers.

        ``gaps``, if any, are worker, begin and end of times when a worker was not observed, in ns of
        ``perf_counter_ns``.
        """
        return {}
