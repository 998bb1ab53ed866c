"""A segment as a message to a worker process, and how the worker runs it."""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import current_process
from time import perf_counter_ns

import cloudpickle

from pipeline.backends.local.child_main import set_status
from pipeline.backends.local.serialization import Packed, load, pack
from pipeline.graph.graph import Key
from pipeline.graph.segments import Failure, Segment, SegmentTask
from pipeline.worker.closed_files import end_without_files
from pipeline.worker.finished_items import FinishedItems
from pipeline.worker.output_buffer import HOLD, Emit
from pipeline.worker.run_segment import Hooks, run_segment
from pipeline.worker.segment_result import SegmentResult, SegmentTimes
from pipeline.worker.tracebacks import describe

__all__ = ["SegmentMessage", "run_message", "to_message"]


@dataclass(frozen=True)
class SegmentMessage:
    """A segment and its inputs, pickled.

    Parameters
    ----------
    first : step, key and item of its first task, which is named if the segment can't be unpickled
    finished : of a batch: path of the file for what its items give
    """

    number: int
    segment: bytes
    first: tuple[str, str, str]
    inputs: Mapping[Key, Packed]
    finished: str = ""


def to_message(segment: Segment, inputs: Mapping[Key, Packed], finished: str) -> SegmentMessage | Failure:
    """Return the message for a segment, or a failure if it can't be pickled."""
    first = segment.tasks[0]
    try:
        data = cloudpickle.dumps(segment)
    except Exception as error:  # noqa: BLE001 - pickling the user's constants may raise anything
        return Failure.of(first, f"the task can't be pickled: {describe(error)}")
    return SegmentMessage(segment.number, data, (first.step, str(first.key), first.item), inputs, finished)


def run_message(message: SegmentMessage, emit: Emit | None = None) -> SegmentResult:
    """Run a segment in this worker process; its outputs are packed, and everything that fails is a Failure.

    Parameters
    ----------
    emit : gets the lines that the tasks print as they come, from any thread; None: they are part of the result

    Returns
    -------
    the result; of its ``times``, when the segment had been opened and when the outputs were packed
    """
    set_status(message.number, 0, 0)  # unpickling it may end this process, too
    try:
        segment: Segment = pickle.loads(message.segment)
    except BaseException as error:  # noqa: BLE001 - the user's code runs here
        return _failed(message, f"the task can't be unpickled in a worker: {describe(error)}")
    opened = perf_counter_ns()
    inputs = {}
    for key, packed in message.inputs.items():
        try:
            inputs[key] = load(packed)
        except BaseException as error:  # noqa: BLE001 - the user's code runs here
            return _failed(message, f"the result of {key} that it needs can't be unpickled: {describe(error)}")
    positions = {task.key: i for i, task in enumerate(segment.tasks)}

    def on_start(task: SegmentTask) -> None:
        set_status(message.number, positions[task.key], perf_counter_ns())

    finished = FinishedItems(message.finished, current_process().name) if segment.batch else None
    hooks = Hooks(on_start, emit, HOLD if emit else 0.0, store=pack, finished=finished)
    result = run_segment(segment, inputs, hooks, only_here=True)
    end_without_files()
    set_status(message.number, len(segment.tasks) - 1, 0)
    for key in segment.outputs if result.failure is None and not segment.batch else ():
        try:
            result.outputs[key] = pack(result.outputs[key])
        except BaseException as error:  # noqa: BLE001 - the user's code runs here
            cause = f"its result ({type(result.outputs[key]).__name__}) can't be pickled: {describe(error)}"
            result.failure = Failure.of(segment.tasks[positions[key]], cause)
            result.outputs = {}
            break
    result.times = SegmentTimes(opened=opened, packed=perf_counter_ns())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a task may have closed or replaced it; what it printed must not be lost
            stream.flush()
    return result


def _failed(message: SegmentMessage, cause: str) -> SegmentResult:
    step, key, item = message.first
    return SegmentResult(failure=Failure(step, key, item, cause))
