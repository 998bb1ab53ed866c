"""JSON as a frame: the same types and rows whatever the blocks, and faults that name file, column and cure."""

from __future__ import annotations

import datetime
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import partitions_of, table_of
from strategies import SETTINGS

from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import type_name
from pipeline.ops.sources.json import read_json

LINES = (
    '{"a": 1, "b": "2001-01-01T00:00:00", "c": 1.5, "d": true}\n'
    '{"a": 2, "b": null, "c": 2, "e": null}\n'
    "\n"
    '{"d": false, "a": 3, "c": null, "b": "x\\ny é \\u00e9"}'
)


def lines(folder: Path, text: str, name: str = "a.jsonl") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def read(path: str, **options: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = table_of(read_json(path=path, **options)).to_pydict()
    return found


@pytest.mark.parametrize("blocksize", [1, 40, 90, None])
@pytest.mark.parametrize("head", ["", "\n\n  ", "\ufeff"])
def test_rows_and_types_are_the_same_whatever_the_blocks(tmp_path: Path, blocksize: int | None, head: str) -> None:
    frame = read_json(path=lines(tmp_path, head + LINES), blocksize=blocksize)
    assert [str(kind) for kind in frame.schema.types] == ["int64", "string", "double", "bool", "double"]
    assert table_of(frame).to_pydict() == {
        "a": [1, 2, 3],
        "b": ["2001-01-01T00:00:00", None, "x\ny é é"],
        "c": [1.5, 2, None],
        "d": [True, None, False],
        "e": [None, None, None],
    }


NESTED = (
    '{"m": {"x": 1, "t": "2001-01-01"}, "l": [1, 2.5], "o": [{"k": null}]}\n'
    '{"m": null, "l": null, "o": []}\n'
    '{"m": {"y": [9007199254740993]}, "l": [], "o": [{"k": "v"}]}\n'
)


@pytest.mark.parametrize("blocksize", [1, None])
def test_objects_are_structs_and_lists_are_lists(tmp_path: Path, blocksize: int | None) -> None:
    frame = read_json(path=lines(tmp_path, NESTED), blocksize=blocksize)
    assert [type_name(kind) for kind in frame.schema.types] == [
        "struct[x: int64, t: string, y: list[int64]]",
        "list[float64]",
        "list[struct[k: string]]",
    ]
    got = table_of(frame).to_pydict()
    assert got["m"][2] == {"x": None, "t": None, "y": [2**53 + 1]}
    assert got["l"] == [[1.0, 2.5], None, []]
    assert got["o"] == [[{"k": None}], [], [{"k": "v"}]]


@pytest.mark.parametrize(
    ("values", "kind", "want"),
    [
        ("1 null 9007199254740993", "int64", [1, None, 2**53 + 1]),
        ("18446744073709551615 1", "uint64", [2**64 - 1, 1]),
        ("18446744073709551615 -1", "decimal(38, 0)", [Decimal(2**64 - 1), Decimal(-1)]),
        ("1 2.5", "float64", [1.0, 2.5]),
        ('"NA" ""', "string", ["NA", ""]),
    ],
)
def test_whole_numbers_are_exact(tmp_path: Path, values: str, kind: str, want: list[Any]) -> None:
    text = "".join(f'{{"a": {value}}}\n' for value in values.split())
    for path in (lines(tmp_path, text), lines(tmp_path, f"[{','.join(text.splitlines())}]", "b.json")):
        frame = read_json(path=path)
        assert type_name(frame.schema.types[0]) == kind
        assert table_of(frame)["a"].to_pylist() == want


def test_types_are_common_to_all_files(tmp_path: Path) -> None:
    lines(tmp_path, '{"a": 1, "m": {"x": 1}}\n' * 2000)
    lines(tmp_path, '{"m": {"y": "u"}, "a": 1.5}\n', "b.jsonl")
    frame = read_json(path=f"{tmp_path}/*", source_file="from")
    assert [type_name(kind) for kind in frame.schema.types] == ["float64", "struct[x: int64, y: string]", "string"]
    assert table_of(frame)["from"].to_pylist()[-1] == str(tmp_path / "b.jsonl")
    lines(tmp_path, '{"a": 1, "z": 1}\n', "c.jsonl")
    with pytest.raises(DataError, match=r"c\.jsonl: has a column 'z', .*a\.jsonl has none; .*columns: union"):
        read_json(path=f"{tmp_path}/*")
    assert read(f"{tmp_path}/*", columns="union")["z"][-2:] == [None, 1]
    lines(tmp_path, '{"a": "x"}\n', "c.jsonl")
    with pytest.raises(DataError, match=r"c\.jsonl: column 'a' holds values of several kinds"):
        read_json(path=f"{tmp_path}/*")


def test_a_block_is_a_partition(tmp_path: Path) -> None:
    path = lines(tmp_path, '{"a": 1}\n' * 10)
    assert [len(part) for part in partitions_of(read_json(path=path, blocksize=27))] == [3, 3, 3, 1]


def test_a_list_of_objects_is_one_block(tmp_path: Path) -> None:
    path = lines(tmp_path, ' [{"t": "2001-01-01", "a": 1}, {"a": 2, "t": "2001-01-01T05:00:00"}]', "a.json")
    frame = read_json(path=path, cast={"t": "timestamp"}, blocksize=1)
    assert len(frame.keys) == 1
    assert table_of(frame)["t"].to_pylist() == [pd.Timestamp("2001-01-01"), pd.Timestamp("2001-01-01T05:00")]


def test_columns_in_the_order_asked_for_and_casts(tmp_path: Path) -> None:
    got = table_of(read_json(path=lines(tmp_path, LINES), columns=["c", "a"], cast={"a": "float32"}))
    assert [str(kind) for kind in got.schema.types] == ["double", "float"]
    assert got["a"].to_pylist() == [1, 2, 3]


def test_a_key_that_comes_late_is_read_where_it_has_a_type(tmp_path: Path) -> None:
    path = lines(tmp_path, '{"a": 1}\n' * 1200 + '\n{"a": 1, "late": 5}\n')
    assert list(read_json(path=path).columns) == ["a"]
    with pytest.raises(DataError, match=r"a\.jsonl:1202: has a key 'late', which no object has among the first 1,000"):
        read(path)
    assert read(path, columns=["a"])["a"][-1] == 1
    with pytest.raises(OpError, match=r"'late' is no column of .* needs a cast"):
        read_json(path=path, columns=["a", "late"])
    got = read(path, cast={"late": "int64"}, blocksize=3000)
    assert got["late"] == [None] * 1200 + [5]


def test_compressed_files_are_one_block_each_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"a": 2}\n{"a": 3}\n'))
    lines(tmp_path, '{"a": 1}\n')
    lines(tmp_path, "", "empty.jsonl")
    frame = read_json(path=f"{tmp_path}/*", blocksize=9)
    assert len(frame.keys) == 2
    assert table_of(frame)["a"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("text", ["", "\n \n", "[]"])
def test_no_rows_have_the_columns_that_are_named(tmp_path: Path, text: str) -> None:
    path = lines(tmp_path, text)
    frame = read_json(path=path, columns=["b", "a"] if text != "[]" else None, cast={"a": "int64"})
    got = table_of(frame)
    assert got.num_rows == 0
    assert str(got.schema.field("a").type) == "int64"


def test_what_is_no_text_is_its_json_where_it_is_cast_to_string(tmp_path: Path) -> None:
    path = lines(tmp_path, '{"m": {"é": [1]}, "v": "x", "n": 1}\n{"v": 2.5}\n{"m": null, "v": true, "n": 3}\n')
    got = read(path, cast={"m": "string", "v": "string"}, blocksize=30)
    assert got["m"] == ['{"é": [1]}', None, None]
    assert got["v"] == ["x", "2.5", "true"]
    assert read(path, columns=["n"])["n"] == [1, None, 3]


def test_casts_reach_into_objects_and_lists(tmp_path: Path) -> None:
    path = lines(tmp_path, '{"m": {"x": 1, "t": "2001-01-01"}, "l": ["2001-01-02"], "s": ["u"]}\n{"m": null}\n')
    cast = {"m": "struct[x: int32, t: timestamp]", "l": "list[date]", "s": "string"}
    frame = read_json(path=path, cast=cast)
    assert [type_name(kind) for kind in frame.schema.types] == list(cast.values())
    got = table_of(frame).to_pydict()
    assert got["m"] == [{"x": 1, "t": datetime.datetime(2001, 1, 1)}, None]
    assert got["l"] == [[datetime.date(2001, 1, 2)], None]
    assert got["s"] == ['["u"]', None]


@pytest.mark.parametrize("suffix", ["", ".zst"])
def test_lines_may_be_longer_than_what_is_looked_at_first(tmp_path: Path, suffix: str) -> None:
    data = json.dumps({"a": "x" * 5_000_000}).encode() + b"\n" + b'{"a": "y"}\n' * 3
    (tmp_path / f"a.jsonl{suffix}").write_bytes(pa.compress(data, "zstd", asbytes=True) if suffix else data)
    assert [len(text) for text in read(f"{tmp_path}/a.jsonl{suffix}", blocksize=1_000_000)["a"]] == [5_000_000, 1, 1, 1]


def test_a_list_without_members_has_no_say_in_the_columns(tmp_path: Path) -> None:
    lines(tmp_path, "[]", "a.json")
    lines(tmp_path, '[{"k": 1}]', "b.json")
    assert read(f"{tmp_path}/*.json", columns=["k"])["k"] == [1]


FAULTS = [
    ("3", {}, "a.jsonl: begins with '3'; JSON of rows is objects, one a line, or one list"),
    ("[{}, 1]", {}, "a.jsonl: member 1 of the list is no object, but int"),
    ('[{"a": 1},\n\n{]', {}, "a.jsonl:3: is no JSON"),
    ('\n{"a": 1}\n{"a":', {}, "a.jsonl:3: is no JSON of objects, one a line"),
    ('{"a": 1}\n\n[1]', {}, "a.jsonl:3: is no object, but list"),
    ('{"a": 1, "b": 2}\n{"a": "x"}', {}, r"column 'a' holds values of several .*cast: {a: string}.* columns: \[b\]"),
    ('{"a": 1}\n\n{"a": 1, "a": 2}', {}, r"a.jsonl:3: is no JSON of .* \(Column\(/a\) was specified twice\)"),
    ('{"a": {}}', {}, "column 'a' holds values of several kinds"),
    ('{"b": 1, "a": 1.5}', {"a": "int64"}, r"a.jsonl:1: column 'a': 1.5 is no int64, .* cure: cast: {a: float64}"),
    ('{"a": 3}\n{"a": 300}', {"a": "uint8"}, "a.jsonl:2: column 'a': 300 is no uint8.*cure: cast: {a: int64}"),
    ('[{"a": 3},{"a": 300}]', {"a": "uint8"}, "a.jsonl: member 1 of the list: column 'a': 300 is no uint8"),
    ('{"a": 1.5}\n{"a": "x"}', {"a": "float64"}, "a.jsonl:2: column 'a': \"x\" is no float64"),
    (
        '{"a": 1.5}\n{"a": 9007199254740993}',
        {},
        "a.jsonl:2: column 'a': has a whole number that no float64 equals; cure: cast: {a: string}, or",
    ),
    ('{"a": [1.5]}\n{"a": [9007199254740993]}', {}, "a.jsonl:2: column 'a': has a whole number that no float64"),
    ('{"a": ""}\n\n{"a": "soon"}', {"a": "timestamp"}, "a.jsonl:1: column 'a': "),
    ('{"a": "2001-01-01"}\n\n{"a": "soon"}', {"a": "timestamp"}, "a.jsonl:3: column 'a': .*soon"),
    ("\ufeff{}".encode("utf-16"), {}, "a.jsonl: begins as text in UTF-16 does; JSON is UTF-8"),
    (b'{"a": "x"}\n{"a": "\xff"}\n', {}, "a.jsonl:2: has what is no UTF-8"),
]


@pytest.mark.parametrize(("text", "cast", "message"), FAULTS, ids=[message for *_, message in FAULTS])
def test_what_is_wrong_is_told_with_line_column_and_cure(
    tmp_path: Path, text: str | bytes, cast: Any, message: str
) -> None:
    path = lines(tmp_path, "")
    Path(path).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        read(path, cast=cast)


@pytest.mark.parametrize("blocksize", [300, None])
@pytest.mark.parametrize(
    ("late", "cure"), [('{"a": 1.5, "m": {"x": 1}}', "a: float64"), ('{"a": 1, "m": {"x": 1, "y": 2}}', "m: string")]
)
def test_a_later_value_that_does_not_fit_fails_its_task(
    tmp_path: Path, late: str, cure: str, blocksize: int | None
) -> None:
    path = lines(tmp_path, '{"a": 1, "m": {"x": 1}}\n\n' * 1000 + late + "\n")
    with pytest.raises(
        DataError, match=rf"a\.jsonl:2001: column '{cure[0]}': .*by the first 1,000 rows; cure: cast: {{{cure}"
    ):
        read(path, blocksize=blocksize)
    assert len(read(path, blocksize=blocksize, cast=dict([cure.split(": ")]))["a"]) == 1001


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"), max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("pq"), inner, max_size=2),
    max_leaves=4,
)


