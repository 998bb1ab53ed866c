"""explode, unnest, melt, concat by name, select with expressions."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import frame_of, graph_of, table_of, values_of
from strategies import SETTINGS

from pipeline.config.expressions.expression import parse
from pipeline.errors import DataError, OpError
from pipeline.ops.frames.nested import explode, melt, unnest
from pipeline.ops.frames.select import concat, select

LISTS = pa.table({
    "k": pa.array([1, 2, 3, 4, 5], pa.int8()),
    "tags": pa.array([["a", "b"], [], None, [None], ["c"]]),
    "n": pa.array([[2**53 + 1, 2], [], None, [3], [4]]),
})  # fmt: skip


def rows(frame: Any) -> list[tuple[Any, ...]]:
    return sorted(zip(*table_of(frame).to_pydict().values(), strict=True), key=repr)


# -- explode ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_a_list_becomes_rows_and_an_empty_one_stays_a_row(n: int) -> None:
    got = explode(frame_of(LISTS, n), columns=["tags", "n"], position="at")
    assert got.schema == pa.schema([("k", pa.int8()), ("tags", pa.string()), ("n", pa.int64()), ("at", pa.int64())])
    assert rows(got) == sorted([
        (1, "a", 2**53 + 1, 0), (1, "b", 2, 1), (2, None, None, None), (3, None, None, None), (4, None, 3, 0),
        (5, "c", 4, 0),
    ], key=repr)  # fmt: skip
    dropped = explode(frame_of(LISTS.select(["k", "n"]), n), columns="n", empty="drop")
    assert rows(dropped) == [(1, 2), (1, 2**53 + 1), (4, 3), (5, 4)]


@SETTINGS
@given(
    st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-9, 9)), max_size=3)), max_size=6),
    st.integers(1, 3),
)
def test_explode_gives_what_pandas_gives(values: list[Any], n: int) -> None:
    table = pa.table({"k": pa.array(range(len(values)), pa.int64()), "x": pa.array(values, pa.list_(pa.int64()))})
    want = pd.DataFrame({"k": range(len(values)), "x": pd.Series(values, dtype=object)}).explode("x")
    expected = [(k, None if x is None or x != x else x) for k, x in zip(want["k"], want["x"], strict=True)]
    got = table_of(explode(frame_of(table, n), columns="x")).to_pydict()
    assert list(zip(got["k"], got["x"], strict=True)) == expected


def test_lists_of_different_lengths_are_named() -> None:
    table = pa.table({"a": [[1, 2]], "b": [[1]]})
    with pytest.raises(DataError, match="not equally long: 'a' has 2, 'b' 1; explode one after the other"):
        table_of(explode(frame_of(table), columns=["a", "b"]))
    with pytest.raises(OpError, match="columns: 'k' is int8; rows are made of lists"):
        explode(frame_of(LISTS), columns="k")
    with pytest.raises(OpError, match="position: 'k' is a column of the input"):
        explode(frame_of(LISTS), columns="tags", position="k")


# -- unnest -----------------------------------------------------------------------------------------------------------

PLACE = pa.struct([("city", pa.string()), ("at", pa.struct([("lat", pa.float64()), ("lon", pa.float64())]))])
STRUCTS = pa.table({
    "k": [1, 2, 3],
    "place": pa.array([{"city": "Ulm", "at": {"lat": 48.4, "lon": 10.0}}, None, {"city": None, "at": None}], PLACE),
    "z": ["x", "y", "z"],
})  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_members_of_a_struct_become_columns(n: int) -> None:
    got = unnest(frame_of(STRUCTS, n))
    assert got.columns == ["k", "place_city", "place_at", "z"]
    assert table_of(got)["place_city"].to_pylist() == ["Ulm", None, None]
    deep = unnest(frame_of(STRUCTS, n), columns="place", deep=True, prefix=False)
    assert table_of(deep).to_pydict() == {
        "k": [1, 2, 3], "city": ["Ulm", None, None], "lat": [48.4, None, None], "lon": [10.0, None, None],
        "z": ["x", "y", "z"],
    }  # fmt: skip
    assert unnest(frame_of(STRUCTS, n), deep=True).columns == ["k", "place_city", "place_at_lat", "place_at_lon", "z"]


def test_json_text_becomes_columns_of_its_type() -> None:
    texts = ['{"id": 9007199254740993, "price": 0.10, "tags": [{"t": "a", "more": 1}], "else": {}}', None, "{}"]
    kind = "struct[id: int64, price: decimal(9, 2), tags: list[struct[t: string]]]"
    got = unnest(frame_of({"k": [1, 2, 3], "j": texts}, 2), columns="j", prefix=False, from_json=kind)
    assert table_of(got).to_pydict() == {
        "k": [1, 2, 3], "id": [2**53 + 1, None, None], "price": [Decimal("0.10"), None, None],
        "tags": [[{"t": "a"}], None, None],
    }  # fmt: skip


@pytest.mark.parametrize(("text", "message"), [
    ('{"id": 1.5}', "column 'j' got '{\"id\": 1.5}', which does not fit struct"),
    ("{id: 1}", "column 'j' got '{id: 1}', which is no JSON"),
    ("[" * 100_000, "which is no JSON"),
    ('{"id": 1', "which is no JSON"),
    ("[1]", "which does not fit struct"),
    ('{"id": true}', "which does not fit struct"),
    ('{"yes": 1}', "which does not fit struct"),
    ('{"id": {}}', "which does not fit struct"),
    ('{"id": 1, "id": 2}', "which does not fit struct"),
    ('{"in": [{"x": 1, "x": 1}]}', "which does not fit struct"),
])  # fmt: skip
def test_json_that_does_not_fit_is_named(text: str, message: str) -> None:
    kind = "struct[id: int64, yes: bool, in: list[struct[x: float64]]]"
    with pytest.raises(DataError, match=message):
        table_of(unnest(frame_of({"j": ["{}", text]}), columns="j", from_json=kind))


@pytest.mark.parametrize(("how", "message"), [
    ({"columns": "k"}, "columns: 'k' is int64; columns are made of structs"),
    ({"columns": "place", "from_json": "struct[a: int64]"}, "JSON is text"),
    ({"columns": "z", "from_json": "int64"}, "from_json: got int64; columns are made of struct"),
])  # fmt: skip
def test_what_can_not_be_unnested_is_told_while_building(how: dict[str, Any], message: str) -> None:
    with pytest.raises(OpError, match=message):
        unnest(frame_of(STRUCTS), **how)
    table = STRUCTS.append_column("place_city", pa.array(["a", "b", "c"]))
    with pytest.raises(OpError, match="'place_city' would be the name of two columns; rename one of them before"):
        unnest(frame_of(table))
    with pytest.raises(OpError, match="has no column of structs"):
        unnest(frame_of({"a": [1]}))


# -- melt -------------------------------------------------------------------------------------------------------------


@SETTINGS
@given(st.lists(st.tuples(*[st.one_of(st.none(), st.integers(-99, 99))] * 3), max_size=5), st.integers(1, 3))
def test_melt_gives_what_pandas_gives(values: list[Any], n: int) -> None:
    columns = [list(column) for column in zip(*values, strict=True)] or [[], [], []]
    table = pa.table({name: pa.array(column, pa.int64()) for name, column in zip("kab", columns, strict=True)})
    frame = pd.DataFrame({name: pd.array(column, "Int64") for name, column in zip("kab", columns, strict=True)})
    want = frame.melt(id_vars="k").astype(object)
    expected = [tuple(None if x is pd.NA else x for x in row) for row in want.itertuples(index=False)]
    got = melt(frame_of(table, n), id="k")
    assert rows(got) == sorted(expected, key=repr)
    assert got.lengths is None


def test_melt_in_a_file_names_the_column_of_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("k,a,b\n1,2,3\n")
    text = "steps: {f: {op: read_csv, path: a.csv}, tall: {op: melt, input: f, id: k%s}}"
    for option, name in ((", name: what", "what"), ("", "variable")):
        assert list(values_of(text % option, tmp_path)["tall"].columns) == ["k", name, "value"]


def test_columns_of_several_types_melt_into_the_common_one() -> None:
    table = pa.table({"k": ["x"], "a": pa.array([1], pa.int8()), "b": pa.array([2.5]), "c": pa.array([2**40])})
    got = table_of(melt(frame_of(table), id="k", columns=["b", "a"], name="which", value="v"))
    assert got.to_pydict() == {"k": ["x", "x"], "which": ["b", "a"], "v": [2.5, 1.0]}
    assert table_of(melt(frame_of(table), id=[], columns=["a", "c"]))["value"].to_pylist() == [1, 2**40]
    for how, message in (
        ({"id": "k"}, "columns: the columns are int8 and double and int64|columns are int8 and float64 and int64"),
        ({"id": "k", "columns": ["a", "a"]}, "'a' is named twice"),
        ({"id": ["k", "a"], "columns": ["a"]}, "'a' is named twice"),
        ({"id": "k", "columns": ["a"], "name": "k"}, "name: 'k' would be the name of two columns"),
        ({"id": "k", "columns": ["a"], "name": "v", "value": "v"}, "would be the name of two columns"),
        ({"id": ["k", "a", "b", "c"]}, "no column is left"),
        ({"id": "kk"}, "'kk' is no column"),
    ):
        with pytest.raises(OpError, match=message):
            melt(frame_of(table), **how)


# -- concat, select ---------------------------------------------------------------------------------------------------


def test_concat_takes_the_columns_of_all_by_name() -> None:
    one = frame_of({"a": pa.array([1], pa.int8()), "b": ["x"]}, name="one")
    two = frame_of({"c": [0.5], "a": pa.array([2], pa.int16())}, name="two")
    got = concat(one, two, columns="union")
    assert table_of(got).to_pydict() == {"a": [1, 2], "b": ["x", None], "c": [None, 0.5]}
    assert got.schema.field("a").type == pa.int16()
    with pytest.raises(OpError, match=r"'b' is a column of input 1 and not of input 2; .* or write columns: union"):
        concat(one, two)


def test_select_takes_expressions_over_the_columns_of_the_input() -> None:
    table = pa.table({"x": [1, 2], "y": [0.5, None]})
    got = select(frame_of(table, 2), columns={"y": parse("x", "columns"), "x": parse("x * 2", "columns")})
    assert table_of(got).to_pydict() == {"y": [1, 2], "x": [2, 4]}
    with pytest.raises(OpError, match=r"columns\.z: column 1: 'zz' is no column"):
        select(frame_of(table), columns={"z": parse("zz + 1", "columns")})


def test_all_of_them_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        '{"k": 1, "tags": ["a", "b"], "p": {"x": 1.5}}\n{"k": 2, "tags": [], "p": null}\n'
    )
    text = """
    params: {times: 10}
    steps:
      f: {op: read_json, path: rows.jsonl}
      e: {op: explode, input: f, columns: tags, position: at}
      u: {op: unnest, input: e, columns: [p], prefix: false}
      s: {op: select, input: u, columns: {k: k, ten: "k * ${times}", tags: tags}}
      m: {op: melt, input: s, id: [], columns: [k, ten]}
      c: {op: concat, input: [s, m], columns: union}
    keep: [u, s]
    """
    got = values_of(text, tmp_path)
    assert got["u"]["x"].tolist()[:2] == [1.5, 1.5]
    assert got["s"]["ten"].tolist() == [10, 10, 20]
    assert len(got["c"]) == 9
    graph = graph_of(text.replace("    keep: [u, s]\n", ""), tmp_path)
    assert "p" not in graph.value_types["s"].schema.names
