"""What an output wrote, a source reads as it was: any dtype, any chunks on both sides, missing values, nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from serially import rows_of
from strategies import NUMBERS, SETTINGS, arrays, frames, partitioned

from pipeline.builder.lowering import building, lower
from pipeline.config.model import Output, Reference
from pipeline.graph.graph import CONTEXT, constant, execute, toposort
from pipeline.ops.collections import Frame
from pipeline.ops.sources.array_files import from_netcdf, from_npy, from_zarr
from pipeline.ops.sources.csv import read_csv
from pipeline.ops.sources.json import read_json
from pipeline.ops.sources.parquet import read_parquet
from pipeline.outputs.files import Context
from pipeline.outputs.open import read
from pipeline.outputs.planners import plan_sink
from pipeline.outputs.verification import verify
from pipeline.runs.equality import equal

EVERY = (*NUMBERS, "int8", "uint64", "datetime64[ns]", "timedelta64[ns]", "<U3")
DIMS = st.sampled_from([(), ("x",), ("x", "y"), ("x", "y", "z")])
COLUMNS = {"i": "int64", "f": "float64", "s": "string", "b": "bool", "t": "timestamp"}
TEXTS = {"a": 'of "this", and that', "b": "é\tü", "c": "one line\nand another", "d": "=/%"}


def write(to: str, value: Any, folder: str, path: str, **keys: Any) -> Any:
    """Run the tasks of an output in this process, and hold the files against their records; gives the sink."""
    with building():
        tasks, value_type = lower(value, "x", {})
    writers, sink = plan_sink(Output("v", Reference("x", ("x",)), to, path, **keys), value_type, prefix="write v")
    tasks = {**tasks, **writers, CONTEXT: constant(CONTEXT, Context(folder))}
    results: dict[Any, Any] = {}
    for key in toposort(tasks):
        results[key] = execute(tasks[key], results)
    verify([sink], results, Path(folder))
    return sink


def same_array(got: xr.DataArray, x: xr.DataArray, *, any_width: bool = False) -> None:
    got, x = got.compute(scheduler="sync"), x.compute(scheduler="sync")
    if any_width and x.dtype.kind == "U":
        got = got.astype(x.dtype)
    assert (got.dims, got.dtype) == (x.dims, x.dtype)
    xr.testing.assert_equal(got.rename(None), x.rename(None))


@st.composite
def chunks_of(draw: st.DrawFn, x: xr.DataArray) -> dict[str, Any] | None:
    """What a step may say of the chunks of a source of this array."""
    if not draw(st.booleans()):
        return None
    sizes = st.one_of(st.integers(1, 4), st.just(-1), st.just("auto"))
    return {str(dim): draw(sizes) for dim in x.dims if draw(st.booleans())}


@SETTINGS
@given(st.data())
def test_arrays_come_back_from_zarr(data: st.DataObject) -> None:
    x = data.draw(arrays(data.draw(DIMS), (*EVERY, "complex64"), empty_chunks=True)).assign_attrs(units="K")
    with tempfile.TemporaryDirectory() as folder:
        sink = write("zarr", x, folder, "a.zarr")
        same_array(read(sink, Path(folder)), x)
        got = from_zarr(path=f"{folder}/a.zarr", variable="v", chunks=data.draw(chunks_of(x)))
        same_array(got, x)
        assert x.dtype.kind in "mM" or got.attrs["units"] == "K"  # units of times say how they are stored


@SETTINGS
@given(st.data())
def test_arrays_come_back_from_netcdf(data: st.DataObject) -> None:
    x = data.draw(arrays(data.draw(DIMS), EVERY, empty_chunks=True)).assign_attrs(units="K")
    options: dict[str, Any] = {"level": data.draw(st.sampled_from([0, 4]))}
    if "y" in x.dims and data.draw(st.booleans()):
        options["chunks"] = {"y": data.draw(st.integers(1, 9))}
    with tempfile.TemporaryDirectory() as folder:
        sink = write("netcdf", x, folder, "a.nc", options=options)
        same_array(read(sink, Path(folder)), x)
        got = from_netcdf(path=f"{folder}/a.nc", variable="v", chunks=data.draw(chunks_of(x)))
        same_array(got, x, any_width=True)  # a text in netCDF is as wide as it is long
        assert x.dtype.kind in "mM" or got.attrs["units"] == "K"


@SETTINGS
@given(st.data())
def test_arrays_come_back_from_npy(data: st.DataObject) -> None:
    dims = data.draw(DIMS)
    x = data.draw(arrays(dims, (*EVERY, "complex64"), coords=False, empty_chunks=True))
    with tempfile.TemporaryDirectory() as folder:
        sink = write("npy", x, folder, "a.npy")
        same_array(read(sink, Path(folder)), x)
        same_array(from_npy(path=f"{folder}/a.npy", dims=dims or None, chunks=data.draw(chunks_of(x))), x)


def same_frame(got: Frame | pd.DataFrame, frame: pd.DataFrame, *, ordered: bool = True) -> None:
    got = rows_of(got) if isinstance(got, Frame) else got
    found = equal("frame", frame, got.reset_index(drop=True), ordered=ordered)
    assert found.bitwise, found.message


def odd(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with texts that need care where they are written."""
    return frame.assign(s=frame["s"].map(TEXTS).astype(frame["s"].dtype))


