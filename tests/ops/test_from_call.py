"""Sources that make or load: from_call, timeseries, from_npy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from dask.callbacks import Callback
from serially import graph_of, rows_of, values_of

from pipeline.errors import ConfigError, DataError, OpError
from pipeline.graph.importing import resolve
from pipeline.ops.collections import Frame
from pipeline.ops.sources.array_files import from_npy
from pipeline.ops.sources.from_call import array_from_call, frame_from_call
from pipeline.ops.sources.timeseries import timeseries


def run(collection: Any) -> Any:
    return rows_of(collection) if isinstance(collection, Frame) else collection.compute(scheduler="sync")


# ---------------------------------------------------------------------------------------------------------------------
# from_call
# ---------------------------------------------------------------------------------------------------------------------


def table(time: slice, y: slice, scale: float = 1) -> Any:
    return scale * (10 * np.arange(time.start, time.stop)[:, None] + np.arange(y.start, y.stop)[None, :])


def rows(partition: int, n_partitions: int, form: str = "frame") -> Any:
    n = 2 * partition
    if form == "maps":
        return [{"k": partition, "text": f"{i} of {n_partitions}"} for i in range(n)]
    found = pd.DataFrame({"more": [0.0] * n, "text": [f"{i} of {n_partitions}" for i in range(n)], "k": partition})
    if form == "frame":
        return found
    return pa.Table.from_pandas(found) if form == "arrow" else pl.from_pandas(found)


@pytest.fixture
def functions() -> Iterator[None]:
    module = ModuleType("loading_functions")
    vars(module).update(table=table, rows=rows)
    sys.modules["loading_functions"] = module
    yield
    del sys.modules["loading_functions"]
    resolve.cache_clear()


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize("chunks", [None, {"time": 3}, {"time": [1, 4], "y": 2}])
def test_a_function_gives_the_chunks_of_an_array(chunks: Any) -> None:
    x = array_from_call(
        function="loading_functions:table", shape={"time": 5, "y": 4}, dtype="float32", chunks=chunks, args={"scale": 2}
    )
    assert (x.dims, x.dtype) == (("time", "y"), np.float32)
    np.testing.assert_array_equal(run(x), 2 * table(slice(0, 5), slice(0, 4)))


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize("form", ["frame", "maps", "arrow", "polars"])
def test_a_function_gives_the_partitions_of_a_frame(form: str) -> None:
    frame = frame_from_call(
        function="loading_functions:rows", columns={"k": "int64", "text": "string"}, partitions=3, args={"form": form}
    )
    got = run(frame)
    assert got["k"].tolist() == [1, 1, 2, 2, 2, 2]
    assert got["text"].tolist() == ["0 of 3", "1 of 3", "0 of 3", "1 of 3", "2 of 3", "3 of 3"]
    assert frame.schema == pa.schema([("k", pa.int64()), ("text", pa.string())])
    assert got.dtypes.map(str).to_dict() == {"k": "Int64", "text": "string"}


@pytest.mark.usefixtures("functions")
def test_what_a_function_gives_must_be_what_was_said() -> None:
    where: dict[str, Any] = {"function": "loading_functions:table", "args": {"scale": 1.5}}
    with pytest.raises(DataError, match="values that don't fit into int64"):
        run(array_from_call(shape={"time": 2, "y": 2}, dtype="int64", **where))
    with pytest.raises(DataError, match=r"partition 1.*has no column 'z'; it has more, text, k"):
        run(frame_from_call(function="loading_functions:rows", columns={"z": "int64"}, partitions=2))
    with pytest.raises(DataError, match=r"partition 1.*column 'text' got '0 of 2'"):
        run(frame_from_call(function="loading_functions:rows", columns={"text": "float64"}, partitions=2))


def test_an_argument_that_tells_the_piece_is_a_fault() -> None:
    with pytest.raises(OpError, match="args: 'y' is an argument that the function gets already"):
        array_from_call(function="m:f", shape={"y": 2}, dtype="int64", args={"y": 1})
    with pytest.raises(OpError, match="args: 'partition' is an argument"):
        frame_from_call(function="m:f", columns={"a": "int64"}, args={"partition": 1})


def test_the_parameters_tell_an_array_from_a_frame(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "import numpy as np\n"
        "def chunk(x, start): return np.arange(x.start, x.stop) + start\n"
        "def partition(partition, n_partitions): return [{'p': partition}]\n"
    )
    text = """
    modules: [./m.py]
    steps:
      x: {op: from_call, function: "m:chunk", shape: {x: 5}, chunks: {x: 2}, dtype: int64, args: {start: 100}}
      f: {op: from_call, function: "m:partition", columns: {p: int64}, partitions: 4}
      few: {op: filter, input: f, where: "p > 1"}
    """
    got = values_of(text, tmp_path)
    assert got["x"].values.tolist() == [100, 101, 102, 103, 104]
    assert got["few"]["p"].tolist() == [2, 3]
    with pytest.raises(ConfigError, match=r"from_call' needs shape: dim: size; or columns"):
        graph_of('modules: [./m.py]\nsteps: {x: {op: from_call, function: "m:chunk"}}', tmp_path)


def test_building_calls_nothing() -> None:
    ran: list[Any] = []
    with Callback(pretask=lambda key, *_: ran.append(key)):
        array_from_call(function="no_such_module:f", shape={"x": 9}, dtype="int8")
        frame_from_call(function="no_such_module:f", columns={"a": "int8"})
        timeseries(start="2000-01-01", end="2001-01-01")
    assert not ran


# ---------------------------------------------------------------------------------------------------------------------
# timeseries
# ---------------------------------------------------------------------------------------------------------------------

TYPES = {"s": "string", "b": "bool", "i": "int64", "small": "int8", "u": "uint16", "f": "float64", "g": "float32"}


@pytest.mark.parametrize("partitions", [1, 2, 7, 103, 200])
def test_a_time_series_is_the_same_however_it_is_divided(partitions: int) -> None:
    how: dict[str, Any] = {"start": "2001-01-01", "end": "2001-01-01T00:17:10", "freq": "10s", "columns": TYPES}
    whole = run(timeseries(**how, seed=5))
    frame = timeseries(**how, seed=5, partitions=partitions)
    assert len(frame.keys) == partitions
    pd.testing.assert_frame_equal(run(frame), whole)
    assert list(whole["timestamp"]) == list(pd.date_range("2001-01-01", periods=103, freq="10s"))
    assert not run(timeseries(**how, seed=6))["f"].equals(whole["f"])


def test_the_numbers_of_a_column_depend_on_no_other_column() -> None:
    how: dict[str, Any] = {"start": "2001-01-01", "end": "2001-01-02", "freq": "1h"}
    both = run(timeseries(**how, columns={"a": "float64", "b": "float64"}))
    alone = run(timeseries(**how, columns={"b": "float64"}, time="t"))
    assert both["b"].equals(alone["b"])
    assert not both["a"].equals(both["b"])


def test_what_is_drawn_lies_where_it_should() -> None:
    got = run(timeseries(start="2001-01-01", end="2001-01-01T05:00", columns=TYPES))
    assert len(got) == 18_000
    for name in ("f", "g"):
        assert -1 <= got[name].min() < -0.99
        assert 0.99 < got[name].max() < 1
        assert abs(got[name].mean()) < 0.02
    assert (got["i"].min(), got["i"].max(), got["small"].max(), got["u"].max()) == (0, 999, 127, 999)
    assert 0.45 < got["b"].mean() < 0.55
    assert got["s"].nunique() == 26


def test_times_may_have_a_zone_and_none_may_be_there() -> None:
    zoned = run(timeseries(start="2001-03-25T00:00+01:00", end="2001-03-25T03:00+01:00", freq="1h"))
    assert list(zoned["timestamp"]) == list(pd.date_range("2001-03-25T00:00+01:00", periods=3, freq="1h"))
    none = timeseries(start="2001-01-01", end="2001-01-01", partitions=3)
    assert (len(run(none)), len(none.keys)) == (0, 3)
    assert list(none.columns) == ["timestamp", "name", "id", "x", "y"]


@pytest.mark.parametrize(("wrong", "message"), [
    ({"start": "soon"}, "start: got 'soon', which is no time"),
    ({"end": "2001-01-01T00:00Z"}, "end: start and end have a time zone both, or none"),
    ({"freq": "1M"}, "freq: got '1M'; write a fixed duration"),
    ({"freq": "-1h"}, "freq: got '-1h'; a step"),
    ({"freq": "1ns"}, "freq: got '1ns'; write a fixed duration"),
    ({"freq": "0.4us"}, "freq: got '0.4us'; a step is a whole number of microseconds"),
    ({"columns": {"a": "timestamp"}}, r"columns\.a: nothing is drawn of the type timestamp"),
    ({"columns": {"timestamp": "bool"}}, "time: 'timestamp' is one of the columns, too"),
])  # fmt: skip
def test_a_time_series_that_can_not_be_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OpError, match=message):
        timeseries(**{"start": "2001-01-01", "end": "2001-02-01", **wrong})


# ---------------------------------------------------------------------------------------------------------------------
# from_npy
# ---------------------------------------------------------------------------------------------------------------------

X = np.arange(24.0).reshape(4, 6)


@pytest.mark.parametrize("chunks", [None, {"y": 5}, {"x": 3, "y": 1}])
@pytest.mark.parametrize("order", ["C", "F"])
def test_files_are_joined_along_the_dim_in_which_they_differ(tmp_path: Path, chunks: Any, order: Any) -> None:
    for name, part in (("a", X[:, :1]), ("b", X[:, 1:4]), ("c", X[:, 4:])):
        np.save(tmp_path / f"{name}.npy", np.asarray(part, order=order))
    got = from_npy(path=f"{tmp_path}/*.npy", dims=["x", "y"], chunks=chunks)
    assert got.dims == ("x", "y")
    np.testing.assert_array_equal(run(got), X)


def test_equal_files_are_joined_along_the_first_dim_of_chunks(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", X)
    np.save(tmp_path / "1.npy", X + 1)
    np.testing.assert_array_equal(run(from_npy(path=str(tmp_path))), np.concatenate([X, X + 1]))
    along = from_npy(path=str(tmp_path), chunks={"dim_1": 4})
    np.testing.assert_array_equal(run(along), np.concatenate([X, X + 1], axis=1))
    assert along.chunks == ((4,), (4, 2, 4, 2))


def test_picks_read_their_own_chunks_only(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    got = from_npy(path=f"{tmp_path}/x.npy", dims=["x", "y"], chunks={"y": 2}, picks={"x": -1, "y": (1, 4)})
    assert got.chunks == ((1, 2),)
    assert run(got).values.tolist() == X[-1, 1:4].tolist()


@pytest.mark.parametrize("order", ["C", "F"])
def test_remote_files_are_read_by_rows(order: Any) -> None:
    memory = fsspec.filesystem("memory")
    with memory.open("/npy/x.npy", "wb") as file:
        np.save(file, np.asarray(X, order=order))
    got = from_npy(path="memory://npy/x.npy", chunks={"dim_0": 3, "dim_1": 4}, picks={"dim_0": (1, 4)})
    np.testing.assert_array_equal(run(got), X[1:])
    memory.rm("/npy", recursive=True)


def test_an_array_of_no_dims_and_of_another_byte_order(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array(2.5, dtype=">f4"))
    got = from_npy(path=f"{tmp_path}/x.npy")
    assert (got.dims, got.dtype.isnative, run(got).item()) == ((), True, 2.5)


def test_what_is_no_array_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object))
    np.save(tmp_path / "record.npy", np.zeros(2, dtype=[("a", "f8")]))
    (tmp_path / "text.npy").write_text("a,b\n")
    np.save(tmp_path / "x.npy", X)
    for name, message in (("objects", "holds object"), ("record", "holds .*'a'"), ("text", "is no npy file")):
        with pytest.raises(DataError, match=rf"{name}.npy: {message}"):
            from_npy(path=f"{tmp_path}/{name}.npy")
    with pytest.raises(OpError, match=r"dims: got 1 for .*x.npy, which has 2"):
        from_npy(path=f"{tmp_path}/x.npy", dims=["x"])
    with pytest.raises(DataError, match="no such file"):
        from_npy(path=f"{tmp_path}/y.npy")
    np.save(tmp_path / "y.npy", 1.0)
    with pytest.raises(DataError, match=r"y.npy: is one number; several files"):
        from_npy(path=[f"{tmp_path}/y.npy"] * 2)
    with pytest.raises(DataError, match=r"y.npy: has dims \(\), .*x.npy has"):
        from_npy(path=[f"{tmp_path}/x.npy", f"{tmp_path}/y.npy"])
    np.save(tmp_path / "y.npy", X[:2, :3])
    with pytest.raises(DataError, match="files are joined along one dim"):
        from_npy(path=[f"{tmp_path}/x.npy", f"{tmp_path}/y.npy"])
