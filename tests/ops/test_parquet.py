"""``read_parquet``: exact types, one schema of all files, folders as columns, parts of large files."""

from __future__ import annotations

import datetime
import decimal
import tempfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_tables import STORED, tables
from hypothesis import given
from hypothesis import strategies as st
from named_ops import sources
from serially import table_of
from strategies import SETTINGS

from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import natural_type


def table() -> pa.Table:
    return pa.table(
        {
            "price": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("3.00")]),
            "day": pa.array([datetime.date(2000, 1, 2), None, datetime.date(1969, 7, 20)]),
            "name": pa.array(["a", None, "c"]),
            "n": pa.array([1, 2, 3], pa.int32()),
            "m": pa.array([1, None, 2**53 + 1]),
            "ok": pa.array([True, None, False]),
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "at": pa.array([0, 1, None], pa.timestamp("ms", "UTC")),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("parquet")
    for year in (2000, 2001):
        (path / f"p/year={year}").mkdir(parents=True)
        pq.write_table(table(), path / f"p/year={year}/part.parquet", row_group_size=2)
    return str(path)


def files_of(folder: Path, *tables: Any, **options: Any) -> str:
    for i, columns in enumerate(tables):
        whole = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(whole, folder / f"{i}.parquet", **options)
    return str(folder)


def types_of(frame: Any) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in frame.schema}


# ---------------------------------------------------------------------------------------------------------------------
# Types and values
# ---------------------------------------------------------------------------------------------------------------------


def test_columns_have_the_types_and_values_that_are_stored(folder: str) -> None:
    frame = sources.read_parquet(path=f"{folder}/p/year=2000/part.parquet")
    stored = table()
    assert types_of(frame) == {field.name: field.type for field in stored.schema}
    assert table_of(frame).to_pydict() == stored.to_pydict()
    assert [field.name for field in frame.schema if not field.nullable] == ["n", "kind"]


def test_without_statistics_every_column_may_have_missing_values(tmp_path: Path) -> None:
    path = files_of(tmp_path, {"a": [1, 2], "f": [0.5, 1.5]}, write_statistics=False)
    assert [field.nullable for field in sources.read_parquet(path=path).schema] == [True, True]
    path = files_of(tmp_path, {"a": [1, 2], "f": [0.5, float("nan")]})
    frame = sources.read_parquet(path=path)
    assert [field.nullable for field in frame.schema] == [False, True]
    assert table_of(frame).to_pydict() == {"a": [1, 2], "f": [0.5, None]}


def test_one_missing_value_in_a_later_file_is_known_while_building(tmp_path: Path) -> None:
    frame = sources.read_parquet(
        path=files_of(tmp_path, {"a": [1], "b": [1]}, {"a": pa.array([None], "int64"), "b": [2]})
    )
    assert [field.nullable for field in frame.schema] == [True, False]
    assert table_of(frame).column("a").to_pylist() == [1, None]


@SETTINGS
@given(st.data())
def test_every_type_comes_as_it_is_stored(data: st.DataObject) -> None:
    stored = data.draw(tables(STORED))
    with tempfile.TemporaryDirectory() as place:
        pq.write_table(stored, f"{place}/x.parquet", row_group_size=data.draw(st.integers(1, 4)))
        frame = sources.read_parquet(
            path=f"{place}/x.parquet", split=data.draw(st.sampled_from(["files", "row_groups"]))
        )
        got = table_of(frame)
    assert types_of(frame) == {field.name: natural_type(field.type) for field in stored.schema}
    for name in stored.column_names:
        want = stored.column(name)
        assert got.column(name).to_pylist() == want.cast(natural_type(want.type)).to_pylist()
        assert frame.schema.field(name).nullable or not want.null_count


# ---------------------------------------------------------------------------------------------------------------------
# Several files
# ---------------------------------------------------------------------------------------------------------------------


def test_files_without_values_of_a_column_do_not_decide_its_type(tmp_path: Path) -> None:
    nulls, times = pa.nulls(1), pa.array([5], pa.timestamp("ms", "UTC"))
    path = files_of(
        tmp_path,
        {"t": nulls, "i": nulls, "b": [True], "s": nulls, "z": times},
        {"t": ["x"], "i": [7], "b": [None], "s": ["y"], "z": times.cast(pa.timestamp("ns", "UTC"))},
        {"t": pa.array([], pa.float64()), "i": pa.array([], pa.string()), "b": pa.array([], pa.int8()),
         "s": pa.array([], pa.date32()), "z": pa.array([], pa.int64())},
        {"t": ["z"], "i": [8], "b": [False], "s": nulls, "z": times},
    )  # fmt: skip
    frame = sources.read_parquet(path=path)
    got = table_of(frame).to_pydict()
    assert list(types_of(frame).values()) == [
        *(pa.string(), pa.int64(), pa.bool_(), pa.string(), pa.timestamp("ns", "UTC")),
    ]
    assert got["i"] == [None, 7, 8]
    assert got["b"] == [True, None, False]
    assert got["t"] == [None, "x", "z"]