@SETTINGS
@given(st.data())
def test_frames_come_back_from_parquet(data: st.DataObject) -> None:
    frame = odd(data.draw(frames(COLUMNS)))
    x = data.draw(partitioned(frame))
    with tempfile.TemporaryDirectory() as folder:
        sink = write("parquet", x, folder, "a", files=data.draw(st.none() | st.integers(1, 5)))
        same_frame(read(sink, Path(folder)), frame)
        same_frame(read_parquet(path=f"{folder}/a", split=data.draw(st.sampled_from(["files", "row_groups"]))), frame)


@SETTINGS
@given(st.data())
def test_frames_come_back_from_folders(data: st.DataObject) -> None:
    frame = odd(data.draw(frames(COLUMNS, missing=False)))
    x = data.draw(partitioned(frame))
    by = data.draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=3, unique=True))
    with tempfile.TemporaryDirectory() as folder:
        sink = write("parquet", x, folder, "a", partition_by=tuple(by), files=data.draw(st.none() | st.integers(1, 3)))
        same_frame(read(sink, Path(folder)), frame, ordered=False)
        if len(frame):
            got = read_parquet(path=f"{folder}/a", columns=list(COLUMNS), cast={name: COLUMNS[name] for name in by})
            same_frame(got, frame, ordered=False)


@SETTINGS
@given(st.data())
def test_frames_come_back_from_csv_and_json(data: st.DataObject) -> None:
    frame = odd(data.draw(frames(COLUMNS)))
    x = data.draw(partitioned(frame))
    form, path = data.draw(st.sampled_from([("csv", "a.csv"), ("json", "a.json"), ("json", "a.jsonl")]))
    source: Any = {"csv": read_csv, "json": read_json}[form]
    blocksize = data.draw(st.none() | st.integers(1, 200))
    with tempfile.TemporaryDirectory() as folder:
        sink = write(form, x, folder, path)
        got = source(path=f"{folder}/{path}", cast=COLUMNS, blocksize=blocksize)
        same_frame(got, frame)
        guessed = source(path=f"{folder}/{path}", blocksize=blocksize)
        whole = source(path=f"{folder}/{path}")
        assert dict(guessed.meta.dtypes) == dict(whole.meta.dtypes)
        same_frame(guessed, rows_of(whole))
        if len(frame):
            assert list(read(sink, Path(folder)).columns) == list(frame.columns)


def test_large_whole_numbers_and_far_floats_come_back(tmp_path: Path) -> None:
    frame = pd.DataFrame({"i": [2**63 - 1, -(2**63), 2**53 + 1], "f": [5e-324, 1.7976931348623157e308, 0.1 + 0.2]})
    tasks = {("x", i): constant(("x", i), part) for i, part in enumerate([frame.iloc[:1], frame.iloc[1:]])}
    x = Frame(tasks, tuple(tasks), frame.iloc[:0])
    for form, source in (("csv", read_csv), ("json", read_json), ("parquet", read_parquet)):
        read_back: Any = source
        write(form, x, str(tmp_path), f"a.{form}")
        same_frame(read_back(path=f"{tmp_path}/a.{form}"), frame)
    values = np.array([[2**63 - 1, -(2**63)]])
    write("netcdf", xr.DataArray(values, dims=["x", "y"]).chunk({"y": 1}), str(tmp_path), "a.nc")
    assert from_netcdf(path=f"{tmp_path}/a.nc").values.tolist() == values.tolist()
