"""Fuse the tasks of a Graph into segments, the units that workers get.

1. *Join.* Tasks are visited in topological order. The level of a segment is 1 + the highest level of the segments it
   needs; constants are ignored.

   * A task joins the segment of a producer with the same chunk index (``key[1:]``), if that producer has at most 4
     consumers and the segments of all other producers have lower levels; of several, the one with the highest level.
   * A segment that none other needs yet, of steps that may wait (:class:`pipeline.graph.graph.Policy`), is raised above
     the other producers instead, if those are no other chunks of the same: the rows of a large table are read when what
     they are joined with is there. They need not be kept until then, nor moved to the worker that joins them.
   * Or it joins the segment of its producer if that is its only one, and it is the producer's only consumer, or only
     takes a part of its result (:func:`pipeline.graph.nodes.part`).
   * A task of a step that may not be merged, or that uses a limit, joins tasks of its own step only.
   * Otherwise it starts a new segment; reductions, merges and shuffles do.

   So every edge between segments leads to a higher level, and the segments have no cycle. An empty chunk index does not
   count as the same: three calls that read one value would run one after the other.
2. *Gather.* Segments of small partitions that do the same are put together, up to eight, if that leaves one for each
   worker: handing one out takes longer than reading a small file. They have one level, so that none needs another.
3. *Batch.* Segments with items of one ``over`` are put together. Only those of one level are, which can't need each
   other, so that every edge still leads to a higher level. Items that may be retried, timed out or dropped are batched
   as well: a batch goes on after one of them, and does not run those that have finished again.
4. *Number.* The segments get numbers in the order in which one worker should run them: depth first, so that a value is
   used soon after it was computed. If a value has only one consumer left and that one can run, it is next, since it
   frees the value.

Rejected: joining at every producer with a single consumer (whole graphs become one task); joining only chains (most of
a graph stays as it is).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dask.sizeof import sizeof

from pipeline.graph.garbage_collection import rarely_collected
from pipeline.graph.graph import Graph, Policy
from pipeline.graph.nodes import execute, function_of, part
from pipeline.graph.numbered_tasks import IN_CONTEXT, NumberedTasks
from pipeline.graph.segment_maker import SegmentMaker, is_item
from pipeline.graph.segments import Segment

__all__ = ["SEGMENTS_A_WORKER", "fuse"]

SEGMENTS_A_WORKER = 64
"""The items of one ``over`` are batched into at most so many segments per worker, enough to balance the load."""

_MOST_CONSUMERS = 4
_MOST_GATHERED = 8
_SMALL = 65_536  # bytes of a constant that is copied into each segment that needs it


@rarely_collected()
def fuse(graph: Graph, *, n_workers: int, keep_going: bool = False) -> tuple[Segment, ...]:
    """Return the segments of a graph, in an order in which each comes after those it needs. O(tasks + edges).

    Each task is in exactly one segment; a small constant is copied into each segment that needs it.

    Parameters
    ----------
    n_workers : limits the number of segments with items of an ``over`` that has no ``batch``
    keep_going : see :class:`pipeline.graph.segments.Segment`

    Returns
    -------
    ``segments[i].number == i``
    """
    tasks = NumberedTasks.of(graph)
    number = {key: i for i, key in enumerate(tasks.keys)} if graph.wanted or graph.collected else {}
    wanted = [number[key] for key in graph.wanted]
    collected = [number[key] for key in graph.collected]
    del number
    joined, levels = _gather(tasks, *_join(tasks), n_workers)
    groups, opening = _batch(graph, tasks, joined, levels, n_workers)
    copied = _place_constants(tasks, groups, wanted)
    home = [-1] * len(tasks.keys)
    for g, members in enumerate(groups):
        for i in members:
            home[i] = g
    needs = [_outside(tasks, members, g, home) for g, members in enumerate(groups)]
    is_output = bytearray(len(home))
    for i in (*wanted, *collected):
        is_output[i] = 1
    before: list[Sequence[int]] = []  # the groups that each needs
    for inputs in needs:
        for i in inputs:
            if i != IN_CONTEXT:
                is_output[i] = 1
        found = {home[i] for i in inputs if i != IN_CONTEXT}
        before.append(tuple(found) if len(found) < 2 else sorted(found))
    make = SegmentMaker(graph, tasks, opening, is_output, keep_going=keep_going)
    return tuple([make(n, groups[g], copied.get(g, ()), needs[g]) for n, g in enumerate(_depth_first(before))])


def _join(tasks: NumberedTasks) -> tuple[list[list[int]], list[int]]:
    """Join tasks; return the segments as lists of tasks, and their levels."""
    keys, policies, constants = tasks.keys, tasks.policies, tasks.constants
    n_consumers = [0] * len(keys)
    for i in range(len(keys)):
        if i not in constants:
            for k in tasks.producers(i):
                n_consumers[k] += 1
    segments: list[list[int]] = []
    levels: list[int] = []
    may_wait: list[bool] = []  # whether the level of a segment may be raised
    home = [-1] * len(keys)

    def joins(i: int, needed: Sequence[int]) -> int:
        policy = policies[i]
        if policy.merge:
            open_to = [k for k in needed if policies[k].merge and _alike(policies[k], policy)]
        else:  # the parts of an item
            open_to = [k for k in needed if policy.over and policy.batch != 1 and policies[k] is policy]
        key, nearest = keys[i], -1
        for k in open_to:
            closer = nearest < 0 or levels[home[k]] > levels[home[nearest]]
            if closer and n_consumers[k] <= _MOST_CONSUMERS and _same_chunk(keys[k], key):
                nearest = k
        if nearest >= 0:
            best = home[nearest]
            others = [k for k in needed if home[k] != best]
            highest = max([levels[home[k]] for k in others], default=0)
            if highest < levels[best]:
                return best
            if may_wait[best] and not any(_same_layer(keys[k], keys[nearest]) for k in others):
                levels[best] = highest + 1
                return best
        if len(needed) == 1 and open_to and (n_consumers[needed[0]] == 1 or function_of(tasks.nodes[i]) is part):
            return home[needed[0]]
        return -1

    for i in range(len(keys)):
        if i in constants:
            continue
        needed = tasks.producers(i)
        target = joins(i, needed) if needed else -1
        if target < 0:
            target = len(segments)
            segments.append([i])
            levels.append(1 + max([levels[home[k]] for k in needed], default=0))
            may_wait.append(policies[i].waits)
        else:
            segments[target].append(i)
            may_wait[target] &= policies[i].waits
        home[i] = target
        for k in needed:
            may_wait[home[k]] &= home[k] == target
    return segments, levels


def _alike(producer: Policy, consumer: Policy) -> bool:
    """Return whether a worker that may run tasks of the one may run those of the other with them."""
    if producer.uses or consumer.uses:  # tasks of others would keep the place
        return producer is consumer
    return producer.resources == consumer.resources


def _same_chunk(producer: Any, consumer: Any) -> bool:
    return (
        type(producer) is tuple
        and type(consumer) is tuple
        and len(consumer) > 1
        and producer[-1] == consumer[-1]
        and producer[1:] == consumer[1:]
    )


def _same_layer(one: Any, other: Any) -> bool:
    """Return whether two tasks do the same with different chunks: a task that needs both puts chunks together."""
    return type(one) is tuple and type(other) is tuple and one[0] == other[0]


def _gather(
    tasks: NumberedTasks, segments: list[list[int]], levels: Sequence[int], n_workers: int
) -> tuple[list[list[int]], list[int]]:
    """Return the segments with small ones that do the same put together, and their levels."""
    alike: dict[tuple[int, tuple[str, ...]], list[list[int]]] = {}
    left: list[list[int]] = []
    left_levels: list[int] = []
    for members, level in zip(segments, levels, strict=True):
        if _is_light(tasks, members):
            alike.setdefault((level, tuple(sorted({tasks.owners[i] for i in members}))), []).append(members)
        else:
            left.append(members)
            left_levels.append(level)
    for (level, _), some in alike.items():
        n = min(_MOST_GATHERED, max(1, len(some) // n_workers))
        for start in range(0, len(some), n):
            left.append([i for members in some[start : start + n] for i in members])
            left_levels.append(level)
    return left, left_levels


def _is_light(tasks: NumberedTasks, members: Sequence[int]) -> bool:
    """Return whether a segment takes little time: its steps are light, or those are that it reads all its rows from."""
    policies = [tasks.policies[i] for i in members]
    if not all(policy.waits and policy.merge and not policy.uses for policy in policies):
        return False
    if all(policy.light for policy in policies):
        return True
    own = set(members)
    producers = [set(tasks.producers(i)) for i in members]
    sources = [policy for policy, needed in zip(policies, producers, strict=True) if not needed]
    return all(needed <= own for needed in producers) and all(policy.light for policy in sources)


def _batch(
    graph: Graph, tasks: NumberedTasks, segments: list[list[int]], levels: Sequence[int], n_workers: int
) -> tuple[list[list[int]], set[int]]:
    """Return the segments with the items of each ``over`` put together, and the first task of each such item."""
    if not any(policy.over for policy in graph.policies.values()):
        return segments, set()
    batches: dict[tuple[str, int], list[tuple[Any, list[int]]]] = {}
    rest: list[list[int]] = []
    opening: set[int] = set()
    for members, level in zip(segments, levels, strict=True):
        item = next((i for i in members if is_item(tasks.policies[i], tasks.keys[i])), None)
        if item is None:
            rest.append(members)
        else:
            batches.setdefault((tasks.owners[item], level), []).append((tasks.keys[item][1], members))
    for (copy, _), items in batches.items():
        policy = graph.policies[copy]
        items.sort(key=lambda item: item[0])
        n = len(items)
        # alone in a segment: a task with effects must not be run again because its neighbour failed
        batch = policy.batch if policy.pure else 1
        if batch is not None:
            n = -(-n // batch)
        else:
            n = min(n, SEGMENTS_A_WORKER * n_workers)
        for i in range(n):
            if batch is not None:
                part = items[i * batch : (i + 1) * batch]
            else:
                part = items[i * len(items) // n : (i + 1) * len(items) // n]
            rest.append([member for _, members in part for member in members])
            if len(part) > 1:
                opening.update(members[0] for _, members in part)
    return rest, opening


def _place_constants(tasks: NumberedTasks, groups: list[list[int]], wanted: Sequence[int]) -> dict[int, list[int]]:
    """Return group -> the constants that are copied into it.

    A constant that is wanted, or large and needed by several groups, becomes a group of its own, appended to
    ``groups``.
    """
    if not tasks.constants:
        return {}
    users: dict[int, list[int]] = {i: [] for i in wanted if i in tasks.constants}
    for g, members in enumerate(groups):
        for needed in dict.fromkeys(k for i in members for k in tasks.needs[i]):
            if needed in tasks.constants:
                users.setdefault(needed, []).append(g)
    copied: dict[int, list[int]] = {}
    alone = set(wanted)
    for i, by in users.items():
        if i in alone or (len(by) > 1 and sizeof(execute(tasks.nodes[i], {})) > _SMALL):
            groups.append([i])
        else:
            for g in by:
                copied.setdefault(g, []).append(i)
    return {g: sorted(constants, key=lambda i: repr(tasks.keys[i])) for g, constants in copied.items()}


def _outside(tasks: NumberedTasks, members: Sequence[int], group: int, home: Sequence[int]) -> tuple[int, ...]:
    """Return what a group needs from others, in topological order, the context first."""
    if len(members) == 1:
        needs = tasks.needs[members[0]]
        return tuple([k for k in needs if k not in tasks.constants or home[k] >= 0]) if tasks.constants else needs
    found = {k for i in members for k in tasks.needs[i]}
    # a constant that is copied has no home
    return tuple(sorted([k for k in found if k == IN_CONTEXT or home[k] not in (group, -1)]))


def _depth_first(needs: Sequence[Sequence[int]]) -> list[int]:
    """Return the groups in the order in which one worker should run them; see the module's docstring.

    Not recursive: graphs are deeper than Python's stack.
    """
    users: list[list[int]] = [[] for _ in needs]
    for group, needed in enumerate(needs):
        for other in needed:
            users[other].append(group)
    missing = [len(needed) for needed in needs]
    left = [len(by) for by in users]  # number of consumers that have not run
    sums = [sum(by) for by in users]  # sum of their numbers: if one is left, its number
    order: list[int] = []
    placed = [False] * len(needs)

    def place(group: int) -> None:
        todo = [group]
        while todo:
            group = todo.pop()
            if placed[group]:
                continue
            placed[group] = True
            order.append(group)
            for user in users[group]:
                missing[user] -= 1
            for other in needs[group]:
                left[other] -= 1
                sums[other] -= group
                if left[other] == 1 and not missing[sums[other]]:
                    todo.append(sums[other])

    for root in (g for g in range(len(needs)) if not users[g]):
        stack = [root]
        while stack:
            group = stack[-1]
            if not placed[group]:
                todo = [other for other in needs[group] if not placed[other]]
                if todo:
                    stack.extend(reversed(todo))
                    continue
                place(group)
            stack.pop()
    return order
