"""Tables of every type for property tests of frame ops, cut into partitions, and their rows as Python values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from dask.base import tokenize
from hypothesis import strategies as st

from pipeline.graph.nodes import constant
from pipeline.ops.collections import Frame

__all__ = ["VALUES", "cut_at", "in_order", "records", "tables", "with_frame"]

VALUES: Mapping[str, tuple[pa.DataType, Sequence[Any]]] = {
    "i": (pa.int64(), [-3, 0, 2**53 + 1, 2**53]),
    "j": (pa.int64(), [-3, 0, 2, 11]),
    "u": (pa.uint64(), [0, 7, 2**64 - 1]),
    "b": (pa.bool_(), [False, True]),
    "f": (pa.float64(), [-1.5, 0.0, 2.25]),
    "h": (pa.float16(), [-1.5, 0.0, 2.0]),
    "s": (pa.string(), ["", "a", "B", "é", "￿", "\U0001f600", "a\0b"]),
    "c": (pa.dictionary(pa.int32(), pa.string()), ["pine", "ash", "oak"]),
    "d": (pa.decimal128(20, 2), [Decimal("1.23"), Decimal("-0.01"), Decimal("123456789012345678.90")]),
    "t": (pa.timestamp("us"), [datetime(2001, 1, 1), datetime(2001, 1, 2, 3, 4, 5, 6), datetime(1960, 5, 5)]),
    "z": (pa.timestamp("us", "Africa/Cairo"), [datetime(2001, 1, 1, tzinfo=UTC), datetime(2024, 4, 26, tzinfo=UTC)]),
    "day": (pa.date32(), [date(2001, 1, 1), date(1960, 2, 29)]),
    "o": (pa.time64("us"), [time(0), time(23, 59, 59, 999999)]),
    "p": (pa.duration("us"), [timedelta(days=-1), timedelta(microseconds=5)]),
    "y": (pa.binary(), [b"", b"\xff", b"a\0"]),
    "l": (pa.list_(pa.int64()), [[], [1], [1, 2], [0, 9]]),
    "q": (pa.struct([pa.field("a", pa.int64()), pa.field("b", pa.string())]), [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}]),
}
"""Names of columns with their type and a few values each, in no order."""


@st.composite
def tables(draw: st.DrawFn, names: Sequence[str], *, largest: int = 12, missing: bool = True) -> pa.Table:
    """A table with these columns of :data:`VALUES`; ``x=i``: the column x as i."""
    n = draw(st.integers(0, largest))
    columns, labels = [], []
    for text in names:
        name, _, kind = text.partition("=")
        known, values = VALUES[kind or name]
        own = draw(st.lists(st.sampled_from([*values, *([None] if missing else [])]), min_size=n, max_size=n))
        columns.append(pa.array(own, known.value_type if pa.types.is_dictionary(known) else known).cast(known))
        labels.append(name)
    return pa.table(columns, names=labels)


@st.composite
def with_frame(
    draw: st.DrawFn, names: Sequence[str], *, largest: int = 12, missing: bool = True
) -> tuple[pa.Table, Frame]:
    """A table, and a frame of its rows; some partitions may be empty."""
    table = draw(tables(names, largest=largest, missing=missing))
    return table, cut_at(table, sorted(draw(st.lists(st.integers(0, table.num_rows), max_size=3))))


def cut_at(table: pa.Table, at: Sequence[int], name: str = "given") -> Frame:
    """A frame of the rows, cut at these row numbers; categories have another dictionary in each partition."""
    edges = [0, *(min(a, table.num_rows) for a in at), table.num_rows]
    pieces = [_encoded(table.slice(start, stop - start)) for start, stop in itertools.pairwise(edges)]
    name = f"{name}-{tokenize(edges, table.schema.names, repr(records(table)))}"
    tasks = {(name, i): constant((name, i), piece) for i, piece in enumerate(pieces)}
    return Frame(tasks, tuple(tasks), table.schema)


def _encoded(table: pa.Table) -> pa.Table:
    columns = [
        column.cast(column.type.value_type).cast(column.type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    return pa.Table.from_arrays(columns, schema=table.schema)


def records(table: pa.Table) -> list[tuple[Any, ...]]:
    """The rows as tuples; values that have no order of their own (lists, maps, truth values) as such that have."""
    columns = [[_value(value) for value in column.to_pylist()] for column in table.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(map(_value, value.values()))
    return tuple(map(_value, value)) if isinstance(value, list) else value


def in_order(
    table: pa.Table, by: Sequence[str], ascending: Sequence[bool], *, missing_first: bool = False
) -> list[tuple[Any, ...]]:
    """The rows in the language's order: ties by the remaining columns, which are ascending, missing last."""
    names = table.column_names
    rows = records(table)
    rest = [name for name in names if name not in by]
    for name, up, first in reversed(
        [*((n, u, missing_first) for n, u in zip(by, ascending, strict=True)), *((n, True, False) for n in rest)]
    ):
        at = names.index(name)
        present = sorted((r for r in rows if r[at] is not None), key=lambda r: _bytes(r[at]), reverse=not up)
        missing = [row for row in rows if row[at] is None]
        rows = [*missing, *present] if first else [*present, *missing]
    return rows


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value
