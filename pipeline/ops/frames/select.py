"""``select filter assign concat``: columns and rows as they are, one task a partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.config.expressions.expression import Expression
from pipeline.errors import OpError
from pipeline.graph.graph import ref
from pipeline.ops.column_types import common_dtype
from pipeline.ops.frames.columns import column_of, dtype_of
from pipeline.ops.frames.groupby import bound_names
from pipeline.ops.frames.partitions import Partitions, conform, require

__all__ = ["assign", "concat", "filter", "select"]

Bound = Mapping[str, Sequence[Any]] | None


def select(input: Any, *, columns: str | Sequence[str]) -> Any:  # noqa: A002
    """These columns, in this order.

    Raises
    ------
    OpError : an unknown column, or one that is named twice
    """
    names = [columns] if isinstance(columns, str) else list(columns)
    require("columns", names, input.columns)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OpError("columns", f"'{twice[0]}' is named twice")
    partitions = Partitions.of(input, parameters=("select", names))
    return partitions.map("select", keep_columns, input.meta[names], names, same_rows=True)


def filter(input: Any, *, where: Expression, bound: Bound = None) -> Any:  # noqa: A001, A002
    """The rows for which ``where`` is true; missing is not true.

    Parameters
    ----------
    input : frame
    where : a condition over its columns
    bound : run-time values of the expression, under ``where``

    Raises
    ------
    OpError : an unknown column, or a ``where`` that is neither true nor false
    """
    dtype = dtype_of("where", where, input.meta)
    if dtype.kind != "b":
        raise OpError("where", f"gives {dtype}, a condition is true or false; compare it: x != 0")
    partitions = Partitions.of(input, parameters=("filter", where, bound_names(bound)))
    slots = partitions.bind(bound, "where")
    return partitions.map("filter", keep_rows, input.meta, where, slots)


def assign(input: Any, *, columns: Mapping[str, Expression], bound: Bound = None) -> Any:  # noqa: A002
    """The frame with columns added, or replaced in their places; later ones see earlier ones.

    Parameters
    ----------
    input : frame
    columns : an expression a column
    bound : run-time values of the expressions, under ``columns.NAME``

    Raises
    ------
    OpError : an unknown column, or types that don't go together
    """
    meta = input.meta.copy(deep=False)
    for name, expression in columns.items():
        meta[name] = pd.Series([], dtype=dtype_of(f"columns.{name}", expression, meta), index=meta.index)
    partitions = Partitions.of(input, parameters=("assign", list(columns.items()), bound_names(bound)))
    new = [(name, expression, meta[name].dtype) for name, expression in columns.items()]
    slots = partitions.bind_all(bound, [f"columns.{name}" for name in columns])
    return partitions.map("assign", add_columns, meta, new, slots, same_rows=True)


def concat(*inputs: Any) -> Any:
    """The rows of all inputs, as their partitions lie; columns in the order of the first input.

    Whole numbers and floats of several sizes get the type that holds all of them; a partition that already has the
    types of the result costs no task.

    Parameters
    ----------
    inputs : frames with the same columns; one list of them will do; of gathered copies, as ``(labels, frame)``, the
        labels are the first columns

    Raises
    ------
    OpError : a column that only some have, one named as a label's key, or types that have nothing in common
    """
    given = list(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], list | tuple) else list(inputs)
    frames = [_labelled(*one) if isinstance(one, tuple) else one for one in given]
    first = frames[0].meta
    for i, frame in enumerate(frames[1:], start=2):
        odd = sorted(set(first.columns) ^ set(frame.columns))
        if odd:
            has, lacks = (1, i) if odd[0] in first.columns else (i, 1)
            raise OpError(
                "input",
                f"'{odd[0]}' is a column of input {has} and not of input {lacks}; select the same columns of each",
            )
    meta = first.astype(
        {name: _common_dtype(str(name), [frame.meta[name].dtype for frame in frames]) for name in first.columns}
    )
    partitions = Partitions.of(*frames, parameters="concat")
    keys = []
    for i, (frame, own) in enumerate(zip(frames, partitions.keys, strict=True)):
        same = list(frame.columns) == list(meta.columns) and (frame.meta.dtypes == meta.dtypes).all()
        for j, key in enumerate(own):
            keys.append(key if same else partitions.add("conform", (i, j), conform_columns, ref(key), meta.iloc[:0]))
    known = [lengths for lengths in partitions.lengths if lengths is not None]
    lengths = tuple(n for some in known for n in some) if len(known) == len(frames) else None
    return partitions.frame(keys, meta, lengths=lengths)


def _labelled(labels: Mapping[str, Any], frame: Any) -> Any:
    """The frame with the labels of its copy as first columns."""
    for key in labels:
        if key in frame.columns:
            raise OpError("input", f"{key!r} is a matrix key and a column; rename one of them")
    partitions = Partitions.of(frame, parameters=("labels", dict(labels)))
    return partitions.map("labels", with_labels, with_labels(frame.meta, labels), dict(labels), same_rows=True)


def with_labels(frame: pd.DataFrame, labels: Mapping[str, Any]) -> pd.DataFrame:
    """The rows with the same values in each as first columns, of the same dtypes where there are no rows."""
    new = {
        key: pd.Series([value] * len(frame), index=frame.index, dtype=pd.Series([value]).dtype)
        for key, value in labels.items()
    }
    return frame.assign(**new)[[*labels, *frame.columns]]


def _common_dtype(name: str, dtypes: Sequence[Any]) -> Any:
    """The dtype that holds the values of all."""
    common = common_dtype(dtypes)
    if common is not None:
        return common
    raise OpError(
        "input",
        f"column '{name}' is {' and '.join(map(str, dict.fromkeys(dtypes)))}; make it one type: `cast` in the reader, "
        "or integer(x), number(x), text(x) in an assign before",
    )


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def keep_columns(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The columns ``names`` of one partition."""
    return frame[list(names)].reset_index(drop=True)


def keep_rows(frame: pd.DataFrame, where: Expression, slots: Sequence[Any]) -> pd.DataFrame:
    """The rows of one partition for which ``where`` is true."""
    mask = column_of(where, frame, slots, "boolean").to_numpy(dtype=bool, na_value=False)
    return frame[mask].reset_index(drop=True)


def add_columns(
    frame: pd.DataFrame, columns: Sequence[tuple[str, Expression, Any]], slots: Sequence[Sequence[Any]]
) -> pd.DataFrame:
    """One partition with columns (name, expression, dtype) added in order."""
    new = frame.reset_index(drop=True)
    for (name, expression, dtype), values in zip(columns, slots, strict=True):
        new[name] = column_of(expression, new, values, dtype)
    return new


def conform_columns(frame: pd.DataFrame, meta: pd.DataFrame) -> pd.DataFrame:
    """One partition in the column order and types of ``meta``."""
    columns = {}
    for name in meta.columns:
        column, dtype = frame[name].reset_index(drop=True), meta[name].dtype
        columns[name] = conform(column, dtype)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(frame)))
