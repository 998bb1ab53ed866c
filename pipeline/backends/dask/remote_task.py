"""The function of every Dask task: runs one segment on a worker and reports it.

A segment is sent as bytes, since the scheduler unpickles every graph that it gets: so it needs neither the user's
modules nor numpy. The report of a segment goes ahead of its result over the same ordered stream (``log_event``): the
client has every report before it hears that the last result is there.
"""

from __future__ import annotations

import pickle
import platform
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import cloudpickle
from distributed import Worker, get_worker
from distributed.utils import sync

from pipeline.backends.dask.status_files import Status, finished_file, read_late, status_file, write_status
from pipeline.backends.dask.worker_plugin import arrival
from pipeline.errors import shortened
from pipeline.graph.graph import CONTEXT, Key
from pipeline.graph.segments import NOT_AGAIN, Failure, Segment, SegmentTask
from pipeline.worker.closed_files import end_without_files
from pipeline.worker.finished_items import FinishedItems, read_finished
from pipeline.worker.output_buffer import HOLD, Line
from pipeline.worker.run_segment import Hooks, run_segment
from pipeline.worker.segment_result import SegmentResult, SegmentTimes
from pipeline.worker.tracebacks import one_line

__all__ = ["ByKey", "Job", "SegmentFailed", "boot_id", "dump", "run_job"]


class SegmentFailed(Exception):
    """A task of a segment failed: raised on the worker, so that Dask counts, retries and propagates it.

    ``failure`` names no step where the segment could not be unpickled.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        # Dask replaces an exception whose text has more than 10,000 characters
        return shortened(f"{self.failure.step}: {self.failure.cause}")


class ByKey(dict[Key, Any]):
    """An annotation with a value for each key: Dask calls it with every key of the graph."""

    def __init__(self, values: Mapping[Key, Any], default: Any) -> None:
        super().__init__(values)
        self.default = default

    def __call__(self, key: Key) -> Any:
        return self.get(key, self.default)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), self.default)


@dataclass(frozen=True, eq=False)
class Job:
    """A segment with everything that is needed to run it on a worker.

    Parameters
    ----------
    sources : for each input its key, the argument that holds it, and its place in that (None: it is the argument)
    groups : the outputs, those with the same consumers together. A single group is the result of the Dask task;
        several are a tuple, which small Dask tasks take apart
    context : the value of the key CONTEXT in this run
    run, topic : the id of the run, and the topic of its reports
    status_folder : for :mod:`pipeline.backends.dask.status_files`; empty for none
    """

    segment: Segment
    sources: tuple[tuple[Key, int, int | None], ...]
    groups: tuple[tuple[Key, ...], ...]
    context: Any
    run: str
    topic: str
    status_folder: str = ""


def dump(value: Any) -> bytes:
    """Pickle a value, with cloudpickle where pickle can't or would refer to ``__main__``."""
    try:
        data = pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 - what pickle can't do, cloudpickle may
        return cloudpickle.dumps(value, protocol=5)  # type: ignore[no-any-return]
    return cloudpickle.dumps(value, protocol=5) if b"__main__" in data else data


