"""A damaged input is an error of the data that names the file, wherever the damage is found."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from numcodecs import Zstd

import pipeline
from pipeline.backends.registry import create
from pipeline.config.loader import loads
from pipeline.errors import ConfigError, DataError, TaskDataError

N = 1000
FRAME = pd.DataFrame({"a": np.arange(N), "b": np.linspace(0, 1, N), "c": [f"t{i % 97}" for i in range(N)]})
ARRAY = xr.DataArray(
    np.random.default_rng(0).random((20, 30)), dims=("t", "x"), coords={"t": np.arange(20), "x": np.arange(30.0)}
)
OPS = {".csv": "read_csv", ".json": "read_json", ".parquet": "read_parquet", ".npy": "from_npy", ".nc": "from_netcdf"}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A file of each format, and each way to compress one."""
    folder = tmp_path_factory.mktemp("originals")
    for packed in ("", ".gz", ".bz2", ".xz", ".zip"):
        FRAME.to_csv(folder / f"f.csv{packed}", index=False)
    with pa.CompressedOutputStream(str(folder / "f.csv.zst"), "zstd") as out:
        out.write((folder / "f.csv").read_bytes())
    FRAME.to_json(folder / "f.json", orient="records")
    FRAME.to_json(folder / "f.jsonl", orient="records", lines=True)
    FRAME.to_json(folder / "f.jsonl.gz", orient="records", lines=True)
    for packed in ("snappy", "zstd", "gzip", "lz4"):
        FRAME.to_parquet(folder / f"f-{packed}.parquet", compression=packed, row_group_size=500)
    np.save(folder / "x.npy", ARRAY.values)
    data = ARRAY.to_dataset(name="v")
    encoding = {"v": {"chunksizes": (10, 15), "zlib": True, "fletcher32": True}}
    data.to_netcdf(folder / "x.nc", engine="h5netcdf", encoding=encoding)
    data.to_netcdf(folder / "classic.nc", engine="scipy")
    chunked = data.chunk({"t": 10, "x": 15})
    packing = {name: {"compressors": Zstd()} for name in ("v", "t", "x")}  # blosc may end its process at damage
    chunked.to_zarr(folder / "two.zarr", zarr_format=2, consolidated=True, encoding=packing)
    chunked.to_zarr(folder / "three.zarr", zarr_format=3, consolidated=False)
    return folder


NAMES = [
    *("f.csv", "f.csv.gz", "f.csv.bz2", "f.csv.xz", "f.csv.zst", "f.csv.zip", "f.json", "f.jsonl", "f.jsonl.gz"),
    *("f-snappy.parquet", "f-zstd.parquet", "f-gzip.parquet", "f-lz4.parquet"),
    *("x.npy", "classic.nc", "two.zarr", "three.zarr"),
]
"""Without netCDF-4: damaged metadata may end a process that HDF5 is in."""


def compute(path: Path) -> None:
    op = next((op for ending, op in OPS.items() if ending in path.name), "from_zarr")
    text = f"version: 1\nsteps:\n  s: {{op: {op}, path: '{path}', chunks: {{t: 5, x: 5}}}}\nkeep: [s]\n"
    if op.startswith("read") or "npy" in op:
        text = text.replace(", chunks: {t: 5, x: 5}", "")
    with create("serial") as backend:
        backend.run(pipeline.build(loads(text)))


def copied(originals: Path, name: str, folder: Path) -> Path:
    target = folder / name
    if (originals / name).is_dir():
        shutil.copytree(originals / name, target, dirs_exist_ok=True)
    else:
        shutil.copy(originals / name, target)
    return target


@pytest.mark.filterwarnings("ignore")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", NAMES)
def test_random_damage_is_refused_with_the_name_or_not_seen(name, originals, tmp_path):
    random_numbers = random.Random(name)
    for _ in range(12):
        path = copied(originals, name, tmp_path)
        inner = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        target = random_numbers.choice(inner)
        data = bytearray(target.read_bytes())
        start = random_numbers.randrange(len(data) if random_numbers.random() < 0.6 else min(200, len(data)))
        how = random_numbers.choice(["bit", "cut", "zeros", "noise"])
        if how == "bit":
            data[start] ^= 1 << random_numbers.randrange(8)
        elif how == "cut":
            del data[start:]
        else:
            end = min(start + 16, len(data))
            data[start:end] = bytes(end - start) if how == "zeros" else random_numbers.randbytes(end - start)
        target.write_bytes(data)
        try:
            compute(path)
        except DataError as error:
            assert name in str(error), (how, start)  # noqa: PT017
        except ConfigError as error:  # a name of a variable or dim was damaged
            assert re.search("variable|is no dim|a dim", str(error)), (how, start)  # noqa: PT017


def damaged(path: Path, start: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[start : start + len(data)] = data
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "inner", "start", "message"),
    [
        ("two.zarr", "v/1.0", 0, r"two\.zarr/v/1\.0: can't be read \(.*\): restore it, or write it again"),
        ("three.zarr", "v/c/1/0", 0, r"three\.zarr/v/c/1/0: can't be read"),
        ("f-snappy.parquet", "", 300, r"f-snappy\.parquet: can't be read .*: restore it"),
        ("x.nc", "", -3000, r"x\.nc: can't be read .*: restore it"),
    ],
)
def test_damage_that_a_task_finds_has_file_step_and_cure(name, inner, start, message, originals, tmp_path):
    path = copied(originals, name, tmp_path)
    target = path / inner if inner else path
    damaged(target, start % target.stat().st_size, b"\x55" * 400 if start < 0 else b"\x55" * 40)
    with pytest.raises(TaskDataError, match=rf"^s: .*{message}") as found:
        compute(path)
    assert found.value.exit_code == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("f.csv.gz", r"f\.csv\.gz: "),
        ("f.json", r"f\.json:1: is no JSON"),
        ("f.jsonl", r"f\.jsonl:502: is no JSON of objects"),
        ("f.csv.zst", r"f\.csv\.zst: "),
        ("f.csv.zip", r"f\.csv\.zip: is not a zip file, or a broken one"),
        ("x.npy", r"x\.npy: has 2,\d+ bytes, and an array of \(20, 30\) needs 4,928: its end is missing"),
    ],
)
def test_half_a_file_is_found_before_anything_runs(name, message, originals, tmp_path):
    path = copied(originals, name, tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 - 3])
    with pytest.raises(DataError, match=message):
        compute(path)


def test_a_file_that_is_gone_when_its_task_runs_is_named(originals, tmp_path):
    path = copied(originals, "f.csv", tmp_path)
    graph = pipeline.build(loads(f"version: 1\nsteps: {{s: {{op: read_csv, path: '{path}'}}}}\nkeep: [s]\n"))
    path.unlink()
    with create("serial") as backend, pytest.raises(TaskDataError, match=r"f\.csv: can't be read \(FileNotFoundError"):
        backend.run(graph)
