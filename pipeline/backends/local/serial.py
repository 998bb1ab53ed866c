"""In order, in this process: the reference that the others are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import threadpoolctl

from pipeline.backends.base import Capabilities, Outcome
from pipeline.backends.events import Listener
from pipeline.backends.local import loop
from pipeline.backends.local.executor import Executor, Finished, Job
from pipeline.graph.graph import Graph
from pipeline.worker import shared_store
from pipeline.worker.output_capture import capturing
from pipeline.worker.process_setup import folder_kept, install_modules
from pipeline.worker.run_segment import Hooks, run_segment

__all__ = ["Serial"]

_NAME = "serial-0"


class Serial(Executor):
    """Runs each segment in the calling thread, when it is submitted.

    A timeout is noticed when the task has returned; a task that ends the process ends the run.

    Parameters
    ----------
    workers : accepted as by every back end, and ignored: there is always one
    modules : the user's own modules, besides those of the graph
    blas_threads : threads of BLAS and OpenMP while it runs
    """

    name: ClassVar[str] = "serial"
    capabilities: ClassVar[Capabilities] = Capabilities(
        isolates_tasks=False, pickles_results=False, can_stop_tasks=False, recovers_workers=False
    )

    def __init__(
        self, *, workers: int | None = None, modules: Mapping[str, bytes] | None = None, blas_threads: int = 1
    ) -> None:
        self.n_workers = 1
        self._modules = dict(modules or {})
        self._blas_threads = blas_threads
        self._finished: list[Finished] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._finished.clear()

    def run(
        self, graph: Graph, *, context: Any = None, listener: Listener | None = None, keep_going: bool = False
    ) -> Outcome:
        """See :meth:`pipeline.backends.base.Backend.run`."""
        blas = threadpoolctl.threadpool_limits(self._blas_threads)
        with blas, folder_kept(), capturing(), shared_store.during():
            return loop.run(self, graph, context=context, listener=listener, keep_going=keep_going)

    def prepare(self, graph: Graph) -> float:
        install_modules({**self._modules, **graph.modules})
        return 0.0

    def has_room(self, n_ready: int) -> bool:
        return not self._finished

    def submit(self, job: Job) -> None:
        result = run_segment(job.segment, job.inputs, Hooks(emit=lambda lines: job.emit(_NAME, lines)))
        result.worker = _NAME
        self._finished.append(Finished(job, result))

    def wait(self) -> Sequence[Finished]:
        finished, self._finished = self._finished, []
        return finished

    def abandon(self) -> None:
        self._finished.clear()

    def notes(self) -> Mapping[str, Any]:
        return {"blas_threads": self._blas_threads}
