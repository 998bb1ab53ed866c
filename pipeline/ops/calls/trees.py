"""``tree_reduce``: reduce many items to one value, a few at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import DataError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.graph.ownership import users_code
from pipeline.graph.segments import Dropped
from pipeline.ops.collections import Args, Items, Single, args_of_task
from pipeline.worker.isolation import fresh
from pipeline.worker.users_function import called

__all__ = ["tree_reduce"]

_NONE = "there are no items to reduce"


def tree_reduce(x: Items, *, name: str, function: str, args: Args = None, fan_in: int = 8) -> Single:
    """Reduce items to one value: call a function with lists of items, then with lists of its results.

    Parameters
    ----------
    function : ``module:function``, called as ``function(list, **args)``; must be associative: items stay in
        order, but how they are grouped is not defined
    fan_in : number of tasks whose results one task takes

    Raises
    ------
    DataError : if there are no items; at run time, if all were dropped
    """
    tasks: dict[Key, GraphNode] = {}
    given = args_of_task(args, tasks)
    if not x.n_tasks:
        raise DataError(_NONE)
    level, depth = list(x.keys), 0
    while len(level) > 1 or not depth:
        groups = [level[i : i + fan_in] for i in range(0, len(level), fan_in)]
        level = []
        for number, group in enumerate(groups):
            key = (f"{name}/level.{depth}", number)
            members = listed(map(ref, group))
            if depth:
                tasks[key] = task(key, folded, function, given, members)
            else:
                tasks[key] = task(key, fold_items, function, given, x.names is None, members)
            level.append(key)
        depth += 1
    tasks[name,] = task((name,), only, ref(level[0]))
    return Single((name,), {**x.tasks, **tasks})


@users_code
def fold_items(function: str, args: Mapping[str, Any], paired: bool, results: Sequence[Any]) -> list[Any]:
    """Return a list of the value of some items; empty if all were dropped."""
    items = [item for pairs in results for _, item in pairs] if paired else list(results)
    items = [item for item in items if not isinstance(item, Dropped)]
    return [called(function, items, **fresh(args))] if items else []


@users_code
def folded(function: str, args: Mapping[str, Any], parts: Sequence[list[Any]]) -> list[Any]:
    """Return a list of the value of some partial results; empty if there are none."""
    values = [value for part in parts for value in part]
    return [called(function, values, **fresh(args))] if len(values) > 1 else values


def only(part: list[Any]) -> Any:
    """Return the only value in a list.

    Raises
    ------
    DataError : if the list is empty
    """
    if not part:
        raise DataError(_NONE)
    return part[0]
