"""Joins against their definition, row by row, and against duckdb alone; every plan gives the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serially import frame_of, partitions_of, table_of, values_of
from strategies import EXAMPLES, SETTINGS
from tables import cut_at, records, with_frame

from pipeline.config.expressions import expression
from pipeline.errors import DataError, OpError
from pipeline.ops.frames import pairing
from pipeline.ops.frames import select as ops
from pipeline.ops.frames.merge import merge
from pipeline.ops.frames.sort import drop_duplicates

HOWS = ("inner", "left", "right", "outer", "semi", "anti")
UNIQUE = {"one_to_one": (0, 1), "one_to_many": (0,), "many_to_one": (1,)}


def expr(text: str) -> expression.Expression:
    return expression.parse(text, "columns")


def joined(
    left: pa.Table, right: pa.Table, on: Sequence[str], how: str, match: Any = lambda a, b: True
) -> list[tuple[Any, ...]]:
    """The join by its definition; ``match``: a further condition on two rows, each a map."""
    ls, rs = ([dict(zip(t.column_names, row, strict=True)) for row in records(t)] for t in (left, right))
    taken = [name for name in right.column_names if name not in on]
    rows, met = [], set()
    for a in ls:
        matches = [i for i, b in enumerate(rs) if all(a[k] == b[k] and a[k] is not None for k in on) and match(a, b)]
        met |= set(matches)
        if how in ("semi", "anti"):
            rows += [tuple(a.values())] if bool(matches) == (how == "semi") else []
            continue
        rows += [(*a.values(), *(rs[i][name] for name in taken)) for i in matches]
        if not matches and how in ("left", "outer"):
            rows.append((*a.values(), *(None for _ in taken)))
    if how in ("right", "outer"):
        alone = [b for i, b in enumerate(rs) if i not in met]
        rows += [(*(b[n] if n in on else None for n in left.column_names), *(b[n] for n in taken)) for b in alone]
    return rows


def same_rows(got: Any, wanted: list[tuple[Any, ...]]) -> None:
    assert sorted(map(repr, records(table_of(got)))) == sorted(map(repr, wanted))


@pytest.fixture(params=["whole", "dealt", "left whole"])
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which plan the run chooses for frames of unknown size; the last one: only lefts are small."""
    if request.param != "whole":
        monkeypatch.setattr(pairing, "SMALL", -1)
    if request.param == "left whole":
        monkeypatch.setattr(pairing, "small_side", lambda lefts, rights: 0 if lefts is not None else None)
        monkeypatch.setattr(pairing, "SMALL", 1e9)
    return str(request.param)


