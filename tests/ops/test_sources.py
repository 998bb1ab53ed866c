"""Sources: what they read equals what numpy, pandas and xarray read, chunk by chunk."""

from __future__ import annotations

import datetime
import decimal
import gzip
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
from dask.base import tokenize
from dask.callbacks import Callback
from named_ops import arrays as array
from named_ops import sources
from serially import table_of

from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import register_tokens
from pipeline.graph.nodes import execute, toposort

TIMES = pd.date_range("2000-01-01", periods=20, freq="D")
PACKED = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 5.0, "_FillValue": -999}


def dataset() -> xr.Dataset:
    values = np.random.default_rng(3).normal(280, 20, (20, 3)).round(2)
    values[4, 1] = np.nan
    coords = {"time": TIMES, "y": [1.0, 2.0, 3.0], "area": ("y", [4.0, 5.0, 6.0])}
    return xr.Dataset({"t": (("time", "y"), values, {"units": "K"})}, coords)


def table() -> pa.Table:
    return pa.table(
        {
            "price": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("3.00")]),
            "day": pa.array([datetime.date(2000, 1, 2), None, datetime.date(1969, 7, 20)]),
            "name": pa.array(["a", None, "c"]),
            "n": pa.array([1, 2, 3], pa.int32()),
            "m": pa.array([1, None, 3]),
            "ok": pa.array([True, None, False]),
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "at": pa.array([0, 1, None], pa.timestamp("ms", "UTC")),
        }
    )


CSV = "id,x,name,when\n" + "".join(
    f"{i},{i / 7:.6f},{'NA' if i % 5 == 0 else f'name {i}'},2013-01-{i % 28 + 1:02}T06:00:00Z\n" for i in range(200)
)


def fill(folder: Path) -> None:
    """The input files of the tests."""
    for name, part in (("a1", slice(0, 12)), ("a2", slice(12, 20))):
        dataset().isel(time=part).to_netcdf(folder / f"{name}.nc", engine="h5netcdf", encoding={"t": PACKED})
    dataset().to_zarr(folder / "z.zarr", consolidated=False, encoding={"t": {**PACKED, "chunks": (7, 2)}})
    for year in (2000, 2001):
        (folder / f"p/year={year}").mkdir(parents=True)
        pq.write_table(table(), folder / f"p/year={year}/part.parquet", row_group_size=2)
    (folder / "d.csv").write_text(CSV)


