"""Steps that call the user's functions.

A call is one task, or with ``over`` one task an item. All items of a step share one :class:`Call`, which holds the
arguments with slots where results of other tasks go: 100,000 items cost 100,000 small tasks and one description.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import Filled, ItemKey, Over, Reference, Step
from pipeline.errors import DataError
from pipeline.graph import GraphNode, Key, ref, task
from pipeline.ops.kinds import scalar
from pipeline.ops.values import Items, Parts, Single
from pipeline.preparation import resolve
from pipeline.worker import Dropped, describe

__all__ = ["Call", "Slot", "call", "derived_seed", "item_key", "label", "run_call", "run_group"]

DEALT = 64
"""Into how many tasks a list whose length is known only in the run is dealt."""


@dataclass(frozen=True)
class Slot:
    """Where the value with this number among a task's results goes."""

    number: int


@dataclass(frozen=True)
class Call:
    """What all tasks of a call step share.

    Parameters
    ----------
    function : ``module:function``
    positional : slots or values, in order
    keywords : values, in which :class:`Slot`, :class:`~pipeline.config.ItemKey` and tuples of text pieces may stand
    parts : names of the parts the result must have
    drop : whether a failing item becomes a :class:`~pipeline.worker.Dropped` in its place
    spread : whether an item is a map to be spread as keywords
    names : the keywords that the axes of ``over`` give
    seed : ``(file's seed, copy)`` where the function gets ``seed=``
    """

    function: str
    positional: tuple[Any, ...]
    keywords: Mapping[str, Any]
    parts: tuple[str, ...] = ()
    drop: bool = False
    spread: bool = False
    names: tuple[str, ...] = ()
    seed: tuple[int, str] | None = None


@dataclass(frozen=True)
class Joined:
    """Text whose pieces are known only in the run."""

    pieces: tuple[Any, ...]


