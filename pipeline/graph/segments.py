"""graph.segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from pipeline.errors import PipelineError, TaskDataError, TaskError, TaskTimeout, WorkerLost, task_name
from pipeline.graph.graph import GraphNode, Key, task

NOT_AGAIN = "its step has effects outside (pure: false), which may have taken place: it is not run again"
"""What is said of a task that a lost worker may have run."""


# ---------------------------------------------------------------------------------------------------------------------
# What goes to a worker, what comes back
# ---------------------------------------------------------------------------------------------------------------------


class SegmentTask(NamedTuple):
    """A task within a segment.

    Parameters
    ----------
    step : the copy of the step that owns it
    item : key of the item it computes; empty where there is none
    timeout : seconds, None: no limit
    frees : the values that nothing in the segment needs after it, and nobody outside
    drop : whether it is left out when it has failed as often as it may
    """

    key: Key
    node: GraphNode
    step: str
    item: str = ""
    timeout: float | None = None
    frees: tuple[Key, ...] = ()
    drop: bool = False

    @property
    def name(self) -> str:
        """As ``pipeline debug`` takes it."""
        return task_name(self.step, self.key, self.item)


@dataclass(frozen=True, eq=False)
class Segment:
    """Tasks that run together, in this order, in one worker.

    Parameters
    ----------
    number : its place in the order in which a single worker should run the segments; all it needs has a lower one
    step : the step of the file with most of its tasks
    inputs : the keys it needs from other segments (or :data:`pipeline.graph.graph.CONTEXT`), in a fixed order
    outputs : the keys others need of it, or that are wanted
    retries : how often it may be run again after a failure
    timeout : seconds it can take at most, the sum over its tasks; None where one of them has no limit
    pure : False: it has effects outside, and is never run twice
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

    def without(self, failure: Failure) -> Segment:
        """The segment with the item left out that has failed: in its place is a :class:`Dropped` with the cause."""
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
    step : the copy of the step that owns the task
    key : the task's key as text
    cause : ``Type: message (file:line, in function)``
    kind : ``raised``; ``data``: what it was given is not what it must be; ``timeout``: it ran longer than its step
        allows; ``lost``: it must not be run again, and nobody knows how far it came
    drop : whether its item may be left out
    """

    step: str
    key: str
    item: str
    cause: str
    traceback: str = ""
    kind: Literal["raised", "data", "timeout", "lost"] = "raised"
    drop: bool = False

    def error(self) -> PipelineError:
        """The exception to raise for it."""
        form = TaskDataError if self.kind == "data" else TaskError
        error = form(self.step, self.key, self.cause, self.item, self.traceback)
        if self.kind in ("timeout", "lost"):
            told = TaskTimeout if self.kind == "timeout" else WorkerLost
            return told(f"{error} (task {self.key})", error.task)
        return error

    @classmethod
    def of(cls, inner: SegmentTask, cause: str, **fields: Any) -> Failure:
        """The failure of the task ``inner``."""
        return cls(inner.step, str(inner.key), inner.item, cause, drop=inner.drop, **fields)

    @classmethod
    def late(cls, inner: SegmentTask) -> Failure:
        """The failure of a task that ran longer than it may."""
        return cls.of(inner, f"ran longer than its timeout of {inner.timeout:g} s", kind="timeout")


@dataclass(frozen=True)
class Dropped:
    """Stands in the place of an item that failed under ``on_error: drop``."""

    cause: str


class Group(list[tuple[str, Any]]):
    """What a task gives that computes several items, whose number is known only in the run: each with its key.

    ``dropped`` are the keys of those that failed here, each with the cause.
    """

    dropped: tuple[tuple[str, str], ...] = ()