@settings(SETTINGS, max_examples=2 * EXAMPLES)
@given(with_frame([*"ist", "x=f", "c"], largest=7), with_frame([*"ist", "z=f", "d"], largest=7), st.data())
def test_a_join_matches_equal_keys_and_no_missing_ones(left: Any, right: Any, data: Any) -> None:
    how = data.draw(st.sampled_from([*HOWS, "cross"]))
    on = [] if how == "cross" else data.draw(st.sampled_from([["i"], ["s"], ["t"], ["s", "i"]]))
    some = ["x", "c"], ["z", "d"]
    a, b = left[0].select([*on, *some[0]]), right[0].select([*on, *some[1]])
    frames = [cut_at(table, [len(table) // 3, len(table) // 2]) for table in (a, b)]
    same_rows(merge(*frames, on=on or None, how=how), joined(a, b, on, "inner" if how == "cross" else how))


@settings(SETTINGS, max_examples=2 * EXAMPLES)
@given(with_frame(["i", "x=f"], largest=7), with_frame(["i", "z=f"], largest=7), st.sampled_from([*HOWS, "cross"]))
def test_a_condition_is_part_of_the_match(left: Any, right: Any, how: Any) -> None:
    def match(a: Any, b: Any) -> bool:
        return a["x"] is not None and b["z"] is not None and a["x"] < b["z"]

    if how == "cross":
        lefts, rights = left[0].select(["x"]), right[0].select(["z"])
        got = merge(cut_at(lefts, [2]), cut_at(rights, [3]), how=how, where=expr("x < z"))
        same_rows(got, joined(lefts, rights, [], "inner", match))
        return
    got = merge(left[1], right[1], on="i", how=how, where=expr("x < z"))
    same_rows(got, joined(left[0], right[0], ["i"], how, match))


@settings(SETTINGS, max_examples=2 * EXAMPLES)
@given(with_frame(["i", "s", "x=f", "y=i"], largest=7), with_frame(["i", "s", "x=i", "z=f"], largest=7), st.data())
def test_only_columns_that_are_needed_are_joined(left: Any, right: Any, data: Any) -> None:
    how = data.draw(st.sampled_from([*HOWS, "cross"]))
    where = data.draw(st.sampled_from([None, expr("x_x < z"), expr("y == x_y or missing(z)")]))
    keys = {} if how == "cross" else {"on": data.draw(st.sampled_from(["i", "s", ["i", "s"]]))}
    if data.draw(st.booleans()) and keys:
        keys = {"left_on": keys["on"], "right_on": keys["on"]}
    whole = merge(left[1], right[1], how=how, where=where, **keys)
    needed = data.draw(st.lists(st.sampled_from(list(whole.columns)), unique=True, max_size=3))
    some = merge(left[1], right[1], how=how, where=where, needed=frozenset(needed), **keys)
    assert {*needed} <= {*some.columns} <= {*whole.columns}
    assert len(table_of(some)) == len(table_of(whole))
    assert table_of(some).select(needed).equals(table_of(whole).select(needed))
    assert {*some.columns} <= {*needed, *(where.names if where is not None else ()), whole.columns[0]}


def test_of_three_frames_only_columns_that_are_needed_are_joined() -> None:
    frames = [frame_of({"k": [1, 2], "a": [i, 3], f"b{i}": [4, 5]}, name=f"f{i}") for i in range(3)]
    whole = table_of(merge(*frames, on="k"))
    some = table_of(merge(*frames, on="k", needed=frozenset({"a_3", "b1"})))
    assert some.column_names == ["k", "b1", "a_3"]
    assert some.equals(whole.select(some.column_names))


@pytest.mark.parametrize("how", [*HOWS, "cross"])
@pytest.mark.parametrize("needed", [{"c"}, {"a"}, {"b"}, {"a", "c"}, set()])
def test_several_frames_are_joined_whatever_columns_are_needed(how: Any, needed: set[str]) -> None:
    frames = [frame_of({"k": [1, 2, 2], name: [3, 4, 5]}, name=name) for name in "abc"]
    if how == "cross":
        frames = [ops.select(frame, columns=[name]) for frame, name in zip(frames, "abc", strict=True)]
    on = {} if how == "cross" else {"on": "k"}
    whole = merge(*frames, how=how, **on)
    asked = [name for name in whole.columns if name in needed]
    some = table_of(merge(*frames, how=how, needed=frozenset(asked), **on))
    assert some.num_rows == table_of(whole).num_rows
    assert some.select(asked).equals(table_of(whole).select(asked))


@pytest.mark.parametrize("how", HOWS)
def test_every_plan_gives_the_same_rows(how: Any, plan: str) -> None:
    rng = np.random.default_rng(1)
    left = pa.table({"k": rng.integers(0, 60, 200), "a": np.arange(200)})
    right = pa.table({"k": rng.integers(0, 90, 70), "b": np.arange(70)})
    got = merge(frame_of(left, 5), frame_of(right, 3, "right"), on="k", how=how)
    same_rows(got, joined(left, right, ["k"], how))
    if plan == "whole" and how == "anti":  # rows stay in their partitions
        assert [set(part.column("a").to_pylist()) - set(range(i * 40, i * 40 + 40)) for i, part in
                enumerate(partitions_of(got))] == [set()] * 5  # fmt: skip


@pytest.mark.parametrize(("nbytes", "layers"), [(10.0, {"whole"}), (1e12, {"left-split", "right-split"})])
def test_known_sizes_decide_while_building(nbytes: float, layers: set[str]) -> None:
    right = replace(frame_of({"k": range(9)}, 3, "right"), nbytes=nbytes)
    got = merge(replace(frame_of({"k": range(9)}, 3), nbytes=1e12), right, on="k")
    names = {str(key[0]).rpartition("-")[0] for key in got.tasks}
    assert layers <= names
    assert not names & {"measure", "plan"}
    assert sorted(table_of(got).column("k").to_pylist()) == list(range(9))


def test_what_rows_are_left_of_is_no_larger() -> None:
    source = replace(frame_of({"k": range(9), "s": ["a"] * 9}, 3), nbytes=100.0, lengths=(3, 3, 3))
    kept = ops.filter(ops.select(source, columns=["k"]), where=expr("k > 2"))
    assert drop_duplicates(kept, subset="k").bound == 100
    assert ops.assign(source, columns={"y": expr("k / 2")}).bound == 172
    for unknown in (
        ops.assign(kept, columns={"y": expr("k / 2")}),
        merge(source, source, on="k", how="left"),
        merge(source, frame_of({"k": [1]}, name="right"), on="k"),
        frame_of({"k": [1]}),
    ):
        assert np.isnan(unknown.bound)


def test_a_join_is_no_larger_than_all_pairs() -> None:
    """A row of k takes 8 bytes at least, so a frame of 100 bytes has at most 12.5 where its rows are unknown."""
    one = replace(frame_of({"k": range(9)}, 3), nbytes=100.0, lengths=(3, 3, 3))
    other = replace(frame_of({"k": range(4), "s": ["a"] * 4}, 2, "right"), nbytes=40.0, lengths=(2, 2))
    assert merge(one, other, on="k").bound == 100 * 4 + 40 * 9
    some = ops.filter(one, where=expr("k > 2"))
    assert (some.lengths, some.most_rows) == (None, 12.5)
    met = merge(some, other, on="k")
    assert met.bound == 100 * 4 + 40 * 12.5
    assert np.isnan(merge(replace(one, nbytes=1e9), other, on="k").bound)  # whether it is large shows in the run
    far = replace(frame_of({"k": range(9)}, 4, "far"), nbytes=1e12)
    names = {str(key[0]).rpartition("-")[0] for key in merge(far, met, on="k").tasks}
    assert "whole" in names
    assert not names & {"measure", "plan"}


@pytest.mark.parametrize("n", [2, 33])
def test_a_join_of_many_partitions_keeps_every_row(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "SMALL", -1)
    got = merge(frame_of({"k": np.arange(500)}, n), frame_of({"k": np.arange(0, 500, 2)}, 2, "right"), on="k")
    assert sorted(table_of(got).column("k").to_pylist()) == list(range(0, 500, 2))


INTEGERS = {"int8": (-128, 127), "uint16": (0, 65535), "int64": (-(2**63), 2**63 - 1), "uint64": (0, 2**64 - 1)}


@SETTINGS
@given(st.data())
def test_whole_numbers_meet_wherever_they_lie_and_in_whatever_order(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(INTEGERS)))
    low, high = INTEGERS[name]
    start = data.draw(st.sampled_from([low, high - 30, max(low, -15)]))
    near = st.integers(start, start + 30)
    numbers = st.one_of(near, near, st.sampled_from([low, high])) if data.draw(st.booleans()) else near
    kind = getattr(pa, name)()
    left = pa.array(data.draw(st.lists(numbers, max_size=20)), kind)
    right = pa.array(data.draw(st.lists(numbers, max_size=20, unique=data.draw(st.booleans()))), kind)
    if data.draw(st.booleans()):
        right = right.sort()
    one = pa.table({"k": left, "x": pa.array(range(len(left)), pa.int64())})
    other = pa.table({"k": right, "y": pa.array(range(len(right)), pa.int64())})
    how: Any = data.draw(st.sampled_from(["inner", "left", "semi", "anti"]))
    got = merge(frame_of(one), frame_of(other, name="other"), on="k", how=how)
    assert records(table_of(got)) == joined(one, other, ["k"], how)  # in the order of the left


def test_keys_of_other_names_are_both_kept_in_their_types(plan: str) -> None:
    left = pa.table({"a": [1, 2, 3, None], "v": list("pqrs")})
    right = pa.table({"z": pa.array([3, 2, 2], pa.int32()), "v": [1.5, 2.5, 3.5], "w": [10, 20, 30]})
    fields = [pa.field("z", pa.int32(), False), pa.field("v", pa.float64(), False), pa.field("w", pa.int64())]
    x = frame_of(right.cast(pa.schema(fields)), 2, "right")
    got = merge(frame_of(left, 2), x, how="left", left_on="a", right_on="z", suffixes=["", "_right"])
    assert [(f.name, f.type, f.nullable) for f in got.schema] == [
        ("a", pa.int64(), True),
        ("v", pa.string(), True),
        ("z", pa.int32(), True),
        ("v_right", pa.float64(), True),
        ("w", pa.int64(), True),
    ]
    wanted = [(1, "p", None, None, None), (2, "q", 2, 2.5, 20), (2, "q", 2, 3.5, 30), (3, "r", 3, 1.5, 10)]
    same_rows(got, [*wanted, (None, "s", None, None, None)])
    assert not merge(frame_of(left), x, left_on="a", right_on="z").schema.field("a").nullable


def test_shared_keys_come_from_the_side_that_has_them() -> None:
    left = pa.table({"k": pa.array([1, 2], pa.int32()), "a": [1, 2]})
    right = pa.table({"k": pa.array([2, 2**40]), "b": [3, 4]})
    got = merge(frame_of(left), frame_of(right, name="right"), on="k", how="outer")
    assert got.schema.field("k").type == pa.int64()
    same_rows(got, [(1, 1, None), (2, 2, 3), (2**40, None, 4)])
    same_rows(merge(frame_of(left), frame_of(right, name="right"), on="k", how="right"), [(2, 2, 3), (2**40, None, 4)])


@pytest.mark.parametrize(
    "kinds", [("uint64", "int64"), ("int8", "uint64"), ("decimal", "int64"), ("decimal", "uint64")], ids="-".join
)
def test_whole_numbers_of_all_types_are_compared_exactly(kinds: tuple[str, str], plan: str) -> None:
    def column(kind: str, values: list[int]) -> pa.Array:
        exact = pa.decimal128(24, 2) if kind == "decimal" else pa.type_for_alias(kind)
        low = {"uint64": 0, "int8": -128}.get(kind, -(2**63))
        high = {"uint64": 2**64 - 1, "int8": 127, "int64": 2**63 - 1}.get(kind, 2**66)
        return pa.array([Decimal(v) if kind == "decimal" else v for v in values if low <= v <= high], exact)

    one = pa.table({"k": column(kinds[0], [2**63 + 1, 2, 3, 2**53 + 1])})
    other = pa.table({"k": column(kinds[1], [2, 2**63 + 1 - 2**64, -3, 2**53, 2**53 + 1])})
    shared = {int(v) for v in one["k"].to_pylist()} & {int(v) for v in other["k"].to_pylist()}
    for how in ("semi", "anti", "inner"):
        made = table_of(merge(frame_of(one, 2), frame_of(other, 2, "o"), on="k", how=how))
        got = {int(v) for v in made["k"].to_pylist()}
        assert got == (shared if how != "anti" else {int(v) for v in one["k"].to_pylist()} - shared)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (pa.array(["a", None, "b"]), pa.array(["b", "a", None]).dictionary_encode(), 2),
        (pa.array([0.0, -0.0, None]), pa.array([-0.0, 5.0], pa.float32()), 2),
        (pa.array([1, 2], pa.timestamp("s", "UTC")), pa.array([1000], pa.timestamp("ms", "Africa/Cairo")), 1),
        (pa.array([1, 2], pa.duration("s")), pa.array([2000], pa.duration("ms")), 1),
        (pa.array([b"a", b"a\0"]), pa.array([b"a\0"]), 1),
    ],
    ids=["categories", "zeros", "zones", "durations", "binary"],
)
def test_keys_are_compared_by_what_they_mean(one: pa.Array, other: pa.Array, equal: int, plan: str) -> None:
    if pa.types.is_dictionary(other.type):
        other = other.cast(pa.dictionary(pa.int32(), pa.string()))
    left, right = frame_of({"k": one, "a": range(len(one))}, 2), frame_of({"k": other, "b": range(len(other))}, 2, "o")
    assert table_of(merge(left, right, on="k")).num_rows == equal
    assert table_of(merge(left, right, on="k", how="anti")).num_rows == len(one) - equal


