"""What the back ends whose workers are processes of ours share: their options, how they are entered, used and left."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Self

from pipeline.backends.base import Outcome
from pipeline.backends.events import Listener
from pipeline.backends.local import loop
from pipeline.backends.local.child_main import write_setup
from pipeline.backends.local.child_processes import Children, count_cores
from pipeline.backends.local.serialization import Packed, load, pack
from pipeline.graph.graph import Graph
from pipeline.worker.temp_folders import Folder

__all__ = ["Workers"]


class Workers(loop.Executor):
    """A back end but for what its subclass adds: how its processes start, get ready and end, and how a job gets there.

    Values lie in this process as the workers pickled them.
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
        self._setup = ""  # what the workers are to have done, a file in the folder
        self._start_up = 0.0  # seconds that no run has accounted for
        self._threads: Mapping[str, int] = {}
        self._gaps: list[tuple[str, int, int]] = []  # worker, from when to when nobody saw what it did

    def __enter__(self) -> Self:
        began = perf_counter()
        self._folder = Folder()
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
        assert self._folder is not None, "enter the back end before you run"
        self._setup = write_setup(self._folder.path, graph, self._modules)
        self._gaps.clear()
        self._get_ready()
        start_up, self._start_up = self._start_up + perf_counter() - began, 0.0
        return start_up

    def _start(self) -> None:
        """Have the processes started."""
        raise NotImplementedError

    def _get_ready(self) -> None:
        """Have all workers up, and the set-up done."""
        raise NotImplementedError

    def _end(self) -> None:
        """End them; also when only some had been started."""
        raise NotImplementedError

    def encode(self, value: Any) -> Packed:
        return pack(value)

    def decode(self, stored: Packed) -> Any:
        return load(stored)

    def notes(self) -> Mapping[str, Any]:
        return {"start_method": self._children.method, "threads": dict(self._threads), "gaps": list(self._gaps)}
