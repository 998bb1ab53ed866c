"""Order of rows, and what follows from it, against Python's own sort: every type, however the rows are cut."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import frame_of, partitions_of, table_of
from strategies import SETTINGS
from tables import VALUES, cut_at, in_order, records, with_frame

from pipeline.errors import OpError
from pipeline.ops.frames import sort as ops
from pipeline.ops.frames.partitions import places_by_hash, scatter

TYPES = tuple(VALUES)
NAMES = st.lists(st.sampled_from(TYPES), min_size=1, max_size=2, unique=True)
BOTH = st.booleans()


@SETTINGS
@given(with_frame(TYPES), NAMES, st.tuples(BOTH, BOTH), BOTH, st.none() | st.integers(0, 5))
def test_sort_values_gives_one_order(given: Any, by: list[str], ups: Any, first: bool, n: int | None) -> None:
    table, x = given
    ascending = list(ups[: len(by)])
    got = ops.sort_values(x, by=by, ascending=ascending, missing="first" if first else "last", n=n)
    assert records(table_of(got)) == in_order(table, by, ascending, missing_first=first)[:n]


@SETTINGS
@given(with_frame(["i", "c", "s", "l"], largest=20), st.sampled_from([["i"], ["c", "s"], ["l"]]))
def test_set_index_keeps_equal_keys_in_one_partition(given: Any, names: list[str]) -> None:
    table, x = given
    got = ops.set_index(x, keys=names)
    assert records(table_of(got)) == in_order(table, names, [True] * len(names))
    seen = [set(records(part.select(names))) for part in partitions_of(got)]
    assert sum(map(len, seen)) == len(set().union(*seen))


@SETTINGS
@given(with_frame(["i", "f", "c", "s"], largest=30), st.sampled_from([["i"], ["f", "c"], ["s"]]),
       st.integers(0, 4), st.sampled_from([[], ["c"], ["i"]]))  # fmt: skip
def test_nlargest_and_nsmallest_are_the_first_of_a_sort(given: Any, names: list[str], n: int, by: list[str]) -> None:
    table, x = given
    names = [name for name in names if name not in by] or ["f"]
    for op, up in ((ops.nlargest, False), (ops.nsmallest, True)):
        rows = in_order(table, [*by, *names], [*(True for _ in by), *(up for _ in names)])
        at = [table.column_names.index(name) for name in by]
        groups = [tuple(row[i] for i in at) for row in rows]
        wanted = [row for i, row in enumerate(rows) if groups[:i].count(groups[i]) < n]
        got = op(x, n=n, columns=names, by=by or None)
        assert len(got.keys) == 1
        assert records(table_of(got)) == wanted


@SETTINGS
@given(with_frame(TYPES), st.none() | NAMES)
def test_drop_duplicates_keeps_the_first_of_an_order(given: Any, subset: Any) -> None:
    table, x = given
    names = subset or list(TYPES)
    at = [TYPES.index(name) for name in names]
    firsts: dict[Any, Any] = {}
    for row in in_order(table, names, [True] * len(names)):
        firsts.setdefault(tuple(row[i] for i in at), row)
    got = records(table_of(ops.drop_duplicates(x, subset=subset)))
    assert sorted(map(repr, got)) == sorted(map(repr, firsts.values()))


@pytest.mark.parametrize("n", [1, 2, 15])
def test_a_sort_over_n_partitions_keeps_every_row(n: int) -> None:
    values = np.random.default_rng(n).permutation(1000)
    got = ops.sort_values(frame_of({"v": values % 300, "i": values}, n), by="v", ascending=False)
    whole = table_of(got)
    assert len(got.keys) == n
    assert whole.column("i").to_pylist() == sorted(range(1000), key=lambda i: (-(i % 300), i))


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129, 130, 255, 256, 257, 258])
def test_rows_are_dealt_into_n_parts_by_what_they_hold(n: int) -> None:
    table = pa.table({"k": pa.array([*range(600), None, None]), "i": np.arange(602)})
    pieces = scatter(table, partial(places_by_hash, names=["k"], n=n), [], 0, 1, n)
    assert len(pieces) == n
    assert sorted(pa.concat_tables(pieces).column("i").to_pylist()) == list(range(602))
    assert [piece.column("k").null_count for piece in pieces if piece.column("k").null_count] == [2]


def test_a_sort_of_many_partitions_goes_in_two_stages() -> None:
    got = ops.sort_values(frame_of({"v": np.arange(400)[::-1]}, 33), by="v")
    assert any(str(key[0]).startswith("sort-spread") for key in got.tasks)
    assert table_of(got).column("v").to_pylist() == list(range(400))


def test_a_sort_spreads_its_rows_even_if_most_are_equal() -> None:
    table = {"v": [1] * 3900 + [2] * 100, "i": np.random.default_rng(0).permutation(4000)}
    sizes = [part.num_rows for part in partitions_of(ops.sort_values(frame_of(table, 4), by="v"))]
    assert max(sizes) < 1100


@pytest.mark.parametrize("op", ["sort", "distinct"])
def test_zeros_of_both_signs_are_equal(op: str) -> None:
    table = pa.table({"f": [0.0, -0.0, 0.0, -0.0], "i": [4, 3, 2, 1]})
    x = cut_at(table, [1, 2])
    got = ops.sort_values(x, by="f") if op == "sort" else ops.drop_duplicates(x, subset="f")
    assert table_of(got).column("i").to_pylist() == ([1, 2, 3, 4] if op == "sort" else [1])


def test_missing_values_come_last_in_both_directions() -> None:
    x = frame_of({"v": [2, None, 1]}, 2)
    for ascending, wanted in ((True, [1, 2, None]), (False, [2, 1, None])):
        assert table_of(ops.sort_values(x, by="v", ascending=ascending)).column(0).to_pylist() == wanted


def test_what_no_sort_looks_at_is_kept_as_it_is() -> None:
    kinds = [pa.timestamp("ns", "Africa/Cairo"), pa.duration("s"), pa.float16(), pa.dictionary(pa.int32(), pa.string())]
    table = pa.table([[3, 1, 2], *(pa.array([None] * 3, kind) for kind in kinds)], names=list("abcde"))
    assert table_of(ops.sort_values(frame_of(table, 2), by="a")).schema == table.schema


def test_as_many_directions_as_columns() -> None:
    with pytest.raises(OpError, match="ascending: got 1 directions for 2 columns"):
        ops.sort_values(frame_of({"a": [1], "b": [1]}), by=["a", "b"], ascending=[True])


def test_a_direction_within_a_name_is_answered() -> None:
    with pytest.raises(OpError, match="by: 'a desc' is no column of the input; write by: a and ascending: false"):
        ops.sort_values(frame_of({"a": [1]}), by="a desc")