def boot_id() -> str:
    """Return the id of this boot of this machine; processes with the same id share the clock ``perf_counter``."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


def run_job(payload: bytes, *arguments: Any) -> Any:
    """Run a segment.

    Raises
    ------
    SegmentFailed : if one of its tasks failed, or returned what can't be pickled
    """
    worker = get_worker()
    dask_key: Any = worker.get_current_task()  # Dask types it as any part of a key
    try:
        job: Job = pickle.loads(payload)
    except Exception as error:  # noqa: BLE001 - unpickling the user's objects may raise anything
        cause = f"{one_line(error)} (while the worker read the task)"
        raise SegmentFailed(Failure("", "", "", cause, traceback.format_exc())) from None
    segment = _remaining(job, worker)
    inputs = {key: arguments[i] if place is None else arguments[i][place] for key, i, place in job.sources}
    if CONTEXT in job.segment.inputs:
        inputs[CONTEXT] = job.context
    has_timeout = any(task.timeout is not None for task in job.segment.tasks)
    on_start = _OnStart(job, worker) if has_timeout or job.status_folder else None
    opened = perf_counter_ns()
    name = _name(worker)

    def emit(lines: Sequence[Line]) -> None:
        worker.log_event(job.topic, {"run": job.run, "name": name, "output": [list(line) for line in lines]})

    def on_failure(failure: Failure, again: bool) -> None:
        worker.log_event(job.topic, _item_failed(job, failure, again))

    finished = None
    if segment.batch and job.status_folder:
        path = finished_file(job.status_folder, segment)
        kept = read_finished(path)
        segment = segment.after(kept.done, [failure.key for failure, again in kept.failures if again])
        if kept.timings:
            worker.log_event(job.topic, {**_report(job, kept, None, worker, 0), "name": kept.worker, "partial": True})
        finished = FinishedItems(path, name, remove=True)
    else:
        kept = SegmentResult()
    hooks = Hooks(on_start, emit, HOLD, _checked if segment.batch else None, finished, on_failure)
    failures = 0
    while True:
        result = run_segment(segment, inputs, hooks)
        end_without_files()
        failure = result.failure or (None if segment.batch else _unpicklable(segment, result.outputs))
        if failure is None or not failure.drop or failure.final:
            break
        failures += 1
        result.times = SegmentTimes(opened=opened, packed=perf_counter_ns())
        worker.log_event(job.topic, _report(job, result, failure, worker, 0))
        if failures > segment.retries:
            segment, failures = segment.without(failure), 0
    if on_start is not None:
        on_start.end()
    came = arrival(worker, dask_key)
    result.times = SegmentTimes(came.received, came.loaded, opened, perf_counter_ns())
    worker.log_event(job.topic, _report(job, result, failure, worker, came.bytes_in))
    if failure is not None:
        raise SegmentFailed(failure) from None
    outputs = {**kept.outputs, **result.outputs}
    groups = tuple(_grouped(group, outputs) for group in job.groups)
    return groups[0] if len(groups) == 1 else groups


def _remaining(job: Job, worker: Worker) -> Segment:
    """Return the segment without the items that the client has dropped.

    Raises
    ------
    SegmentFailed : if it must not be run twice and was begun before
    """
    segment, folder = job.segment, job.status_folder
    if folder and any(task.timeout is not None for task in segment.tasks):
        left_out, again = read_late(folder, segment)
        segment = segment.after((), [str(segment.tasks[position].key) for position in again])
        for position in left_out:
            segment = segment.without(Failure.late(segment.tasks[position]))
    if not segment.pure:
        keys = ["pipeline-begun", job.run, str(segment.number)]
        if sync(worker.loop, worker.scheduler.get_metadata, keys=keys, default=False):
            raise SegmentFailed(Failure.of(segment.tasks[-1], f"its worker ended; {NOT_AGAIN}", kind="lost"))
        sync(worker.loop, worker.scheduler.set_metadata, keys=keys, value=True)
    return segment


def _grouped(group: tuple[Key, ...], outputs: Mapping[Key, Any]) -> Any:
    return outputs[group[0]] if len(group) == 1 else tuple(outputs[key] for key in group)


class _OnStart:
    """Called before each task: writes the status file, or reports a task with a timeout to the client.

    The file is written at once, and a report only when the task gives up the GIL.
    """

    def __init__(self, job: Job, worker: Worker) -> None:
        self.job, self.worker = job, worker
        self.position = {task.key: i for i, task in enumerate(job.segment.tasks)}
        self.file = status_file(job.status_folder, worker.address) if job.status_folder else None

    def __call__(self, task: SegmentTask) -> None:
        number, position = self.job.segment.number, self.position[task.key]
        if self.file is not None:
            write_status(self.file, Status(number, position, perf_counter_ns()))
        elif task.timeout is not None:
            began = {"run": self.job.run, "began": position, "segment": number, "address": self.worker.address}
            self.worker.log_event(self.job.topic, began)

    def end(self) -> None:
        """Write that no task runs any more."""
        if self.file is not None:
            write_status(self.file, Status(self.job.segment.number, len(self.job.segment.tasks) - 1, 0))


def _name(worker: Worker) -> str:
    """Return the name of this worker, with the thread where it has several."""
    name = str(worker.name)
    if worker.state.nthreads > 1:
        name += f"/{threading.current_thread().name.rpartition('-')[2]}"
    return name


def _report(job: Job, result: SegmentResult, failure: Failure | None, worker: Worker, bytes_in: int) -> dict[str, Any]:
    position = {task.key: i for i, task in enumerate(job.segment.tasks)}
    return {
        "run": job.run,
        "segment": job.segment.number,
        "rows": [
            [
                position[m.key],
                int(m.start),
                int(m.stop),
                list(map(int, m.usage)),
                int(m.bytes_out),
                int(m.memory),
                m.attempt,
                int(m.copying),
            ]
            for m in result.timings
        ],
        "done": [position[key] for key in result.done],
        "name": _name(worker),  # the key "worker" is overwritten by the scheduler, with the address
        "address": worker.address,
        "boot": boot_id(),
        "times": [int(instant) for instant in result.times],
        "bytes_in": int(bytes_in),
        "measuring": int(result.measuring),
        "shared": [list(one) for one in result.shared],
        "dropped": [[str(part) for part in item] for item in result.dropped],
        "failed": [failure.step, str(failure.key), failure.item, failure.cause] if failure else None,
        "partial": False,
    }


def _item_failed(job: Job, failure: Failure, again: bool) -> dict[str, Any]:
    """Return the report of a failure after which a batch goes on."""
    about = [failure.step, failure.key, failure.item, failure.cause]
    return {"run": job.run, "segment": job.segment.number, "item failed": about, "again": again}


def _checked(value: Any) -> Any:
    """Return a value that can be pickled; raise what pickling raises. Arrays cost nothing, see below."""
    if type(value) in (int, float, str, bytes, bool, type(None)):
        return value
    try:
        pickle.dumps(value, protocol=5, buffer_callback=_ignore)
    except Exception:  # noqa: BLE001 - pickling the user's objects may raise anything
        cloudpickle.dumps(value, protocol=5, buffer_callback=_ignore)
    return value


def _unpicklable(segment: Segment, outputs: Mapping[Key, Any]) -> Failure | None:
    """Return the failure of the first output that can't be pickled.

    Without this it would fail later, under another name. Buffers are left out of the pickle, so arrays cost nothing.
    """
    for key, value in outputs.items():
        try:
            _checked(value)
        except Exception as error:  # noqa: BLE001 - as there
            task = next(task for task in segment.tasks if task.key == key)
            cause = f"{one_line(error)} (the result, a {type(value).__name__}, can't be pickled)"
            return Failure.of(task, cause, traceback=traceback.format_exc())
    return None


def _ignore(_: object) -> bool:
    return False