@pytest.mark.parametrize(
    ("one", "other"),
    [("int64", "float64"), ("int64", "string"), ("bool_", "int8"), ("date32", "int32"), ("float64", "bool_")],
)
def test_types_that_never_compare_equal_are_refused(one: str, other: str) -> None:
    frames = [frame_of({"k": pa.array([], getattr(pa, kind)())}) for kind in (one, other)]
    with pytest.raises(OpError, match=r"on: the keys 'k' of the left .* never compare equal; make them one type"):
        merge(*frames, on="k")


def test_lists_are_no_keys() -> None:
    x = frame_of({"l": [[1], None], "a": [1, 2]})
    with pytest.raises(OpError, match=r"column 'l' holds list\[int64\]; keys are single values"):
        merge(x, x, on="l")


def test_an_anti_join_keeps_missing_keys_and_ignores_theirs() -> None:
    left, right = frame_of({"k": [1, None, 2]}, 2), frame_of({"k": [None, 2]}, 2, "right")
    assert table_of(merge(left, right, on="k", how="anti")).column("k").to_pylist() == [1, None]


@SETTINGS
@given(
    with_frame(["s", "x=f"], largest=7), with_frame(["s", "z=f"], largest=7),
    st.sampled_from(HOWS), st.sampled_from(sorted(UNIQUE)),
)  # fmt: skip
def test_a_join_is_held_to_its_validation(left: Any, right: Any, how: Any, validate: Any) -> None:
    repeated = []
    for side in UNIQUE[validate]:
        keys = [value for value in (left, right)[side][0].column("s").to_pylist() if value is not None]
        repeated.append(min((k.encode() for k in keys if keys.count(k) > 1), default=None))
    made = merge(left[1], right[1], on="s", how=how, validate=validate)
    if any(key is not None for key in repeated):
        first = next(key for key in repeated if key is not None)
        with pytest.raises(DataError) as caught:
            table_of(made)
        assert str(caught.value).startswith("validate: the key s=")
        if len(repeated) == 1:
            assert f"the key s={first.decode()} repeats" in str(caught.value)
    else:
        same_rows(made, joined(left[0], right[0], ["s"], how))


