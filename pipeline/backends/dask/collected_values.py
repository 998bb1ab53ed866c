"""The values that the client writes to a cache which the workers don't see, as soon as they are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.backends.dask.keys import Plan
from pipeline.backends.dask.submission import Fetched, Submission
from pipeline.graph.graph import Graph, Key
from pipeline.graph.segments import Segment
from pipeline.worker.client_entries import is_sent, write_sent

__all__ = ["CollectedValues"]


class CollectedValues:
    """Fetches those values that their tasks have found worth it, writes them, and releases the others.

    State: the results that are still on the cluster; what the tasks have reported of their values; what is on its way.

    Attributes
    ----------
    keys : the Dask keys whose results hold them
    """

    def __init__(self, graph: Graph, plan: Plan, wanted: Sequence[Key]) -> None:
        self._graph, self._plan = graph, plan
        self._of_holder: dict[Key, list[Key]] = {}
        for key in graph.collected:
            self._of_holder.setdefault(plan.places[key][0], []).append(key)
        self._wanted = frozenset(wanted)
        self.keys = tuple(key for key in self._of_holder if key not in self._wanted)
        self._left = set(self._of_holder)
        self._outcomes: dict[Key, str] = {}
        self._fetching: set[Key] = set()

    @property
    def on_the_way(self) -> bool:
        """Whether values have been asked for that have not arrived."""
        return bool(self._fetching)

    def reported(self, submission: Submission, segment: Segment, report: Mapping[str, Any]) -> None:
        """Take the report of a segment: its last one decides which of its values are fetched."""
        if not self._left:
            return
        for position, *_, outcome in report["rows"]:
            self._outcomes[segment.tasks[position].key] = outcome
        if report["partial"] or report["failed"] is not None:
            return
        for holder in [key for key in self._plan.keys[segment.number] if key in self._left]:
            self._left.discard(holder)
            if any(is_sent(self._outcomes.get(key, "")) for key in self._of_holder[holder]):
                self._fetching.add(holder)
                submission.fetch(holder)
            elif holder not in self._wanted:
                submission.leave(holder)

    def arrived(self, submission: Submission, fetched: Fetched) -> None:
        """Write the values in a result."""
        self._fetching.discard(fetched.key)
        for key in self._of_holder[fetched.key] if not fetched.failed else ():
            outcome, place = self._outcomes.get(key, ""), self._plan.places[key][1]
            if is_sent(outcome):
                value = fetched.value if place is None else fetched.value[place]
                write_sent(self._graph.tasks, key, outcome, value)
        if fetched.key not in self._wanted:
            submission.leave(fetched.key)
