"""What runs inside a Dask worker: one segment, its report, and the preparation of the worker.

A segment travels as bytes, since the scheduler opens every graph it is handed: so it needs neither the user's modules
nor numpy. What a segment measured goes ahead of its result over the same ordered stream (``log_event``), thus the
client has every row before it hears that the last result is there.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import cloudpickle
from distributed import Worker, WorkerPlugin, get_worker
from distributed.utils import sync

from pipeline.graph.graph import CONTEXT, Key
from pipeline.graph.segments import NOT_AGAIN, Failure, Segment, SegmentTask
from pipeline.worker.output_capture import HOLD, Line, install, uninstall
from pipeline.worker.process_setup import install_modules, limit_threads, settle
from pipeline.worker.run_segment import SegmentResult, SegmentTimes, run_segment

__all__ = ["ByKey", "Job", "Prepare", "SegmentFailed", "boot_id", "dump", "read_slots", "run_job"]

_SLOT = struct.Struct("qq")
_FETCHED: dict[Key, tuple[int, int]] = {}  # of this worker: when a result began to come from another, its bytes
_MOMENTS: dict[Key, dict[str, int]] = {}  # of this worker: when a task that it has came into a state
_local = threading.local()


class SegmentFailed(Exception):
    """A task of a segment failed; raised in the worker so that Dask counts it, retries it and tells who depends on it.

    ``failure`` names no step where the segment could not even be opened.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return f"{self.failure.step}: {self.failure.cause}"


class ByKey(dict[Key, Any]):
    """An annotation that differs from key to key: Dask calls it with each key of the graph."""

    def __init__(self, values: Mapping[Key, Any], default: Any) -> None:
        super().__init__(values)
        self.default = default

    def __call__(self, key: Key) -> Any:
        return self.get(key, self.default)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), self.default)


@dataclass(frozen=True, eq=False)
class Job:
    """A segment with what it takes to run it on a worker.

    Parameters
    ----------
    sources : for each input its key, which argument it comes in, and its place in it (None: it is the argument)
    groups : the outputs, those with the same consumers together; one group alone is the task's result, several are a
        tuple that tiny tasks take apart
    context : the value of the key CONTEXT in this execution
    run, topic : the execution, and where its reports go
    slots : folder for the notes of which task a thread has begun, which outlive a killed worker; empty for none
    """

    segment: Segment
    sources: tuple[tuple[Key, int, int | None], ...]
    groups: tuple[tuple[Key, ...], ...]
    context: Any
    run: str
    topic: str
    slots: str = ""


def dump(value: Any) -> bytes:
    """Pickle, by value only what can't be had by reference (a function typed into a notebook)."""
    try:
        data = pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 - whatever pickle can't do, cloudpickle may
        return cloudpickle.dumps(value, protocol=5)  # type: ignore[no-any-return]
    return cloudpickle.dumps(value, protocol=5) if b"__main__" in data else data