def test_validation_names_the_smallest_key_that_repeats() -> None:
    keys = [9, 2**63 + 1, 7, 5, 7, 5, 2**63 + 1]
    left = frame_of({"k": pa.array(keys, pa.uint64()), "j": ["x"] * 7}, 7)
    right = frame_of({"k": pa.array([1]), "j": ["x"]}, name="right")
    for on, text in (("k", "k=5"), (["j", "k"], "j=x, k=5")):
        with pytest.raises(DataError, match=f"validate: the key {text} repeats on the left"):
            table_of(merge(left, right, on=on, validate="one_to_many"))


@pytest.mark.parametrize("how", ["inner", "left", "outer", "semi", "anti"])
def test_several_frames_are_joined_on_one_key(how: Any) -> None:
    a = pa.table({"k": [1, 2, 3], "v": [1, 2, 3], "a": ["a"] * 3})
    b = pa.table({"k": [2, 3, 4], "v": [4, 5, 6]})
    c = pa.table({"k": [3, 4, 5], "w": [7, 8, 9]})
    got = merge(frame_of(a, 2), frame_of(b, 2, "b"), frame_of(c, 2, "c"), on="k", how=how)
    rows = joined(a, b.rename_columns(["k", "u"]), ["k"], how)
    names = ["k", "v", "a"] if how in ("semi", "anti") else ["k", "v", "a", "u"]
    both = pa.table({name: pa.array([row[i] for row in rows]) for i, name in enumerate(names)})
    same_rows(got, joined(both, c, ["k"], how))
    if how == "inner":
        assert got.columns == ["k", "v_1", "a", "v_2", "w"]
        with pytest.raises(OpError, match="where: joins two frames, and there are 3"):
            merge(frame_of(a), frame_of(b), frame_of(c), on="k", where=expr("v > 1"))


