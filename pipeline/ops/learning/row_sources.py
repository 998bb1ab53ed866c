"""Where the rows of ``train`` come from: the partitions of a frame, or the chunks of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import xarray as xr
from sklearn.utils import get_tags

from pipeline.errors import OpError
from pipeline.graph.column_types import family, field_of, type_name
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.ops.arrays.block_tasks import rechunked
from pipeline.ops.arrays.dims import has_unknown_length, one_chunk
from pipeline.ops.collections import Frame
from pipeline.ops.conversions import matrix_dtype
from pipeline.ops.frames.partitions import require
from pipeline.ops.learning.estimators import Recipe, last_step, takes
from pipeline.ops.learning.tables import Columns, gathered, gathered_arrays, rows_of, rows_of_chunk

__all__ = ["Rows", "of_arrays", "of_frame"]


@dataclass(frozen=True)
class Rows:
    """The rows of a step.

    Parameters
    ----------
    tasks : those that give the partitions or chunks
    of : what the parts are
    all_of, one_of : the functions of the tasks that give all rows, and those of a part, with their arguments
    supervised : whether something is predicted
    """

    name: str
    tasks: Mapping[Key, GraphNode]
    n_parts: int
    of: Literal["partition", "chunk"]
    all_of: tuple[Callable[..., Any], tuple[Any, ...]]
    one_of: Callable[[int], tuple[Callable[..., Any], tuple[Any, ...]]]
    supervised: bool

    def whole(self, tasks: dict[Key, GraphNode]) -> Key:
        """Add the task that gathers all rows; return its key."""
        key: Key = (f"{self.name}/data",)
        function, arguments = self.all_of
        tasks[key] = task(key, function, *arguments)
        return key

    def part(self, number: int, tasks: dict[Key, GraphNode]) -> Key:
        """Add the task that gives the rows of one part; return its key."""
        key: Key = (f"{self.name}/rows", number)
        function, arguments = self.one_of(number)
        tasks[key] = task(key, function, *arguments)
        return key


def of_frame(
    x: Frame,
    name: str,
    estimator: Any,
    recipe: Recipe,
    *,
    target: str | None,
    features: Sequence[str] | None,
    groups: str | None,
) -> Rows:
    """Return the rows of a frame.

    Parameters
    ----------
    estimator : None: unknown before the run

    Raises
    ------
    OpError : no such column, or one that can't be used so
    """
    for field, column in (("target", target), ("groups", groups)):
        if column is not None:
            require(field, [column], x.columns)
            kind = field_of(x.schema, column).type
            if family(kind) not in ("number", "true/false", "text"):
                raise OpError(field, f"column {column!r} is {type_name(kind)}; it must hold numbers or text")
    require("features", features or (), x.columns)
    _require_target(estimator, target is not None, "target: the column that is predicted", "target")
    used = {target, groups} - {None}
    chosen = tuple(features or [column for column in x.columns if column not in used])
    if target is not None and target in chosen:
        raise OpError("features", f"column {target!r} is the target; a model must not see it")
    if len(set(chosen)) < len(chosen):
        raise OpError("features", "names a column twice")
    if not chosen:
        raise OpError("features", "there is no other column to learn from")
    columns = Columns(
        chosen,
        target,
        groups,
        _dtype(x, chosen, estimator),
        estimator is None or takes(estimator, "missing"),
        recipe.steps[0][1].rpartition(".")[2],
    )
    return Rows(
        name,
        x.tasks,
        len(x.keys),
        "partition",
        (gathered, (columns, listed(map(ref, x.keys)))),
        lambda i: (rows_of, (columns, ref(x.keys[i]))),
        target is not None,
    )


def _dtype(x: Frame, features: Sequence[str], estimator: Any) -> Any:
    """Return the dtype of the matrix of features; None if some are text, which the estimator takes."""
    fields = {column: field_of(x.schema, column) for column in features}
    kinds = {column: family(field.type) for column, field in fields.items()}
    numbers = [column for column, kind in kinds.items() if kind in ("number", "true/false")]
    for column, kind in kinds.items():
        if kind in ("number", "true/false") or (kind == "text" and (estimator is None or takes(estimator, "text"))):
            continue
        got = "text" if kind == "text" else type_name(fields[column].type)
        cure = f"leave it out: features: [{', '.join(numbers[:3])}{', …' if numbers[3:] else ''}]"
        if kind == "text":
            cure += ", or make sklearn.preprocessing.OneHotEncoder the first of several estimators"
        raise OpError("features", f"column {column!r} is {got}; estimators take numbers: {cure}")
    if len(numbers) < len(kinds):
        return None
    return matrix_dtype(fields.values())


def _require_target(estimator: Any, has_target: bool, what: str, field: str) -> None:
    if estimator is not None and not has_target and get_tags(last_step(estimator)).target_tags.required:
        raise OpError("", f"{type(last_step(estimator)).__name__} needs {what}")


def of_arrays(
    x: xr.DataArray, y: xr.DataArray | None, name: str, estimator: Any, recipe: Recipe, *, by_chunks: bool
) -> Rows:
    """Return the rows of an array with dims (row, feature), and of what is predicted.

    Parameters
    ----------
    by_chunks : whether chunks of both are used together, and so must have the same rows

    Raises
    ------
    OpError : other dims, no numbers, or other numbers of rows
    """
    if x.ndim != 2:
        raise OpError("input", f"needs two dims, of rows and features; got {', '.join(map(str, x.dims)) or 'none'}")
    for field, array in (("input", x), ("y", y)):
        if array is not None and array.dtype.kind not in ("biuf" if field == "input" else "biufUOT"):
            raise OpError(field, f"estimators take numbers; the array has {array.dtype}")
    _require_target(estimator, y is not None, "y: the array that is predicted", "y")
    rows, features = map(str, x.dims)
    x = one_chunk(x, [features])
    if y is not None:
        y = _matching(x, y, rows, by_chunks=by_chunks)
    missing, learner = estimator is None or takes(estimator, "missing"), recipe.steps[0][1].rpartition(".")[2]
    blocks = [ref((x.data.name, i, 0)) for i in range(x.data.numblocks[0])]
    targets: list[Any] | None = None
    tasks: dict[Key, GraphNode] = dict(x.data.dask)
    if y is not None:
        tasks |= dict(y.data.dask)
        targets = [ref((y.data.name, i, *(0 for _ in y.dims[1:]))) for i in range(y.data.numblocks[0])]
    return Rows(
        name,
        tasks,
        len(blocks),
        "chunk",
        (gathered_arrays, (missing, learner, listed(blocks), None if targets is None else listed(targets))),
        lambda i: (rows_of_chunk, (missing, learner, blocks[i], None if targets is None else targets[i])),
        y is not None,
    )


def _matching(x: xr.DataArray, y: xr.DataArray, rows: str, *, by_chunks: bool) -> xr.DataArray:
    if not 1 <= y.ndim <= 2:
        raise OpError("y", f"needs one dim, of rows, or a second one of several outputs; got {y.ndim}")
    y = one_chunk(y, [str(dim) for dim in y.dims[1:]])
    known = not has_unknown_length(x, rows) and not has_unknown_length(y, str(y.dims[0]))
    if known and x.shape[0] != y.shape[0]:
        raise OpError("y", f"has {y.shape[0]:,} rows; the input has {x.shape[0]:,}")
    if by_chunks and known:
        return y.copy(data=rechunked(y.data, {0: x.data.chunks[0]}))
    if by_chunks and x.data.numblocks[0] != y.data.numblocks[0]:
        got = f"has {y.data.numblocks[0]} chunks of rows; the input has {x.data.numblocks[0]}"
        raise OpError("y", f"{got}; their lengths are unknown until run time, so both must have the same")
    return y