def boot_id() -> str:
    """What names this boot of this machine; processes with the same one share the clock ``perf_counter``."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import platform

        return platform.node()


def run_job(payload: bytes, *arguments: Any) -> Any:
    """Run a segment: the function of every Dask task that does work.

    Raises
    ------
    SegmentFailed : if one of its tasks failed, or gave what can't be pickled
    """
    worker = get_worker()
    name: Any = worker.get_current_task()  # Dask types it as any part of a key
    try:
        job: Job = pickle.loads(payload)
    except Exception as error:  # noqa: BLE001 - any exception of anybody's __setstate__
        cause = f"{type(error).__name__}: {error} (while the worker read the task)"
        raise SegmentFailed(Failure("", "", "", cause, traceback.format_exc())) from None
    segment = _remaining(job, worker)
    inputs = {key: arguments[i] if place is None else arguments[i][place] for key, i, place in job.sources}
    if CONTEXT in job.segment.inputs:
        inputs[CONTEXT] = job.context
    timed = any(inner.timeout is not None for inner in job.segment.tasks)
    announce = _Announce(job, worker) if timed or job.slots else None
    opened = perf_counter_ns()
    called = _name(worker)

    def tell(lines: Sequence[Line]) -> None:
        worker.log_event(job.topic, {"run": job.run, "name": called, "said": [list(line) for line in lines]})

    failures = 0
    while True:
        completion = run_segment(segment, inputs, started=announce, tell=tell, hold=HOLD)
        failure = completion.failure or _unpicklable(segment, completion.outputs)
        if failure is None or not failure.drop:
            break
        failures += 1
        completion.around = SegmentTimes(opened=opened, packed=perf_counter_ns())
        worker.log_event(job.topic, _report(job, completion, failure, worker, 0))
        if failures > segment.retries:
            segment, failures = segment.without(failure), 0
    moments, fetched = _MOMENTS.pop(name, {}), [_FETCHED.pop(key, (0, 0)) for key in _dependencies(worker, name)]
    began = [moment for moment, _ in fetched if moment]
    loaded = moments.get("ready", 0) or moments.get("executing", 0)
    completion.around = SegmentTimes(
        received=min(began, default=0) or moments.get("waiting", 0) or loaded,
        loaded=loaded if began else moments.get("waiting", 0) or loaded,
        opened=opened,
        packed=perf_counter_ns(),
    )
    bytes_in = sum(n for _, n in fetched)
    worker.log_event(job.topic, _report(job, completion, failure, worker, bytes_in))
    if failure is not None:
        raise SegmentFailed(failure) from None
    groups = tuple(_packed(group, completion.outputs) for group in job.groups)
    return groups[0] if len(groups) == 1 else groups


def _remaining(job: Job, worker: Worker) -> Segment:
    """The segment without the items that the client has given up.

    Raises
    ------
    SegmentFailed : if it must not be run twice, and has been begun before
    """
    segment = job.segment
    for index, inner in enumerate(segment.tasks):
        if inner.drop and inner.timeout is not None and job.slots and late_mark(job.slots, segment, index).exists():
            segment = segment.without(Failure.late(inner))
    if not segment.pure:
        keys = ["pipeline-begun", job.run, str(segment.number)]
        if sync(worker.loop, worker.scheduler.get_metadata, keys=keys, default=False):
            raise SegmentFailed(Failure.of(segment.tasks[-1], f"its worker ended; {NOT_AGAIN}", kind="lost"))
        sync(worker.loop, worker.scheduler.set_metadata, keys=keys, value=True)
    return segment


def late_mark(folder: str, segment: Segment, index: int) -> Path:
    """The file that says of a task that it ran longer than it may and is left out."""
    return Path(folder, f"late-{segment.number}-{index}")


def _packed(group: tuple[Key, ...], outputs: Mapping[Key, Any]) -> Any:
    return outputs[group[0]] if len(group) == 1 else tuple(outputs[key] for key in group)


class _Announce:
    """Called as a task begins: notes it where it outlives the process, tells the client if it has a timeout."""

    def __init__(self, job: Job, worker: Worker) -> None:
        self.job, self.worker = job, worker
        self.index = {inner.key: i for i, inner in enumerate(job.segment.tasks)}
        self.slot = _slot(job.slots, worker.address) if job.slots else None

    def __call__(self, inner: SegmentTask) -> None:
        index = self.index[inner.key]
        if self.slot is not None:
            os.pwrite(self.slot, _SLOT.pack(self.job.segment.number, index), 0)
        if inner.timeout is not None:
            where = {"address": self.worker.address, "pid": os.getpid()}
            message = {"run": self.job.run, "began": index, "segment": self.job.segment.number, **where}
            self.worker.log_event(self.job.topic, message)


def _slot(folder: str, address: str) -> int:
    """The open file of this thread; it stays open as long as the worker lives, which no run outlasts by much."""
    held: dict[str, int] = _local.__dict__.setdefault("slots", {})
    if folder not in held:
        name = f"{address.rpartition(':')[2]}-{threading.get_ident()}"
        held[folder] = os.open(Path(folder, name), os.O_CREAT | os.O_WRONLY, 0o600)
    return held[folder]


def read_slots(folder: str, address: str) -> list[tuple[int, int]]:
    """Segment number and position of the task that each thread of a worker began last."""
    found = []
    for path in Path(folder).glob(f"{address.rpartition(':')[2]}-*"):
        data = path.read_bytes()
        if len(data) == _SLOT.size:
            number, index = _SLOT.unpack(data)
            found.append((number, index))
    return found


def _name(worker: Worker) -> str:
    """The name of this worker; of several threads also which."""
    name = str(worker.name)
    if worker.state.nthreads > 1:
        name += f"/{threading.current_thread().name.rpartition('-')[2]}"
    return name


def _report(
    job: Job, completion: SegmentResult, failure: Failure | None, worker: Worker, bytes_in: int
) -> dict[str, Any]:
    index = {inner.key: i for i, inner in enumerate(job.segment.tasks)}
    return {
        "run": job.run,
        "segment": job.segment.number,
        "rows": [
            [index[m.key], int(m.start), int(m.stop), int(m.cpu), int(m.bytes_out), int(m.memory)]
            for m in completion.measured
        ],
        "name": _name(worker),  # "worker" is what the scheduler puts in: the address
        "address": worker.address,
        "boot": boot_id(),
        "around": [int(moment) for moment in completion.around],
        "bytes_in": int(bytes_in),
        "measuring": int(completion.measuring),
        "dropped": [[str(part) for part in item] for item in completion.dropped],
        "failed": [failure.step, str(failure.key), failure.item, failure.cause] if failure else None,
    }


def _dependencies(worker: Worker, name: Key) -> list[Key]:
    with contextlib.suppress(KeyError, ValueError):  # the task was cancelled meanwhile
        needed: Any = worker.state.tasks[name].dependencies
        return [state.key for state in needed]
    return []


def _unpicklable(segment: Segment, outputs: Mapping[Key, Any]) -> Failure | None:
    """What is wrong with the first output that can't be pickled; without this it fails later, under another name.

    Buffers are left out of band, so that arrays cost nothing.
    """
    for key, value in outputs.items():
        if type(value) in (int, float, str, bytes, bool, type(None)):
            continue
        try:
            pickle.dumps(value, protocol=5, buffer_callback=_ignore)
        except Exception:  # noqa: BLE001 - any exception of anybody's __reduce__
            try:
                cloudpickle.dumps(value, protocol=5, buffer_callback=_ignore)
            except Exception as error:  # noqa: BLE001
                inner = next(inner for inner in segment.tasks if inner.key == key)
                cause = f"{type(error).__name__}: {error} (the result, a {type(value).__name__}, can't be pickled)"
                return Failure.of(inner, cause, traceback=traceback.format_exc())
    return None


def _ignore(_: object) -> bool:
    return False


@dataclass
class Prepare(WorkerPlugin):
    """Makes every present and future worker fit to run segments.

    Parameters
    ----------
    name : under which it is registered, and taken off again
    modules : the user's modules, to be made importable
    blas_threads : threads of BLAS and OpenMP a worker; None leaves them alone
    ours : whether the worker's process is ours alone
    environment : what its environment is to be; None leaves it alone. One that is forked from a server has that of
        the moment when the server was started
    """

    name: str
    modules: Mapping[str, bytes] = field(default_factory=dict)
    blas_threads: int | None = None
    ours: bool = False
    environment: Mapping[str, str] | None = None

    def setup(self, worker: Worker) -> None:
        if self.environment is not None:
            for name in os.environ.keys() - self.environment:
                del os.environ[name]
            os.environ.update(self.environment)
            tempfile.tempdir = None
        if self.modules:
            install_modules(self.modules)
        if self.blas_threads is not None:
            limit_threads(self.blas_threads)
        if self.ours:
            settle()
        self.worker = worker
        install()

    def teardown(self, worker: Worker) -> None:
        """Give the streams back: the process may be others', too."""
        uninstall()

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """Note when a task came, could run, and was handed to a thread; and what comes from other workers for it.

        The clock is the one that the segments are measured by, in the same process.
        """
        if finish == "flight":
            _FETCHED[key] = (perf_counter_ns(), 0)
        elif start == "flight" and finish == "memory":
            _FETCHED[key] = (_FETCHED.get(key, (0, 0))[0], int(self.worker.state.tasks[key].nbytes or 0))
        elif finish in ("waiting", "ready", "executing"):
            _MOMENTS.setdefault(key, {})[finish] = perf_counter_ns()
        elif finish in ("memory", "error", "released", "forgotten"):
            _MOMENTS.pop(key, None)
            if finish in ("released", "forgotten"):
                _FETCHED.pop(key, None)