def test_a_condition_sees_columns_under_their_new_names() -> None:
    line = pa.table({"order": [1, 1, 2, 3, 3], "supplier": [7, 8, 7, 9, 9]})
    x = frame_of(line, 2)
    for how, kept in (("semi", [1, 1]), ("anti", [2, 3, 3])):
        got = merge(x, frame_of(line, 3, "other"), on="order", how=how, where=expr("supplier_x != supplier_y"))
        assert sorted(table_of(got).column("order").to_pylist()) == kept
        assert got.columns == ["order", "supplier"]


def test_rows_are_in_the_order_of_the_left_then_of_the_right() -> None:
    left, right = frame_of({"k": [2, 1, 2, 4], "a": range(4)}), frame_of({"k": [3, 2, 1, 2], "b": range(4)}, name="o")
    rows = table_of(merge(left, right, on="k", how="outer"))
    assert rows.column("a").to_pylist() == [0, 0, 1, 2, 2, 3, None]
    assert rows.column("b").to_pylist() == [1, 3, 2, 1, 3, None, 0]


@pytest.mark.parametrize("how", HOWS)
def test_a_join_of_frames_without_rows(how: Any) -> None:
    empty = pa.table({"k": pa.array([], pa.int64())})
    full = pa.table({"k": [1, 2, None]})
    for one, other in ((empty, full), (full, empty), (empty, empty)):
        got = merge(frame_of(one, 2), frame_of(other, 2, "o"), on="k", how=how)
        same_rows(got, joined(one, other, ["k"], how))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "on: is missing"),
        ({"on": "k", "left_on": "k"}, "on: stands beside left_on or right_on"),
        ({"left_on": ["k"], "right_on": ["k", "v"]}, "right_on: got 2 columns for the 1 of left_on"),
        ({"on": "z"}, "'z' is no column of the input"),
        ({"left_on": "k", "right_on": "z"}, "right_on: 'z' is no column of the right side; its columns: k, v"),
        ({"on": "k", "suffixes": ["", ""]}, "would give two columns the name 'v'"),
        ({"on": "k", "suffixes": ["_a"]}, "give one for each of the 2 frames"),
        ({"on": "k", "how": "cross"}, "on: how: cross pairs all rows, without keys"),
        (
            {"on": "k", "where": expr("v > 1")},
            "where: column 1: 'v' is no column of the joined rows",
        ),
        ({"on": "k", "where": expr("v_x + 1")}, "where: gives int64, a condition is true or false"),
    ],
)
def test_a_fault_of_a_merge_is_said_while_building(keys: Any, message: str) -> None:
    x = frame_of({"k": [1], "v": [2]})
    with pytest.raises(OpError, match=message):
        merge(x, x, **keys)


