"""``read_feather`` and ``read_orc``: exact types, several files, streams, damage."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.feather as feather
import pytest
from named_ops import sources
from pyarrow import orc
from serially import table_of, values_of

from pipeline.errors import DataError, OpError


def table() -> pa.Table:
    return pa.table(
        {
            "i": pa.array([1, None, 2**53 + 1]),
            "small": pa.array([1, 2, 3], pa.int8()),
            "d": pa.array([Decimal("1.25"), None, Decimal("3.00")], pa.decimal128(9, 2)),
            "day": pa.array([datetime.date(2000, 1, 2), None, datetime.date(1969, 7, 20)]),
            "s": ["a", None, "ü"],
            "f": [0.5, float("nan"), None],
            "b": [True, None, False],
            "y": [b"\xff", None, b""],
            "z": pa.array([0, 1, None], pa.timestamp("ns", "UTC")),
            "l": pa.array([[1], None, []], pa.list_(pa.int64())),
            "st": [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}],
        }
    )


def to_stream(whole: pa.Table, path: str) -> None:
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, whole.schema) as writer:
        writer.write_table(whole)


WRITERS: dict[str, tuple[str, Callable[[pa.Table, str], None]]] = {
    "feather": ("read_feather", feather.write_feather),
    "arrows": ("read_feather", to_stream),
    "orc": ("read_orc", orc.write_table),
}


@pytest.mark.parametrize("ending", WRITERS)
def test_files_come_with_the_types_that_are_stored(tmp_path: Path, ending: str) -> None:
    op, write = WRITERS[ending]
    whole = table()
    if ending != "orc":
        whole = whole.append_column("c", pa.array(["x", "y", "x"]).dictionary_encode())
        whole = whole.append_column("u", pa.array([0, 1, 2**64 - 1], pa.uint64()))
        whole = whole.append_column("t", pa.array([1, None, 2], pa.time64("ns")))
    write(whole, f"{tmp_path}/x.{ending}")
    frame = getattr(sources, op)(path=f"{tmp_path}/x.{ending}")
    assert {field.name: field.type for field in frame.schema} == {field.name: field.type for field in whole.schema}
    assert table_of(frame).to_pydict() == whole.to_pydict() | {"f": [0.5, None, None]}
    less = getattr(sources, op)(path=f"{tmp_path}/x.{ending}", needed={"s", "i"})
    assert table_of(less).to_pydict() == {"i": whole["i"].to_pylist(), "s": ["a", None, "ü"]}


@pytest.mark.parametrize("ending", WRITERS)
def test_several_files_are_one_frame_with_folders_as_columns(tmp_path: Path, ending: str) -> None:
    op, write = WRITERS[ending]
    for k, columns in ((1, {"a": pa.array([1], "int8")}), (2, {"a": [300], "z": ["x"]})):
        (tmp_path / f"k={k}").mkdir()
        write(pa.table(columns), f"{tmp_path}/k={k}/x.{ending}")
    read = getattr(sources, op)
    with pytest.raises(DataError, match=rf"k=2/x\.{ending}: has a column 'z', .*k=1/x\.{ending} has none"):
        read(path=str(tmp_path))
    frame = read(path=str(tmp_path), columns="union")
    assert table_of(frame).to_pydict() == {"a": [1, 300], "z": [None, "x"], "k": [1, 2]}
    assert len(frame.keys) == 2
    got = table_of(read(path=str(tmp_path), columns=["k", "a"], cast={"a": "string", "k": "string"}))
    assert got.to_pydict() == {"k": ["1", "2"], "a": ["1", "300"]}


@pytest.mark.parametrize("ending", WRITERS)
def test_files_without_rows_and_damaged_ones(tmp_path: Path, ending: str) -> None:
    op, write = WRITERS[ending]
    path = f"{tmp_path}/x.{ending}"
    read = getattr(sources, op)
    write(table().slice(0, 0), path)
    assert table_of(read(path=path)).num_rows == 0
    write(table(), path)
    whole = Path(path).read_bytes()
    with pytest.raises(OpError, match=r"'smal' is no column.*did you mean 'small'"):
        read(path=path, columns=["smal"])
    for damaged in (b"no table", whole[: len(whole) // 2], b""):
        Path(path).write_bytes(damaged)
        with pytest.raises(DataError, match=rf"x\.{ending}: can't be read"):
            table_of(read(path=path))


def test_a_step_reads_a_folder_of_them(tmp_path: Path) -> None:
    feather.write_feather(pa.table({"a": [1, 2], "b": [3, 4]}), f"{tmp_path}/x.feather", compression="zstd")
    orc.write_table(pa.table({"a": [5], "b": [6]}), f"{tmp_path}/x.orc")
    text = f"""
    steps:
      f: {{op: read_feather, path: {tmp_path}}}
      o: {{op: read_orc, path: "{tmp_path}/*.orc"}}
      both: {{op: concat, input: [f, o]}}
      all: {{op: filter, input: both, where: a > 1}}
    """
    assert values_of(text, tmp_path)["all"].b.tolist() == [4, 6]


def test_remote_feather_is_read_through_fsspec() -> None:
    memory: Any = fsspec.filesystem("memory")
    sink = pa.BufferOutputStream()
    feather.write_feather(pa.table({"a": [1, 2]}), sink)
    memory.pipe("/feather-box/x.feather", sink.getvalue().to_pybytes())
    try:
        got = table_of(sources.read_feather(path="memory://feather-box/*.feather"))
        assert got.to_pydict() == {"a": [1, 2]}
    finally:
        memory.rm("/feather-box", recursive=True)
