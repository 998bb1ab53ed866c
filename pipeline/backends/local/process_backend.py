"""The common part of the back ends whose workers are processes: options, entering, leaving, values as bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any, Protocol, Self, TypeVar

from pipeline.backends import descendants
from pipeline.backends.base import Outcome
from pipeline.backends.events import Listener
from pipeline.backends.local import loop
from pipeline.backends.local.child_main import setup_of, values_folder, write_setup
from pipeline.backends.local.child_processes import Children, count_cores, ended_stopped, kill
from pipeline.backends.local.executor import Executor, Job
from pipeline.backends.local.serialization import Packed, load, pack
from pipeline.backends.local.shared_memory import LEAST, NEVER, SharedFiles, Sharing, crossover
from pipeline.backends.stopped import StoppedProcesses, patience
from pipeline.errors import ConfigError
from pipeline.graph.graph import Graph
from pipeline.worker import shared_store
from pipeline.worker.finished_items import read_finished, remove_finished
from pipeline.worker.segment_result import SegmentResult
from pipeline.worker.temp_folders import Folder

__all__ = ["TRANSPORTS", "ProcessBackend"]

TRANSPORTS = ("pickle", "shared-memory", "auto")

_instances = itertools.count()


class _Place(Protocol):
    process: Any  # that works here; None: none


_P = TypeVar("_P", bound=_Place)


class ProcessBackend(Executor):
    """A back end whose workers are processes; a subclass adds how they start, get ready, end and are sent jobs.

    Values are kept in this process as the workers have pickled them, or in shared memory, where the workers have put
    them. Those that a run returns are copies in this process's own memory.
    """

    def __init__(
        self,
        workers: int | None,
        modules: Mapping[str, bytes] | None,
        start_method: str,
        blas_threads: int,
        *,
        transport: str,
        slots: int,
    ) -> None:
        if transport not in TRANSPORTS:
            raise ConfigError(f"transport: got {transport!r}; allowed: {', '.join(TRANSPORTS)}")
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
        self._transport = transport
        self._files: SharedFiles | None = None
        self._least = NEVER  # bytes of a value from which it goes through shared memory
        self._lacked = ""  # why it does not, to be reported with the next result

    def __enter__(self) -> Self:
        began = perf_counter()
        self._folder = Folder()
        descendants.watch()
        try:
            self._share()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        self._start_up = perf_counter() - began
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()
        self._children.end()
        if self._files is not None:
            self._files.close()
            self._files = None
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def run(
        self, graph: Graph, *, context: Any = None, listener: Listener | None = None, keep_going: bool = False
    ) -> Outcome:
        """See :meth:`pipeline.backends.base.Backend.run`."""
        assert self._folder is not None, "the back end must be entered before it runs"
        try:
            with shared_store.during(values_folder(self._folder.path)):
                return loop.run(self, graph, context=context, listener=listener, keep_going=keep_going)
        finally:
            self._clear_values()

    def prepare(self, graph: Graph) -> float:
        began = perf_counter()
        assert self._folder is not None, "the back end must be entered before it runs"
        sharing = Sharing(self._files.folder, self._least) if self._files is not None else None
        self._setup = write_setup(self._folder.path, setup_of(graph, self._modules, sharing, has_values=True))
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

    def _share(self) -> None:
        """Get shared memory ready, where values are to go through it."""
        if self._transport == "pickle":
            return
        try:
            self._files = SharedFiles(next(_instances))
            self._least = _measured_least(self._files.folder) if self._transport == "auto" else LEAST
        except OSError as error:
            self._lacked = error.strerror or str(error)

    def _arrived(self, result: SegmentResult) -> SegmentResult:
        """Take note of the values of a result that has come from a worker; return it."""
        if self._files is not None:
            self._files.adopt(value.block for value in result.outputs.values() if value.block is not None)
        if self._lacked:
            result.lacked, self._lacked = self._lacked, ""
        return result

    def _sweep_values(self) -> None:
        """Remove the files of workers whose end was handled, but for those of values that have arrived."""
        if self._files is not None:
            self._files.sweep([child.pid for child in self._children.started()])

    def _clear_values(self) -> None:
        """Remove the files of all values; nothing runs."""
        if self._files is not None:
            self._files.clear()

    def _check_processes(self, places: Iterable[_P], lose: Callable[..., None]) -> None:
        """End the processes that were stopped for too long, and hand over the places of those that have ended.

        Parameters
        ----------
        lose : called with such a place, and with how its process ended where it was ended here
        """
        places = list(places)
        stopped = self._stopped.look(place.process.pid for place in places if place.process is not None)
        for place in places:
            if place.process is None:
                continue
            seconds = stopped.get(place.process.pid, 0.0)
            if seconds > self._patience:
                kill(place.process)
                lose(place, ended=ended_stopped(seconds))
            elif place.process.exitcode is not None:
                lose(place)

    def release(self, stored: Packed) -> None:
        if stored.block is not None and self._files is not None:
            self._files.remove(stored.block)

    def _finished_path(self, job: Job) -> str:
        """Return the path of the file in which the worker of a batch keeps what its items give.

        A segment with effects outside leaves it there, empty, when it begins.
        """
        return f"{self._folder.path}/finished-{job.segment.number}" if self._folder is not None else ""

    def _finished_items(self, job: Job) -> SegmentResult | None:
        """Return what the items of a batch gave before their worker died."""
        if not job.segment.batch:
            return None
        found = self._arrived(read_finished(self._finished_path(job)))
        self._forget_finished(job)
        return found

    def _forget_finished(self, job: Job) -> None:
        if job.segment.batch or not job.segment.pure:
            remove_finished(self._finished_path(job))

    def encode(self, value: Any) -> Packed:
        return pack(value)

    def decode(self, stored: Packed) -> Any:
        return load(stored, copy=True)

    def notes(self) -> Mapping[str, Any]:
        transport: dict[str, Any] = {"name": self._transport}
        if self._files is not None:
            transport["least"] = self._least if self._least < NEVER else None
        return {
            "start_method": self._children.method,
            "threads": dict(self._threads),
            "gaps": list(self._gaps),
            "transport": transport,
        }


_measured: list[int] = []  # the result of the trial, once there was one in this process


def _measured_least(folder: str) -> int:
    """Return the bytes from which shared memory is faster here."""
    if not _measured:
        _measured.append(crossover(folder))
    return _measured[0]
