"""``lookup``: its tasks, and the item or row that each looks up."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.config.model import Over, Step
from pipeline.errors import DataError, TaskTimeout
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, ref, task
from pipeline.graph.ownership import users_code
from pipeline.graph.segments import Dropped
from pipeline.ops.calls.arguments import Slot
from pipeline.ops.calls.mapping import deal, mapped
from pipeline.ops.collections import Frame, Items, Single
from pipeline.ops.conversions import to_items
from pipeline.ops.web.fetching import retry_delay
from pipeline.ops.web.http_client import NoAnswer
from pipeline.ops.web.libraries import require
from pipeline.ops.web.lookup_tables import CsvTable, Database
from pipeline.ops.web.services import MISSING, Service
from pipeline.ops.web.turns import pause, postpone, take_turn
from pipeline.worker.run_segment import cause_of

__all__ = ["lookup"]

_TIMEOUT = 30.0  # seconds of one try


@dataclass(frozen=True)
class Lookup:
    """What all tasks of a lookup share.

    Parameters
    ----------
    field : CSV: the key of an item that is a map
    rate : requests per second, of all workers of a machine; None: no limit
    drop : whether a failed item becomes a :class:`~pipeline.graph.segments.Dropped` in its place
    seed : what the pauses between tries depend on, besides the item
    """

    source: Database | CsvTable | Service
    missing: str
    one: bool
    field: str
    rate: float | None
    drop: bool
    retries: int
    seed: int


def lookup(
    x: Items | Single | Frame,
    *,
    database: str | None,
    query: str | None,
    csv: str | None,
    key: str | None,
    field: str | None,
    sep: str,
    url: str | None,
    headers: Mapping[str, str],
    one: bool,
    missing: str,
    rate: float | None,
    split: int,
    name: str,
    seed: int,
    step: Step,
) -> Items:
    """Return what a source has for each item, as items with the same keys, in the same order.

    Parameters
    ----------
    split : number of tasks for items whose number is unknown until run time
    step : gives ``retries``, ``timeout`` and ``on_error``

    Raises
    ------
    OpError : what the source refuses: a query that writes, an unknown column, a URL without a place for a value
    DataError : a file is missing, or is not what it should be
    """
    timeout = step.timeout or _TIMEOUT
    source: Database | CsvTable | Service
    if database is not None:
        source = Database.opened(database, query or "", timeout)
    elif csv is not None:
        source = CsvTable.opened(csv, key or "", sep)
    else:
        require("lookup", "web", "httpx")
        source = Service.opened(url or "", headers, timeout=timeout, rate=rate)
    work = Lookup(source, missing, one, field or key or "", rate, step.on_error == "drop", step.retries, seed)
    tasks: dict[Key, GraphNode] = {}
    given = _divided(x, name, split, tasks)
    # the tries are made within the task, which knows how long to wait before the next
    alone = replace(step, retries=0, timeout=None, over=Over(maps=step.inputs["input"][0]))
    items: Items = mapped(alone, find, work, (), enter=lambda reference: given, tasks=tasks)
    return items


def _divided(x: Items | Single | Frame, name: str, split: int, tasks: dict[Key, GraphNode]) -> Items:
    """Return the items, those whose number is unknown until run time in at least ``split`` groups."""
    if isinstance(x, Single):
        for i in range(split):
            dealt: Key = (f"{name}/dealt", i)
            tasks[dealt] = task(dealt, deal, ref(x.key), i, split)
        return Items(f"{name}/dealt", tasks, split)
    if isinstance(x, Frame):
        x = to_items(x, name=f"{name}/rows", by="rows")
        tasks |= x.tasks
    if x.names is not None or x.n_tasks >= split:
        return x
    pieces = -(-split // x.n_tasks)
    for i, key in enumerate(x.keys):
        for j in range(pieces):
            own: Key = (f"{name}/dealt", i * pieces + j)
            tasks[own] = task(own, piece_of, ref(key), j, pieces)
    return Items(f"{name}/dealt", tasks, x.n_tasks * pieces, droppable=x.droppable)


def piece_of(group: list[tuple[str, Any]], number: int, n: int) -> list[tuple[str, Any]]:
    """Return the ``number``-th of ``n`` runs of consecutive items of a group."""
    return group[number * len(group) // n : (number + 1) * len(group) // n]


# ---------------------------------------------------------------------------------------------------------------------
# In the worker
# ---------------------------------------------------------------------------------------------------------------------


@users_code
def find(work: Lookup, item: Mapping[str, Any] | None, key: str, *values: Any) -> Any:
    """Return what the source has for one item; ``values`` are the results for the slots.

    Raises
    ------
    DataError : if it has nothing, or several rows where one is wanted, and the step does not say otherwise
    """
    (value,) = (item or {}).values()
    if isinstance(value, Slot):
        value = values[value.number]
    if isinstance(value, Dropped):
        return value
    try:
        return _found(work, value, key)
    except Exception as error:
        if not work.drop:
            raise
        return Dropped(cause_of(error))


def _found(work: Lookup, value: Any, key: str) -> Any:
    source = work.source
    if isinstance(source, CsvTable) and isinstance(value, Mapping):
        if work.field not in value:
            has = ", ".join(map(str, value))
            raise DataError(f"the item has no {work.field!r}; it has {has}; write field: and one of them")
        value = value[work.field]
    rows = _answered(work, value, key)
    if isinstance(source, Service):
        return rows if rows is not MISSING else _nothing(work, value, f"{source.url} has nothing")
    if not rows:
        return _nothing(work, value, f"{source.path} has no row")
    if not work.one:
        return rows
    if len(rows) > 1:
        raise DataError(f"{source.path} has {len(rows)} rows for {_shown(value)}; one: false gives all of them")
    return rows[0]


def _answered(work: Lookup, value: Any, key: str) -> Any:
    """Return what the source has for a value, after as many tries as the step allows.

    Raises
    ------
    TaskTimeout : if the last try took too long
    DataError : if there was no answer for another reason
    """
    for attempt in itertools.count(1):
        try:
            return _answer(work, value)
        except NoAnswer as error:
            delay = retry_delay(attempt, work.seed, key, error.asked)
            if delay is None or attempt > work.retries:
                tries = f" in {attempt} tries" if attempt > 1 else ""
                cure = f"retries: {max(2 * work.retries, 3)} on the step asks more often"
                if delay is None:
                    cure = f"its Retry-After is {error.asked}, and at most 300 s are waited"
                raise (TaskTimeout if error.late else DataError)(f"{error}{tries}; {cure}") from error
            if error.asked and work.rate is not None and isinstance(work.source, Service):
                postpone(str(work.source.site), delay)
            pause(delay)
    raise AssertionError("the last try returns or raises")


def _answer(work: Lookup, value: Any) -> Any:
    source = work.source
    if isinstance(source, Service):
        return source.value(work, value)
    if work.rate is not None:
        take_turn(source.path, work.rate)
    return source.rows(work, value)


def _nothing(work: Lookup, value: Any, what: str) -> Any:
    if work.missing == "error":
        empty = "" if work.one else ", or missing: empty"
        raise DataError(f"{what} for {_shown(value)}; if that is right, write missing: null{empty}")
    return None if work.missing == "null" else []


def _shown(value: Any) -> str:
    text = repr(dict(value) if isinstance(value, Mapping) else value)
    return text if len(text) <= 80 else f"{text[:80]}…"
