"""Traces made by hand or at random, for tests. Instants are in seconds since the run began."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st

from pipeline.trace.replay import ReplaySegment
from pipeline.trace.trace import INSTANTS, Record, Trace

__all__ = ["Work", "any_trace", "any_work", "chained", "row", "trace"]

MOST = 60  # ns of a random Trace: few enough to check each of them


def row(key: str, start: float, stop: float, *, worker: str = "w0", step: str = "", **fields: Any) -> Record:
    """Return one row: the task ``key`` ran from ``start`` to ``stop`` on the CPU, and nothing else took time.

    Parameters
    ----------
    step : empty: the part of the key before its first ``-`` (``fit`` of ``fit-3``)
    fields : any other column of the Trace; times in seconds. By default ``ready``, ``submitted`` and sizes are 0, no
        time passes before the start and after the stop, and ``segment`` is the number at the end of the key, or 0
    """
    earlier = dict.fromkeys(("received", "loaded", "opened"), start)
    later = dict.fromkeys(("packed", "sent", "done"), stop)
    seconds: dict[str, float] = {"ready": 0.0, "submitted": 0.0, **earlier, "start": start, "stop": stop, **later}
    seconds["cpu"] = stop - start
    number = key.rpartition("-")[2]
    seconds |= {"delay": 0.0, "cpu_beside": 0.0, "sharing": 0.0, "granted": 0.0}
    rest: dict[str, Any] = {
        "segment": int(number) if number.isdecimal() else 0,
        "attempt": 0,
        "bytes_in": 0,
        "bytes_out": 0,
        "bytes_sent": 0,
        "memory": 0,
        "switches": 0,
        "faults": 0,
        "disk": 0,
        "shared_in": 0,
        "shared_sent": 0,
        "limit": "",
    }
    unknown = fields.keys() - seconds.keys() - rest.keys()
    assert not unknown, f"a Trace has no {unknown}"
    seconds |= {name: value for name, value in fields.items() if name in seconds}
    rest |= {name: value for name, value in fields.items() if name in rest}
    times = {name: round(value * 1e9) for name, value in seconds.items()}
    return Record(key=key, step=step or key.partition("-")[0], worker=worker, **times, **rest)


def trace(
    rows: Iterable[Record],
    *,
    elapsed: float,
    n_workers: int,
    backend: str = "processes",
    start_up: float = 0.0,
    **notes: Any,
) -> Trace:
    """Make a Trace of some rows; ``notes`` are its notes (``gaps=[["w0", 10, 20]]``, in ns)."""
    return Trace.from_records(
        rows, elapsed=elapsed, n_workers=n_workers, backend=backend, start_up=start_up, notes=notes
    )


def chained(times: Mapping[str, float], *, backend: str = "serial") -> Trace:
    """Make a Trace of one worker that runs the tasks one after the other, each in its own segment."""
    rows, now = [], 0.0
    for number, (key, seconds) in enumerate(times.items()):
        rows.append(row(key, now, now + seconds, segment=number, ready=now))
        now += seconds
    return trace(rows, elapsed=now, n_workers=1, backend=backend)


@st.composite
def any_trace(draw: st.DrawFn) -> Trace:
    """Draw a Trace with overlaps, gaps, attempts, lost workers and wrong clocks; at most MOST ns long.

    Keys are ``s-0``, ``s-1``, … of the steps ``a`` and ``b``; segment ``n`` may have several rows.
    """
    moment = st.integers(-5, MOST + 5)
    rows = []
    for i in range(draw(st.integers(0, 8))):
        instants = draw(st.lists(moment, min_size=len(INSTANTS), max_size=len(INSTANTS)))
        if draw(st.booleans()):
            instants.sort()
        at = dict(zip(INSTANTS, (n / 1e9 for n in instants), strict=True))
        at["stop"] = max(at["start"], at["stop"])
        rows.append(
            row(
                f"s-{draw(st.integers(0, 5))}",
                **at,
                step=draw(st.sampled_from("ab")),
                worker=draw(st.sampled_from(["w0", "w1", "w2", "w10"])),
                segment=draw(st.integers(0, 4)),
                attempt=draw(st.integers(0, 1)),
                ready=draw(moment) / 1e9,
                granted=draw(st.sampled_from([0, draw(moment)])) / 1e9,
                limit=draw(st.sampled_from(["", "db"])),
                bytes_in=i,
            )
        )
    gaps = draw(st.lists(st.tuples(st.sampled_from(["w0", "w1", "gone"]), moment, moment).map(list), max_size=2))
    return trace(rows, elapsed=draw(st.integers(1, MOST)) / 1e9, n_workers=draw(st.integers(1, 4)), gaps=gaps)


class Work(NamedTuple):
    """Segments to replay; the needs and the seconds of each task."""

    segments: list[ReplaySegment]
    needs: dict[str, tuple[str, ...]]
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        """Seconds of all tasks."""
        return sum(round(each * 1e9) for each in self.seconds.values()) / 1e9


@st.composite
def any_work(draw: st.DrawFn) -> Work:
    """Draw segments of up to three tasks each; some are of a constant alone, some tasks take no time."""
    segments: list[ReplaySegment] = []
    needs: dict[str, tuple[str, ...]] = {}
    made: list[str] = []
    constants = set()
    for number in range(draw(st.integers(1, 10))):
        if draw(st.integers(0, 6)) == 0:
            key = f"constant-{number}"
            segments.append(ReplaySegment(number, (), (key,), (), ()))
            constants.add(key)
            made.append(key)
            continue
        keys = tuple(f"s-{number}.{i}" for i in range(draw(st.integers(1, 3))))
        inputs: dict[str, None] = {}
        for i, key in enumerate(keys):
            outer = draw(st.lists(st.sampled_from(made), max_size=3, unique=True)) if made else []
            inner = [keys[i - 1]] if i and draw(st.booleans()) else []
            inputs |= dict.fromkeys(outer)
            needs[key] = tuple(k for k in (*outer, *inner) if k not in constants)
        segments.append(ReplaySegment(number, ("context", *inputs), keys, keys, ("s",) * len(keys)))
        made += keys
    seconds = {key: draw(st.integers(0, 20)) / 1e9 for key in needs}
    return Work(segments, needs, seconds)
