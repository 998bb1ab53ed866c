"""Run small graphs on one warm `processes` back end, each with a deadline.

The serial run and all probes go through it, so user code that hangs or ends its process costs one worker, which the
back end replaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Self

from pipeline.backends.base import Outcome
from pipeline.backends.events import Event, WorkerLoss
from pipeline.backends.local.processes import Processes
from pipeline.errors import BackendError, TaskError, TaskTimeout
from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.nodes import GraphNode, task

__all__ = ["Failed", "Late", "Lost", "ProbeBackend", "graph_of"]


class Late(BackendError):
    """A probe did not end before its deadline."""


class Failed(BackendError):
    """A probe could not be made; the message has what its task raised."""


class Lost(Failed):
    """A task of a probe ended its worker process."""


class ProbeBackend:
    """The `processes` back end for probes: what tasks print is dropped, a lost worker ends the graph that it ran.

    Use it as a context manager; on exit the workers and everything below them have ended.

    Parameters
    ----------
    n_workers : worker processes, each with BLAS on one thread
    modules : the user's own modules, by file name
    """

    def __init__(self, n_workers: int, modules: Mapping[str, bytes]) -> None:
        self.n_workers = n_workers
        self._modules = modules
        self._backend = Processes(workers=n_workers)

    def __enter__(self) -> Self:
        self._backend.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._backend.__exit__(*exc)

    def start(self, *, deadline: float) -> None:
        """Have all workers up, new ones in place of those that were lost, so that deadlines are of tasks alone.

        Raises
        ------
        Late : if they are not up at the deadline (on the clock of ``perf_counter``)
        Failed : if they can't be set up
        """
        self.run("start", {"start": task("start", max, 0, 0)}, deadline=deadline)

    def run(
        self, step: str, tasks: Mapping[Key, GraphNode], *, deadline: float, wanted: Sequence[Key] | None = None
    ) -> Outcome:
        """Run a graph in which every task is a segment.

        Independent tasks, as many as there are workers, run at the same time, each in another worker.

        Parameters
        ----------
        step : named in messages
        deadline : on the clock of ``perf_counter``; a task that still runs is killed with its worker
        wanted : the tasks whose results are returned; default: all

        Raises
        ------
        Late : if a task ran until the deadline
        Failed : if a task raised, or its result can't be pickled
        Lost : if a worker process ended
        """
        left = deadline - perf_counter()
        if left <= 0:
            raise Late("there is no time left for it")
        self._backend.start_limit = left
        graph = graph_of(step, tasks, wanted=wanted, modules=self._modules, timeout=left)
        try:
            return self._backend.run(graph, listener=_end_on_loss)
        except TaskError as error:
            raise Failed(error.cause) from error
        except Failed:
            raise
        except BackendError as error:
            if isinstance(error, TaskTimeout) or perf_counter() > deadline:
                raise Late("it did not end in time") from error
            raise Failed(str(error)) from error


def graph_of(
    step: str,
    tasks: Mapping[Key, GraphNode],
    *,
    wanted: Sequence[Key] | None = None,
    modules: Mapping[str, bytes] | None = None,
    timeout: float | None = None,
) -> Graph:
    """Return a Graph of one step whose tasks are not fused; by default all of them are wanted."""
    return Graph(
        tasks=tasks,
        wanted=tuple(tasks if wanted is None else wanted),
        owners=dict.fromkeys(tasks, step),
        policies={step: Policy(step, merge=False, timeout=timeout)},
        modules=modules or {},
        name=step,
    )


def _end_on_loss(event: Event) -> None:
    """End the graph at the first lost worker (the back end would run its task again); drop everything else."""
    if isinstance(event, WorkerLoss):
        raise Lost(f"{event.step}: {event.message}" if event.step else event.message)
