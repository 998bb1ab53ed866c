"""``read_delta`` and ``read_iceberg``: versions, partition columns, deletions."""

from __future__ import annotations

import datetime
import json
import struct
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from named_ops import frames, sources
from pyiceberg.catalog.sql import SqlCatalog
from serially import table_of, values_of

from pipeline.config.expressions.expression import parse
from pipeline.errors import DataError, OpError

DAY = datetime.date(2024, 2, 29)


def table(first: int = 0) -> pa.Table:
    return pa.table(
        {
            "a": pa.array([first, None, first + 2]),
            "n": pa.array([1, 2, 3], pa.int32()),
            "k": ["x/y", "z", "z"],
            "day": pa.array([DAY, None, DAY]),
            "t": pa.array([1, 2, None], pa.timestamp("us", "UTC")),
        }
    )


@pytest.fixture(scope="module")
def delta(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("delta") / "t")
    write_deltalake(path, table(), partition_by=["k", "day"])
    write_deltalake(path, table(10), mode="append")
    DeltaTable(path).delete("a = 12")
    return path


def rows(frame: Any) -> list[tuple[Any, ...]]:
    columns = table_of(frame).select(["a", "n", "k", "day"]).to_pydict().values()
    return sorted(zip(*columns, strict=True), key=str)


def expected(*tables: pa.Table) -> list[tuple[Any, ...]]:
    columns = pa.concat_tables(tables).select(["a", "n", "k", "day"]).to_pydict().values()
    return sorted(zip(*columns, strict=True), key=str)


def test_versions_of_a_delta_table(delta: str) -> None:
    newest = sources.read_delta(path=delta)
    assert {field.name: field.type for field in newest.schema} == {field.name: field.type for field in table().schema}
    assert [field.name for field in newest.schema if not field.nullable] == ["n", "k"]
    assert rows(newest) == [row for row in expected(table(), table(10)) if row[0] != 12]
    assert rows(sources.read_delta(path=delta, version=1)) == expected(table(), table(10))
    first = sources.read_delta(path=delta, version=0)
    assert rows(first) == expected(table())
    assert sum(first.lengths) == 3
    with pytest.raises(DataError, match="can't be read as a Delta table"):
        sources.read_delta(path=delta, version=9)


