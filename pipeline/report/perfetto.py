"""A Trace for ui.perfetto.dev and chrome://tracing: JSON in the Chrome trace-event format.

The run is a process and each lane of workers is a thread in it; tasks are slices named by their steps. The phases
around a task (transfer, runtime, deserialization, serialization) are slices beside it, on the same thread if they do
not overlap with others, else on an additional thread: slices of one thread must nest. The first thread is the critical
path, the second one has an instant for each segment that became ready; the memory of each worker is a counter. No task
is left out or merged.

References
----------
"Trace Event Format", the document that describes the JSON of the Chromium project's tracing.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.trace.lanes import lanes
from pipeline.trace.trace import Trace
from pipeline.units import count_text
from pipeline.worker.atomic_write import replacing

__all__ = ["events", "write"]

_PROCESS = 1
_CRITICAL, _READY, _LANES = 1, 2, 10  # thread numbers; lanes count from the last
_PARTS = (
    ("received", "loaded", "transfer in", "transfer"),
    ("loaded", "opened", "runtime", "runtime"),
    ("opened", "start", "deserialization", "serialization"),
    ("stop", "packed", "serialization", "serialization"),
    ("packed", "sent", "transfer out", "transfer"),
)


class _Slice(NamedTuple):
    """A span of time on a lane, in ns."""

    start: int
    stop: int
    name: str
    category: str
    args: Mapping[str, Any]


def write(trace: Trace, path: Path, *, critical: Iterable[Mapping[str, Any]] = ()) -> Path:
    """Write a Trace as Chrome trace-event JSON, completely or not at all; O(n log n) in its rows. Return ``path``.

    Parameters
    ----------
    critical : segments of the critical path, as in ``report.json`` (``key step worker kind start stop``, seconds)
    """
    about = {"backend": trace.backend, "n_workers": trace.n_workers, "elapsed_seconds": trace.elapsed}
    encode = json.JSONEncoder(
        separators=(",", ":"), allow_nan=False
    ).encode  # json.dumps would make an encoder for each event
    with replacing(path) as partial, partial.open("w", encoding="ascii") as file:
        file.write(f'{{"displayTimeUnit":"ms","otherData":{encode(about)},"traceEvents":[\n')
        for i, event in enumerate(events(trace, critical=critical)):
            file.write((",\n" if i else "") + encode(event))
        file.write("\n]}\n")
    return path


def events(trace: Trace, *, critical: Iterable[Mapping[str, Any]] = ()) -> Iterator[dict[str, Any]]:
    """Yield the events of a Trace; times are in microseconds since the run began, with decimals."""
    tasks, workers = count_text(trace.tasks.num_rows, "task"), count_text(trace.n_workers, "worker")
    yield _meta("process_name", 0, name=f"{trace.backend}: {tasks} on {workers}")
    yield from _thread(_CRITICAL, "critical path")
    for segment in critical:
        start, stop = round(segment["start"] * 1e9), round(segment["stop"] * 1e9)
        args = {"key": segment["key"], "worker": segment["worker"], "kind": segment["kind"]}
        name = segment["step"] if segment["kind"] == "compute" else segment["kind"]
        yield _complete(_CRITICAL, _Slice(start, stop, name, "critical path", args))
    yield from _thread(_READY, "ready")
    yield from _ready(trace)
    rows = trace.tasks.to_pylist()
    by_worker: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_worker.setdefault(row["worker"], []).append(row)
    number = _LANES
    for names in lanes(trace):
        own = [row for name in names for row in by_worker.get(name, ())]
        label = ", ".join(names) or "idle"
        for i, track in enumerate(_tracks(own)):
            yield from _thread(number, label if not i else f"{label}, beside {i}")
            yield from (_complete(number, piece) for piece in track)
            number += 1
    for row in rows:
        if row["memory"]:
            yield {
                "ph": "C", "pid": _PROCESS, "tid": 0, "ts": row["stop"] / 1e3,
                "name": f"memory of {row['worker']}", "args": {"bytes": row["memory"]},
            }  # fmt: skip


def _tracks(rows: Sequence[Mapping[str, Any]]) -> list[list[_Slice]]:
    """Distribute the slices of a lane over as few threads as possible, at least one, all tasks on the first threads."""
    tasks, parts = [], []
    for row in rows:
        args = {
            "key": row["key"],
            "attempt": row["attempt"],
            "worker": row["worker"],
            "segment": row["segment"],
            "bytes": row["bytes_out"],
            "bytes_in": row["bytes_in"],
            "bytes_sent": row["bytes_sent"],
            "cpu_seconds": row["cpu"] / 1e9,
        }
        tasks.append(_Slice(row["start"], max(row["start"], row["stop"]), row["step"], "task", args))
        about = {"key": row["key"], "attempt": row["attempt"]}
        parts += [_Slice(row[a], row[b], name, kind, about) for a, b, name, kind in _PARTS if row[b] > row[a]]
    tracks: list[list[_Slice]] = [[]]
    for group in (tasks, parts):
        _fill(tracks, sorted(group, key=lambda piece: (piece.start, piece.stop)))
    return [sorted(track, key=lambda piece: (piece.start, piece.stop)) for track in tracks]


def _fill(tracks: list[list[_Slice]], pieces: Sequence[_Slice]) -> None:
    """Add each piece to the first track where it overlaps no other piece."""
    there = [sorted(track, key=lambda piece: (piece.start, piece.stop)) for track in tracks]
    starts = [[piece.start for piece in track] for track in there]
    free = [min((piece.start for piece in pieces), default=0)] * len(tracks)
    for piece in pieces:
        for i, old in enumerate(there):
            at = bisect_left(starts[i], piece.stop)  # the pieces before this position begin before the new piece ends
            if piece.start >= free[i] and (not at or old[at - 1].stop <= piece.start):
                break
        else:
            i = len(tracks)
            tracks.append([])
            there.append([])
            starts.append([])
            free.append(piece.start)
        tracks[i].append(piece)
        free[i] = max(piece.start, piece.stop)


def _ready(trace: Trace) -> Iterator[dict[str, Any]]:
    """Yield an instant for each attempt of a segment: the time when its dependencies were complete."""
    seen = set()
    names = ("segment", "attempt", "ready", "step", "key")
    for segment, attempt, ready, step, key in zip(*(trace.tasks[name].to_pylist() for name in names), strict=True):
        if (segment, attempt) not in seen:
            seen.add((segment, attempt))
            yield {
                "ph": "i", "s": "t", "pid": _PROCESS, "tid": _READY, "ts": ready / 1e3, "name": step, "cat": "ready",
                "args": {"key": key, "segment": segment, "attempt": attempt},
            }  # fmt: skip


def _complete(thread: int, piece: _Slice) -> dict[str, Any]:
    return {
        "ph": "X", "pid": _PROCESS, "tid": thread, "ts": piece.start / 1e3, "dur": (piece.stop - piece.start) / 1e3,
        "name": piece.name, "cat": piece.category, "args": dict(piece.args),
    }  # fmt: skip


def _thread(number: int, name: str) -> Iterator[dict[str, Any]]:
    yield _meta("thread_name", number, name=name)
    yield _meta("thread_sort_index", number, sort_index=number)


def _meta(what: str, thread: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "pid": _PROCESS, "tid": thread, "ts": 0, "name": what, "args": args}
