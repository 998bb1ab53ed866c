"""What else HDF5 files hold: text as bytes, groups, arrays without names of dims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5netcdf
import h5py  # type: ignore[import-untyped]
import numpy as np
import pytest
import xarray as xr
import zarr
from serially import values_of
from test_round_trips import write as write_output

from pipeline.errors import DataError, OpError
from pipeline.ops.arrays.labelled import sel
from pipeline.ops.sources.array_files import from_netcdf, from_npy, from_zarr

TEXTS = ["2001-01-01_00:00:00", "2001-01-01_06:00:00", "é"]


def bytes_of(texts: list[str]) -> Any:
    return np.array([text.encode() for text in texts], "S19")


@pytest.mark.parametrize("engine", ["scipy", "h5netcdf"])
@pytest.mark.parametrize("where", ["cells", "labels", "coordinate"])
def test_bytes_are_text_once_read(tmp_path: Path, engine: Any, where: str) -> None:
    """xarray writes ``S19`` as characters along a dim of their own; the classic format has nothing else."""
    x = xr.Dataset({"x": ("t", [1.0, 2.0, 3.0])}, {"t": [0, 1, 2]})
    if where == "cells":
        x = xr.Dataset({"x": ("t", bytes_of(TEXTS))})
    elif where == "labels":
        x = x.assign_coords(t=bytes_of(TEXTS))
    else:
        x = x.assign_coords(stamp=("t", bytes_of(TEXTS)))
    x.to_netcdf(tmp_path / "x.nc", engine=engine)
    got = from_netcdf(path=str(tmp_path / "x.nc"), variable="x", chunks={"t": 2})
    if where == "cells":
        assert got.dtype == "U19"
        assert got.compute(scheduler="sync").values.tolist() == TEXTS
    else:
        assert got["t" if where == "labels" else "stamp"].values.tolist() == TEXTS
    if where == "labels":
        assert float(sel(got, labels={"t": TEXTS[1]}).compute(scheduler="sync")) == 2
    for to, read in (("netcdf", from_netcdf), ("zarr", from_zarr)):
        write_output(to, got, str(tmp_path), f"again.{to}")
        again = read(path=str(tmp_path / f"again.{to}"), variable="v")  # type: ignore[operator]
        assert list(again.compute(scheduler="sync").values) == list(got.compute(scheduler="sync").values)


def test_bytes_are_text_in_frames(tmp_path: Path) -> None:
    xr.Dataset({"x": ("t", bytes_of(TEXTS))}, {"t": bytes_of(["a", "b", "c"])}).to_netcdf(tmp_path / "x.nc")
    steps = "steps: {x: {op: from_netcdf, path: x.nc}, rows: {op: to_frame, input: x}}"
    rows = values_of(steps, tmp_path)["rows"]
    assert rows.to_dict("list") == {"t": ["a", "b", "c"], "value": TEXTS}


def test_bytes_of_npy_and_of_plain_zarr_are_text(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", bytes_of(TEXTS))
    zarr.create_array(tmp_path / "x.zarr", data=bytes_of(TEXTS), zarr_format=2)
    for got in (from_npy(path=f"{tmp_path}/x.npy", chunks=2), from_zarr(path=f"{tmp_path}/x.zarr")):
        assert got.dtype == "U19"
        assert got.compute(scheduler="sync").values.tolist() == TEXTS


def test_characters_with_an_encoding_have_a_width(tmp_path: Path) -> None:
    x = xr.Dataset({"x": ("t", np.array(["é", "abc"]))})
    x.to_netcdf(tmp_path / "x.nc", engine="scipy", encoding={"x": {"dtype": "S1"}})
    got = from_netcdf(path=str(tmp_path / "x.nc"))
    assert got.dtype.kind == "U"
    assert got.compute(scheduler="sync").values.tolist() == ["é", "abc"]


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    xr.Dataset({"x": ("t", np.array([b"\xff\xfe"]))}).to_netcdf(tmp_path / "x.nc", engine="scipy")
    with pytest.raises(DataError, match=r"x\.nc: 'x' holds bytes that are no text in UTF-8"):
        from_netcdf(path=str(tmp_path / "x.nc")).compute(scheduler="sync")


# ---------------------------------------------------------------------------------------------------------------------
# Groups
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """``model/daily/x(time, y)``, with the labels of ``y`` in the group around it, and those of ``time`` outermost."""
    with h5netcdf.File(tmp_path / "g.nc", "w") as file:
        file.dimensions = {"time": 2}
        time = file.create_variable("time", ("time",), "f8", data=[0.0, 1.0])
        time.attrs.update({"units": "days since 2001-01-01", "calendar": "noleap"})
        model = file.create_group("model")
        model.dimensions = {"y": 3}
        model.create_variable("y", ("y",), "f8", data=[10.0, 20.0, 30.0])
        daily = model.create_group("daily")
        daily.create_variable("x", ("time", "y"), "f8", data=np.arange(6.0).reshape(2, 3))
    return tmp_path / "g.nc"


@pytest.mark.parametrize("group", ["model/daily", "/model/daily/"])
def test_a_group_has_the_labels_of_the_groups_around_it(grouped: Path, group: str) -> None:
    got = from_netcdf(path=str(grouped), group=group, chunks={"time": 1})
    assert got.compute(scheduler="sync").values.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert got.y.values.tolist() == [10, 20, 30]
    assert [str(time) for time in got.time.values] == ["2001-01-01 00:00:00", "2001-01-02 00:00:00"]


@pytest.mark.parametrize(("group", "said"), [
    ("model/dayly", "has no group 'model/dayly'; it has model, model/daily; did you mean 'model/daily'"),
    ("model", "has no variable 'x'; it has none; if they are in a group"), ("", "has no variable 'x'"),
])  # fmt: skip
def test_a_group_that_is_missing_is_named(grouped: Path, group: str, said: str) -> None:
    with pytest.raises(OpError, match=said):
        from_netcdf(path=str(grouped), group=group, variable="x")


def test_the_classic_format_has_no_groups(tmp_path: Path) -> None:
    xr.Dataset({"x": ("t", [1.0])}).to_netcdf(tmp_path / "x.nc", engine="scipy")
    with pytest.raises(OpError, match="has no group 'g'; it has no groups"):
        from_netcdf(path=str(tmp_path / "x.nc"), group="g")


def test_groups_of_zarr(tmp_path: Path) -> None:
    x = xr.Dataset({"x": ("t", [1.0, 2.0])}, {"t": [5, 6]})
    x.to_zarr(tmp_path / "x.zarr", group="a/b", consolidated=False)
    got = from_zarr(path=str(tmp_path / "x.zarr"), group="a/b")
    assert (got.t.values.tolist(), got.compute(scheduler="sync").values.tolist()) == ([5, 6], [1, 2])
    with pytest.raises(OpError, match="has no group 'a/c'; it has a, a/b; did you mean 'a/b'"):
        from_zarr(path=str(tmp_path / "x.zarr"), group="a/c")


# ---------------------------------------------------------------------------------------------------------------------
# Plain HDF5
# ---------------------------------------------------------------------------------------------------------------------


def test_plain_hdf5_has_numbered_dims_and_no_warning(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["a/b"] = np.arange(12.0).reshape(3, 4)
        file["square"] = np.zeros((3, 3))
        file["names"] = np.array([b"x", b"yy"])
    got = from_netcdf(path=str(tmp_path / "p.h5"), group="a", chunks={"dim_0": 2})
    assert (got.dims, got.shape) == (("dim_0", "dim_1"), (3, 4))
    assert got.compute(scheduler="sync").values.tolist() == np.arange(12.0).reshape(3, 4).tolist()
    assert from_netcdf(path=str(tmp_path / "p.h5"), variable="square").dims == ("dim_0", "dim_1")
    names = from_netcdf(path=str(tmp_path / "p.h5"), variable="names")
    assert names.compute(scheduler="sync").values.tolist() == ["x", "yy"]
    with pytest.raises(OpError, match="has the variables names, square; name one"):
        from_netcdf(path=str(tmp_path / "p.h5"))
