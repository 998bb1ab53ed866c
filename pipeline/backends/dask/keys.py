"""Segments as Dask tasks: their keys, what they hand on, what they are told.

A segment with several outputs gives a tuple of groups, each of the outputs that the same segments need, taken apart by
tiny tasks: so a small aggregate does not drag the chunk it was made of to another worker.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.backends.dask.remote_task import ByKey, Job, dump, run_job
from pipeline.graph.graph import CONTEXT, GraphNode, Key, ref, task
from pipeline.graph.segments import Segment

__all__ = ["Plan", "lower"]


@dataclass(frozen=True, eq=False)
class Plan:
    """The Dask graph of one execution.

    Parameters
    ----------
    tasks : what is submitted
    places : for every output its Dask key, and its place in that task's result (None: it is the result)
    segments : which segment a Dask key belongs to
    """

    tasks: Mapping[Key, GraphNode]
    places: Mapping[Key, tuple[Key, int | None]]
    segments: Mapping[Key, Segment]

    def annotation(self, name: str, default: Any) -> ByKey | None:
        """What the segments say of ``name``, if any of them says something."""
        said = {key: getattr(segment, name) for key, segment in self.segments.items() if getattr(segment, name)}
        return ByKey({k: dict(v) if isinstance(v, Mapping) else v for k, v in said.items()}, default) if said else None


def lower(segments: Sequence[Segment], wanted: Iterable[Key], context: Any, run: str, topic: str, slots: str) -> Plan:
    """The Dask graph of the segments, which come in topological order.

    Parameters
    ----------
    wanted : outputs that leave the cluster
    context, run, topic, slots : see :class:`pipeline.backends.dask.remote_task.Job`
    """
    consumers: dict[Key, set[int]] = {key: {-1} for key in wanted}
    for segment in segments:
        for key in segment.inputs:
            consumers.setdefault(key, set()).add(segment.number)
    tasks: dict[Key, GraphNode] = {}
    places: dict[Key, tuple[Key, int | None]] = {}
    owners: dict[Key, Segment] = {}
    for segment in segments:
        groups: dict[frozenset[int], list[Key]] = {}
        for key in segment.outputs:
            groups.setdefault(frozenset(consumers.get(key, ())), []).append(key)
        name = _key(segment, run)
        arguments: dict[Key, int] = {}
        sources = []
        for key in segment.inputs:
            if key != CONTEXT:
                source, place = places[key]
                sources.append((key, arguments.setdefault(source, len(arguments)), place))
        own = context if CONTEXT in segment.inputs else None
        job = Job(segment, tuple(sources), tuple(map(tuple, groups.values())), own, run, topic, slots)
        tasks[name] = task(name, run_job, dump(job), *map(ref, arguments))
        owners[name] = segment
        for i, group in enumerate(groups.values()):
            where = name
            if len(groups) > 1:
                where = _key(segment, run, i)
                tasks[where] = task(where, operator.getitem, ref(name), i)
                owners[where] = segment
            for j, key in enumerate(group):
                places[key] = (where, j if len(group) > 1 else None)
    return Plan(tasks, places, owners)


def _key(segment: Segment, run: str, group: int | None = None) -> Key:
    """A key that Dask's dashboard shows under the step's name, and that no other execution has.

    What a step adds is one task group of Dask (the first part of the key), so many segments that need nothing are
    queued on the scheduler and handed out as workers get free. With a group each they were all dealt out at once, by
    guesses of how long they take, and had to be stolen back: workers idled for seconds. What takes a segment's result
    apart needs something, so it is a group of its own.
    """
    digest = hashlib.md5(f"{run} {'part' if group is not None else ''}".encode(), usedforsecurity=False).hexdigest()
    return (f"{segment.step}-{digest}", segment.number, group or 0)


__all__ = ["Spans"]


class Spans(dict[Any, Mapping[str, Any]]):
    """An annotation ``span`` for each key of a run: Dask calls it with each.

    Parameters
    ----------
    steps : key -> the step that its segment is named by
    run : an id that no other run has
    """

    @classmethod
    def of(cls, steps: Mapping[Key, str], run: str) -> Spans:
        """The spans of a run."""
        return cls({k[0]: {"name": ("pipeline", step), "ids": (run, f"{run}-{step}")} for k, step in steps.items()})

    def __call__(self, key: Key) -> Mapping[str, Any] | None:
        return self.get(key[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)
