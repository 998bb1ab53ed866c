"""Segments as Dask tasks: their keys, arguments and annotations."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.backends.dask.keep_going import Reporting
from pipeline.backends.dask.remote_task import ByKey, Job, dump, run_job, run_job_and_go_on
from pipeline.graph.graph import CONTEXT, Key
from pipeline.graph.nodes import GraphNode, dependencies, dependents, for_any_worker, is_constant, ref, task
from pipeline.graph.segments import Segment

__all__ = ["Plan", "Spans", "lower"]


@dataclass(frozen=True, eq=False)
class Plan:
    """The Dask graph of one run.

    Parameters
    ----------
    tasks : the graph to submit
    places : for each output of a segment the Dask key that holds it, and its place in that (None: it is the result)
    segments : the segment that each Dask key belongs to
    """

    tasks: Mapping[Key, GraphNode]
    places: Mapping[Key, tuple[Key, int | None]]
    segments: Mapping[Key, Segment]

    @cached_property
    def keys(self) -> Mapping[int, Sequence[Key]]:
        """The Dask keys of each segment."""
        found: dict[int, list[Key]] = {}
        for key, segment in self.segments.items():
            found.setdefault(segment.number, []).append(key)
        return found

    @cached_property
    def dependents(self) -> Mapping[Key, Collection[Key]]:
        """For each Dask key the keys that need it."""
        return dependents(self.tasks)

    def annotation(self, name: str, default: Any, over: Iterable[Key] | None = None) -> ByKey | None:
        """Return the Dask annotation with the attribute ``name`` of each segment; None if all are empty.

        Parameters
        ----------
        over : the Dask keys that it is for; None: all
        """
        keys = self.segments if over is None else over
        segments = ((key, self.segments[key]) for key in keys)
        values = {key: getattr(segment, name) for key, segment in segments if getattr(segment, name)}
        plain = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
        return ByKey(plain, default) if values else None


def lower(
    segments: Sequence[Segment], wanted: Iterable[Key], context: Any, run: str, topic: str, status_folder: str
) -> Plan:
    """Return the Dask graph of segments that are in topological order.

    The outputs of a segment that have the same consumers are one group. Several groups are taken apart by small tasks:
    so a small aggregate does not take along the chunk that it was made of to another worker.

    Parameters
    ----------
    wanted : outputs that leave the cluster
    context, run, topic, status_folder : see :class:`pipeline.backends.dask.remote_task.Job`
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
        given = context if CONTEXT in segment.inputs else None
        job = Job(segment, tuple(sources), tuple(map(tuple, groups.values())), given, run, topic, status_folder)
        if segment.keep_going:
            reporting = Reporting(run, topic, status_folder)
            tasks[name] = task(name, run_job_and_go_on, dump(job), reporting, *map(ref, arguments))
        else:
            tasks[name] = task(name, run_job, dump(job), *map(ref, arguments))
        if arguments and any(not dependencies(inner.node) and not is_constant(inner.node) for inner in segment.tasks):
            # it reads rows, and joins them with what one worker holds: that one would get all such segments
            tasks[name] = for_any_worker(tasks[name])
        owners[name] = segment
        for i, group in enumerate(groups.values()):
            holder = name
            if len(groups) > 1:
                holder = _key(segment, run, i)
                tasks[holder] = task(holder, operator.getitem, ref(name), i)
                owners[holder] = segment
            for j, key in enumerate(group):
                places[key] = (holder, j if len(group) > 1 else None)
    return Plan(tasks, places, owners)


def _key(segment: Segment, run: str, group: int | None = None) -> Key:
    """Return a key that Dask's dashboard shows under the name of the step, and that is unique to this run.

    With keys made from the Graph, a scheduler would return the results of an earlier run and skip the writers.
    """
    # The first part of a key is its task group in Dask. One group for each step makes Dask queue many segments without
    # dependencies on the scheduler and hand them out as workers get free. With a group each they were all assigned at
    # once, by guesses of how long they take, and had to be stolen back: workers idled for seconds. The tasks that take
    # a result apart have dependencies, so they are a group of their own.
    digest = hashlib.md5(f"{run} {'part' if group is not None else ''}".encode(), usedforsecurity=False).hexdigest()
    return (f"{segment.step}-{digest}", segment.number, group or 0)


class Spans(dict[Any, Mapping[str, Any]]):
    """The annotation ``span`` of each key of a run: Dask calls it with every key."""

    @classmethod
    def of(cls, steps: Mapping[Key, str], run: str) -> Spans:
        """Return the spans of a run.

        Parameters
        ----------
        steps : key -> the step of its segment
        run : an id that no other run has
        """
        return cls({k[0]: {"name": ("pipeline", step), "ids": (run, f"{run}-{step}")} for k, step in steps.items()})

    def __call__(self, key: Key) -> Mapping[str, Any] | None:
        return self.get(key[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)
