"""What an output wrote, a source reads as it was: any dtype, any chunks on both sides, missing values, nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr
from any_tables import OF_FRAMES, tables
from hypothesis import given
from hypothesis import strategies as st
from serially import frame_of, table_of
from strategies import NUMBERS, SETTINGS, arrays

from pipeline.builder.lowering import building, lower
from pipeline.config.model import Output, Reference
from pipeline.graph.column_types import family, type_name
from pipeline.graph.graph import CONTEXT
from pipeline.graph.nodes import constant, execute, toposort
from pipeline.ops.collections import Frame
from pipeline.ops.sources.array_files import from_netcdf, from_npy, from_zarr
from pipeline.ops.sources.csv import read_csv
from pipeline.ops.sources.json import read_json
from pipeline.ops.sources.parquet import read_parquet
from pipeline.outputs.files import Context
from pipeline.outputs.open import read
from pipeline.outputs.planners import plan_sink
from pipeline.outputs.verification import verify

EVERY = (*NUMBERS, "int8", "uint64", "datetime64[ns]", "timedelta64[ns]", "<U3")
DIMS = st.sampled_from([(), ("x",), ("x", "y"), ("x", "y", "z")])
OF_TEXT = {name: kind for name, kind in OF_FRAMES.items() if not name.endswith("binary")}
"""What CSV and JSON give back with ``cast``; an empty binary value, and the only text of a row, is missing in CSV."""


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


def same_frame(got: Frame | pa.Table, table: pa.Table, *, ordered: bool = True) -> None:
    got = table_of(got) if isinstance(got, Frame) else got
    assert {field.name: field.type for field in got.schema} == {field.name: field.type for field in table.schema}
    found, wanted = got.to_pylist(), table.to_pylist()
    assert found == wanted if ordered else sorted(found, key=repr) == sorted(wanted, key=repr)


@SETTINGS
@given(st.data())
def test_frames_come_back_from_parquet(data: st.DataObject) -> None:
    table = data.draw(tables(OF_FRAMES))
    x = frame_of(table, data.draw(st.integers(1, 4)))
    with tempfile.TemporaryDirectory() as folder:
        sink = write("parquet", x, folder, "a", files=data.draw(st.none() | st.integers(1, 5)))
        same_frame(read(sink, Path(folder)), table)
        split = data.draw(st.sampled_from(["auto", "files", "row_groups"]))
        same_frame(read_parquet(path=f"{folder}/a", split=split), table)


@SETTINGS
@given(st.data())
def test_frames_come_back_from_folders(data: st.DataObject) -> None:
    table = data.draw(tables(OF_FRAMES, least=2))
    named = [field.name for field in table.schema if family(field.type) not in ("list", "struct", "binary")]
    by = data.draw(st.lists(st.sampled_from(named), max_size=len(table.schema) - 1, unique=True)) if named else []
    with tempfile.TemporaryDirectory() as folder:
        x = frame_of(table, data.draw(st.integers(1, 3)))
        sink = write("parquet", x, folder, "a", partition_by=tuple(by), files=data.draw(st.none() | st.integers(1, 3)))
        same_frame(read(sink, Path(folder)), table, ordered=False)
        if table.num_rows:
            same_frame(read_parquet(path=f"{folder}/a", columns=table.column_names), table, ordered=False)


def is_infinite(table: pa.Table) -> bool:
    """Whether a float is infinite, which JSON can't say."""
    floats = [column.cast("float64") for column in table.columns if pa.types.is_floating(column.type)]
    return any(pc.any(pc.is_inf(column)).as_py() for column in floats)


@SETTINGS
@given(st.data())
def test_frames_come_back_from_csv_and_json(data: st.DataObject) -> None:
    table = data.draw(tables(OF_TEXT, least=2).filter(lambda table: table.num_rows > 0 and not is_infinite(table)))
    x = frame_of(table, data.draw(st.integers(1, 3)))
    form, path = data.draw(st.sampled_from([("csv", "a.csv"), ("json", "a.json"), ("json", "a.jsonl")]))
    source: Any = {"csv": read_csv, "json": read_json}[form]
    cast = {field.name: type_name(field.type) for field in table.schema}
    blocksize = data.draw(st.none() | st.integers(1, 200))
    with tempfile.TemporaryDirectory() as folder:
        sink = write(form, x, folder, path)
        same_frame(read(sink, Path(folder)), table)
        same_frame(source(path=f"{folder}/{path}", cast=cast, blocksize=blocksize), table)


def test_large_whole_numbers_and_far_floats_come_back(tmp_path: Path) -> None:
    table = pa.table({"i": [2**63 - 1, -(2**63), 2**53 + 1], "f": [5e-324, 1.7976931348623157e308, 0.1 + 0.2]})
    for form, source in (("csv", read_csv), ("json", read_json), ("parquet", read_parquet)):
        read_back: Any = source
        write(form, frame_of(table, 2), str(tmp_path), f"a.{form}")
        same_frame(read_back(path=f"{tmp_path}/a.{form}"), table)
    values = np.array([[2**63 - 1, -(2**63)]])
    write("netcdf", xr.DataArray(values, dims=["x", "y"]).chunk({"y": 1}), str(tmp_path), "a.nc")
    assert from_netcdf(path=f"{tmp_path}/a.nc").values.tolist() == values.tolist()
