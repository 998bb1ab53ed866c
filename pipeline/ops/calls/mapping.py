"""One task, or one task an item: what calls and commands have in common.

All items of a step share one description of the work, which holds the arguments: 100,000 items cost 100,000 small tasks
and one description.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from pipeline.config.model import Over, Reference, Step
from pipeline.errors import DataError, OpError, TaskTimeout
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, ref, task
from pipeline.graph.ownership import users_code
from pipeline.graph.segments import Dropped, Group
from pipeline.ops.calls.arguments import Slot, label
from pipeline.ops.collections import Items, Parts, Single
from pipeline.worker.isolation import Keywords, handed_out
from pipeline.worker.run_segment import begin_item

__all__ = ["DEALT", "deal", "item_key", "mapped", "part", "unique_names"]

DEALT = 64
"""Number of tasks that share the elements of a list whose length is unknown until run time."""

Run = Callable[..., Any]
"""``run(work, item, key, *values)`` does the work for one item; ``item`` is None and ``key`` empty without ``over``."""


# ---------------------------------------------------------------------------------------------------------------------
# In the worker
# ---------------------------------------------------------------------------------------------------------------------


def part_of(value: Any, name: str) -> Any:
    """Return one part of a task's result, or of an item that is a map."""
    return value if isinstance(value, Dropped) else value[name]


def deal(value: Any, number: int, n: int, size: int | None = None) -> list[tuple[str, Any]]:
    """Return the ``number``-th of ``n`` runs of consecutive elements of a list, as pairs of position and element.

    With ``size`` an element is a list of so many consecutive ones, the last of the rest.
    """
    if not isinstance(value, list | tuple) and not hasattr(value, "__len__"):
        raise DataError(f"a list is needed; got {type(value).__name__}")
    if size is not None:
        value = [list(value[start : start + size]) for start in range(0, len(value), size)]
    start, stop = number * len(value) // n, (number + 1) * len(value) // n
    return [(str(i), value[i]) for i in range(start, stop)]


@users_code
def run_group(
    run: Run,
    work: Any,
    policy: tuple[int, float | None, bool],
    name: str,
    group: Sequence[tuple[str, Any]],
    *values: Any,
) -> Group:
    """Do the work for each ``(key, item)`` of a group whose size is unknown until run time.

    If failed items are dropped, they are retried here: a retry of the task would repeat the whole group.

    Parameters
    ----------
    policy : the retries of an item, its timeout in seconds, whether it may write to arrays

    Raises
    ------
    TaskTimeout : if an item that may not be dropped took longer; noticed after it has returned
    """
    retries, timeout, writable = policy

    def once(item: Any, key: str) -> Any:
        # the next item, and the next try, must not see what this one changes
        own = Keywords({name: handed_out(item, writable=writable)})
        return _timed(run, timeout, work, own, key, *(handed_out(value, writable=writable) for value in values))

    found = Group()
    for key, item in group:
        result = item if isinstance(item, Dropped) else once(item, key)
        for _ in range(retries if work.drop else 0):
            if isinstance(result, Dropped) and result is not item:
                result = once(item, key)
        found.append((key, result))
        if isinstance(result, Dropped) and result is not item:
            found.dropped = (*found.dropped, (key, result.cause))
    return found


def _timed(run: Run, timeout: float | None, work: Any, item: Mapping[str, Any], key: str, *values: Any) -> Any:
    """Return the result of one item of a group, which may take ``timeout`` seconds."""
    begin_item(key)
    began = perf_counter()
    result = run(work, item, key, *values)
    if timeout is None or perf_counter() - began <= timeout:
        return result
    late = f"ran longer than its timeout of {timeout:g} s"
    if work.drop:
        return Dropped(late)
    raise TaskTimeout(late)


def group_part(group: Sequence[tuple[str, Any]], name: str) -> list[tuple[str, Any]]:
    """Return one part of each item of a group."""
    return [(key, part_of(item, name)) for key, item in group]


# ---------------------------------------------------------------------------------------------------------------------
# While building
# ---------------------------------------------------------------------------------------------------------------------


def mapped(
    step: Step,
    run: Run,
    work: Any,
    keys: Sequence[Key],
    *,
    enter: Callable[[Reference], Any],
    tasks: dict[Key, GraphNode],
) -> Any:
    """Return the collection of a step whose tasks are ``run(work, …)``.

    Parameters
    ----------
    work : what all tasks share; ``work.drop``: whether the tasks themselves drop failed items
    keys : the tasks whose results all of them get, in the order of the slots
    enter : returns the collection of a reference
    tasks : the step's own tasks are added to them

    Returns
    -------
    Single, Items, or Parts of them
    """
    refs = [ref(key) for key in keys]
    if step.over is None:
        tasks[step.name,] = task((step.name,), run, work, None, "", *refs)
        return with_parts(step, Single((step.name,), tasks), tasks)
    axes = _axes(step, enter, tasks)
    unknown = [axis for axis in axes if axis.names is None]
    if not unknown:
        if step.retries:  # the back end retries, and drops what fails too often
            work = replace(work, drop=False)
        return with_parts(step, _combined(step, run, work, axes, keys, tasks), tasks)
    if len(axes) > 1:
        raise OpError(
            "over",
            f"the length of {unknown[0].name!r} is unknown until run time, so it can't be combined with other keys; "
            "make the combinations in the list itself",
        )
    (axis,) = axes
    timeout = step.timeout if step.kind != "command" else None  # a command's task ends its program itself
    policy = step.retries, timeout, step.writable
    for i, key in enumerate(axis.keys):
        tasks[step.name, i] = task((step.name, i), run_group, run, work, policy, axis.name, ref(key), *refs)
    grouped = Items(step.name, tasks, len(axis.keys), None, droppable=step.on_error == "drop")
    return with_parts(step, grouped, tasks)


