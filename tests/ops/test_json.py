"""JSON as a frame: the same types and rows whatever the blocks, and faults that name file, column and cure."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from serially import partitions_of, rows_of

from pipeline.errors import DataError, OpError
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


def run(frame: Any) -> pd.DataFrame:
    return rows_of(frame)


@pytest.mark.parametrize("blocksize", [1, 40, 90, None])
@pytest.mark.parametrize("head", ["", "\n\n  ", "\ufeff"])
def test_rows_and_types_are_the_same_whatever_the_blocks(tmp_path: Path, blocksize: int | None, head: str) -> None:
    got = run(read_json(path=lines(tmp_path, head + LINES), blocksize=blocksize))
    want = pd.DataFrame(
        {
            "a": [1, 2, 3],
            "b": pd.Series(["2001-01-01T00:00:00", None, "x\ny é é"], dtype="str"),
            "c": [1.5, 2, np.nan],
            "d": pd.Series([True, None, False], dtype="boolean"),
            "e": [np.nan] * 3,
        }
    )
    pd.testing.assert_frame_equal(got, want)


def test_a_block_is_a_partition(tmp_path: Path) -> None:
    path = lines(tmp_path, '{"a": 1}\n' * 10)
    assert [len(part) for part in partitions_of(read_json(path=path, blocksize=27))] == [3, 3, 3, 1]


def test_a_list_of_objects_is_one_block(tmp_path: Path) -> None:
    path = lines(tmp_path, ' [{"t": "2001-01-01", "a": 1}, {"a": 2, "t": "2001-01-01T05:00:00"}]', "a.json")
    frame = read_json(path=path, cast={"t": "timestamp"}, blocksize=1)
    assert len(frame.keys) == 1
    assert run(frame)["t"].tolist() == [pd.Timestamp("2001-01-01"), pd.Timestamp("2001-01-01T05:00")]


def test_columns_in_the_order_asked_for_and_casts(tmp_path: Path) -> None:
    got = run(read_json(path=lines(tmp_path, LINES), columns=["c", "a"], cast={"a": "float32"}))
    assert dict(got.dtypes) == {"c": np.dtype("float64"), "a": np.dtype("float32")}
    assert got["a"].tolist() == [1, 2, 3]


def test_a_column_that_comes_late_is_read_where_it_has_a_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ops.sources.json.SAMPLE", 20)
    path = lines(tmp_path, '{"a": 1}\n' * 9 + '{"a": 1, "late": 5}\n')
    assert list(read_json(path=path).columns) == ["a"]
    with pytest.raises(OpError, match=r"'late' is no column of .* needs a cast"):
        read_json(path=path, columns=["a", "late"])
    got = run(read_json(path=path, cast={"late": "float64"}, blocksize=30))
    assert got["late"].tolist()[-1] == 5
    assert got["late"].isna().sum() == 9


def test_compressed_files_are_one_block_each_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"a": 2}\n{"a": 3}\n'))
    lines(tmp_path, '{"a": 1}\n')
    lines(tmp_path, "", "empty.jsonl")
    frame = read_json(path=f"{tmp_path}/*", blocksize=9)
    assert len(frame.keys) == 2
    assert run(frame)["a"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("text", ["", "\n \n", "[]"])
def test_no_rows_have_the_columns_that_are_named(tmp_path: Path, text: str) -> None:
    path = lines(tmp_path, text)
    got = run(read_json(path=path, columns=["b", "a"] if text != "[]" else None, cast={"a": "int64"}))
    assert len(got) == 0
    assert got["a"].dtype == np.int64


def test_what_is_no_text_is_its_json_where_it_is_cast_to_string(tmp_path: Path) -> None:
    path = lines(tmp_path, '{"m": {"é": [1]}, "v": "x", "n": 1}\n{"v": 2.5}\n{"m": null, "v": true, "n": 3}\n')
    got = run(read_json(path=path, cast={"m": "string", "v": "string"}, blocksize=30))
    assert got["m"].fillna("").tolist() == ['{"é": [1]}', "", ""]
    assert got["v"].tolist() == ["x", "2.5", "true"]
    assert run(read_json(path=path, columns=["n"]))["n"].tolist()[::2] == [1, 3]


def test_a_list_without_members_has_no_say_in_the_columns(tmp_path: Path) -> None:
    lines(tmp_path, "[]", "a.json")
    lines(tmp_path, '[{"k": 1}]', "b.json")
    assert run(read_json(path=f"{tmp_path}/*.json", columns=["k"]))["k"].tolist() == [1]


FAULTS = [
    ('{"a": [1], "b": 2}\n', {}, r"a.jsonl: column 'a' holds lists, maps, .* cast: \{a: string\}.* columns: \[b\]"),
    ("3", {}, "begins with '3'; JSON of rows is objects, one a line, or one list"),
    ("[{}, 1]", {}, "member 1 of the list is no object, but int"),
    ("[{]", {}, "is no JSON"),
    ('{"a": 1}\n{"a":', {}, "is no JSON of objects, one a line"),
    ('{"a": 1}\n{"a": "x"}', {}, "column 'a' holds .* values of several kinds"),
    ('{"b": 1, "a": 1.5}', {"a": "int64"}, r"column 'a': 1.5 is no int64, .* cure: cast: \{a: float64\}"),
    ('{"a": 300}', {"a": "uint8"}, "column 'a': 300 is no uint8"),
    ('{"a": 1}\n{"a": null}', {"a": "int64"}, "column 'a': has 1 missing values, which int64 can't hold"),
    ('{"a": "x"}', {"a": "float64"}, "column 'a': has a string, which is no float64"),
    ('{"a": "soon"}', {"a": "timestamp"}, "column 'a': "),
]


@pytest.mark.parametrize(("text", "cast", "message"), FAULTS, ids=[message for *_, message in FAULTS])
def test_what_is_wrong_is_told_with_file_column_and_cure(tmp_path: Path, text: str, cast: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        run(read_json(path=lines(tmp_path, text), cast=cast))
    assert "a.jsonl: " in str(caught.value)


def test_a_later_value_that_does_not_fit_fails_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ops.sources.json.SAMPLE", 20)
    frame = read_json(path=lines(tmp_path, '{"a": 1}\n' * 9 + '{"a": 1.5}\n'), blocksize=30)
    with pytest.raises(DataError, match=r"column 'a': 1.5 is no int64, its type by the first rows or cast; cure"):
        run(frame)
