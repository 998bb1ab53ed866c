"""Segments, the groups of tasks that workers get, and how a task in one can fail or leave an item out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from pipeline.errors import (
    PipelineError,
    TaskDataError,
    TaskError,
    TaskTimeout,
    TaskWriteError,
    WorkerLost,
    task_name,
)
from pipeline.graph.graph import GraphNode, Key, dependencies, task

NOT_AGAIN = "its step has effects outside (pure: false), which may have taken place: it is not run again"
"""End of the message about a task that a lost worker may have run."""


# ---------------------------------------------------------------------------------------------------------------------
# Sent to a worker
# ---------------------------------------------------------------------------------------------------------------------


class SegmentTask(NamedTuple):
    """A task within a segment.

    Parameters
    ----------
    step : the step instance that owns it
    item : key of the item it computes; empty if it computes none
    timeout : seconds; None: no limit
    frees : keys of the values that no task needs after this one, in the segment or outside
    drop : whether its item is left out when it has failed finally
    retries : how often it may be run again after a failure
    attempt : how often it has failed or lost its worker before, in a batch
    opens : whether an item of a batch begins with it
    owns : keys of the values that nothing else sees, so that it may change them
    writable : whether it gets copies of arrays, which it may write to, instead of read-only views
    """

    key: Key
    node: GraphNode
    step: str
    item: str = ""
    timeout: float | None = None
    frees: tuple[Key, ...] = ()
    drop: bool = False
    retries: int = 0
    attempt: int = 0
    opens: bool = False
    owns: tuple[Key, ...] = ()
    writable: bool = False

    @property
    def name(self) -> str:
        """Name of the task as ``pipeline debug`` takes it."""
        return task_name(self.step, self.key, self.item)


@dataclass(frozen=True, eq=False)
class Segment:
    """Tasks that run together, in this order, in one worker.

    Parameters
    ----------
    number : position in the order in which a single worker should run all segments; those it needs have lower ones
    step : the step that most of its tasks belong to
    inputs : keys it needs from other segments (or :data:`pipeline.graph.graph.CONTEXT`), in a fixed order
    outputs : keys that other segments need, or that are wanted
    retries : how often it may be run again after a failure; of a batch 0, since its tasks are tried again one by one
    batch : whether it has several items that are retried, timed out or dropped one by one: those that have finished
        are not run again
    timeout : seconds, the sum over its tasks; None if one of them has no limit
    resources : abstract resources that it needs, as Dask has them
    pure : False: it has effects outside the pipeline and must never be run twice
    """

    number: int
    step: str
    tasks: tuple[SegmentTask, ...]
    inputs: tuple[Key, ...]
    outputs: tuple[Key, ...]
    retries: int = 0
    timeout: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    pure: bool = True
    batch: bool = False

    def task(self, key: str) -> SegmentTask:
        """Return the task with this key as text."""
        return next(inner for inner in self.tasks if str(inner.key) == key)

    def after(self, done: Collection[Key], failed: Iterable[str] = (), lost: str = "") -> Segment:
        """Return what is left of a batch.

        Parameters
        ----------
        done : the tasks of the items that have finished
        failed : the keys, as text, of tasks that failed and are tried again; once for each time
        lost : the key, as text, of a task that lost its worker
        """
        finished, tries = frozenset(done), Counter(failed)
        tasks = tuple(
            inner._replace(retries=inner.retries - n, attempt=inner.attempt + n + (str(inner.key) == lost))
            for inner, n in ((inner, tries[str(inner.key)] if tries else 0) for inner in self.tasks)
            if inner.key not in finished
        )
        needed = {key for inner in tasks for key in dependencies(inner.node)}
        inputs = tuple(key for key in self.inputs if key in needed)
        return replace(self, tasks=tasks, inputs=inputs, outputs=tuple(k for k in self.outputs if k not in finished))

    def without(self, failure: Failure) -> Segment:
        """Return a segment without the item that failed; a :class:`Dropped` with the cause takes its place."""
        tasks = tuple(
            inner._replace(node=task(inner.key, Dropped, failure.cause), timeout=None, drop=False)
            if str(inner.key) == failure.key
            else inner
            for inner in self.tasks
        )
        return replace(self, tasks=tasks)


@dataclass
class Failure:
    """How a task failed, as text.

    Parameters
    ----------
    step : the step instance that owns the task
    key : the task's key as text
    cause : ``Type: message (FILE:LINE, in FUNCTION)``
    kind : ``raised``: an exception; ``data``: its input is not valid; ``write``: it could not write
        a file of an output; ``timeout``: it ran longer than its step allows;
        ``lost``: its worker was lost, and it must not be run again
    drop : whether its item may be left out
    final : whether its batch has decided that its task is not run again
    """

    step: str
    key: str
    item: str
    cause: str
    traceback: str = ""
    kind: Literal["raised", "data", "write", "timeout", "lost"] = "raised"
    drop: bool = False
    final: bool = False

    def error(self) -> PipelineError:
        """Return the exception to raise for this failure."""
        form = {"data": TaskDataError, "write": TaskWriteError}.get(self.kind, TaskError)
        error = form(self.step, self.key, self.cause, self.item, self.traceback)
        if self.kind in ("timeout", "lost"):
            kind = TaskTimeout if self.kind == "timeout" else WorkerLost
            return kind(f"{error} (task {self.key})", error.task)
        return error

    @classmethod
    def of(cls, inner: SegmentTask, cause: str, **fields: Any) -> Failure:
        """Return a failure of the task ``inner``."""
        return cls(inner.step, str(inner.key), inner.item, cause, drop=inner.drop, **fields)

    @classmethod
    def late(cls, inner: SegmentTask) -> Failure:
        """Return the failure of a task that exceeded its timeout."""
        return cls.of(inner, f"ran longer than its timeout of {inner.timeout:g} s", kind="timeout")


@dataclass(frozen=True)
class Dropped:
    """The placeholder of an item that failed and was left out (``on_error: drop``)."""

    cause: str


class Group(list[tuple[str, Any]]):
    """The result of a task that computes several items, whose number is unknown until run time: pairs (key, item).

    Attributes
    ----------
    dropped : pairs (key, cause) of the items that failed in this task
    """

    dropped: tuple[tuple[str, str], ...] = ()
