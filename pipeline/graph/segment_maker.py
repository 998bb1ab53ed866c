"""Make the Segments of groups of tasks: what each task and each segment gets from the policies of their steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.numbered_tasks import NumberedTasks
from pipeline.graph.ownership import Owners
from pipeline.graph.segments import Segment, SegmentTask

__all__ = ["SegmentMaker", "is_item"]


def is_item(policy: Policy, key: Key) -> bool:
    """Return whether the task ``key`` of a step with this policy computes an item of its ``over``."""
    return bool(policy.over) and isinstance(key, tuple) and len(key) == 2 and key[0] == policy.over


class _Summary(NamedTuple):
    """What a segment gets from the policies of its tasks; ``tried``: whether items are tried again one by one."""

    step: str
    retries: int
    timeout: float | None
    resources: Mapping[str, float]
    uses: tuple[str, ...]
    pure: bool
    tried: bool


class SegmentMaker:
    """Makes segments of one graph.

    Parameters
    ----------
    opening : the tasks that an item of a batch begins with
    is_output : for each task whether it is wanted, or needed by another segment
    keep_going : see :class:`pipeline.graph.segments.Segment`
    """

    def __init__(
        self,
        graph: Graph,
        tasks: NumberedTasks,
        opening: Container[int],
        is_output: Sequence[int],
        *,
        keep_going: bool,
    ) -> None:
        self._keep_going = keep_going
        self._graph, self._tasks, self._opening, self._is_output = graph, tasks, opening, is_output
        self._owned_by = Owners(graph).owned_by
        self._summaries: dict[tuple[str, ...], _Summary] = {}

    def __call__(self, number: int, members: Sequence[int], constants: Sequence[int], inputs: Sequence[int]) -> Segment:
        """Return one segment.

        Parameters
        ----------
        members : its tasks, in the order in which they run
        constants : those that are copied into it
        inputs : what it needs from other segments, in topological order
        """
        tasks, is_output = self._tasks, self._is_output
        if len(members) == 1 and not constants:
            frees = {members[0]: list(inputs) if is_output[members[0]] else [*inputs, *members]}
        else:
            frees = self._frees([*constants, *members], inputs)
        made = [self._task(i, frees.get(i, ())) for i in (*constants, *members)]
        summary = self._summary(members)
        batch = summary.tried and any(inner.opens for inner in made)
        return Segment(
            number=number,
            step=summary.step,
            tasks=tuple(made),
            inputs=tuple([tasks.key(i) for i in inputs]),
            outputs=tuple([tasks.keys[i] for i in sorted(members) if is_output[i]]),
            retries=0 if batch else summary.retries,
            batch=batch,
            timeout=summary.timeout,
            resources=summary.resources,
            uses=summary.uses,
            pure=summary.pure,
            keep_going=self._keep_going,
        )

    def _task(self, i: int, frees: Sequence[int]) -> SegmentTask:
        tasks = self._tasks
        key, node, owner, policy = tasks.keys[i], tasks.nodes[i], tasks.owners[i], tasks.policies[i]
        return SegmentTask(
            key,
            node,
            owner,
            self._graph.item(key) if policy.items is not None else "",
            policy.timeout,
            tuple([tasks.key(k) for k in frees]),
            policy.drop and is_item(policy, key),
            policy.retries,
            0,
            i in self._opening,
            self._owned_by(node, policy),
            policy.writable,
            policy.pure,
        )

    def _frees(self, members: Sequence[int], inputs: Sequence[int]) -> dict[int, list[int]]:
        """Return for each task the values that are not needed after it."""
        tasks = self._tasks
        last = {i: i for i in members if i not in tasks.constants}
        for i in members:
            for needed in tasks.needs[i]:
                last[needed] = i
        frees: dict[int, list[int]] = {}
        own = frozenset(members)
        for i in (*inputs, *members):
            if i in last and (i not in own or not self._is_output[i]):
                frees.setdefault(last[i], []).append(i)
        return frees

    def _summary(self, members: Sequence[int]) -> _Summary:
        owners = self._tasks.owners
        constant = len(members) == 1 and members[0] in self._tasks.constants
        names = tuple([owners[i] for i in members])
        found = self._summaries.get(names)
        if found is None or constant:
            found = self._summarized(names, uses=not constant)
            if not constant:
                self._summaries[names] = found
        return found

    def _summarized(self, names: Sequence[str], *, uses: bool) -> _Summary:
        n_tasks = Counter(names)
        policies = [self._graph.policies[owner] for owner in n_tasks]
        limits: list[Any] = [p.timeout and p.timeout * n for p, n in zip(policies, n_tasks.values(), strict=True)]
        steps: Counter[str] = Counter()
        for policy, n in zip(policies, n_tasks.values(), strict=True):
            steps[policy.step] += n
        return _Summary(
            step=steps.most_common(1)[0][0],
            retries=max(policy.retries for policy in policies),
            timeout=None if None in limits else sum(limits),
            resources=policies[0].resources,
            uses=tuple(sorted({name for policy in policies for name in policy.uses})) if uses else (),
            pure=all(policy.pure for policy in policies),
            tried=any(p.retries or p.timeout is not None or p.drop for p in policies),
        )