def derived_seed(seed: int, copy: str, item: str = "") -> int:
    """A number in [0, 2**63) made of the file's seed, the copy of a step and the item's key, and of nothing else."""
    digest = hashlib.sha256(f"{seed}\0{copy}\0{item}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def label(value: Any) -> str | None:
    """The text of a scalar as it stands in an item's key; None for what is no scalar."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if value is None or isinstance(value, str | int | float) else None


# ---------------------------------------------------------------------------------------------------------------------
# In the worker
# ---------------------------------------------------------------------------------------------------------------------


def run_call(call: Call, item: Mapping[str, Any] | None, key: str, *values: Any) -> Any:
    """Call the function for one item; ``values`` are the results for the slots.

    Returns
    -------
    what the function returned; with ``parts``, a dict of them

    Raises
    ------
    TypeError, KeyError : if the result does not have the parts that the file declares
    Exception : whatever the function raises, unless the step drops failing items
    """
    for value in values:
        if isinstance(value, Dropped):
            return value
    try:
        return _call(call, item or {}, key, values)
    except Exception as error:
        if not call.drop:
            raise
        return Dropped(describe(error))


def _call(call: Call, item: Mapping[str, Any], key: str, values: Sequence[Any]) -> Any:
    item = {name: values[v.number] if isinstance(v, Slot) else v for name, v in item.items()}
    keywords = {name: _fill(value, item, values) for name, value in call.keywords.items()}
    if call.spread:
        (spread,) = item.values()
        if not isinstance(spread, Mapping):
            raise DataError(f"over gives a map of keywords for each call; got {type(spread).__name__}")
        keywords |= spread
    else:
        keywords |= item
    if call.seed is not None:
        keywords["seed"] = derived_seed(*call.seed, key)
    result = resolve(call.function)(*(_fill(p, item, values) for p in call.positional), **keywords)
    return _parted(call, result) if call.parts else result


def _fill(value: Any, item: Mapping[str, Any], values: Sequence[Any]) -> Any:
    if isinstance(value, Slot):
        return values[value.number]
    if isinstance(value, ItemKey):
        found: Any = item[value.name]
        for name in value.path:
            found = found[name]
        return found
    if isinstance(value, Joined):
        return "".join(p if isinstance(p, str) else _text(_fill(p, item, values)) for p in value.pieces)
    if isinstance(value, Mapping):
        return {name: _fill(v, item, values) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_fill(v, item, values) for v in value]
    return value


def _text(value: Any) -> str:
    """What stands for ``${…}`` inside a text: a scalar, written as in YAML.

    Raises
    ------
    DataError : if it is none
    """
    try:
        one = scalar(value)
    except ValueError:
        one = None
    if value is None or one is None:
        raise DataError(f"got a {type(value).__name__} for ${{…}} inside a text; it must be a scalar")
    return label(one) or str(one)


def _parted(call: Call, result: Any) -> dict[str, Any]:
    if isinstance(result, Mapping):
        missing = [name for name in call.parts if name not in result]
        if missing:
            raise DataError(f"{call.function} returned a map without the parts {missing}; it has {list(result)}")
        return {name: result[name] for name in call.parts}
    if isinstance(result, tuple) and len(result) == len(call.parts):
        return dict(zip(call.parts, result, strict=True))
    size = f" of {len(result)}" if isinstance(result, tuple) else ""
    raise DataError(
        f"{call.function} returned a {type(result).__name__}{size}; parts: {list(call.parts)} needs a map with these "
        f"keys or a tuple of {len(call.parts)}"
    )


def part_of(value: Any, name: str) -> Any:
    """One part of what a call returned, or of an item that is a map."""
    return value if isinstance(value, Dropped) else value[name]


def deal(value: Any, number: int, n: int) -> list[tuple[str, Any]]:
    """The ``number``-th of ``n`` runs of consecutive elements of a list, each with its position as its key."""
    if not isinstance(value, list | tuple) and not hasattr(value, "__len__"):
        raise DataError(f"over needs a list; got {type(value).__name__}")
    start, stop = number * len(value) // n, (number + 1) * len(value) // n
    return [(str(i), value[i]) for i in range(start, stop)]


def run_group(call: Call, name: str, group: Sequence[tuple[str, Any]], *values: Any) -> list[tuple[str, Any]]:
    """Call the function for each ``(key, item)`` of a group whose size is known only in the run."""
    return [(key, run_call(call, {name: item}, key, *values)) for key, item in group]


def group_part(group: Sequence[tuple[str, Any]], name: str) -> list[tuple[str, Any]]:
    """That part of each item of a group."""
    return [(key, part_of(item, name)) for key, item in group]


# ---------------------------------------------------------------------------------------------------------------------
# While building
# ---------------------------------------------------------------------------------------------------------------------


class Arguments:
    """The results that a call's tasks get, each once, in the order of their slots."""

    def __init__(self, whole: Callable[[Reference], Key]) -> None:
        self._whole = whole
        self.keys: list[Key] = []

    def slot(self, reference: Reference) -> Slot:
        """The slot of the whole value that ``reference`` means."""
        key = self._whole(reference)
        if key not in self.keys:
            self.keys.append(key)
        return Slot(self.keys.index(key))

    def slotted(self, value: Any) -> Any:
        """``value`` with every reference in it replaced by its slot."""
        if isinstance(value, Reference):
            return self.slot(value)
        if isinstance(value, Filled):
            return Joined(tuple(self.slotted(p) for p in value.pieces))
        if isinstance(value, Mapping):
            return {name: self.slotted(v) for name, v in value.items()}
        if isinstance(value, list | tuple):
            return tuple(self.slotted(v) for v in value)
        return value


def call(
    step: Step,
    *,
    seed: int,
    whole: Callable[[Reference], Key],
    enter: Callable[[Reference], Any],
    tasks: dict[Key, GraphNode],
) -> Any:
    """The collection that a call step gives.

    Parameters
    ----------
    whole : gives the key of a task with the whole in-memory value of a reference
    enter : gives the collection of a reference
    tasks : the tasks that ``whole`` and ``enter`` add to; the call's own tasks are added, too

    Returns
    -------
    Single, Items, or Parts of them
    """
    arguments = Arguments(whole)
    positional = tuple(arguments.slot(r) for r in step.inputs.get("input", ()))
    keywords = {name: arguments.slotted(value) for name, value in step.args.items()}
    made = Call(
        step.function,
        positional,
        keywords,
        parts=step.parts,
        drop=step.on_error == "drop",
        spread=step.over is not None and step.over.maps is not None,
        names=tuple(name for name, _ in step.over.axes) if step.over else (),
        seed=(seed, step.name) if step.seed else None,
    )
    refs = [ref(key) for key in arguments.keys]
    if step.over is None:
        tasks[step.name,] = task((step.name,), run_call, made, None, "", *refs)
        return _with_parts(step, Single((step.name,), tasks), tasks)
    axes = _axes(step, enter, tasks)
    unknown = [axis for axis in axes if axis.names is None]
    if not unknown:
        return _with_parts(step, _mapped(step, made, axes, arguments.keys, tasks), tasks)
    if len(axes) > 1:
        raise ValueError(
            f"over: the length of {unknown[0].name!r} is known only in the run, so it can't be combined with other "
            "keys; make the combinations in the list itself"
        )
    (axis,) = axes
    for i, key in enumerate(axis.keys):
        tasks[step.name, i] = task((step.name, i), run_group, made, axis.name, ref(key), *refs)
    grouped = Items(step.name, tasks, len(axis.keys), None, droppable=made.drop)
    return _with_parts(step, grouped, tasks)


@dataclass(frozen=True)
class _Axis:
    """One key of an ``over``: its values, or the keys of the tasks that give them; ``names`` None: known in the run."""

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
        raise ValueError(f"over: {values.text!r} must be items or a value that is a list")
    return _Axis(name, given.names, keys=given.keys, droppable=given.droppable, columns=given.columns)


def item_key(name: str, value: Any, position: int) -> str:
    """The key of an item made of one value: ``alpha=0.1``; of a map of scalars ``alpha=0.1,k=2``; else its number."""
    if isinstance(value, Mapping):
        texts = {k: label(v) for k, v in value.items()}
        return str(position) if None in texts.values() or not texts else ",".join(f"{k}={t}" for k, t in texts.items())
    text = label(value)
    return str(position) if text is None or not name else f"{name}={text}"


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    """The names, a repeated one told apart by a number: items have keys, and keys are unique."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(unique)


def _mapped(step: Step, made: Call, axes: Sequence[_Axis], shared: Sequence[Key], tasks: dict[Key, GraphNode]) -> Items:
    lengths = [range(len(axis.names or ())) for axis in axes]
    positions = list(itertools.product(*lengths))
    alone = len(axes) == 1
    names = _unique(
        ",".join(_named(axis, i, alone=alone) for axis, i in zip(axes, position, strict=True)) for position in positions
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
        tasks[key] = task(key, run_call, made, item, names[number], *refs, *own)
    droppable = made.drop or any(axis.droppable for axis in axes)
    return Items(step.name, tasks, len(positions), names, _columns(axes, positions), droppable)


def _named(axis: _Axis, i: int, *, alone: bool) -> str:
    """The piece of an item's key that one axis gives: an item handed on keeps its own key."""
    name = (axis.names or ())[i]
    if not axis.keys:
        return name if "=" in name or alone or not axis.name else f"{axis.name}={name}"
    return name if alone else f"{axis.name}={name}"


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


def _with_parts(step: Step, value: Items | Single, tasks: dict[Key, GraphNode]) -> Any:
    if not step.parts:
        return value
    return Parts({name: part(value, name, f"{step.name}.{name}", tasks) for name in step.parts}, whole=value)


def part(value: Items | Single, name: str, prefix: str, tasks: dict[Key, GraphNode]) -> Items | Single:
    """That part of a value, or of each item, as tasks ``(prefix, …)`` added to ``tasks``."""
    if isinstance(value, Single):
        tasks[prefix,] = task((prefix,), part_of, ref(value.key), name)
        return Single((prefix,), tasks)
    pick = part_of if value.names is not None else group_part
    for i, key in enumerate(value.keys):
        tasks[prefix, i] = task((prefix, i), pick, ref(key), name)
    return Items(prefix, tasks, value.n_tasks, value.names, value.columns, value.droppable)
