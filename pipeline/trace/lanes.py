"""The lanes of a measured run: which workers followed each other in one place, and which segments ran there."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from pipeline.trace.trace import Trace

__all__ = ["lanes", "placement_of"]


def placement_of(trace: Trace) -> tuple[tuple[int, ...], ...]:
    """Return for each lane of a Trace (see :func:`lanes`) the segments that ran there last, in order."""
    lane = {name: i for i, names in enumerate(lanes(trace)) for name in names}
    columns = [trace.tasks[name].to_pylist() for name in ("segment", "attempt", "start", "worker")]
    first: dict[int, tuple[int, int, str]] = {}  # segment -> minus attempt, start, worker; the least counts
    for segment, attempt, start, worker in zip(*columns, strict=True):
        run = (-attempt, start, worker)
        if segment not in first or run < first[segment]:
            first[segment] = run
    placed: list[list[int]] = [[] for _ in range(max(lane.values(), default=-1) + 1)]
    for segment, (_, _, worker) in sorted(first.items(), key=lambda item: (item[1][1], item[0])):
        placed[lane[worker]].append(segment)
    return tuple(tuple(numbers) for numbers in placed)


def lanes(trace: Trace) -> tuple[tuple[str, ...], ...]:
    """Assign the workers of a Trace to lanes; return for each lane its workers' names in order of time.

    There are ``n_workers`` lanes, some of which may be empty. If more names than that appear, workers of different
    times share a lane: a worker that replaced a lost one gets its lane. There are more lanes only if more workers
    existed at the same time, since a cluster grew.
    """
    spans = _spans(trace)
    if len(spans) <= trace.n_workers:
        found = [[name] for name in spans]
    else:
        found = _share(trace, spans)
    found.sort(key=lambda names: _natural(names[0]))
    return (*(tuple(names) for names in found), *(() for _ in range(trace.n_workers - len(found))))


def _spans(trace: Trace) -> dict[str, tuple[int, int]]:
    """Return for each worker the start of its first task and the end of its last; ns."""
    if not trace.tasks.num_rows:
        return {}
    worker = trace.tasks["worker"].combine_chunks().dictionary_encode()
    codes, n = worker.indices.to_numpy(), len(worker.dictionary)
    first, last = np.full(n, np.iinfo(np.int64).max), np.full(n, np.iinfo(np.int64).min)
    for name in ("received", "start", "stop", "sent"):  # ascending, unless clocks differ
        np.minimum.at(first, codes, trace.tasks[name].to_numpy())
        np.maximum.at(last, codes, trace.tasks[name].to_numpy())
    return dict(zip(worker.dictionary.to_pylist(), zip(first.tolist(), last.tolist(), strict=True), strict=True))


def _share(trace: Trace, spans: Mapping[str, tuple[int, int]]) -> list[list[str]]:
    lost = {name: until for name, _, until in trace.notes.get("gaps", ())}
    found: list[list[str]] = []
    free: list[int] = []
    for name, (first, last) in sorted(spans.items(), key=lambda item: (item[1], item[0])):
        idle = [i for i, since in enumerate(free) if since <= first]
        replaced = [i for i in idle if lost.get(found[i][-1], first + 1) <= first]
        if not replaced and (not idle or len(found) < trace.n_workers):
            found.append([name])
            free.append(last)
            continue
        lane = min(replaced or idle, key=lambda i: (free[i], i))
        found[lane].append(name)
        free[lane] = last
    return found


def _natural(name: str) -> list[str | int]:
    """Return a sort key that puts worker-2 before worker-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
