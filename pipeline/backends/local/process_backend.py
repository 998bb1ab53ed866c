"""The common part of ``pool`` and ``processes``: options, entering, leaving, values as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Self

from pipeline.backends import descendants
from pipeline.backends.base import Outcome
from pipeline.backends.events import Listener
from pipeline.backends.local import loop
from pipeline.backends.local.child_main import write_setup
from pipeline.backends.local.child_processes import Children, count_cores
from pipeline.backends.local.executor import Executor, Job
from pipeline.backends.local.serialization import Packed, load, pack
from pipeline.backends.stopped import StoppedProcesses, patience
from pipeline.graph.graph import Graph
from pipeline.worker.finished_items import read_finished, remove_finished
from pipeline.worker.segment_result import SegmentResult
from pipeline.worker.temp_folders import Folder

__all__ = ["ProcessBackend"]


class ProcessBackend(Executor):
    """A back end whose workers are processes; a subclass adds how they start, get ready, end and are sent jobs.

    Values are kept in this process as the workers have pickled them.
    """

    def __init__(
        self,
        workers: int | None,
        modules: Mapping[str, bytes] | None,
        start_method: str,
        blas_threads: int,
        *,
        slots: int,
    ) -> None:
        self.n_workers = workers or count_cores()
        self._modules = dict(modules or {})
        self._children = Children(start_method, blas_threads=blas_threads, n_slots=slots)
        self._folder: Folder | None = None
        self._setup = ""  # path of the set-up file that the workers must have read
        self._start_up = 0.0  # seconds of starting that no run has reported yet
        self._threads: Mapping[str, int] = {}
        self._gaps: list[tuple[str, int, int]] = []  # worker, begin and end of when it was not observed
        self._stopped = StoppedProcesses()
        self._patience = 0.0  # seconds after which a stopped worker counts as lost

    def __enter__(self) -> Self:
        began = perf_counter()
        self._folder = Folder()
        descendants.watch()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        self._start_up = perf_counter() - began
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()
        self._children.end()
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def run(self, graph: Graph, *, context: Any = None, listener: Listener | None = None) -> Outcome:
        """See :meth:`pipeline.backends.base.Backend.run`."""
        return loop.run(self, graph, context=context, listener=listener)

    def prepare(self, graph: Graph) -> float:
        began = perf_counter()
        assert self._folder is not None, "the back end must be entered before it runs"
        self._setup = write_setup(self._folder.path, graph, self._modules)
        self._gaps.clear()
        self._patience = patience(graph)
        self._get_ready()
        start_up, self._start_up = self._start_up + perf_counter() - began, 0.0
        return start_up

    def _start(self) -> None:
        """Start the processes."""
        raise NotImplementedError

    def _get_ready(self) -> None:
        """Wait until all workers are up and have read the set-up file."""
        raise NotImplementedError

    def _end(self) -> None:
        """End the processes, also when only some have been started."""
        raise NotImplementedError

    def _finished_path(self, job: Job) -> str:
        """Return the path of the file in which the worker of a batch keeps what its items give."""
        return f"{self._folder.path}/finished-{job.segment.number}" if self._folder is not None else ""

    def _finished_items(self, job: Job) -> SegmentResult | None:
        """Return what the items of a batch gave before their worker died."""
        if not job.segment.batch:
            return None
        found = read_finished(self._finished_path(job))
        self._forget_finished(job)
        return found

    def _forget_finished(self, job: Job) -> None:
        if job.segment.batch:
            remove_finished(self._finished_path(job))

    def encode(self, value: Any) -> Packed:
        return pack(value)

    def decode(self, stored: Packed) -> Any:
        return load(stored)

    def notes(self) -> Mapping[str, Any]:
        return {"start_method": self._children.method, "threads": dict(self._threads), "gaps": list(self._gaps)}
