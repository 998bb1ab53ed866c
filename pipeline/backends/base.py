"""What a back end is: two things to declare, one to do.

To add one, write a file with a class that has the members of :class:`Backend`, and add its line to ``BACKENDS`` in
``backends/__init__.py``; ``tests/test_backends.py`` then runs it through the cases that every back end must pass.
``docs/extending.md`` goes through it step by step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

from pipeline.backends.events import Listener
from pipeline.graph.graph import Graph, Key
from pipeline.graph.segments import Segment
from pipeline.trace.trace import Trace

__all__ = ["Backend", "Capabilities", "Outcome"]


@dataclass(frozen=True)
class Capabilities:
    """What the outcome of a fault may be on a back end.

    Parameters
    ----------
    isolates_tasks : a task that ends its process does not end ours
    pickles_results : results cross a process border, so what can't be pickled fails its task
    can_stop_tasks : a timeout can stop a task that does not come back
    recovers_workers : the run goes on after a worker was killed
    """

    isolates_tasks: bool
    pickles_results: bool
    can_stop_tasks: bool
    recovers_workers: bool


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run of a Graph on a back end returns.

    Parameters
    ----------
    results : wanted key -> its value
    segments : what the Graph was fused into for this run; the Trace refers to them by number
    dropped : step instance, item and cause of each item that was left out
    """

    results: Mapping[Key, Any]
    trace: Trace
    segments: tuple[Segment, ...]
    dropped: tuple[tuple[str, str, str], ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """Something that runs a Graph. Made with its options, entered (workers start and warm up), used, left.

    ``run`` may be called several times while it is open. Leaving it ends every process and thread it started, also
    after an exception or Ctrl-C.
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    n_workers: int

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def run(self, graph: Graph, *, context: Any = None, listener: Listener | None = None) -> Outcome:
        """Run the graph.

        Parameters
        ----------
        context : bound to the key :data:`pipeline.graph.graph.CONTEXT` for this execution
        listener : called in this process, from one thread at a time, as things happen; None: what tasks write is shown

        Raises
        ------
        TaskError : a task raised, or its result or its exception can't be pickled
        TaskTimeout : a task ran longer than its policy's timeout (noticed afterwards where it can't be stopped)
        WorkerLost : a worker ended, and the back end can't go on
        BackendError : the workers or the cluster are unusable
        """
        ...