def test_run_time_values_reach_conditions_and_windows(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("k,x\na,1\na,3\nb,5\n")
    text = """
        steps:
          f: {op: read_csv, path: f.csv}
          mean: {op: groupby, input: f, by: [], agg: {m: mean(x)}}
          joined: {op: merge, left: f, right: f, on: k, where: "x_x < ${mean.m}"}
          seen: {op: window, input: f, by: k, order: x, columns: {s: "cumsum(x - ${mean.m}) + max(x * ${mean.m})"}}
        """
    found = values_of(text, tmp_path)
    assert found["joined"].to_numpy().tolist() == [["a", 1, 1], ["a", 1, 3]]
    assert found["seen"].sort_values("x")["s"].tolist() == [7.0, 7.0, 17.0]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("how", ["inner", "outer"])
def test_a_time_that_the_other_unit_cannot_hold_names_its_key(how: Any, n: int, plan: str) -> None:
    left = {"k": pa.array([0, 0, 253402214400], pa.timestamp("s")), "a": [1, 2, 3]}
    right = {"k": pa.array([0, 1, 2], pa.timestamp("ns")), "b": [4, 5, 6]}
    with pytest.raises(DataError, match=r"key 'k': .*253402214400"):
        table_of(merge(frame_of(left, n), frame_of(right, n, "right"), on="k", how=how))
