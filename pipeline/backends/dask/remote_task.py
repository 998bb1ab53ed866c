"""The function of every Dask task: runs one segment on a worker and reports it.

A segment is sent as bytes, since the scheduler unpickles every graph that it gets: so it needs neither the user's
modules nor numpy. The report of a segment goes ahead of its result over the same ordered stream (``log_event``): the
client has every report before it hears that the last result is there.
"""

from __future__ import annotations

import pickle
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import cloudpickle
from distributed import Worker, get_worker
from distributed.utils import sync

from pipeline.backends.dask.keep_going import NotComputed, Reporting, losses
from pipeline.backends.dask.places import begin_on_worker
from pipeline.backends.dask.status_files import Status, finished_file, read_late, status_file, write_status
from pipeline.backends.dask.worker_plugin import arrival
from pipeline.backends.local.attempts import MOST_LOSSES
from pipeline.backends.versions import boot_id
from pipeline.errors import shortened
from pipeline.graph.graph import CONTEXT, Key
from pipeline.graph.segments import NOT_AGAIN, Failure, Segment, SegmentTask
from pipeline.worker.closed_files import end_without_files
from pipeline.worker.finished_items import FinishedItems, read_finished
from pipeline.worker.output_buffer import HOLD, Line
from pipeline.worker.run_segment import Hooks, run_segment
from pipeline.worker.segment_result import SegmentResult, SegmentTimes
from pipeline.worker.tracebacks import one_line

__all__ = ["ByKey", "Job", "SegmentFailed", "dump", "run_job", "run_job_and_go_on"]


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


def run_job_and_go_on(payload: bytes, reporting: Reporting, *arguments: Any) -> Any:
    """Run a segment in a run that keeps going: failures of tasks are reported, not raised, but for damaged kept values.

    Returns
    -------
    as :func:`run_job`; in the place of what can't be computed is a :class:`NotComputed`
    """
    worker = get_worker()
    dask_key: Any = worker.get_current_task()
    number = dask_key[1]
    try:
        with losses(worker, reporting, number) as lost:
            return _run_job(payload, arguments, {p: n for p, n in lost.items() if n >= MOST_LOSSES})
    except SegmentFailed as error:
        failure = error.failure
        if failure.kind == "entry":  # the run plans again without the kept value
            raise
        about = [failure.step, failure.key, failure.item, failure.cause, failure.traceback, failure.kind]
        worker.log_event(reporting.topic, {"run": reporting.run, "segment": number, "segment failed": about})
        return NotComputed()


def run_job(payload: bytes, *arguments: Any) -> Any:
    """Run a segment.

    Raises
    ------
    SegmentFailed : if one of its tasks failed, or returned what can't be pickled and unpickled
    """
    return _run_job(payload, arguments, {})


def _run_job(payload: bytes, arguments: Sequence[Any], lost: Mapping[int, int]) -> Any:
    """Run a segment; see above.

    Parameters
    ----------
    lost : how many workers its tasks have ended, by position, of those that are not to be run again; of -1: the segment
    """
    worker = get_worker()
    dask_key: Any = worker.get_current_task()  # Dask types it as any part of a key
    if -1 in lost:
        raise SegmentFailed(Failure("", "", "", f"{lost[-1]} workers have ended while they ran it", kind="lost"))
    try:
        job: Job = pickle.loads(payload)
    except Exception as error:  # noqa: BLE001 - unpickling the user's objects may raise anything
        cause = f"{one_line(error)} (while the worker read the task)"
        raise SegmentFailed(Failure("", "", "", cause, traceback.format_exc())) from None
    begin_on_worker(worker, job.segment, job.run, job.topic)
    segment, gone = _remaining(job, worker)
    for position, n in lost.items():
        cause = f"{n} workers have ended while they ran it: out of memory, or killed"
        gone.append(Failure.of(job.segment.tasks[position], cause, kind="lost"))
    inputs = {key: arguments[i] if place is None else arguments[i][place] for key, i, place in job.sources}
    keys = {str(task.key): task.key for task in job.segment.tasks}
    missing = {key for key, value in inputs.items() if type(value) is NotComputed}
    segment = segment.computable([*missing, *(keys[failure.key] for failure in gone)])
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
        failure = result.failure or (None if segment.batch else _unpicklable(segment, result))
        if failure is None or failure.final or failure.kind == "entry":
            break
        if not failure.drop and not segment.keep_going:
            break
        failures += 1
        result.times = SegmentTimes(opened=opened, packed=perf_counter_ns())
        worker.log_event(job.topic, _report(job, result, failure, worker, 0))
        if failures > segment.retries:
            failures = 0
            if failure.drop:
                segment = segment.without(failure)
            else:
                gone.append(failure)
                segment = segment.computable([keys[failure.key]])
    if on_start is not None:
        on_start.end()
    came = arrival(worker, dask_key)
    result.times = SegmentTimes(came.received, came.loaded, opened, perf_counter_ns())
    gone += [*kept.failed, *result.failed]
    report = _report(job, result, failure, worker, came.bytes_in)
    if gone or missing:
        report["gone"] = [[f.step, f.key, f.item, f.cause, f.traceback, f.kind] for f in gone]
        left = job.segment.computable([*missing, *(keys[one.key] for one in gone)])
        computed = {task.key for task in left.tasks}
        report["missing"] = [i for i, task in enumerate(job.segment.tasks) if task.key not in computed]
    worker.log_event(job.topic, report)
    if failure is not None:
        raise SegmentFailed(failure) from None
    outputs = {**kept.outputs, **result.outputs}
    groups = tuple(_grouped(group, outputs) for group in job.groups)
    return groups[0] if len(groups) == 1 else groups


