"""A segment on its way to a worker process, and how it is run there."""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter_ns

import cloudpickle

from pipeline.backends.local.child_main import note
from pipeline.backends.local.serialization import Packed, load, pack
from pipeline.graph.graph import Key
from pipeline.graph.segments import Failure, Segment, SegmentTask
from pipeline.worker import output_capture
from pipeline.worker.run_segment import SegmentResult, SegmentTimes, run_segment
from pipeline.worker.tracebacks import describe

__all__ = ["SegmentMessage", "order", "run_order"]


@dataclass(frozen=True)
class SegmentMessage:
    """A job on its way to a child. ``first`` is named if the segment can't be opened."""

    number: int
    segment: bytes
    first: tuple[str, str, str]  # step, key, item
    inputs: Mapping[Key, Packed]


def order(segment: Segment, inputs: Mapping[Key, Packed]) -> SegmentMessage | Failure:
    """The order for a segment, or what keeps it from being pickled."""
    first = segment.tasks[0]
    try:
        data = cloudpickle.dumps(segment)
    except Exception as error:  # noqa: BLE001 - the constants of a task are the user's: anything can happen
        return Failure.of(first, f"the task can't be pickled: {describe(error)}")
    return SegmentMessage(segment.number, data, (first.step, str(first.key), first.item), inputs)


def run_order(given: SegmentMessage, tell: output_capture.Tell | None = None) -> SegmentResult:
    """Run a job in this child: its outputs come packed, and whatever goes wrong comes as a Failure.

    ``tell`` gets what its tasks write as it comes, from any thread; without it the Completion has it. Of what is around
    the tasks the Completion tells when the segment had been opened, and when the outputs were packed.
    """
    note(given.number, 0, 0)  # opening it may end this process, too
    try:
        segment: Segment = pickle.loads(given.segment)
    except BaseException as error:  # noqa: BLE001 - the user's code runs here
        return _failed(given, f"the task can't be unpickled in a worker: {describe(error)}")
    opened = perf_counter_ns()
    inputs = {}
    for key, packed in given.inputs.items():
        try:
            inputs[key] = load(packed)
        except BaseException as error:  # noqa: BLE001 - the user's code runs here
            return _failed(given, f"the result of {key} that it needs can't be unpickled: {describe(error)}")
    positions = {inner.key: i for i, inner in enumerate(segment.tasks)}

    def started(inner: SegmentTask) -> None:
        note(given.number, positions[inner.key], perf_counter_ns())

    completion = run_segment(segment, inputs, started=started, tell=tell, hold=output_capture.HOLD if tell else 0.0)
    note(given.number, len(segment.tasks) - 1, 0)
    for key in segment.outputs if completion.failure is None else ():
        try:
            completion.outputs[key] = pack(completion.outputs[key])
        except BaseException as error:  # noqa: BLE001 - the user's code runs here
            cause = f"its result ({type(completion.outputs[key]).__name__}) can't be pickled: {describe(error)}"
            completion.failure = Failure.of(segment.tasks[positions[key]], cause)
            completion.outputs = {}
            break
    completion.around = SegmentTimes(opened=opened, packed=perf_counter_ns())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a task may have closed or replaced it; what it printed must not be lost
            stream.flush()
    return completion


def _failed(given: SegmentMessage, cause: str) -> SegmentResult:
    step, key, item = given.first
    return SegmentResult(failure=Failure(step, key, item, cause))
