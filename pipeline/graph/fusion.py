"""Fuse the tasks of a Graph into segments, the units that workers get.

1. *Join.* Tasks are visited in topological order. The level of a segment is 1 + the highest level of the segments it
   needs; constants are ignored.

   * A task joins the segment of a producer with the same chunk index (``key[1:]``), if that producer has at most 4
     consumers and the segments of all other producers have lower levels; of several, the one with the highest level.
   * Or it joins the segment of its producer if that is its only one, and it is the producer's only consumer.
   * A task of a step that may not be merged joins tasks of its own step only.
   * Otherwise it starts a new segment; reductions, merges and shuffles do.

   So every edge between segments leads to a higher level, and the segments have no cycle. An empty chunk index does not
   count as the same: three calls that read one value would run one after the other.
2. *Batch.* Segments with items of one ``over`` are put together. Only those of one level are, which can't need each
   other, so that every edge still leads to a higher level. Items that may be retried, timed out or dropped are batched
   as well: a batch goes on after one of them, and does not run those that have finished again.
3. *Number.* The segments get numbers in the order in which one worker should run them: depth first, so that a value is
   used soon after it was computed. If a value has only one consumer left and that one can run, it is next, since it
   frees the value.

Rejected: joining at every producer with a single consumer (whole graphs become one task); joining only chains (most of
a graph stays as it is).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from dask.sizeof import sizeof

from pipeline.graph.garbage_collection import rarely_collected
from pipeline.graph.graph import CONTEXT, Graph, GraphNode, Key, constant, dependencies, execute, is_constant, toposort
from pipeline.graph.ownership import Owners
from pipeline.graph.segments import Segment, SegmentTask

__all__ = ["SEGMENTS_A_WORKER", "fuse"]

SEGMENTS_A_WORKER = 64
"""The items of one ``over`` are batched into at most so many segments per worker, enough to balance the load."""

_MOST_CONSUMERS = 4
_SMALL = 65_536  # bytes of a constant that is copied into each segment that needs it


@rarely_collected()
def fuse(graph: Graph, *, n_workers: int) -> tuple[Segment, ...]:
    """Return the segments of a graph, in an order in which each comes after those it needs. O(tasks + edges).

    Each task is in exactly one segment; a small constant is copied into each segment that needs it.

    Parameters
    ----------
    n_workers : limits the number of segments with items of an ``over`` that has no ``batch``

    Returns
    -------
    ``segments[i].number == i``
    """
    order = [key for key in toposort({**graph.tasks, CONTEXT: constant(CONTEXT, None)}) if key != CONTEXT]
    position = {key: i for i, key in enumerate(order)}
    joined, levels = _join(graph, order, position)
    groups, opening = _batch(graph, joined, levels, n_workers)
    constants = _place_constants(graph, groups)
    home = {key: g for g, keys in enumerate(groups) for key in keys}
    needs = [_needs(graph, keys, g, home, position) for g, keys in enumerate(groups)]
    sequence = _depth_first([sorted({home[key] for key in inputs if key != CONTEXT}) for inputs in needs])
    outputs: list[set[Key]] = [set() for _ in groups]
    for key in (*graph.wanted, *(key for inputs in needs for key in inputs if key != CONTEXT)):
        outputs[home[key]].add(key)
    owners = Owners(graph)
    return tuple(
        _segment(
            graph,
            owners,
            opening,
            number,
            groups[g],
            constants[g],
            needs[g],
            sorted(outputs[g], key=position.__getitem__),
        )
        for number, g in enumerate(sequence)
    )


def _join(graph: Graph, order: Sequence[Key], position: Mapping[Key, int]) -> tuple[list[list[Key]], list[int]]:
    """Join tasks; return the segments as lists of keys, and their levels."""
    tasks = graph.tasks
    policies = {key: graph.policies[graph.owners[key]] for key in order}
    constants = {key for key in order if is_constant(tasks[key])}
    producers = {key: [k for k in dependencies(tasks[key]) if k in tasks and k not in constants]
                 for key in order if key not in constants}  # fmt: skip
    for needed in producers.values():
        if len(needed) > 1:
            needed.sort(key=position.__getitem__)
    n_consumers = Counter(producer for needed in producers.values() for producer in needed)
    segments: list[list[Key]] = []
    levels: list[int] = []
    home: dict[Key, int] = {}

    def joins(key: Key, needed: Sequence[Key]) -> int | None:
        policy = policies[key]
        if policy.merge:
            open_to = [k for k in needed if policies[k].merge and policies[k].resources == policy.resources]
        else:  # the parts of an item
            open_to = [k for k in needed if policy.over and policy.batch != 1 and policies[k] is policy]
        same = [k for k in open_to if _same_chunk(k, key) and n_consumers[k] <= _MOST_CONSUMERS]
        if same:
            best = max((home[k] for k in same), key=levels.__getitem__)
            if all(levels[home[k]] < levels[best] for k in needed if home[k] != best):
                return best
        if len(needed) == 1 and open_to and n_consumers[needed[0]] == 1:
            return home[needed[0]]
        return None

    for key, needed in producers.items():
        target = joins(key, needed) if needed else None
        if target is None:
            target = len(segments)
            segments.append([])
            levels.append(1 + max((levels[home[k]] for k in needed), default=0))
        segments[target].append(key)
        home[key] = target
    return segments, levels


def _same_chunk(producer: Key, consumer: Key) -> bool:
    return (
        isinstance(producer, tuple)
        and isinstance(consumer, tuple)
        and len(consumer) > 1
        and producer[1:] == consumer[1:]
    )


def _batch(
    graph: Graph, segments: list[list[Key]], levels: Sequence[int], n_workers: int
) -> tuple[list[list[Key]], set[Key]]:
    """Return the segments with the items of each ``over`` put together, and the first task of each such item."""
    batches: dict[tuple[str, int], list[tuple[Any, list[Key]]]] = {}
    rest: list[list[Key]] = []
    opening: set[Key] = set()
    for keys, level in zip(segments, levels, strict=True):
        item = next((key for key in keys if _is_item(graph, key)), None)
        if item is None:
            rest.append(keys)
        else:
            batches.setdefault((graph.owners[item], level), []).append((item[1], keys))
    for (copy, _), members in batches.items():
        policy = graph.policies[copy]
        members.sort(key=lambda member: member[0])
        n = len(members)
        # alone in a segment: a task with effects must not be run again because its neighbour failed
        batch = policy.batch if policy.pure else 1
        if batch is not None:
            n = -(-n // batch)
        else:
            n = min(n, SEGMENTS_A_WORKER * n_workers)
        for i in range(n):
            if batch is not None:
                part = members[i * batch : (i + 1) * batch]
            else:
                part = members[i * len(members) // n : (i + 1) * len(members) // n]
            rest.append([key for _, keys in part for key in keys])
            if len(part) > 1:
                opening.update(keys[0] for _, keys in part)
    return rest, opening


def _is_item(graph: Graph, key: Key) -> bool:
    over = graph.policies[graph.owners[key]].over
    return bool(over) and isinstance(key, tuple) and len(key) == 2 and key[0] == over


def _place_constants(graph: Graph, groups: list[list[Key]]) -> list[list[Key]]:
    """Return for each group the constants that are copied into it.

    A constant that is wanted, or large and needed by several groups, becomes a group of its own, appended to
    ``groups``.
    """
    wanted = set(graph.wanted)
    users: dict[Key, list[int]] = {key: [] for key in graph.wanted if is_constant(graph.tasks[key])}
    for g, keys in enumerate(groups):
        for needed in dict.fromkeys(k for key in keys for k in dependencies(graph.tasks[key])):
            if needed in graph.tasks and is_constant(graph.tasks[needed]):
                users.setdefault(needed, []).append(g)
    copied: list[list[Key]] = [[] for _ in groups]
    for key, by in users.items():
        if key in wanted or (len(by) > 1 and sizeof(execute(graph.tasks[key], {})) > _SMALL):
            groups.append([key])
            copied.append([])
        else:
            for g in by:
                copied[g].append(key)
    return [sorted(keys, key=repr) for keys in copied]


def _needs(
    graph: Graph, keys: Iterable[Key], group: int, home: Mapping[Key, int], position: Mapping[Key, int]
) -> list[Key]:
    """Return the keys that a group needs from others, in topological order, the context first."""
    found = {k for key in keys for k in dependencies(graph.tasks[key])}
    outside = [k for k in found if k == CONTEXT or home.get(k, group) != group]
    return sorted(outside, key=lambda k: position.get(k, -1))


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


def _segment(
    graph: Graph,
    owners: Owners,
    opening: Container[Key],
    number: int,
    keys: Sequence[Key],
    constants: Sequence[Key],
    inputs: Sequence[Key],
    outputs: Sequence[Key],
) -> Segment:
    everything = [*constants, *keys]
    frees = _frees(graph.tasks, everything, inputs, frozenset(outputs))
    tasks = []
    for key in everything:
        owner = graph.owners[key]
        policy = graph.policies[owner]
        item = graph.item(key) if policy.items is not None else ""
        drop = policy.drop and _is_item(graph, key)
        node = graph.tasks[key]
        owns = owners.owned_by(node, policy)
        tasks.append(
            SegmentTask(
                key,
                node,
                owner,
                item,
                policy.timeout,
                frees.get(key, ()),
                drop,
                policy.retries,
                opens=key in opening,
                owns=owns,
                writable=policy.writable,
            )
        )
    n_tasks = Counter(task.step for task in tasks[len(constants) :])
    policies = [graph.policies[owner] for owner in n_tasks]
    limits = [policy.timeout and policy.timeout * n for policy, n in zip(policies, n_tasks.values(), strict=True)]
    steps: Counter[str] = Counter()
    for policy, n in zip(policies, n_tasks.values(), strict=True):
        steps[policy.step] += n
    batch = any(inner.opens for inner in tasks) and any(p.retries or p.timeout is not None or p.drop for p in policies)
    return Segment(
        number=number,
        step=steps.most_common(1)[0][0],
        tasks=tuple(tasks),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        retries=0 if batch else max(policy.retries for policy in policies),
        batch=batch,
        timeout=None if None in limits else sum(limit for limit in limits if limit is not None),
        resources=policies[0].resources,
        pure=all(policy.pure for policy in policies),
    )


def _frees(
    tasks: Mapping[Key, GraphNode], keys: Sequence[Key], inputs: Sequence[Key], outputs: frozenset[Key]
) -> dict[Key, tuple[Key, ...]]:
    """Return for each task the keys of the values that are not needed after it."""
    last: dict[Key, Key] = {key: key for key in keys if not is_constant(tasks[key])}
    for key in keys:
        for needed in dependencies(tasks[key]):
            last[needed] = key
    frees: dict[Key, list[Key]] = {}
    for key in dict.fromkeys((*inputs, *keys)):
        if key not in outputs and key in last:
            frees.setdefault(last[key], []).append(key)
    return {key: tuple(freed) for key, freed in frees.items()}
