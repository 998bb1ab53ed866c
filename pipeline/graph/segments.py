"""Segments, the groups of tasks that workers get, and how a task in one can fail or leave an item out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from pipeline.errors import (
    PipelineError,
    TaskDataError,
    TaskEntryDamaged,
    TaskError,
    TaskTimeout,
    TaskWriteError,
    WorkerLost,
    task_name,
)
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, dependencies, is_constant, task

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
    pure : False: it has effects outside the pipeline
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
    pure: bool = True

    @property
    def name(self) -> str:
        """Name of the task as ``pipeline debug`` takes it."""
        return task_name(self.step, self.key, self.item)


@dataclass(frozen=True, eq=False, slots=True)
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
    uses : names of the limits that it has a place of while it runs, in ascending order
    pure : False: it has effects outside the pipeline and must never be run twice
    keep_going : whether, after a task has failed finally, those that do not need it are run nevertheless
    """

    number: int
    step: str
    tasks: tuple[SegmentTask, ...]
    inputs: tuple[Key, ...]
    outputs: tuple[Key, ...]
    retries: int = 0
    timeout: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    pure: bool = True
    batch: bool = False
    keep_going: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether a worker runs the other tasks after one has failed; not where all of them are tried again with it."""
        return self.keep_going and (self.batch or not self.retries)

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

    def computable(self, missing: Collection[Key]) -> Segment:
        """Return what is left without the tasks that are ``missing``, or need a value that is, also through others."""
        lacking, left, opens = set(missing), [], False
        for inner in self.tasks:
            opens = opens or inner.opens
            if inner.key in lacking or not lacking.isdisjoint(dependencies(inner.node)):
                lacking.add(inner.key)
            else:
                left.append(inner._replace(opens=opens))
                opens = False
        if len(left) == len(self.tasks):
            return self
        needed = {key for inner in left for key in dependencies(inner.node)}
        return replace(
            self,
            tasks=tuple(left),
            inputs=tuple(key for key in self.inputs if key in needed),
            outputs=tuple(key for key in self.outputs if key not in lacking),
        )

    def all_failed(self, failure: Failure) -> list[Failure]:
        """Return the failures of a segment that is lost with a task: of each task that needs none of the others."""
        failures, left = [failure], self.computable([self.task(failure.key).key])
        while not left.is_empty:
            first = next(inner for inner in left.tasks if not is_constant(inner.node))
            failures.append(Failure.of(first, failure.cause, kind=failure.kind))
            left = left.computable([first.key])
        return failures

    @property
    def is_empty(self) -> bool:
        """Whether it has nothing to run."""
        return all(is_constant(inner.node) for inner in self.tasks)

    def without(self, failure: Failure) -> Segment:
        """Return a segment without the item that failed; a :class:`Dropped` with the cause takes its place."""
        tasks = tuple(
            inner._replace(node=task(inner.key, Dropped, failure.cause), timeout=None, drop=False)
            if str(inner.key) == failure.key
            else inner
            for inner in self.tasks
        )
        return replace(self, tasks=tasks)


FailureKind = Literal["raised", "data", "write", "timeout", "lost", "entry"]


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
        ``lost``: its worker was lost, and it must not be run again; ``entry``: its value, which an earlier run kept,
        can't be read, so that trying again does not help
    drop : whether its item may be left out
    final : whether its batch has decided that its task is not run again
    """

    step: str
    key: str
    item: str
    cause: str
    traceback: str = ""
    kind: FailureKind = "raised"
    drop: bool = False
    final: bool = False

    def error(self) -> PipelineError:
        """Return the exception to raise for this failure."""
        forms = {"data": TaskDataError, "write": TaskWriteError, "entry": TaskEntryDamaged}
        form = forms.get(self.kind, TaskError)
        error = form(self.step, self.key, self.cause, self.item, self.traceback)
        if self.kind in ("timeout", "lost"):
            kind = TaskTimeout if self.kind == "timeout" else WorkerLost
            return kind(f"{error} (task {self.key})", error.task)
        return error

    @classmethod
    def of(cls, inner: SegmentTask, cause: str, **fields: Any) -> Failure:
        """Return a failure of the task ``inner``."""
        drop = inner.drop and fields.get("kind") != "entry"
        return cls(inner.step, str(inner.key), inner.item, cause, drop=drop, **fields)

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