def test_partition_columns_of_delta_tell_which_files_are_read(delta: str) -> None:
    where = parse("k == 'x/y' and a >= 10", "columns")
    frame = sources.read_delta(path=delta, where=where, needed={"a", "k"})
    assert len(frame.keys) == 2
    assert table_of(frames.filter(frame, where=where)).to_pydict() == {"a": [10], "k": ["x/y"]}
    none = sources.read_delta(path=delta, where=parse("day > date('2025-01-01')", "columns"))
    assert table_of(none).column("day").null_count == table_of(none).num_rows
    got = table_of(sources.read_delta(path=delta, columns=["k", "n"], cast={"n": "string", "k": "category"}))
    assert (got.schema.types, set(got["n"].to_pylist())) == (
        [pa.dictionary(pa.int32(), pa.string()), pa.string()],
        {"1", "2", "3"},
    )


Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def inline_vector(deleted: list[int]) -> dict[str, Any]:
    """A deletion vector as the log of a Delta table has a small one."""
    bitmap = struct.pack("<II", 12346, 1) + struct.pack("<HHI", 0, len(deleted) - 1, 16)
    bitmap += b"".join(struct.pack("<H", row) for row in deleted)
    data = struct.pack("<iqI", 1681511377, 1, 0) + bitmap
    text = ""
    for (word,) in struct.iter_unpack(">I", data + b"\0" * (-len(data) % 4)):
        text += "".join(Z85[word // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(data), "cardinality": len(deleted)}


def write_log(folder: Path, features: list[str], *actions: dict[str, Any]) -> None:
    fields = [{"name": "a", "type": "long", "nullable": True, "metadata": {}}]
    meta = {"id": "x", "format": {"provider": "parquet", "options": {}}, "partitionColumns": [], "configuration": {},
            "schemaString": json.dumps({"type": "struct", "fields": fields}), "createdTime": 1}  # fmt: skip
    versions = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    (folder / "_delta_log").mkdir()
    lines = [{"protocol": versions}, {"metaData": meta}, *actions]
    (folder / "_delta_log/00000000000000000000.json").write_text("\n".join(map(json.dumps, lines)))


def test_rows_that_a_deletion_vector_marks_are_left_out(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": range(10)}), tmp_path / "p 1.parquet")
    add = {"path": "p%201.parquet", "partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": True}
    add |= {"stats": json.dumps({"numRecords": 10}), "deletionVector": inline_vector([1, 4, 9])}
    write_log(tmp_path, ["deletionVectors"], {"add": add})
    where = parse("a >= 4", "columns")
    frame = sources.read_delta(path=str(tmp_path))
    assert (table_of(frame)["a"].to_pylist(), frame.lengths) == ([0, 2, 3, 5, 6, 7, 8], (7,))
    asked = frames.filter(sources.read_delta(path=str(tmp_path), where=where), where=where)
    assert table_of(asked)["a"].to_pylist() == [5, 6, 7, 8]


def test_a_delta_table_that_can_not_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"/none: no such table"):
        sources.read_delta(path=f"{tmp_path}/none")
    with pytest.raises(DataError, match="can't be read as a Delta table"):
        sources.read_delta(path=str(tmp_path))
    write_log(tmp_path, ["columnMapping"])
    with pytest.raises(DataError, match="has the feature columnMapping, which is not read here"):
        sources.read_delta(path=str(tmp_path))
    with pytest.raises(OpError, match="reads local tables"):
        sources.read_delta(path="s3://bucket/t")
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(
        OpError, match=r"op: read_delta needs deltalake, which is not installed: pip install 'pipeline\[delta\]'"
    ):
        sources.read_delta(path=str(tmp_path))


# ---------------------------------------------------------------------------------------------------------------------
# Iceberg
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def iceberg(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("iceberg")
    catalog = SqlCatalog("c", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
    catalog.create_namespace("n")
    made = catalog.create_table("n.t", schema=table().schema)
    made.append(table())
    made.append(table(10))
    made.delete("a == 12")
    catalog.close()
    return made


def test_snapshots_of_an_iceberg_table(iceberg: Any) -> None:
    folder = iceberg.location().removeprefix("file://")
    newest = sources.read_iceberg(path=folder)
    assert {field.name: field.type for field in newest.schema} == {field.name: field.type for field in table().schema}
    assert rows(newest) == [row for row in expected(table(), table(10)) if row[0] != 12]
    first = iceberg.metadata.snapshots[0].snapshot_id
    metadata = iceberg.metadata_location.removeprefix("file://")
    assert rows(sources.read_iceberg(path=metadata, snapshot=first)) == expected(table())
    got = sources.read_iceberg(path=folder, needed={"n"}, cast={"n": "int64"}, snapshot=first)
    assert (table_of(got).to_pydict(), got.lengths) == ({"n": [1, 2, 3]}, (3,))
    with pytest.raises(DataError, match=rf"has no snapshot 7; it has {first}"):
        sources.read_iceberg(path=folder, snapshot=7)


def test_what_is_no_iceberg_table_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"has no metadata/….metadata\.json"):
        sources.read_iceberg(path=str(tmp_path))
    (tmp_path / "x.metadata.json").write_text("{}")
    with pytest.raises(DataError, match=r"x\.metadata\.json: can't be read"):
        sources.read_iceberg(path=f"{tmp_path}/x.metadata.json")
    monkeypatch.setitem(sys.modules, "pyiceberg.table", None)
    with pytest.raises(
        OpError, match=r"read_iceberg needs pyiceberg, which is not installed: pip install 'pipeline\[iceberg\]'"
    ):
        sources.read_iceberg(path=str(tmp_path))


def test_steps_read_lake_tables(delta: str, iceberg: Any, tmp_path: Path) -> None:
    text = f"""
    steps:
      d: {{op: read_delta, path: "{delta}", version: 0}}
      i: {{op: read_iceberg, path: "{iceberg.location().removeprefix("file://")}"}}
      some: {{op: filter, input: d, where: "k == 'z'"}}
      both: {{op: concat, input: [some, i]}}
    """
    assert len(values_of(text, tmp_path)["both"]) == 2 + 5
