"""A segment as a message to a worker process, and how the worker runs it."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import current_process
from multiprocessing.connection import Connection, wait
from multiprocessing.queues import Queue
from time import perf_counter_ns
from typing import Any

import cloudpickle

from pipeline.backends.local.child_main import set_status, set_up, sharing
from pipeline.backends.local.serialization import Packed, load, pack, receive, to_bytes
from pipeline.backends.local.shared_memory import Block
from pipeline.graph.graph import Key
from pipeline.graph.nodes import dependencies
from pipeline.graph.segments import Failure, Segment, SegmentTask
from pipeline.worker.closed_files import end_without_files
from pipeline.worker.finished_items import FinishedItems
from pipeline.worker.output_buffer import HOLD, Emit
from pipeline.worker.run_segment import Hooks, run_segment
from pipeline.worker.segment_result import SegmentResult, SegmentTimes, SharedUse
from pipeline.worker.tracebacks import describe

__all__ = ["END_OF_QUEUE", "SegmentMessage", "run_alone", "run_message", "to_message"]

END_OF_QUEUE = -1
"""What :func:`run_alone` puts last: nothing comes after it."""


@dataclass(frozen=True)
class SegmentMessage:
    """A segment and its inputs, pickled.

    Parameters
    ----------
    first : step, key and item of its first task, which is named if the segment can't be unpickled
    finished : path of the file for what the items of a batch give; a segment with effects outside makes it when it
        begins
    """

    number: int
    segment: bytes
    first: tuple[str, str, str]
    inputs: Mapping[Key, Packed]
    finished: str = ""


def to_message(segment: Segment, inputs: Mapping[Key, Packed], finished: str) -> SegmentMessage | Failure:
    """Return the message for a segment, or the failure of the task that can't be pickled."""
    first = segment.tasks[0]
    try:
        data = cloudpickle.dumps(segment)
    except Exception as error:  # noqa: BLE001 - pickling the user's constants may raise anything
        refused = next((task for task in segment.tasks if not _is_picklable(task)), first)
        return Failure.of(refused, f"the task can't be pickled: {describe(error)}")
    return SegmentMessage(segment.number, data, (first.step, str(first.key), first.item), inputs, finished)


def _is_picklable(task: SegmentTask) -> bool:
    try:
        cloudpickle.dumps(task)
    except Exception:  # noqa: BLE001 - as there
        return False
    return True


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
    values = _Values()
    failed: list[Failure] = []
    for key, packed in message.inputs.items():
        try:
            inputs[key] = values.load(packed)
        except BaseException as error:  # noqa: BLE001 - the user's code runs here
            cause = f"the result of {key} that it needs can't be unpickled: {describe(error)}"
            if not segment.keep_going:
                return _failed(message, cause)
            failed += [Failure.of(task, cause) for task in segment.tasks if key in dependencies(task.node)]
    positions = {task.key: i for i, task in enumerate(segment.tasks)}
    if failed:
        segment = segment.computable([key for key in message.inputs if key not in inputs])
    if not segment.pure:
        with contextlib.suppress(OSError), open(message.finished, "xb"):
            pass

    def on_start(task: SegmentTask) -> None:
        set_status(message.number, positions[task.key], perf_counter_ns())

    finished = FinishedItems(message.finished, current_process().name) if segment.batch else None
    hooks = Hooks(on_start, emit, HOLD if emit else 0.0, store=values.pack, finished=finished)
    result = run_segment(segment, inputs, hooks, only_here=True)
    end_without_files()
    result.failed += failed
    set_status(message.number, len(segment.tasks) - 1, 0)
    for key in list(result.outputs) if result.failure is None and not segment.batch else ():
        try:
            result.outputs[key] = values.pack(result.outputs[key])
        except BaseException as error:  # noqa: BLE001 - the user's code runs here
            cause = f"its result ({type(result.outputs[key]).__name__}) can't be pickled: {describe(error)}"
            failure = Failure.of(next(task for task in segment.tasks if task.key == key), cause)
            if segment.goes_on:
                result.failed.append(failure)
                del result.outputs[key]
                continue
            result.failure = failure
            result.outputs = {}
            values.remove()
            break
    result.times = SegmentTimes(opened=opened, packed=perf_counter_ns())
    result.memory, result.lacked = values.use, values.lacked
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a task may have closed or replaced it; what it printed must not be lost
            stream.flush()
    return result


class _Values:
    """Unpacks the inputs of one segment and packs its outputs.

    Attributes
    ----------
    use : what went through shared memory until now
    lacked : why a large value did not
    """

    def __init__(self) -> None:
        self.use = SharedUse()
        self.lacked = ""
        self._blocks: list[Block] = []

    def load(self, packed: Packed) -> Any:
        began = perf_counter_ns()
        value = load(packed)
        if packed.block is not None:
            self._add(SharedUse(bytes_in=packed.block.nbytes, ns=perf_counter_ns() - began))
        return value

    def pack(self, value: Any) -> Packed:
        began = perf_counter_ns()
        packed = pack(value, sharing())
        if packed.block is not None:
            self._blocks.append(packed.block)
            self._add(SharedUse(bytes_sent=packed.block.nbytes, ns=perf_counter_ns() - began))
        self.lacked = self.lacked or packed.lacked
        return packed

    def _add(self, more: SharedUse) -> None:
        self.use = SharedUse(*map(sum, zip(self.use, more, strict=True)))

    def remove(self) -> None:
        """Remove what was packed: nobody will get it."""
        for block in self._blocks:
            with contextlib.suppress(OSError):
                os.unlink(block.path)


def run_alone(queue: Queue[Any], connection: Connection, setup: str, name: str) -> None:
    """Run one segment: the main function of a process of its own.

    Parameters
    ----------
    queue : gets pairs: ``ready`` and the threads of libraries, or ``broken`` and why; ``output`` and lines; ``done``
        and the pickled result. Last, after an error as well, -1. All of it is written when this returns
    connection : the message of the segment comes here after ``ready``; None: there is nothing to run
    setup : path of the set-up file; empty: there is none
    """
    current_process().daemon = False  # only the start of processes looks at it: tasks may start some
    try:
        _run_alone(queue, connection, setup, name)
    finally:
        queue.put(END_OF_QUEUE)
        queue.close()
        queue.join_thread()  # cancel_join_thread would end the process in the middle of a result


def _run_alone(queue: Queue[Any], connection: Connection, setup: str, name: str) -> None:
    try:
        queue.put(("ready", set_up(setup) if setup else {}))
    except Exception as error:  # noqa: BLE001 - raised in the parent
        queue.put(("broken", describe(error)))
        return
    wait([connection])
    received = perf_counter_ns()
    try:
        message, _ = receive(connection)
    except (EOFError, OSError):  # the parent has ended: nobody reads the queue
        os._exit(1)
    loaded = perf_counter_ns()
    if message is None:
        return
    result = run_message(message, lambda lines: queue.put(("output", lines)))
    result.worker = name
    result.times = result.times._replace(received=received, loaded=loaded)
    queue.put(("done", to_bytes(result)))


def _failed(message: SegmentMessage, cause: str) -> SegmentResult:
    step, key, item = message.first
    return SegmentResult(failure=Failure(step, key, item, cause))
