"""What the workers measured, converted to the clock of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter_ns, process_time, thread_time
from typing import Any

from distributed import Client

from pipeline.backends.dask.health import ask
from pipeline.backends.trace_records import records
from pipeline.backends.versions import boot_id
from pipeline.errors import BackendError
from pipeline.graph.graph import Key
from pipeline.graph.segments import Segment
from pipeline.trace.trace import Record
from pipeline.worker.segment_result import SegmentTimes, TaskTiming
from pipeline.worker.thread_usage import TaskUsage

__all__ = ["ClusterUsage", "Rows", "offsets"]

_REQUESTS = 5


class Rows:
    """Collects the reports of segments, and converts them to the rows of a Trace when the run is over."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.boots: dict[str, str] = {}  # boot id -> address of a worker with it
        self.clock_error = 0.0  # seconds, the largest
        self.measuring = 0  # ns, see SegmentResult
        self._segments = segments
        self._reports: list[tuple[Mapping[str, Any], int, int]] = []  # message, when it arrived, attempt
        self._attempts: dict[int, int] = {}
        self._partial: set[tuple[int, int, int]] = set()  # segment, position and start of rows in partial reports

    def add(self, message: Mapping[str, Any], arrived: int) -> None:
        """Add the report of one segment, which arrived at ``perf_counter_ns``."""
        number = message["segment"]
        if message["partial"]:  # each worker that goes on with a batch reports what was finished before
            rows = [row for row in message["rows"] if (number, row[0], row[1]) not in self._partial]
            self._partial.update((number, row[0], row[1]) for row in rows)
            message = {**message, "rows": rows}
        attempt = self._attempts.get(number, 0)
        self._attempts[number] = attempt + (not message["partial"])
        self.boots[message["boot"]] = message["address"]
        self._reports.append((message, arrived, attempt))
        self.measuring += message["measuring"]

    def records(
        self,
        clocks: Mapping[str, tuple[int, int]],
        began: int,
        before: Callable[[int], Mapping[str, int]] = lambda number: {},
    ) -> list[Record]:
        """Return the rows, with times in ns since ``began``.

        Parameters
        ----------
        clocks : boot id -> offset to subtract from its times, and the error of that, in ns
        before : for a segment: limit -> the segment that had its place before
        """
        self.clock_error = max((error / 1e9 for _, error in clocks.values()), default=0.0)
        made: dict[Key, int] = {}  # when each value was first there
        over: dict[int, int] = {}  # when each segment had first ended well
        for message, _, _ in self._reports:
            origin = began + clocks[message["boot"]][0]
            last = message["times"][-2] or max((row[2] for row in message["rows"]), default=0)
            for key in self._segments[message["segment"]].outputs:
                made[key] = min(last - origin, made.get(key, last - origin))
            if message.get("failed") is None and not message["partial"]:
                over[message["segment"]] = min(last - origin, over.get(message["segment"], last - origin))
        found: list[Record] = []
        for message, arrived, attempt in self._reports:
            segment = self._segments[message["segment"]]
            ready = max((made.get(key, 0) for key in segment.inputs), default=0)
            places = before(segment.number).items()
            granted, limit = max(((over.get(other, 0), name) for name, other in places), default=(0, ""))
            tasks = [segment.tasks[row[0]] for row in message["rows"]]
            found += records(
                [
                    TaskTiming(task.key, task.step, start, stop, TaskUsage(*usage), *rest)
                    for task, (_, start, stop, usage, *rest) in zip(tasks, message["rows"], strict=True)
                ],
                SegmentTimes(*message["times"]),
                worker=message["name"],
                segment=segment.number,
                attempt=attempt,
                ready=ready,
                submitted=0,  # the whole graph is submitted at once
                done=arrived - began,
                origin=began + clocks[message["boot"]][0],
                bytes_in=message["bytes_in"],  # bytes between workers are counted where they arrive
                granted=granted if granted > ready else 0,
                limit=limit if granted > ready else "",
            )
        return found

    def gaps(self, found: Sequence[Record], lost: Iterable[str], elapsed: int) -> list[list[Any]]:
        """Return name, begin and end of when each lost worker was not observed.

        That is from its last row to the first row of the worker that replaced it.

        Parameters
        ----------
        found : the rows
        lost : addresses
        elapsed : ns
        """
        names = {message["address"]: message["name"] for message, _, _ in self._reports}
        gaps = []
        for address in lost:
            name = names.get(address, address)
            segments = {m["segment"] for m, _, _ in self._reports if m["address"] == address}
            since = max((r.sent for r in found if r.worker == name and r.segment in segments), default=0)
            until = min((r.received for r in found if r.worker == name and r.received >= since), default=elapsed)
            gaps.append([name, since, until])
        return gaps


def offsets(client: Client, boots: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Return for each boot id the offset of its ``perf_counter_ns`` from ours and the error of that, in ns.

    Workers of the same boot of this machine share our clock. For others the offset is estimated from a few requests:
    half of the shortest round trip is the error. If the worker has left, the offset is 0 and the error negative.
    """
    ours = boot_id()
    return {boot: (0, 0) if boot == ours else _estimate(client, address) for boot, address in boots.items()}


def _estimate(client: Client, address: str) -> tuple[int, int]:
    best = (0, -1)
    for _ in range(_REQUESTS):
        asked = perf_counter_ns()
        try:
            remote = ask(client, "run", perf_counter_ns, workers=[address], timeout=3)[address]
        except (BackendError, KeyError):
            return best
        answered = perf_counter_ns()
        error = (answered - asked) // 2
        if best[1] < 0 or error < best[1]:
            best = (remote - (asked + answered) // 2, error)
    return best


class ClusterUsage:
    """CPU seconds of this process, of its event loop and of the worker processes, from when the object is made.

    The thread of the event loop runs the client, and with a LocalCluster also the scheduler and the nannies.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._before = self._now()

    def beside(self, *, tasks: float) -> dict[str, float]:
        """Return the CPU seconds of everything but the tasks; workers that came or went meanwhile are left out.

        Parameters
        ----------
        tasks : CPU seconds of the tasks
        """
        (own, loop, workers), (own_0, loop_0, workers_0) = self._now(), self._before
        busy = sum(seconds - workers_0[address] for address, seconds in workers.items() if address in workers_0)
        return {"parent": own - own_0 - loop + loop_0, "scheduler": loop - loop_0, "workers": busy - tasks}

    def _now(self) -> tuple[float, float, dict[str, float]]:
        async def on_loop() -> float:
            return thread_time()

        try:
            workers = dict(ask(self._client, "run", process_time, timeout=3))
            loop = float(self._client.sync(on_loop, callback_timeout=3))
        except (BackendError, TimeoutError):
            # recorded as unknown; a cluster that is gone is noticed by Health
            return process_time(), 0.0, {}
        return process_time(), loop, workers