@dataclass(frozen=True)
class _Axis:
    """One key of an ``over``: its values, or the keys of tasks that give them; ``names`` is None if unknown."""

    name: str
    names: tuple[str, ...] | None
    values: tuple[Any, ...] = ()
    keys: tuple[Key, ...] = ()
    droppable: bool = False
    columns: Mapping[str, tuple[Any, ...]] | None = None


def _axes(step: Step, enter: Callable[[Reference], Any], tasks: dict[Key, GraphNode]) -> list[_Axis]:
    over = step.over or Over()
    given = over.axes if over.maps is None else (("", over.maps),)
    return [_axis(name, values, f"{step.name}/dealt", enter, tasks) for name, values in given]


def _axis(name: str, values: Any, prefix: str, enter: Callable[[Reference], Any], tasks: dict[Key, GraphNode]) -> _Axis:
    if not isinstance(values, Reference):
        return _Axis(name, tuple(item_key(name, v, i) for i, v in enumerate(values)), values=tuple(values))
    given = enter(values)
    if isinstance(given, Single):
        dealt = [(prefix, i) for i in range(DEALT)]
        for i, key in enumerate(dealt):
            tasks[key] = task(key, deal, ref(given.key), i, DEALT)
        return _Axis(name, None, keys=tuple(dealt))
    if not isinstance(given, Items):
        raise OpError("over", f"{values.text!r} must be items or a value that is a list")
    return _Axis(name, given.names, keys=given.keys, droppable=given.droppable, columns=given.columns)


def item_key(name: str, value: Any, position: int) -> str:
    """Return the key of an item: ``alpha=0.1``; of a map of scalars ``alpha=0.1,k=2``; else its position."""
    if isinstance(value, Mapping):
        texts = {k: label(v) for k, v in value.items()}
        return str(position) if None in texts.values() or not texts else ",".join(f"{k}={t}" for k, t in texts.items())
    text = label(value)
    return str(position) if text is None or not name else f"{name}={text}"


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names with ``#2``, ``#3``, … added to repeated ones, since keys of items are unique."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(unique)


def _combined(
    step: Step, run: Run, work: Any, axes: Sequence[_Axis], shared: Sequence[Key], tasks: dict[Key, GraphNode]
) -> Items:
    lengths = [range(len(axis.names or ())) for axis in axes]
    positions = list(itertools.product(*lengths))
    if len(axes) == 1:
        names = unique_names(axes[0].names or ())
    else:
        names = unique_names(
            ",".join(_named(axis, i) for axis, i in zip(axes, position, strict=True)) for position in positions
        )
    refs = [ref(key) for key in shared]
    for number, position in enumerate(positions):
        item: dict[str, Any] = {}
        own: list[Any] = []
        for axis, i in zip(axes, position, strict=True):
            if axis.keys:
                item[axis.name] = Slot(len(shared) + len(own))
                own.append(ref(axis.keys[i]))
            else:
                item[axis.name] = axis.values[i]
        key = (step.name, number)
        tasks[key] = task(key, run, work, item, names[number], *refs, *own)
    droppable = step.on_error == "drop" or any(axis.droppable for axis in axes)
    return Items(step.name, tasks, len(positions), names, _columns(axes, positions), droppable)


def _named(axis: _Axis, i: int) -> str:
    """Return the part of an item's key for one axis of several; a value whose key names its axis keeps that key."""
    name = (axis.names or ())[i]
    if not axis.keys and ("=" in name or not axis.name):
        return name
    return f"{axis.name}={name}"


def _columns(axes: Sequence[_Axis], positions: Sequence[tuple[int, ...]]) -> dict[str, tuple[Any, ...]]:
    columns: dict[str, tuple[Any, ...]] = {}
    for number, axis in enumerate(axes):
        along: dict[str, Sequence[Any]] = dict(axis.columns or {})
        if not axis.keys and not axis.name and all(isinstance(v, Mapping) for v in axis.values):
            shared = set.intersection(*(set(v) for v in axis.values)) if axis.values else set()
            along |= {k: [v[k] for v in axis.values] for k in (axis.values[0] if axis.values else ()) if k in shared}
        elif not axis.keys:
            along[axis.name] = axis.values
        for name, values in along.items():
            if all(v is not None and label(v) is not None for v in values):
                columns[name] = tuple(values[position[number]] for position in positions)
    return columns


def with_parts(step: Step, value: Items | Single, tasks: dict[Key, GraphNode]) -> Any:
    """Return the value with the parts that the step declares."""
    if not step.parts:
        return value
    return Parts({name: part(value, name, f"{step.name}.{name}", tasks) for name in step.parts}, whole=value)


def part(value: Items | Single, name: str, prefix: str, tasks: dict[Key, GraphNode]) -> Items | Single:
    """Return one part of a value, or of each item; its tasks ``(prefix, …)`` are added to ``tasks``."""
    if isinstance(value, Single):
        tasks[prefix,] = task((prefix,), part_of, ref(value.key), name)
        return Single((prefix,), tasks)
    pick = part_of if value.names is not None else group_part
    for i, key in enumerate(value.keys):
        tasks[prefix, i] = task((prefix, i), pick, ref(key), name)
    return Items(prefix, tasks, value.n_tasks, value.names, value.columns, value.droppable)
