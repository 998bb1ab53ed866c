"""What Dask workers measured, brought onto one clock.

Workers of the same boot of the same machine share ``perf_counter`` with us: nothing to correct. For others the offset
is estimated from a few questions, each answered somewhere between its sending and its answer's arrival; half of the
shortest way there and back is the error, which the Trace keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter_ns
from typing import Any

from distributed import Client

from pipeline.backends.probing import ask
from pipeline.backends.remote import boot_id
from pipeline.errors import BackendError
from pipeline.graph import Graph, Key, dependencies
from pipeline.trace import Record
from pipeline.worker import Segment

__all__ = ["Rows", "offsets"]

_QUESTIONS = 5


class Rows:
    """What the workers report, segment by segment, until it becomes the rows of a Trace."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.boots: dict[str, str] = {}  # boot -> address of a worker that has it
        self.clock_error = 0.0  # seconds, the largest
        self._segments = segments
        self._reports: list[tuple[Mapping[str, Any], int, int]] = []  # message, heard, attempt
        self._attempts: dict[int, int] = {}

    def add(self, message: Mapping[str, Any], heard: int) -> None:
        """Take the report of one segment, heard of at ``perf_counter_ns``."""
        number = message["segment"]
        attempt = self._attempts.get(number, 0)
        self._attempts[number] = attempt + 1
        self.boots[message["boot"]] = message["address"]
        self._reports.append((message, heard, attempt))

    def records(self, graph: Graph, clocks: Mapping[str, tuple[int, int]], began: int) -> list[Record]:
        """The rows, in ns since ``began``.

        Parameters
        ----------
        clocks : boot -> what to take off its times to have ours, and how wrong that may be, in ns
        """
        self.clock_error = max((error / 1e9 for _, error in clocks.values()), default=0.0)
        records = []
        stops: dict[Key, int] = {}
        for message, _, _ in self._reports:
            base = began + clocks[message["boot"]][0]
            for index, _start, stop, *_ in message["rows"]:
                key = self._segments[message["segment"]].tasks[index].key
                stops[key] = min(stop - base, stops.get(key, stop - base))  # done when it was first there
        for message, heard, attempt in self._reports:
            base = began + clocks[message["boot"]][0]
            segment = self._segments[message["segment"]]
            for position, (index, start, stop, cpu, bytes_out, memory) in enumerate(message["rows"]):
                inner = segment.tasks[index]
                records.append(
                    Record(
                        key=str(inner.key),
                        step=inner.step,
                        worker=message["name"],
                        segment=segment.number,
                        ready=max((stops.get(k, 0) for k in dependencies(graph.tasks[inner.key])), default=0),
                        submitted=0,  # the whole graph is handed over at once
                        start=start - base,
                        stop=stop - base,
                        done=heard - began,
                        cpu=cpu,
                        bytes_in=0 if position else message["bytes_in"],  # once a segment
                        bytes_out=bytes_out,
                        memory=memory,
                        attempt=attempt,
                    )
                )
        return records


def offsets(client: Client, boots: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """For each boot what to take off its ``perf_counter_ns`` to have ours, and the error of that, in ns.

    A worker that has left meanwhile can't be asked: then nothing is taken off, and the error is negative: unknown.
    """
    ours = boot_id()
    return {boot: (0, 0) if boot == ours else _estimate(client, address) for boot, address in boots.items()}


def _estimate(client: Client, address: str) -> tuple[int, int]:
    best = (0, -1)
    for _ in range(_QUESTIONS):
        asked = perf_counter_ns()
        try:
            theirs = ask(client, "run", perf_counter_ns, workers=[address], timeout=3)[address]
        except (BackendError, KeyError):
            return best
        answered = perf_counter_ns()
        error = (answered - asked) // 2
        if best[1] < 0 or error < best[1]:
            best = (theirs - (asked + answered) // 2, error)
    return best