def _remaining(job: Job, worker: Worker) -> tuple[Segment, list[Failure]]:
    """Return the segment without the items that the client has dropped, and the failures of the tasks it has given up.

    Raises
    ------
    SegmentFailed : if it must not be run twice and was begun before
    """
    segment, folder = job.segment, job.status_folder
    gone: list[Failure] = []
    if folder and any(task.timeout is not None for task in segment.tasks):
        left_out, again = read_late(folder, segment)
        segment = segment.after((), [str(segment.tasks[position].key) for position in again])
        for position in left_out:
            failure = Failure.late(segment.tasks[position])
            if failure.drop or not segment.keep_going:
                segment = segment.without(failure)
            else:
                gone.append(failure)
    if not segment.pure:
        keys = ["pipeline-begun", job.run, str(segment.number)]
        if sync(worker.loop, worker.scheduler.get_metadata, keys=keys, default=False):
            raise SegmentFailed(Failure.of(segment.tasks[-1], f"its worker ended; {NOT_AGAIN}", kind="lost"))
        sync(worker.loop, worker.scheduler.set_metadata, keys=keys, value=True)
    return segment, gone


def _grouped(group: tuple[Key, ...], outputs: Mapping[Key, Any]) -> Any:
    values = tuple(outputs[key] if key in outputs else NotComputed() for key in group)
    return values[0] if len(group) == 1 else values


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
                m.kept,
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
        "gone": [],
        "missing": [],
    }


def _item_failed(job: Job, failure: Failure, again: bool) -> dict[str, Any]:
    """Return the report of a failure after which a batch goes on."""
    about = [failure.step, failure.key, failure.item, failure.cause]
    return {"run": job.run, "segment": job.segment.number, "item failed": about, "again": again}


def _checked(value: Any) -> Any:
    """Return a value that can be pickled and unpickled; raise what these raise. Arrays cost nothing, see below."""
    if type(value) in (int, float, str, bytes, bool, type(None)):
        return value
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    except Exception:  # noqa: BLE001 - pickling the user's objects may raise anything
        buffers.clear()
        data = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    pickle.loads(data, buffers=buffers)
    return value


def _unpicklable(segment: Segment, result: SegmentResult) -> Failure | None:
    """Return the failure of the first output that can't be sent; where the segment goes on, the result has them all.

    Without this it would fail later, under another name; and where only unpickling fails, a task on another worker that
    needs the value would wait for ever (see :meth:`Prepare.transition`). Buffers are left out of the pickle, so arrays
    cost nothing.
    """
    for key, value in list(result.outputs.items()):
        try:
            _checked(value)
        except Exception as error:  # noqa: BLE001 - as there
            task = next(task for task in segment.tasks if task.key == key)
            cause = f"{one_line(error)} (the result, a {type(value).__name__}, can't be pickled and unpickled)"
            failure = Failure.of(task, cause, traceback=traceback.format_exc())
            if not segment.goes_on:
                return failure
            result.failed.append(failure)
            del result.outputs[key]
    return None