def test_types_of_files_widen_as_far_as_values_stay_exact(tmp_path: Path) -> None:
    path = files_of(
        tmp_path,
        {"a": pa.array([200], "uint8"), "k": ["x"]},
        {"a": pa.array([-5], "int8"), "k": pa.array(["y"]).dictionary_encode()},
    )
    frame = sources.read_parquet(path=path)
    assert types_of(frame) == {"a": pa.int16(), "k": pa.string()}
    assert table_of(frame).to_pydict() == {"a": [200, -5], "k": ["x", "y"]}
    path = files_of(tmp_path, {"a": [2**53 + 1]}, {"a": [0.5]})
    with pytest.raises(
        DataError, match=r"1\.parquet: column 'a' is float64, in .*0\.parquet int64; no type holds both: cast"
    ):
        sources.read_parquet(path=path)


def test_columns_that_not_every_file_has_once_are_faults(tmp_path: Path) -> None:
    path = files_of(tmp_path, {"a": [1], "b": [2], "c": [3]}, {"a": [1], "c": [2]})
    for cast in (None, {"b": "float32"}):
        with pytest.raises(
            DataError, match=r"1\.parquet: has no column 'b', .*0\.parquet .* all files have: columns: \[a, c\]"
        ):
            sources.read_parquet(path=path, cast=cast)
    files_of(tmp_path, pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(DataError, match=r"0\.parquet: has 2 columns 'a'"):
        sources.read_parquet(path=f"{tmp_path}/0.parquet")


def test_a_column_that_only_a_later_file_has_is_a_fault(tmp_path: Path) -> None:
    path = files_of(tmp_path, {"a": [1]}, {"z": ["x"], "a": [2]})
    said = r"1\.parquet: has a column 'z', .*0\.parquet has none; .*columns: \[a\].*columns: union"
    with pytest.raises(DataError, match=said):
        sources.read_parquet(path=path)
    assert table_of(sources.read_parquet(path=path, columns=["a"])).to_pydict() == {"a": [1, 2]}
    frame = sources.read_parquet(path=path, columns="union")
    assert table_of(frame).to_pydict() == {"a": [1, 2], "z": [None, "x"]}
    assert [field.nullable for field in frame.schema] == [False, True]


def test_only_needed_columns_are_read(folder: str) -> None:
    frame = sources.read_parquet(path=f"{folder}/p", columns=["m", "n", "year"], needed={"year", "m"})
    assert frame.columns == ["m", "year"]
    assert table_of(frame).column("m").to_pylist() == [1, None, 2**53 + 1] * 2
    assert sources.read_parquet(path=f"{folder}/p", needed=set()).columns == ["price"]


# ---------------------------------------------------------------------------------------------------------------------
# Folders and parts
# ---------------------------------------------------------------------------------------------------------------------


def test_folders_are_columns_and_row_groups_partitions(folder: str) -> None:
    whole = sources.read_parquet(path=f"{folder}/p", columns=["year", "n"])
    assert len(whole.keys) == 2
    assert table_of(whole).to_pydict() == {"year": [2000] * 3 + [2001] * 3, "n": [1, 2, 3, 1, 2, 3]}
    split = sources.read_parquet(path=f"{folder}/p", columns=["n"], split="row_groups")
    assert len(split.keys) == 4
    assert split.lengths == (2, 1, 2, 1)
    assert table_of(split).column("n").to_pylist() == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize(("keys", "kind", "values"), [
    (["1", "-20"], pa.int64(), [1, -20]),
    (["1", None], pa.int64(), [1, None]),
    (["01", "2"], pa.string(), ["01", "2"]),
    (["2024-02-29", "2024-03-01"], pa.date32(), [datetime.date(2024, 2, 29), datetime.date(2024, 3, 1)]),
    (["2024-02-30", "2024-03-01"], pa.string(), ["2024-02-30", "2024-03-01"]),
    (["a/b", None], pa.string(), ["a/b", None]),
    ([None, None], pa.string(), [None, None]),
    (["9223372036854775808", "1"], pa.string(), ["9223372036854775808", "1"]),
])  # fmt: skip
def test_keys_of_folders_have_the_type_of_all_of_them(
    tmp_path: Path, keys: list[str | None], kind: pa.DataType, values: list[Any]
) -> None:
    for i, key in enumerate(keys):
        text = "__HIVE_DEFAULT_PARTITION__" if key is None else key.replace("/", "%2F")
        (tmp_path / f"{i}=x/k={text}").mkdir(parents=True)
        pq.write_table(pa.table({"a": [i]}), tmp_path / f"{i}=x/k={text}/x.parquet")
    frame = sources.read_parquet(path=str(tmp_path), columns=["a", "k"])
    assert frame.schema.field("k") == pa.field("k", kind, None in keys)
    assert dict(table_of(frame).to_pylist()[0]) == {"a": 0, "k": values[0]}
    assert table_of(frame).column("k").to_pylist() == values


def test_large_files_are_several_partitions(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ops.sources.parquet._LARGE", 20)
    path = f"{folder}/p/year=2000/part.parquet"
    assert len(sources.read_parquet(path=path, columns=["n"]).keys) == 1
    assert len(sources.read_parquet(path=path, columns=["n", "m"]).keys) == 2
    assert len(sources.read_parquet(path=path, split="files").keys) == 1
    monkeypatch.setattr("pipeline.ops.sources.parquet._LARGE", 30)
    pq.write_table(pa.table({"a": range(7)}), f"{folder}/seven.parquet", row_group_size=1)
    frame = sources.read_parquet(path=f"{folder}/seven.parquet")
    assert frame.lengths == (3, 4)  # two of about the same size
    assert table_of(frame).column("a").to_pylist() == list(range(7))


# ---------------------------------------------------------------------------------------------------------------------
# Casts, and what is refused
# ---------------------------------------------------------------------------------------------------------------------


def test_cast_gives_columns_other_types(folder: str) -> None:
    cast = {"n": "float32", "year": "string", "at": "timestamp[Europe/Paris]", "price": "string", "m": "string"}
    frame = sources.read_parquet(path=f"{folder}/p", columns=list(cast), cast=cast)
    assert list(types_of(frame).values()) == [
        *(pa.float32(), pa.string(), pa.timestamp("us", "Europe/Paris"), pa.string(), pa.string()),
    ]
    got = table_of(frame).to_pydict()
    assert (got["year"][0], got["price"][0], got["m"][:3]) == ("2000", "1.25", ["1", None, "9007199254740993"])


def test_a_cast_that_does_not_hold_a_value_names_the_file(folder: str) -> None:
    frame = sources.read_parquet(path=f"{folder}/p", columns=["m"], cast={"m": "int16"})
    with pytest.raises(DataError, match=r"part\.parquet: column 'm'.*9007199254740993.* fit int16"):
        table_of(frame)


def test_a_column_that_is_none_is_a_fault(folder: str) -> None:
    with pytest.raises(OpError, match=r"'nam' is no column.*did you mean 'name'"):
        sources.read_parquet(path=f"{folder}/p", columns=["nam"])


def test_parquet_without_rows_or_columns(tmp_path: Path, folder: str) -> None:
    pq.write_table(table().slice(0, 0), tmp_path / "x.parquet")
    frame = sources.read_parquet(path=str(tmp_path))
    assert table_of(frame).num_rows == 0
    assert types_of(frame) == {field.name: field.type for field in table().schema}
    (tmp_path / "y.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"y\.parquet: is no Parquet file"):
        sources.read_parquet(path=str(tmp_path))


def test_times_beyond_what_can_be_computed_with_are_refused(tmp_path: Path) -> None:
    path = files_of(tmp_path, {"t": pa.array([2**63 - 1], pa.timestamp("us"))})
    with pytest.raises(DataError, match=r"0\.parquet: column 't': has a time outside of the years"):
        table_of(sources.read_parquet(path=path))


def test_statistics_that_lie_about_missing_values_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ops.sources.parquet._has_no_missing", lambda file, name: True)
    path = files_of(tmp_path, {"a": [1, None]})
    with pytest.raises(DataError, match=r"0\.parquet: column 'a' has 1 missing values, and the file says"):
        table_of(sources.read_parquet(path=path))


def test_pandas_index_is_no_column_and_dots_are_names(tmp_path: Path) -> None:
    pd.DataFrame({"a.b": [1, 2], "a": [3, 4]}, index=np.array([7, 9])).to_parquet(tmp_path / "x.parquet")
    got = table_of(sources.read_parquet(path=f"{tmp_path}/x.parquet", needed={"a"}))
    assert got.to_pydict() == {"a": [3, 4]}
    assert table_of(sources.read_parquet(path=f"{tmp_path}/x.parquet")).to_pydict() == {"a.b": [1, 2], "a": [3, 4]}


def test_remote_parquet_is_read_through_fsspec() -> None:
    memory = fsspec.filesystem("memory")
    try:
        with memory.open("/parquet-box/p/k=1/x.parquet", "wb") as file:
            pq.write_table(table(), file)
        frame = sources.read_parquet(path="memory://parquet-box/p", columns=["n", "k"])
        assert table_of(frame).column("k").to_pylist() == [1, 1, 1]
    finally:
        memory.rm("/parquet-box", recursive=True)