@SETTINGS
@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), values), min_size=1, max_size=5), st.sampled_from([1, 30, None])
)
def test_what_python_writes_as_json_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], blocksize: int | None
) -> None:
    folder = tmp_path_factory.mktemp("json")
    rows = [{"id": i, **row} for i, row in enumerate(rows)]
    path = lines(folder, "".join(json.dumps(row) + "\n" for row in rows))
    other = lines(folder, json.dumps(rows), "b.json")
    cast = dict.fromkeys("abc", "string")
    try:
        frame = read_json(path=path, blocksize=blocksize)
    except DataError as error:
        assert "values of several kinds" in str(error)  # noqa: PT017
        frame = read_json(path=path, blocksize=blocksize, cast=cast)
        for got, row in zip(table_of(frame).to_pylist(), rows, strict=True):
            present = {key: value for key, value in row.items() if value is not None}
            texts = {
                k: v if k == "id" or isinstance(v, str) else json.dumps(v, ensure_ascii=False)
                for k, v in present.items()
            }
            assert {key: value for key, value in got.items() if value is not None} == texts
        return
    got = table_of(frame).to_pylist()
    assert table_of(read_json(path=other)).to_pylist() == got
    assert [trimmed(row) for row in got] == [trimmed(row) for row in rows]


def trimmed(value: Any) -> Any:
    """A value without the members of objects that are missing."""
    if isinstance(value, dict):
        return {key: trimmed(each) for key, each in value.items() if each is not None}
    return [trimmed(each) for each in value] if isinstance(value, list) else value