BUILDS: dict[str, Callable[[str], Any]] = {
    "files": lambda f: sources.files(path=f"{f}/**/*.parquet"),
    "from_netcdf": lambda f: sources.from_netcdf(path=f"{f}/a*.nc", variable="t", chunks={"time": 5}),
    "from_zarr": lambda f: sources.from_zarr(path=f"{f}/z.zarr", variable="t"),
    "read_parquet": lambda f: sources.read_parquet(path=f"{f}/p"),
    "read_csv": lambda f: sources.read_csv(path=f"{f}/d.csv", blocksize=999, cast={"when": "timestamp[UTC]"}),
    "random": lambda f: sources.random(shape={"x": 30, "y": 20}, chunks={"x": 7, "y": 9}, seed=5),
    "arange": lambda f: sources.arange(stop=50, chunks={"i": 7}, dim="i"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sources")
    fill(path)
    return str(path)


def nodes(value: Any) -> dict[Any, Any]:
    return dict(value.__dask_graph__() if isinstance(value, xr.DataArray) else value.tasks)


def fingerprints(path: str) -> str:
    """A digest a graph, in this process."""
    found = []
    register_tokens()
    with dask.config.set({"tokenize.ensure-deterministic": True}):
        for name, build in BUILDS.items():
            tokens = sorted((str(key), tokenize(node)) for key, node in nodes(build(path)).items())
            found.append(f"{name} {tokenize(tokens)}")
    return "\n".join(found)


class Counted(Callback):
    """Counts the tasks that run."""

    n = 0

    def _pretask(self, *args: Any) -> None:
        self.n += 1


def run(x: Any) -> Any:
    """The array in memory; it must be what was promised."""
    result = x.compute(scheduler="sync")
    assert (result.dtype, result.shape) == (x.dtype, x.shape)
    return result


# ---------------------------------------------------------------------------------------------------------------------
# What holds of every source
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDS)
def test_building_runs_no_task_and_every_task_pickles(name: str, folder: str) -> None:
    with Counted() as count:
        value = BUILDS[name](folder)
    assert count.n == 0
    done: dict[Any, Any] = {}
    for key in toposort(nodes(value)):
        done[key] = execute(pickle.loads(pickle.dumps(nodes(value)[key])), done)


def test_another_process_builds_the_same_graphs(folder: str) -> None:
    program = "import sys, test_sources; print(test_sources.fingerprints(sys.argv[1]))"
    other = subprocess.run(
        [sys.executable, "-c", program, folder],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
        cwd=Path(__file__).parent,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert other.strip() == fingerprints(folder)


@pytest.mark.parametrize("source", [sources.files, sources.from_netcdf, sources.from_zarr, sources.read_parquet])
def test_a_file_that_is_missing_is_named(source: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"/nowhere/x\.dat: no such file"):
        source(path="/nowhere/x.dat")


def test_a_pattern_that_finds_nothing_is_named() -> None:
    with pytest.raises(DataError, match=r"/nowhere/\*\.csv: no file matches this pattern"):
        sources.read_csv(path="/nowhere/*.csv")


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------


def test_files_are_items_keyed_by_what_the_pattern_left_open(tmp_path: Path) -> None:
    for name in ("b.py", "a/z.py", "a/b/c.py", "a/b/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = sources.files(path=f"{tmp_path}/**/*.py")
    assert found.names == ("a/b/c", "a/z", "b")
    assert [execute(found.tasks[key], {}) for key in found.keys] == [f"{tmp_path}/{n}.py" for n in found.names]
    assert sources.files(path=f"{tmp_path}/a/b/*").names == ("c.py", "c.txt")
    assert sources.files(path=str(tmp_path)).names == ("b",)


# ---------------------------------------------------------------------------------------------------------------------
# netCDF and zarr
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
@pytest.mark.parametrize("chunks", [None, {"time": 5}, {"time": 12, "y": 2}, {"y": 1}])
def test_netcdf_files_are_one_array_decoded_as_xarray_does(tmp_path: Path, engine: Any, chunks: Any) -> None:
    for name, part in (("b", slice(12, 20)), ("a", slice(0, 12))):
        packed = {**PACKED, "scale_factor": 0.01 if name == "a" else 0.02}
        dataset().isel(time=part).to_netcdf(tmp_path / f"{name}.nc", engine=engine, encoding={"t": packed})
    got = sources.from_netcdf(path=f"{tmp_path}/*.nc", variable="t", chunks=chunks)
    want = xr.concat([xr.load_dataset(tmp_path / f"{name}.nc") for name in "ab"], "time", data_vars="all")["t"]
    xr.testing.assert_identical(run(got), want)


def test_a_single_variable_needs_no_name(folder: str) -> None:
    assert sources.from_netcdf(path=f"{folder}/a1.nc").name == "t"


@pytest.mark.parametrize("source", ["from_netcdf", "from_zarr"])
@pytest.mark.parametrize("picks", [
    {"time": (3, 14)}, {"time": (-8, None), "y": 1}, {"y": -1}, {"time": slice(None, 5), "y": (1, 3)},
    {"time": 0, "y": 0},
])  # fmt: skip
def test_picks_read_only_the_chunks_that_hold_them(folder: str, source: str, picks: dict[str, Any]) -> None:
    options = {"path": f"{folder}/a*.nc"} if source == "from_netcdf" else {"path": f"{folder}/z.zarr"}
    build = getattr(sources, source)
    whole = build(**options, variable="t", chunks={"time": 5})
    got = build(**options, variable="t", chunks={"time": 5}, picks=picks)
    indexers = {dim: pick if isinstance(pick, int | slice) else slice(*pick) for dim, pick in picks.items()}
    want = whole.isel(indexers)
    xr.testing.assert_identical(run(got), run(want))
    assert got.data.chunks == want.data.chunks
    assert len(nodes(got)) == got.data.npartitions


@pytest.mark.parametrize("pick", [20, -21, (5, 21), (7, 7)])
def test_a_pick_out_of_range_is_a_fault(folder: str, pick: Any) -> None:
    with pytest.raises(OpError, match="out of range: 'time' has the positions 0 to 19"):
        sources.from_zarr(path=f"{folder}/z.zarr", variable="t", picks={"time": pick})


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "consolidated", [False, pytest.param(True, marks=pytest.mark.filterwarnings("ignore:.*onsolid"))]
)
def test_zarr_groups_are_decoded_as_xarray_does(tmp_path: Path, zarr_format: Any, consolidated: bool) -> None:
    path = tmp_path / "x.zarr"
    dataset().to_zarr(
        path, zarr_format=zarr_format, consolidated=consolidated, encoding={"t": {**PACKED, "chunks": (7, 2)}}
    )
    got = sources.from_zarr(path=str(path))
    assert got.data.chunks == ((7, 7, 6), (2, 1))
    xr.testing.assert_identical(run(got), xr.load_dataset(path, engine="zarr", consolidated=consolidated)["t"])


def test_a_plain_zarr_array_has_numbered_dims(tmp_path: Path) -> None:
    import zarr

    values = np.arange(12).reshape(3, 4)
    zarr.create_array(tmp_path / "x.zarr", data=values, chunks=(2, 3))
    got = sources.from_zarr(path=str(tmp_path / "x.zarr"))
    assert got.dims == ("dim_0", "dim_1")
    np.testing.assert_array_equal(run(got), values)


def test_a_variable_that_is_times_is_read_as_times(tmp_path: Path) -> None:
    x = xr.Dataset({"seen": ("i", TIMES)})
    x.to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    got = run(sources.from_netcdf(path=str(tmp_path / "x.nc"), chunks={"i": 6}))
    np.testing.assert_array_equal(got, TIMES)


def test_what_a_file_has_not_is_named(folder: str, tmp_path: Path) -> None:
    with pytest.raises(OpError, match=r"has no variable 'T'; it has t"):
        sources.from_netcdf(path=f"{folder}/a1.nc", variable="T")
    with pytest.raises(OpError, match="'tme' is no dim; the dims are time, y"):
        sources.from_netcdf(path=f"{folder}/a1.nc", variable="t", chunks={"tme": 1})
    (tmp_path / "x.nc").write_text("no netCDF")
    with pytest.raises(DataError, match=r"x\.nc: is not a netCDF file"):
        sources.from_netcdf(path=str(tmp_path / "x.nc"))
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(DataError, match=r"x\.zarr: is neither a zarr group nor a zarr array"):
        sources.from_zarr(path=str(tmp_path / "x.zarr"))


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    dataset().isel(time=slice(0, 5)).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    dataset().isel(time=slice(5, 9), y=slice(0, 2)).to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    with pytest.raises(DataError, match=r"b\.nc: differs from .*a\.nc along 'y'"):
        sources.from_netcdf(path=f"{tmp_path}/*.nc", variable="t", chunks={"time": 5})


def test_a_dim_of_length_0_is_an_empty_array(tmp_path: Path) -> None:
    dataset().isel(time=slice(0, 0)).drop_encoding().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    got = sources.from_netcdf(path=f"{tmp_path}/a.nc", variable="t")
    assert run(got).shape == (0, 3)


@pytest.mark.parametrize(("scenario", "warming"), [("A1B", 4.853), ("E1", 2.373)])
def test_the_warming_of_north_america(shared_data: Path, scenario: str, warming: float) -> None:
    path = str(shared_data / f"climate/{scenario}_north_america.nc")
    tas = sources.from_netcdf(path=path, variable="air_temperature", chunks={"time": 60})
    latitude = tas.latitude.astype("float64")
    weights = xr.DataArray(da.from_array(np.cos(np.deg2rad(latitude.values))), {"latitude": latitude}, ["latitude"])
    means = [
        array.average(sources.from_netcdf(path=path, variable="air_temperature", picks={"time": pick}), weights)
        for pick in ((-10, None), (None, 40))
    ]
    assert float(run(means[0])) - float(run(means[1])) == pytest.approx(warming, abs=5e-4)


# ---------------------------------------------------------------------------------------------------------------------
# Elsewhere, and from nothing
# ---------------------------------------------------------------------------------------------------------------------


def test_remote_files_are_read_through_fsspec() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/box/d.csv", CSV.encode())
    try:
        memory.pipe("/box/x.jsonl.gz", gzip.compress(b'{"a": 1}\n'))
        memory.pipe("/box/x.csv.zst", pa.compress(CSV.encode(), "zstd", asbytes=True))
        got = sources.read_csv(path="memory://box/*.csv", blocksize=999, storage={"memory": {}})
        assert table_of(got)["id"].to_pylist() == list(range(200))
        assert table_of(sources.read_csv(path="memory://box/x.csv.zst")).num_rows == 200
        assert table_of(sources.read_json(path="memory://box/x.jsonl.gz")).to_pydict() == {"a": [1]}
        assert sources.files(path="memory://box/*.csv").names == ("d",)
        with pytest.raises(DataError, match="memory://box/none: no such file"):
            sources.read_csv(path="memory://box/none")
    finally:
        memory.rm("/box", recursive=True)


@pytest.mark.parametrize(("options", "low", "high", "dtype"), [
    ({"loc": 5, "scale": 0.1}, 4, 6, "float64"), ({"distribution": "uniform", "low": 2, "high": 3}, 2, 3, "float64"),
    ({"distribution": "integers", "high": 10}, 0, 9, "int64"), ({"dtype": "float32", "scale": 0.1}, -1, 1, "float32"),
])  # fmt: skip
def test_random_numbers_lie_where_they_should(options: Any, low: float, high: float, dtype: str) -> None:
    got = run(sources.random(shape={"x": 300, "y": 20}, chunks={"x": 70}, seed=1, **options))
    assert (got.dims, got.dtype) == (("x", "y"), dtype)
    assert low <= got.min()
    assert got.max() <= high


def test_random_numbers_depend_on_seed_and_place_alone() -> None:
    def draw(seed: int) -> np.ndarray:
        return run(sources.random(shape={"x": 30, "y": 20}, chunks={"x": 10}, seed=seed)).values

    np.testing.assert_array_equal(draw(1), draw(1))
    assert len(np.unique(np.concatenate([draw(1), draw(2)]))) == 1200
    first = np.random.Generator(np.random.Philox(np.random.SeedSequence(1, spawn_key=(1, 0)))).normal(size=(10, 20))
    np.testing.assert_array_equal(draw(1)[10:20], first)


@pytest.mark.parametrize("options", [{"distribution": "cauchy"}, {"distribution": "integers", "low": 3, "high": 3}])
def test_random_refuses_what_it_cannot_draw(options: Any) -> None:
    with pytest.raises(OpError):
        sources.random(shape={"x": 3}, **options)


@pytest.mark.parametrize("arguments", [(0, 10, 1), (3, -8, -2), (0.5, 4, 0.25), (5, 5, 1)])
def test_arange_is_numpys(arguments: Any) -> None:
    start, stop, step = arguments
    got = run(sources.arange(start=start, stop=stop, step=step, chunks=3))
    np.testing.assert_array_equal(got, np.arange(*arguments))
    assert got.dtype == np.arange(*arguments).dtype


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"stop": math.inf}, "stop: got inf"),
        ({"stop": math.nan}, "stop: got nan"),
        ({"stop": 10**30}, "stop: got 1000000000000000000000000000000; write a number below"),
        ({"stop": 2**62, "chunks": 4}, "chunks: got 1,152,921,504,606,846,976 of them; at most 1,000,000"),
        ({"stop": 2**60}, "at most 1,000,000 can be planned"),
    ],
)
def test_what_no_plan_can_hold_is_refused_at_once(arguments: Any, said: str) -> None:
    with pytest.raises(OpError, match=said):
        sources.arange(**arguments)


def test_a_chunk_larger_than_its_dim_is_the_whole_dim() -> None:
    assert sources.arange(stop=5, chunks=10**30).chunks == ((5,),)


def test_a_missing_library_of_a_protocol_is_named_with_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str, **options: Any) -> Any:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(DataError, match=r"s3://bucket/x\.csv: Install s3fs"):
        sources.read_csv(path="s3://bucket/x.csv")
