"""Records of files that h5py reads by a pattern, against those that xarray gives."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from pipeline.errors import DataError
from pipeline.ops.sources.array_readers import NetcdfReader
from pipeline.ops.sources.array_records import ArrayRecord, packed, unpacked_record
from pipeline.ops.sources.hdf5_pattern import pattern_of
from pipeline.ops.sources.inspected_arrays import recorded

Change = Callable[[xr.Dataset], xr.Dataset]


def plain(day: int = 0) -> xr.Dataset:
    cells = np.full((1, 3, 2), 280 + day, "f4")
    dataset = xr.Dataset(
        {
            "t2m": (
                ("time", "lat", "lon"),
                cells,
                {"units": "K", "flags": np.array([1, 2], "i2"), "limit": np.float32(1)},
            )
        },
        coords={
            "time": ("time", [float(day)], {"units": "days since 2018-01-01", "axis": "T"}),
            "lat": ("lat", [-10.0, 0.0, 10.0], {"units": "degrees_north"}),
            "lon": ("lon", np.array([0, 180], "f4")),
        },
        attrs={"history": f"made on day {day}"},
    )
    dataset["pr"] = dataset.t2m * 0
    return dataset


def with_attrs(name: str, **attrs: Any) -> Change:
    return lambda dataset: dataset.assign({name: dataset[name].assign_attrs(attrs)})


def without_attr(name: str, attr: str) -> Change:
    def change(dataset: xr.Dataset) -> xr.Dataset:
        del dataset[name].attrs[attr]
        return dataset

    return change


CHANGES: dict[str, Change] = {
    "another day": lambda _: plain(31),
    "other units": with_attrs("time", units="hours since 2018-01-05"),
    "other packing": lambda x: with_attrs("t2m", scale_factor=0.1, add_offset=2.0)(x),
    "packing in another type": lambda x: with_attrs("t2m", scale_factor=np.float32(0.1), add_offset=np.float32(2))(x),
    "another number": with_attrs("t2m", limit=np.float32(2)),
    "a number of another type": with_attrs("t2m", limit=2.0),
    "an attribute more": with_attrs("lat", standard_name="latitude"),
    "an attribute less": without_attr("time", "axis"),
    "a longer list": with_attrs("t2m", flags=np.array([1, 2, 3], "i2")),
    "a list of texts": with_attrs("t2m", flags=["a", "b"]),
    "text with an accent": with_attrs("t2m", units="°C"),
    "no text": with_attrs("t2m", units=3),
    "more times": lambda x: xr.concat([x, plain(1)], "time", data_vars="minimal"),
    "no time": lambda x: x.isel(time=slice(0)),
    "other latitudes": lambda x: x.assign_coords(lat=x.lat + 1),
    "fewer latitudes": lambda x: x.isel(lat=slice(2)),
    "latitudes of another type": lambda x: x.assign_coords(lat=x.lat.astype("f4")),
    "cells of another type": lambda x: x.assign(t2m=x.t2m.astype("f8")),
    "dims in another order": lambda x: x.transpose("time", "lon", "lat"),
    "a variable more": lambda x: x.assign(more=x.pr),
    "a variable less": lambda x: x.drop_vars("pr"),
    "no labels": lambda x: x.drop_vars("lon"),
    "a dim of another name": lambda x: x.rename(lon="x"),
    "a scalar coordinate": lambda x: x.assign_coords(height=2.0),
    "another scalar coordinate": lambda x: x.assign_coords(height=10.0),
    "a coordinate of texts": lambda x: x.assign_coords(place=("lat", ["south", "equator", "north"])),
    "other texts": lambda x: x.assign_coords(place=("lat", ["a", "b", "c"])),
    "coordinates of two dims": lambda x: x.assign_coords(area=(("lat", "lon"), np.ones((3, 2)))),
    "large coordinates": lambda x: x.assign_coords(big=(("lat", "lon"), np.ones((3, 2)))).isel(lat=[0] * 9_000),
    "cells with times": lambda x: x.assign(t2m=x.t2m.assign_attrs(units="days since 2000-01-01")),
}
ENCODINGS: dict[str, dict[str, Any]] = {
    "chunks": {"encoding": {"t2m": {"chunksizes": (1, 1, 2)}}},
    "an unlimited dim": {"unlimited_dims": ["time"]},
}


def written(folder: Path, name: str, dataset: xr.Dataset, **how: Any) -> Path:
    path = folder / f"{name}.nc"
    variables = {str(each): dataset.variables[each] for each in sorted(dataset.variables, key=str)}
    dataset = xr.Dataset(variables, attrs=dataset.attrs)  # in one order, as programs write them
    dataset = dataset.set_coords([each for each in ("height", "place", "area", "big") if each in variables])
    dataset.to_netcdf(path, engine="h5netcdf", **how)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    found = [written(folder, "plain", plain())]
    found += [written(folder, name, change(plain())) for name, change in CHANGES.items()]
    found += [written(folder, name, plain(), **how) for name, how in ENCODINGS.items()]
    # what xarray does not write
    for name in ("a longer variable", "another link", "old text", "longer old text", "no dims", "named by another"):
        path = written(folder, name, plain(), unlimited_dims=["time"])
        found.append(path)
        with h5py.File(path, "a") as file:
            if name == "a longer variable":
                file["pr"].resize(4, axis=0)
            elif name == "another link":
                file["other"] = file["pr"]
            elif name.endswith("old text"):
                file["t2m"].attrs["units"] = np.bytes_("Kelvin" if name == "old text" else "degrees Celsius")
            elif name == "no dims":
                for each in ("t2m", "pr", "time", "lat", "lon"):
                    del file[each]
                file["t2m"], file["pr"] = np.ones((2, 3)), np.ones((2, 2))
            else:
                file["pr"].attrs["coordinates"] = "lat"
    return found


def record_of(path: Path) -> ArrayRecord:
    return recorded(str(path), "h5netcdf", "t2m", group="", times=True, options={})


@pytest.fixture(scope="module")
def records(files: list[Path]) -> dict[Path, ArrayRecord]:
    return {path: record_of(path) for path in files}


def facts(record: ArrayRecord) -> Any:
    keys = [raw.key for raw in (record.variable, *record.coordinates)]
    assert all(keys)
    order = [[*raw.attrs] for raw in (record.variable, *record.coordinates)]
    return keys, order, record.chunks, record.engine, record.group, str(record.ends)


def test_a_pattern_gives_what_xarray_gives_or_nothing(files: list[Path], records: dict[Path, ArrayRecord]) -> None:
    read: set[tuple[str, str]] = set()
    for first in files:
        pattern = pattern_of(str(first), records[first])
        others = (
            files if first.stem in ("plain", "a scalar coordinate", "a coordinate of texts", "old text") else [first]
        )
        for other in others if pattern is not None else ():
            assert pattern is not None
            record = pattern.read(str(other))
            if record is not None:
                assert facts(record) == facts(records[other]), f"{other.stem} by {first.stem}"
                read.add((first.stem, other.stem))
    expected = {("plain", name) for name in (
        "another day", "other units", "another number", "other latitudes", "fewer latitudes", "chunks",
        "text with an accent", "more times",
    )}  # fmt: skip
    # the ends of cells with times are read; a dim may be longer than the variable
    alone = {"cells with times", "a longer variable"}
    expected |= {(path.stem, path.stem) for path in files if path.stem not in alone}
    expected |= {("a scalar coordinate", "another scalar coordinate"), ("old text", "longer old text")}
    assert expected <= read, f"read by xarray: {expected - read}"
    assert len(read) < 120  # most of the others differ in what a pattern must have


def test_records_are_kept_as_bytes(records: dict[Path, ArrayRecord]) -> None:
    for path, record in records.items():
        fact = packed(record)
        assert fact is not None
        again = unpacked_record(fact)
        assert facts(again) == facts(record), path.stem
        for one, other in zip(record.coordinates, again.coordinates, strict=True):
            np.testing.assert_array_equal(one.values, other.values)
            assert repr(one.attrs) == repr(other.attrs)
        large = path.stem == "large coordinates"
        assert len(fact.digests) == (2 if large else 0)
        assert len(fact.head) < 4_000


def test_patterns_of_files_that_are_made_in_two_ways_are_learnt(
    files: list[Path], records: dict[Path, ArrayRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_stem = {path.stem: path for path in files}
    opened: list[str] = []
    original = xr.open_dataset

    def counted(path: str, **how: Any) -> xr.Dataset:
        opened.append(path)
        return original(path, **how)

    monkeypatch.setattr(xr, "open_dataset", counted)
    reader = NetcdfReader("t2m", "", True, None)
    paths = [by_stem[stem] for stem in ("plain", "a variable more", "another day", "a variable more")]
    for path in paths * 3:
        assert facts(reader.read(str(path))) == facts(records[path])
    assert opened == [str(path) for path in paths[:2]]


@pytest.mark.parametrize("damage", ["cut", "other", "missing"])
def test_a_damaged_file_is_named_as_if_it_were_the_only_one(files: list[Path], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.nc"
    if damage == "cut":
        path.write_bytes(files[0].read_bytes()[:4_000])
    elif damage == "other":
        path.write_text("no netCDF")
    messages = []
    for others in ([], files[:3]):
        reader = NetcdfReader("t2m", "", True, None)
        for other in others:
            reader.read(str(other))
        with pytest.raises(DataError, match=r"damaged\.nc: ") as raised:
            reader.read(str(path))
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


def test_groups_have_patterns_of_their_own(tmp_path: Path) -> None:
    paths = [tmp_path / f"{day}.nc" for day in range(3)]
    for day, path in enumerate(paths):
        plain(day).to_netcdf(path, engine="h5netcdf", group="a/b")
    records = [recorded(str(path), "h5netcdf", "t2m", group="a/b", times=True, options={}) for path in paths]
    pattern = pattern_of(str(paths[0]), records[0])
    assert pattern is not None
    for path, record in itertools.islice(zip(paths, records, strict=True), 1, None):
        read = pattern.read(str(path))
        assert read is not None
        assert facts(read) == facts(record)
