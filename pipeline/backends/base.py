"""What a back end is: two things to declare, one method to write.

To add one, write a class with the members of :class:`Backend`, and add it to ``BACKENDS`` in ``registry.py``; then
``tests/backends/test_backends.py`` runs it through the cases that every back end must pass. ``docs/extending.md`` shows
each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

from pipeline.backends.events import Listener
from pipeline.graph.graph import Graph, Key
from pipeline.graph.segments import Failure, Segment
from pipeline.trace.trace import Trace

__all__ = ["Backend", "Capabilities", "Outcome"]


@dataclass(frozen=True)
class Capabilities:
    """What a back end can do when a task or a worker fails.

    Parameters
    ----------
    isolates_tasks : a task that ends its process does not end this process
    pickles_results : results cross a process border; a task fails if its result can't be pickled
    can_stop_tasks : a timeout stops a task that does not return
    recovers_workers : a run goes on after a worker was killed
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
    failures : of the tasks that failed finally in a run that kept going; what needs them is not among the results
    """

    results: Mapping[Key, Any]
    trace: Trace
    segments: tuple[Segment, ...]
    dropped: tuple[tuple[str, str, str], ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()


class Backend(Protocol):
    """Runs Graphs. States: made with its options -> entered (workers start and get ready) -> left.

    ``run`` may be called several times while it is entered. Leaving it ends every process and thread it started, also
    after an exception or Ctrl-C.
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    n_workers: int

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def run(
        self, graph: Graph, *, context: Any = None, listener: Listener | None = None, keep_going: bool = False
    ) -> Outcome:
        """Run the graph.

        Parameters
        ----------
        context : bound to the key :data:`pipeline.graph.graph.CONTEXT` for this execution
        listener : called with each event; None: only what tasks print is shown
        keep_going : whether a task that fails finally does not end the run: the tasks that do not need it are run,
            and no error of a task is raised but that of a worker without which the run can't go on

        Raises
        ------
        TaskError : a task raised, or its result can't be pickled
        TaskTimeout : a task ran longer than the timeout of its step; noticed afterwards where it can't be stopped
        WorkerLost : a worker ended, and the run can't go on
        BackendError : the workers or the cluster are unusable
        """
        ...
