"""Steps that call a user's function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.model import Reference, Step
from pipeline.errors import DataError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode
from pipeline.graph.ownership import users_code
from pipeline.graph.segments import Dropped
from pipeline.ops.calls.arguments import Arguments, Folder, Slot, filled
from pipeline.ops.calls.mapping import mapped
from pipeline.worker.isolation import Keywords, fresh
from pipeline.worker.run_segment import cause_of
from pipeline.worker.users_function import called

__all__ = ["Call", "call", "derived_seed", "run_call"]


@dataclass(frozen=True)
class Call:
    """What all tasks of a call step share.

    Parameters
    ----------
    function : ``module:function``
    positional : slots or values, in order
    keywords : values, which may contain slots, item keys and joined texts
    parts : names of the parts the result must have
    drop : whether a failed item becomes a :class:`~pipeline.graph.segments.Dropped` in its place
    spread : whether an item is a map of keyword arguments
    lists : the keywords of items that are lists; empty: there are none
    names : the keywords of the axes of ``over``
    seed : ``(file's seed, step instance)`` if the function gets ``seed=``
    """

    function: str
    positional: tuple[Any, ...]
    keywords: Mapping[str, Any]
    parts: tuple[str, ...] = ()
    drop: bool = False
    spread: bool = False
    lists: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    seed: tuple[int, str] | None = None


def derived_seed(seed: int, instance: str, item: str = "") -> int:
    """Return a seed in [0, 2**63) that depends only on the file's seed, the step instance and the item's key."""
    digest = hashlib.sha256(f"{seed}\0{instance}\0{item}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


# ---------------------------------------------------------------------------------------------------------------------
# In the worker
# ---------------------------------------------------------------------------------------------------------------------


@users_code
def run_call(call: Call, item: Mapping[str, Any] | None, key: str, *values: Any) -> Any:
    """Call the function for one item; ``values`` are the results for the slots.

    Returns
    -------
    what the function returned; with ``parts``, a dict of them

    Raises
    ------
    DataError : if the result does not have the parts that the file declares
    Exception : what the function raises, unless the step drops failed items
    """
    for value in values:
        if isinstance(value, Dropped):
            return value
    try:
        with Folder() as folder:
            return _call(call, item or {}, key, [folder.local(value) for value in values])
    except (Exception, SystemExit) as error:
        if not call.drop:
            raise
        return Dropped(cause_of(error))


def _call(call: Call, item: Mapping[str, Any], key: str, values: Sequence[Any]) -> Any:
    if type(item) is not Keywords:  # from the file, or slots
        item = {name: values[v.number] if isinstance(v, Slot) else fresh(v) for name, v in item.items()}
    keywords = {name: filled(value, item, values) for name, value in call.keywords.items()}
    if call.spread:
        (spread,) = item.values()
        if call.lists:
            spread = _named(call.lists, spread)
        if not isinstance(spread, Mapping):
            raise DataError(f"over needs a map of keyword arguments for each call; got {type(spread).__name__}")
        keywords |= spread
    else:
        keywords |= item
    if call.seed is not None:
        keywords["seed"] = derived_seed(*call.seed, key)
    result = called(call.function, *(filled(p, item, values) for p in call.positional), **keywords)
    return _parted(call, result) if call.parts else result


def _named(names: Sequence[str], values: Any) -> dict[str, Any]:
    """Return the elements of a list as keyword arguments.

    Raises
    ------
    DataError : it is no list, or has another length
    """
    if not isinstance(values, list | tuple) or len(values) != len(names):
        got = f"one of {len(values)}" if isinstance(values, list | tuple) else f"a {type(values).__name__}"
        raise DataError(f"over needs a list of {', '.join(names)} for each call (args); got {got}")
    return dict(zip(names, values, strict=True))


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


# ---------------------------------------------------------------------------------------------------------------------
# While building
# ---------------------------------------------------------------------------------------------------------------------


def call(
    step: Step,
    *,
    seed: int,
    whole: Callable[[Reference], Key],
    enter: Callable[[Reference], Any],
    tasks: dict[Key, GraphNode],
) -> Any:
    """Return the collection of a call step.

    Parameters
    ----------
    whole : returns the key of a task that gives the whole in-memory value of a reference
    enter : returns the collection of a reference
    tasks : the call's own tasks are added to it

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
        lists=step.over.names if step.over else (),
        names=tuple(name for name, _ in step.over.axes) if step.over else (),
        seed=(seed, step.name) if step.seed else None,
    )
    return mapped(step, run_call, made, arguments.keys, enter=enter, tasks=tasks)
