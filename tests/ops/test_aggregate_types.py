"""Aggregates of every type of column: as keys, as values, of nothing."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from serially import frame_of, table_of

from pipeline.config.expressions import expression
from pipeline.ops.frames import aggregation_tasks
from pipeline.ops.frames.groupby import groupby


def aggs(**texts: str) -> dict[str, expression.Expression]:
    return {name: expression.parse(text, "agg") for name, text in texts.items()}


TYPED = {
    "bool": pa.array([True, False, None, True]),
    "int8": pa.array([5, -128, None, 5], pa.int8()),
    "uint64": pa.array([2**64 - 1, 3, None, 2**64 - 1], pa.uint64()),
    "int64": pa.array([2**53 + 1, 2**53, None, 2**53 + 1], pa.int64()),
    "float16": pa.array([np.float16(1.5), np.float16(0.5), None, np.float16(1.5)], pa.float16()),
    "float32": pa.array([1.5, -0.25, None, 1.5], pa.float32()),
    "decimal": pa.array([decimal.Decimal("1.10"), decimal.Decimal("0.05"), None, decimal.Decimal("1.10")]),
    "text": pa.array(["é", "b", None, "é"]),
    "category": pa.array(["é", "b", None, "é"]).cast(pa.dictionary(pa.int32(), pa.string())),
    "binary": pa.array([b"\xff", b"a", None, b"\xff"]),
    "date": pa.array([dt.date(2020, 2, 2), dt.date(1900, 1, 1), None, dt.date(2020, 2, 2)]),
    "time": pa.array([dt.time(23), dt.time(1, 2, 3, 4), None, dt.time(23)], pa.time64("us")),
    "time in s": pa.array([dt.time(23), dt.time(1, 2, 3), None, dt.time(23)], pa.time32("s")),
    "timestamp": pa.array([2, 1, None, 2], pa.timestamp("ns")),
    "zoned": pa.array([2, 1, None, 2], pa.timestamp("us", "Africa/Cairo")),
    "duration": pa.array([2, 1, None, 2], pa.duration("ns")),
}


@pytest.mark.parametrize("kind", ["int8", "int64", "uint64"])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("overlap", [0, 3, 50])
def test_groups_of_one_table_are_as_if_they_were_combined(
    kind: str, missing: bool, overlap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = [(k + 60 if kind == "uint64" else k - 60) for k in range(60)], list(range(60 - overlap, 120))
    keys = [*first[::-1], *((k + 60) if kind == "uint64" else k - 60 for k in last)]
    column = pa.array([None if missing and k % 7 == 0 else k for k in keys], getattr(pa, kind)())
    values = pa.array([k * 2**40 + 1 for k in range(len(keys))], pa.int64())
    floats = pa.array([1 / (k + 1) for k in range(len(keys))])
    x = frame_of({"k": column, "v": values, "f": floats}, 2)
    agg = aggs(n="count()", s="sum(v)", m="mean(f)", d="std(f, 1)", a="first(v)", b="last(v)", t="sum(v) / count()")
    wanted = table_of(groupby(x, by="k", agg=agg))
    monkeypatch.setattr(aggregation_tasks, "_MANY", 1)
    assert table_of(groupby(x, by="k", agg=agg)).equals(wanted)
    assert wanted.column("k").drop_null().to_pylist() == sorted({k for k in column.to_pylist() if k is not None})


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("kind", TYPED)
def test_every_type_is_a_key_and_keeps_its_type(kind: str, n: int) -> None:
    column = TYPED[kind]
    x = frame_of({"k": column, "v": column}, n)
    got = table_of(groupby(x, by="k", agg=aggs(n="count(v)", a="min(v)", b="max(v)", c="first(v)", d="last(v)")))
    high, low, *_ = column.to_pylist()
    assert got.to_pylist() == [
        {"k": v, "n": n, "a": v, "b": v, "c": v, "d": v} for v, n in ((low, 1), (high, 2), (None, 0))
    ]
    assert {got.schema.field(name).type for name in "kabcd"} == {column.type}
    whole = table_of(groupby(x, by=[], agg=aggs(a="min(v)", b="max(v)", c="first(v)", u="nunique(v)")))
    assert whole.to_pylist() == [{"a": low, "b": high, "c": high, "u": 2}]


@pytest.mark.parametrize(
    ("column", "text", "answer", "of_nothing", "kind"),
    [
        (pa.array([1, 2, None, 4], pa.duration("us")), "sum(v)", 7, 0, pa.duration("us")),
        (pa.array([1, 2, None, 6], pa.duration("us")), "mean(v)", 3, None, pa.duration("us")),
        (pa.array([10**18, 3, None, 10**18 + 2], pa.timestamp("ns")), "median(v)", 10**18, None, pa.timestamp("ns")),
        (pa.array([0, 9, None, 5], pa.timestamp("s", "UTC")), "quantile(v, 1)", 9, None, pa.timestamp("s", "UTC")),
        (pa.array([0, 9, None, 5], pa.date32()), "median(v)", 5, None, pa.date32()),
        (pa.array([100] * 4, pa.int8()), "sum(v)", 400, 0, pa.int64()),
        (pa.array([2**60, 2**60 + 2], pa.int64()), "median(v)", 2.0**60, None, pa.float64()),
        (pa.array([1, 4, None], pa.int64()), "quantile(v, 0.5)", 2.5, None, pa.float64()),
        (pa.array([0.5, 1.5], pa.float32()), "sum(v)", 2.0, 0.0, pa.float64()),
        (pa.array([True, None, False, None]), "sum(v)", 1, 0, pa.int64()),
        (pa.array([True, None, False, None]), "mean(v)", 0.5, None, pa.float64()),
        (pa.array([True, None, False, None]), "all(v)", False, True, pa.bool_()),
        (pa.array([None, None, False], pa.bool_()), "any(v)", False, False, pa.bool_()),
        (pa.array([float("inf"), -float("inf")]), "sum(v)", None, 0.0, pa.float64()),
        (pa.array([float("inf"), 1.0]), "std(v, 0)", None, None, pa.float64()),
    ],
)  # fmt: skip
def test_an_aggregate_has_one_type_whatever_the_rows(
    column: pa.Array, text: str, answer: Any, of_nothing: Any, kind: pa.DataType
) -> None:
    for part, wanted in ((column, answer), (column.slice(0, 0), of_nothing)):
        for n in (1, 3):
            got = table_of(groupby(frame_of({"v": part}, n), by=[], agg=aggs(a=text)))
            assert got.schema.field("a").type == kind
            plain = got.column("a")
            if isinstance(wanted, int) and not pa.types.is_boolean(kind) and not pa.types.is_integer(kind):
                plain = plain.cast(pa.int32() if pa.types.is_date(kind) else pa.int64())
            assert plain.to_pylist() == [wanted]


def test_categories_may_differ_between_partitions() -> None:
    kind = pa.dictionary(pa.int32(), pa.string())
    table = pa.concat_tables([pa.table({"c": pa.array(list(text)).cast(kind), "x": [1] * 2}) for text in ("cb", "ba")])
    got = table_of(groupby(frame_of(table, 2), by="c", agg=aggs(n="sum(x)")))
    assert got.to_pylist() == [{"c": "a", "n": 1}, {"c": "b", "n": 2}, {"c": "c", "n": 1}]
