"""Which segments of a run are submitted to Dask, and when, so that no limit is exceeded and no worker waits for one.

Dask can't hold tasks back by itself: a task that waits for one of its semaphores keeps a worker, and its resources are
counted for each worker. So a segment that uses a limit is submitted when all it needs is there and it has a place; what
only follows from it is submitted with it. All else is submitted at the start.

Rejected: further dependencies among the segments that use a limit, one line of them for each place. A line that is
fixed before the run waits for its next segment while others could run, and a segment that Dask runs a second time,
since its result was lost with a worker, would have no place.

A segment may begin several times on workers: Dask runs it again when it failed, or when its worker was lost with its
result; its place may be gone by then. So the scheduler keeps two numbers for each segment, how often it has begun and
how often it may, which is once at first. One that may not begin asks for a place (:mod:`pipeline.backends.dask.places`)
and is handed back to the scheduler until it has one. A segment that has a place but is on no worker, since it waits for
a result that was lost, loses the place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import perf_counter

from distributed import Client

from pipeline.backends.dask.health import ask
from pipeline.backends.dask.keys import Plan
from pipeline.backends.dask.places import BEGUN, MAY_BEGIN, METADATA
from pipeline.graph.graph import Graph
from pipeline.graph.limits import ReadySegments
from pipeline.graph.segments import Segment

__all__ = ["Admission"]

_CHECK_EVERY = 2.0  # seconds between two checks whether segments that got a place again are on a worker


class Admission:
    """The segments of one run of a graph with limits: which are submitted, and which have places.

    A segment keeps its places until it has ended well, also while it is tried again: a failure that is final ends the
    run.

    Parameters
    ----------
    plan : the Dask graph of the segments
    run : the id of the run
    """

    def __init__(
        self,
        client: Client,
        segments: Sequence[Segment],
        plan: Plan,
        graph: Graph,
        run: str,
    ) -> None:
        self._client, self._segments, self._plan, self._run = client, segments, plan, run
        maker = {key: segment.number for segment in segments for key in segment.outputs}
        needs = [{maker[key] for key in segment.inputs if key in maker} for segment in segments]
        self._users: list[list[int]] = [[] for _ in segments]
        for number, needed in enumerate(needs):
            for other in needed:
                self._users[other].append(number)
        self._limited = [bool(segment.uses) for segment in segments]
        self._missing = [len(needed) for needed in needs]  # not ended, or not submitted: see `_settles`
        self._ready = ReadySegments([segment.uses for segment in segments], graph.limits)
        needed = set[int]()  # Dask drops what no wanted result needs
        stack = [maker[key] for key in graph.wanted if key in maker]
        while stack:
            number = stack.pop()
            if number not in needed:
                needed.add(number)
                stack.extend(needs[number] - needed)
        self._needed = needed
        self._sent: set[int] = set()
        self._placed: set[int] = set()
        self._ended: set[int] = set()
        self._asked: set[int] = set()  # they began again without a place, and wait for one
        self._lent: set[int] = set()  # those that got one so, and have not gone on
        self._checked = perf_counter()

    @property
    def all_sent(self) -> bool:
        """Whether all segments are submitted."""
        return len(self._sent) == len(self._needed)

    def before(self, number: int) -> Mapping[str, int]:
        """See :meth:`pipeline.graph.limits.ReadySegments.before`."""
        return self._ready.before(number)

    def begin(self) -> list[int]:
        """Return the segments to submit at the start."""
        return self._admitted([number for number, n in enumerate(self._missing) if not n and number in self._needed])

    def ended(self, number: int) -> list[int]:
        """Record that a segment has ended well; return the segments to submit now."""
        self._give_back(number)
        found: list[int] = []
        if number not in self._ended:
            self._ended.add(number)
            for user in self._users[number]:
                if user in self._needed and not self._settles(number, user):
                    self._missing[user] -= 1
                    if not self._missing[user] and user not in self._sent:
                        found.append(user)
        return self._admitted(found)

    def asked(self, number: int) -> list[int]:
        """Take the request of a segment that began a second time: it may go on when it has a place.

        Returns
        -------
        the segments to submit now
        """
        if number in self._placed:
            self._let_begin(number)
        elif number not in self._asked:
            self._asked.add(number)
            self._ready.add(number)
        found = self._admitted([])
        if number in self._asked:
            self._take_back()
            found += self._admitted([])
        return found

    def goes_on(self, number: int) -> None:
        """Record that a segment which asked for a place goes on."""
        self._lent.discard(number)

    def check(self) -> list[int]:
        """Return the segments to submit since Dask gave others up; to be called often."""
        if not self._lent or not len(self._ready) or perf_counter() - self._checked < _CHECK_EVERY:
            return []
        self._checked = perf_counter()
        self._take_back()
        return self._admitted([])

    def close(self) -> None:
        """Remove what the segments have noted at the scheduler."""
        with suppress(Exception):  # it may be gone
            ask(self._client, "set_metadata", [METADATA, self._run], None, timeout=3)

    def _settles(self, number: int, user: int) -> bool:
        """Whether ``user`` may be submitted as soon as a segment that it needs is.

        One that uses a limit is not, since it would have a place without need; and Dask counts the retries of a task
        anew when one that needs it is submitted.
        """
        return not self._limited[user] and not self._segments[number].retries

    def _admitted(self, able: list[int]) -> list[int]:
        """Return those of ``able`` and of the waiting segments that are to be submitted now, with what follows."""
        found: list[int] = []
        inside: dict[int, int] = {}  # segment -> how many of those that it misses are submitted with it
        for number in able:
            if self._limited[number]:
                self._ready.add(number)
        stack = [number for number in reversed(able) if not self._limited[number]]
        while stack or self._ready.n_able:
            if stack:
                number = stack.pop()
            else:
                number = self._ready.take()
                self._placed.add(number)
                if number in self._asked:
                    self._asked.remove(number)
                    self._lent.add(number)
                    self._let_begin(number)
                    continue
            found.append(number)
            self._sent.add(number)
            for user in self._users[number]:
                if self._limited[user] or user not in self._needed:
                    continue
                if self._settles(number, user):
                    self._missing[user] -= 1
                else:
                    inside[user] = inside.get(user, 0) + 1
                if self._missing[user] == inside.get(user, 0):
                    stack.append(user)
        return found

    def _take_back(self) -> None:
        """Take back the places of segments that are on no worker; when they begin, they ask for one."""
        begun = {number: self._begun(number) for number in sorted(self._placed)}
        for number, n in begun.items():
            self._set(number, n)
        running = {key for keys in ask(self._client, "processing").values() for key in keys}
        for number, n in begun.items():
            if self._plan.keys[number][0] not in running:
                self._give_back(number)
            elif not n:  # it may not have begun yet; others ask if they begin again
                self._set(number, 1)

    def _let_begin(self, number: int) -> None:
        self._set(number, self._begun(number) + 1)

    def _begun(self, number: int) -> int:
        return int(ask(self._client, "get_metadata", [METADATA, self._run, str(number), BEGUN], 0))

    def _give_back(self, number: int) -> None:
        self._lent.discard(number)
        if number in self._placed:
            self._placed.remove(number)
            self._ready.release(number)

    def _set(self, number: int, may_begin: int) -> None:
        ask(self._client, "set_metadata", [METADATA, self._run, str(number), MAY_BEGIN], may_begin)
