"""groupby and value_counts: against pandas, and against DuckDB over all rows at once; types, limits, order."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import frame_of, partitions_of, rows_of, table_of
from strategies import SETTINGS

from pipeline.config.expressions import expression
from pipeline.errors import DataError, OpError
from pipeline.ops.frames.groupby import groupby, value_counts
from pipeline.worker.sql_engine import query


def aggs(**texts: str) -> dict[str, expression.Expression]:
    return {name: expression.parse(text, "agg") for name, text in texts.items()}


def values(rows: pa.Table) -> list[tuple[Any, ...]]:
    """The rows as values; floats to nine digits."""
    return [
        tuple(float(f"{v:.9g}") + 0.0 if isinstance(v, float) else v for v in row.values()) for row in rows.to_pylist()
    ]


def plain(value: Any) -> Any:
    """A value of pandas as Arrow has it."""
    if pd.isna(value):
        return None
    value = value.item() if isinstance(value, np.generic) else value
    return float(f"{value:.9g}") + 0.0 if isinstance(value, float) else value


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Few different values of several types, some, all or none of them missing."""
    n = draw(st.integers(0, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    lost = draw(st.sampled_from([0.0, 0.3, 1.0]))

    def column(some: Any, kind: pa.DataType, missing: bool = True) -> pa.Array:
        gone = rng.random(n) < lost * missing
        return pa.array(
            [None if g else some[i] for g, i in zip(gone, rng.integers(0, len(some), n), strict=True)], kind
        )

    days = [dt.datetime(2001, 1, 1) + dt.timedelta(i) for i in range(4)]
    return pa.table(
        {
            "k": column([1, 2, 3], pa.int64(), missing=False),
            "s": column(["ash", "Oak", "éclair", ""], pa.string()),
            "x": column([-1.0, -0.0, 0.0, 0.1, 2.5], pa.float64()),
            "i": column([-3, 0, 2, 2**60], pa.int64()),
            "d": column([decimal.Decimal("0.10"), decimal.Decimal("-7.25")], pa.decimal128(12, 2)),
            "t": column(days, pa.timestamp("us")),
            "b": column([True, False], pa.bool_()),
        }
    )


@st.composite
def cut(draw: st.DrawFn) -> tuple[pa.Table, Any]:
    """A table, and the same rows as a step's input."""
    table = draw(tables())
    return table, frame_of(table, draw(st.integers(1, 5)))


BY = st.lists(st.sampled_from(["k", "s", "x", "i", "d", "t", "b"]), unique=True, max_size=3)

# aggregate -> what DuckDB computes from all rows at once
ALL = {
    "count()": "count(*)",
    "count(x)": "count(x)",
    "sum(x)": "coalesce(sum(x), 0)",
    "sum(d)": "coalesce(sum(d), 0)::decimal(38, 2)",
    "mean(x)": "avg(x)",
    "mean(d)": "sum(d)::double / nullif(count(d), 0)",
    "min(s)": "min(s)",
    "max(t)": "max(t)",
    "min(b)": "min(b)",
    "any(b)": "coalesce(bool_or(b), false)",
    "all(b)": "coalesce(bool_and(b), true)",
    "nunique(s)": "count(distinct s)",
    "nunique(d)": "count(distinct d)",
    "first(t)": "first(t) filter (t is not null)",
    "last(s)": "last(s) filter (s is not null)",
    "std(x, 1)": "stddev_samp(x)",
    "var(x, 0)": "var_pop(x)",
    "corr(x, k)": "nullif(corr(x, k), 'nan'::double)",
    "covar(x, k, 1)": "covar_samp(x, k)",
    "sum(where(b, x, 0)) / maximum(count(), 1) + 1": "coalesce(sum(if(b, x, 0)), 0) / greatest(count(*), 1) + 1",
}
WHOLE = {
    "median(x)": "quantile_cont(x, 0.5)",
    "quantile(x, 0.9)": "quantile_cont(x, 0.9)",
    "quantile(d, 0.25)": "quantile_cont(d::double, 0.25)",
    "list(t)": "coalesce(list(t) filter (t is not null), [])",
    "join(s, '; ')": "string_agg(s, '; ')",
}


def by_duckdb(table: pa.Table, by: list[str], wanted: list[str]) -> list[tuple[Any, ...]]:
    keys = ", ".join(f'"{name}" + 0' if name == "x" else f'"{name}"' for name in by)
    selected = ", ".join([*([keys] if by else []), *wanted])
    end = f"group by {keys} order by {', '.join(f'{i + 1} nulls last' for i in range(len(by)))}" if by else ""
    return values(query(f"select {selected} from given {end}", {"given": table}))


@SETTINGS
@given(cut(), BY, st.booleans())
def test_groups_are_those_of_duckdb_over_all_rows(given: Any, by: list[str], whole: bool) -> None:
    table, x = given
    wanted = ALL | (WHOLE if whole else {})
    names = {f"a{i}": text for i, text in enumerate(wanted)}
    got = table_of(groupby(x, by=by, agg=aggs(**names)))
    assert got.column_names == [*by, *names]
    assert values(got) == by_duckdb(table, by, list(wanted.values()))


@SETTINGS
@given(cut(), st.sampled_from([["k"], ["s"], ["b", "i"]]))
def test_groups_are_those_of_pandas(given: Any, by: list[str]) -> None:
    table, x = given
    texts = {"n": "count()", "total": "sum(x)", "m": "mean(x)", "sd": "std(x, 1)", "v": "var(x, 0)", "u": "nunique(s)"}
    got = table_of(groupby(x, by=by, agg=aggs(**texts, med="median(x)", q="quantile(x, 0.25)", top="max(i)")))
    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    wanted = [
        (
            *key,
            *(len(rows), rows.x.sum(), rows.x.mean(), rows.x.std(), rows.x.var(ddof=0), rows.s.nunique()),
            *(rows.x.median(), rows.x.quantile(0.25), rows.i.max()),
        )
        for key, rows in frame.groupby(by, dropna=False)
    ]  # fmt: skip
    assert sorted(map(repr, values(got))) == sorted(repr(tuple(map(plain, row))) for row in wanted)


@SETTINGS
@given(cut(), BY)
def test_value_counts_counts_what_is_missing(given: Any, by: list[str]) -> None:
    table, x = given
    assert values(table_of(value_counts(x, columns=by))) == by_duckdb(table, by, ["count(*)"])


@pytest.mark.parametrize("n", [1, 4])
def test_equal_partitions_give_equal_bits(n: int) -> None:
    rng = np.random.default_rng(3)
    table = pa.table({"s": rng.choice(list("abc"), 5000), "x": rng.normal(size=5000)})
    wanted = aggs(a="sum(x)", b="mean(x)", c="std(x, 1)", d="median(x)")
    one, other = (table_of(groupby(frame_of(table, n), by="s", agg=wanted)) for _ in range(2))
    assert one.equals(other)


def test_a_missing_key_is_the_last_group_and_nothing_sums_to_0() -> None:
    x = frame_of({"g": [None, "b", "a", None], "x": [1.0, None, None, 2.0]}, 3)
    got = table_of(groupby(x, by="g", agg=aggs(total="sum(x)", mean="mean(x)", n="count(x)")))
    assert [tuple(row.values()) for row in got.to_pylist()] == [("a", 0, None, 0), ("b", 0, None, 0), (None, 3, 1.5, 2)]


@pytest.mark.parametrize("n", [1, 3])
def test_groupby_of_no_rows_has_no_groups_but_its_types(n: int) -> None:
    x = frame_of(pa.table({"k": pa.array([], pa.string()), "x": pa.array([], pa.int8())}), n)
    got = table_of(groupby(x, by="k", agg=aggs(a="sum(x)", b="median(x)", c="nunique(x)")))
    assert got.num_rows == 0
    assert got.schema.types == [pa.string(), pa.int64(), pa.float64(), pa.int64()]


@pytest.mark.parametrize("rows", [0, 9])
@pytest.mark.parametrize("n", [1, 3])
def test_groupby_by_nothing_is_one_group(rows: int, n: int) -> None:
    x = frame_of(pa.table({"x": pa.array(range(rows), pa.int64())}), n)
    frame = groupby(x, by=[], agg=aggs(n="count()", a="sum(x)", b="min(x)", c="median(x)", d="nunique(x)"))
    assert frame.lengths == (1,)
    assert table_of(frame).to_pylist() == [
        {"n": rows, "a": sum(range(rows)), "b": 0 if rows else None, "c": 4.0 if rows else None, "d": rows}
    ]


def test_deviations_keep_their_digits_far_from_zero() -> None:
    x = 1e9 + np.random.default_rng(0).normal(size=1000) / 1000
    wanted = float(np.var((x - 1e9).astype(np.longdouble), ddof=1))
    for n in (1, 7, 20):
        frame = groupby(frame_of({"g": [1] * 1000, "x": x}, n), by="g", agg=aggs(v="var(x, 1)"))
        assert rows_of(frame)["v"][0] == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_sums_are_exact_in_128_bits_and_checked_at_the_end(n: int) -> None:
    big = 2**63 - 1
    x = frame_of({"i": [big, big, -big, 1 - big]}, n)
    got = table_of(groupby(x, by=[], agg=aggs(s="sum(i)", m="mean(i)"))).to_pylist()
    assert got == [{"s": 1, "m": 0.25}]
    over = groupby(frame_of({"i": [big, 1]}, n), by=[], agg=aggs(fine="max(i)", total="sum(i)"))
    with pytest.raises(DataError, match=r"agg\.total: .*9223372036854775808"):
        table_of(over)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_sum_of_decimals_beyond_38_digits_is_named(n: int) -> None:
    x = frame_of({"d": pa.array([decimal.Decimal(6) * 10**37] * 2, pa.decimal128(38, 0)), "i": [1, 2]}, n)
    with pytest.raises(DataError, match=r"^agg\.total: Overflow"):
        table_of(groupby(x, by=[], agg=aggs(u="nunique(d)", m="max(i)", total="sum(d)", v="std(i, 0)")))


def test_keys_of_times_and_values_of_lists_and_structs() -> None:
    zoned = pa.array([0, 10**12, 10**12 + 1], pa.timestamp("us", "Africa/Cairo"))
    x = frame_of({"z": zoned, "l": [[1], None, [2, 3]], "s": [{"a": 1}, {"a": 2}, None]}, 2)
    by = {"day": expression.parse("floor_time(z, '1d')", "columns")}
    got = table_of(groupby(x, by=by, agg=aggs(a="first(l)", b="last(s)", c="list(s)", n="count(l)")))
    assert got.schema.field("day").type == zoned.type
    assert [tuple(row.values())[1:] for row in got.to_pylist()] == [
        ([1], {"a": 1}, [{"a": 1}], 1), ([2, 3], {"a": 2}, [{"a": 2}], 1),
    ]  # fmt: skip


def test_sums_of_unsigned_numbers_and_decimals_keep_their_kind() -> None:
    cents = [decimal.Decimal("0.10")] * 3
    x = frame_of({"u": pa.array([2**64 - 2, 1, 0], pa.uint64()), "d": pa.array(cents, pa.decimal128(12, 2))}, 2)
    got = table_of(groupby(x, by=[], agg=aggs(u="sum(u)", d="sum(d)", m="mean(d)")))
    assert got.to_pylist() == [{"u": 2**64 - 1, "d": decimal.Decimal("0.30"), "m": 0.1}]
    assert got.schema.types == [pa.uint64(), pa.decimal128(38, 2), pa.float64()]


def test_names_that_sql_takes_for_one_are_two_columns() -> None:
    x = frame_of({"a": [1, 1], "A": [1, 2], 'say "c0"': [3, 4]}, 2)
    got = table_of(groupby(x, by=["a"], agg={**aggs(A="sum(A)", B='max(`say "c0"`)')}))
    assert got.to_pylist() == [{"a": 1, "A": 3, "B": 4}]


@pytest.mark.parametrize("n", [8, 30])
def test_a_plain_groupby_takes_one_task_a_partition_and_a_tree(n: int) -> None:
    frame = groupby(frame_of({"g": [1] * 60, "x": [1.0] * 60}, n), by="g", agg=aggs(s="sum(x)", u="nunique(x)"))
    own = [key for key in frame.tasks if str(key[0]).startswith(("partial", "aggregate"))]
    assert len(own) == n + (0 if n <= 8 else -(-n // 8)) + 1


def test_a_median_sees_one_group_at_a_time() -> None:
    keys = [f"g{i % 50}" for i in range(1000)]
    x = frame_of({"g": keys, "x": [float(i) for i in range(1000)]}, 12)
    frame = groupby(x, by="g", agg=aggs(m="median(x)", f="first(x)", s="sum(x)", u="nunique(x)"))
    (got,) = partitions_of(frame)
    assert got.column("g").to_pylist() == sorted(set(keys))
    assert got.column("m").to_pylist() == [float(g[1:]) + 475 for g in sorted(set(keys))]
    assert sum(str(key[0]).startswith("group-") for key in frame.tasks) == 12


@pytest.mark.parametrize(
    ("by", "texts", "message"),
    [
        ("g", {"g": "sum(x)"}, "agg.g: 'g' is a column of the keys already"),
        ("h", {"a": "sum(x)"}, "by: 'h' is no column"),
        ("lower(g)", {"a": "sum(x)"}, "by: 'lower(g)' is no column; of an expression write by: {lower: \"lower(g)\"}"),
        ("l", {"a": "sum(x)"}, "'l' is list[int64]; a key is one value a row"),
        ("g", {"a": "sum(y)"}, "agg.a: column 5: 'y' is no column"),
        ("g", {"a": "sum(g)"}, "agg.a: sum(x) has no meaning for string"),
        ("g", {"a": "any(x)"}, "agg.a: any(x) needs true or false; got int64"),
        ("g", {"a": "join(x, '')"}, "agg.a: join(x, sep) needs text; got int64; take text(x)"),
        ("g", {"a": "sum(x) + first(g)"}, "agg.a: "),
        ("g", {"a": "max(l)"}, "agg.a: max(x) has no meaning for list[int64]"),
    ],
)  # fmt: skip
def test_a_fault_is_said_while_building(by: str, texts: dict[str, str], message: str) -> None:
    x = frame_of({"g": ["a"], "x": [1], "l": [[1]]})
    with pytest.raises(OpError) as error:
        groupby(x, by=by, agg=aggs(**texts))
    assert message in str(error.value)


def test_keys_may_be_expressions() -> None:
    x = frame_of({"x": [5, 14, None, 7], "s": ["a", "B", "b", "A"]}, 2)
    by = {"low": expression.parse("lower(s)", "columns"), "ten": expression.parse("x // 10", "columns")}
    got = table_of(groupby(x, by=by, agg=aggs(n="count()", most="max(s)", share="100 * sum(x) / count()")))
    assert [tuple(row.values()) for row in got.to_pylist()] == [
        ("a", 0, 2, "a", 600.0), ("b", 1, 1, "B", 1400.0), ("b", None, 1, "b", 0.0),
    ]  # fmt: skip
    with pytest.raises(OpError, match=r"by\.low: column 7: 'q' is no column"):
        groupby(x, by={"low": expression.parse("lower(q)", "columns")}, agg=aggs(n="count()"))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_mode_is_the_most_frequent_and_of_ties_the_smallest(n: int) -> None:
    x = frame_of({"s": ["b", "a", None, None, None], "i": [1, 3, 2, 3, None]}, n)
    got = table_of(groupby(x, by=[], agg=aggs(s="mode(s)", i="mode(i)", u="nunique(i)")))
    assert got.to_pylist() == [{"s": "a", "i": 3, "u": 3}]


def test_lists_are_in_the_order_of_rows_without_what_is_missing() -> None:
    zoned = pa.array([3, None, 1, 2], pa.timestamp("us", "Asia/Tokyo"))
    for n in (1, 4):
        x = frame_of({"g": ["a", "a", "b", "a"], "z": zoned, "s": ["x", None, None, "y"]}, n)
        got = table_of(groupby(x, by="g", agg=aggs(z="list(z)", s="list(s)", j="join(s, ', ')")))
        assert got.schema.field("z").type == pa.list_(zoned.type)
        moments = zoned.to_pylist()
        assert [tuple(row.values()) for row in got.to_pylist()] == [
            ("a", [moments[0], moments[3]], ["x", "y"], "x, y"), ("b", [moments[2]], [], None),
        ]  # fmt: skip


def test_what_fails_is_named() -> None:
    big = 2**62
    x = frame_of({"g": ["a", "b"], "i": [big, 3]}, 2)
    for texts, message in (
        ({"fine": "max(i)", "t": "sum(i * i)"}, r"agg\.t: 'i \* i'"),
        ({"fine": "max(i)", "t": "sum(i) * sum(i)"}, r"agg\.t: "),
    ):
        with pytest.raises(DataError, match=message):
            table_of(groupby(x, by="g", agg=aggs(**texts)))
    with pytest.raises(DataError, match=r"by\.k: 'i \* i'"):
        table_of(groupby(x, by={"k": expression.parse("i * i", "columns")}, agg=aggs(n="count()")))


def test_many_groups_are_in_the_order_of_their_keys() -> None:
    rng = np.random.default_rng(1)
    x = frame_of({"g": rng.integers(0, 40_000, 100_000), "x": rng.normal(size=100_000)}, 3)
    one, other = (table_of(groupby(x, by="g", agg=aggs(s="sum(x)", f="first(x)"))) for _ in range(2))
    assert one.equals(other)
    keys = one.column("g").to_pylist()
    assert all(a < b for a, b in itertools.pairwise(keys))
