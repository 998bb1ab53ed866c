"""Several files that are one array: joined by their labels, never where they differ without a word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serially import graph_of, values_of
from strategies import SETTINGS

from pipeline.builder.plan import plan
from pipeline.config.loader import loads
from pipeline.errors import DataError, OpError
from pipeline.ops.sources.array_files import from_netcdf, from_npy, from_zarr


def write(
    path: Path,
    times: Sequence[float],
    value: float = 0,
    *,
    dtype: str = "f8",
    units: str = "days since 2001-01-01",
    calendar: str = "standard",
    attrs: dict[str, Any] | None = None,
    lat: Sequence[float] = (10.0, 20.0),
    **coords: Any,
) -> str:
    """A file of ``x`` along time and lat, whose cells are all ``value``."""
    cells = np.full((len(times), len(lat)), value, dtype)
    time = ("time", np.array(times), {"units": units, "calendar": calendar})
    x = xr.Dataset({"x": (("time", "lat"), cells, attrs or {})}, {"time": time, "lat": list(lat), **coords})
    x.to_netcdf(path, engine="h5netcdf" if dtype != "f8" else "scipy")  # the classic format is written in no time
    return str(path)


def first_column(x: xr.DataArray) -> list[float]:
    cells: list[float] = x.compute(scheduler="sync").values[:, 0].tolist()
    return cells


def days(x: xr.DataArray) -> list[str]:
    return [str(time)[:10] for time in x.time.values]


# ---------------------------------------------------------------------------------------------------------------------
# Differences
# ---------------------------------------------------------------------------------------------------------------------


ATTRIBUTES = {
    "units": ("m", "cm"),
    "standard_name": ("air_temperature", "surface_temperature"),
    "positive": ("up", "down"),
    "grid_mapping": ("crs", "other"),
}


@pytest.mark.parametrize("key", ATTRIBUTES)
@pytest.mark.parametrize("where", ["x", "lat"])
def test_an_attribute_that_differs_is_refused_with_both(tmp_path: Path, key: str, where: str) -> None:
    paths = []
    for i, value in enumerate(ATTRIBUTES[key]):
        paths.append(str(tmp_path / f"{i}.nc"))
        x = xr.Dataset({"x": (("time", "lat"), np.zeros((1, 2)))}, {"time": [i], "lat": [1.0, 2.0]})
        x[where].attrs[key] = value
        x.to_netcdf(paths[-1], engine="scipy")
    with pytest.raises(DataError) as error:
        from_netcdf(path=paths)
    a, b = ATTRIBUTES[key]
    assert f"{paths[1]}: {key} of '{where}' is '{b}', in {paths[0]} '{a}'" in str(error.value)
    assert "matrix" in str(error.value)
    assert "attrs: first" in str(error.value)
    first, dropped = (from_netcdf(path=paths, attrs=rule) for rule in ("first", "drop"))  # type: ignore[arg-type]
    assert (first if where == "x" else first.lat).attrs == {key: a}
    assert (dropped if where == "x" else dropped.lat).attrs == {}


def test_other_attributes_stay_where_all_files_have_them(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{i}.nc", [i], attrs={"units": "K", "source": "model", "history": f"run {i}"}) for i in (0, 1)
    ]
    assert from_netcdf(path=paths).attrs == {"units": "K", "source": "model"}


@pytest.mark.parametrize(
    ("mine", "its", "said"),
    [
        (2.0, 10.0, "coordinate 'c' is 10.0, in {a} 2.0"),
        (("lat", [1.0, 2.0]), ("lat", [1.0, 3.0]), "coordinate 'c' is 1.0 to 3.0, in {a} 1.0 to 2.0"),
        (2.0, None, "coordinate 'c' is missing, in {a} 2.0"),
        (None, 2.0, "coordinate 'c' is 2.0, in {a} missing"),
        (("time", [5.0]), None, "coordinate 'c' is missing, in {a} 5.0"),
        ((("time", "lat"), [[1.0, 2.0]]), ("time", [1.0]), "coordinate 'c' is 1.0, in {a} 1.0 to 2.0"),
    ],
)
def test_a_coordinate_that_differs_is_refused(tmp_path: Path, mine: Any, its: Any, said: str) -> None:
    a = write(tmp_path / "a.nc", [0], **({} if mine is None else {"c": mine}))
    b = write(tmp_path / "b.nc", [1], **({} if its is None else {"c": its}))
    with pytest.raises(DataError) as error:
        from_netcdf(path=[a, b])
    assert f"{b}: {said.format(a=a)}" in str(error.value)
    assert "c" not in from_netcdf(path=[a, b], attrs="drop").coords
    kept = from_netcdf(path=[a, b], attrs="first").coords
    assert ("c" in kept) == (mine is not None and not (isinstance(mine, tuple) and "time" in mine[0]))


def test_2d_coordinates_must_be_equal_unless_joined(tmp_path: Path) -> None:
    field = (("time", "lat"), [[1.0, 2.0]]), (("time", "lat"), [[3.0, 4.0]])
    paths = [write(tmp_path / f"{i}.nc", [i], c=field[i]) for i in (0, 1)]
    assert from_netcdf(path=paths).c.values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(("mine", "its"), [("f8", "i4"), ("i8", "u8"), ("f4", "i2"), ("S3", "i4")])
def test_another_kind_of_dtype_is_refused(tmp_path: Path, mine: str, its: str) -> None:
    paths = [write(tmp_path / "a.nc", [0], dtype=mine), write(tmp_path / "b.nc", [1], dtype=its)]
    with pytest.raises(DataError, match=r"b\.nc: 'x' holds .*int.*, in .*a\.nc"):
        from_netcdf(path=paths)


def test_packing_is_decoded_file_by_file(tmp_path: Path) -> None:
    for name, scale, fill, day in (("a", 0.5, -1, 0), ("b", 0.25, -9, 1)):
        x = xr.Dataset({"x": ("time", [10.0, np.nan])}, {"time": [day, day + 0.5]})
        packed = {"dtype": "i2", "scale_factor": scale, "_FillValue": fill}
        x.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf", encoding={"x": packed})
    got = from_netcdf(path=f"{tmp_path}/*.nc").compute(scheduler="sync")
    np.testing.assert_array_equal(got, [10, np.nan, 10, np.nan])


def test_a_variable_that_only_some_have_is_named(tmp_path: Path) -> None:
    a = write(tmp_path / "a.nc", [0])
    xr.Dataset({"y": ("time", [0.0])}, {"time": [1]}).to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    with pytest.raises(OpError, match=r"b\.nc has no variable 'x'; it has y"):
        from_netcdf(path=[a, str(tmp_path / "b.nc")], variable="x")


# ---------------------------------------------------------------------------------------------------------------------
# Times
# ---------------------------------------------------------------------------------------------------------------------


def test_times_are_decoded_file_by_file(tmp_path: Path) -> None:
    a = write(tmp_path / "a.nc", [0, 1], 1, units="days since 2001-01-01", calendar="noleap")
    b = write(tmp_path / "b.nc", [0, 24], 2, units="hours since 2000-12-30", calendar="365_day")
    got = from_netcdf(path=[a, b])
    assert days(got) == ["2000-12-30", "2000-12-31", "2001-01-01", "2001-01-02"]
    assert first_column(got) == [2, 2, 1, 1]


def test_standard_is_gregorian(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.nc", [i], calendar=name) for i, name in enumerate(("standard", "gregorian"))]
    assert len(from_netcdf(path=paths).time) == 2
    assert from_netcdf(path=paths, decode_times=False).time.attrs["units"] == "days since 2001-01-01"


@pytest.mark.parametrize("decode", [True, False])
def test_two_calendars_are_refused_with_both(tmp_path: Path, decode: bool) -> None:
    paths = [write(tmp_path / f"{name}.nc", [i], calendar=name) for i, name in enumerate(("standard", "noleap"))]
    with pytest.raises(DataError, match=r"noleap\.nc: .*calendar.*noleap.*, in .*standard\.nc '?standard"):
        from_netcdf(path=paths, decode_times=decode)


def test_times_before_and_after_the_range_of_ns_join(tmp_path: Path) -> None:
    years = (1500, 1700, 1950, 2500)
    paths = [write(tmp_path / f"{y}.nc", [0], y, units=f"days since {y}-01-01") for y in years]
    assert days(from_netcdf(path=paths[1:])) == ["1700-01-01", "1950-01-01", "2500-01-01"]
    got = from_netcdf(path=paths[::-1])
    assert days(got) == [f"{y}-01-01" for y in years]
    assert first_column(got) == list(years)


# ---------------------------------------------------------------------------------------------------------------------
# The dim, and the order
# ---------------------------------------------------------------------------------------------------------------------


def test_the_order_is_that_of_labels_not_of_names(tmp_path: Path) -> None:
    for step in (1, 2, 9, 10, 11):
        write(tmp_path / f"step{step}.nc", [step], step)
    got = from_netcdf(path=f"{tmp_path}/step*.nc")
    assert first_column(got) == [1, 2, 9, 10, 11]


def test_descending_labels_stay_descending(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.nc", [1, 0], 1), write(tmp_path / "b.nc", [3, 2], 3)
    assert first_column(from_netcdf(path=[a, b])) == [3, 3, 1, 1]
    c = write(tmp_path / "c.nc", [4, 5])
    with pytest.raises(DataError, match=r"c\.nc: labels along 'time' increase, in .*a\.nc they decrease"):
        from_netcdf(path=[a, c])


def test_large_whole_labels_of_two_dtypes_stay_apart(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a.nc", "b.nc", "c.nc")]
    several = (np.array([2**60 + 1, 2**60 + 3]), np.array([2**60 + 2], "u8"), np.array([2**64 - 1], "u8"))
    for path, labels in zip(paths, several, strict=True):
        xr.Dataset({"x": (("id",), np.full(len(labels), 1.0 * len(labels)))}, {"id": labels}).to_netcdf(path)
    got = from_netcdf(path=paths[:2])
    assert got.id.values.tolist() == [2**60 + 1, 2**60 + 2, 2**60 + 3]
    assert got.compute(scheduler="sync").values.tolist() == [2, 1, 2]
    with pytest.raises(DataError, match=r"labels along 'id' are int64 \(.*a\.nc\) and uint64 \(.*c\.nc\), and no"):
        from_netcdf(path=[paths[0], paths[2]])


def test_check_says_the_order(tmp_path: Path) -> None:
    for step in (9, 10):
        write(tmp_path / f"step{step}.nc", [step])
    text = 'version: 1\nsteps: {x: {op: from_netcdf, path: "step*.nc"}}\n'
    graph = graph_of(text.partition("\n")[2], tmp_path)
    (row,) = plan(loads(text, name="test", root=tmp_path), graph).rows
    assert row.notes == ("2 files joined along time by increasing labels: 2001-01-10 to 2001-01-11",)


def test_files_without_a_label_that_differs_are_refused(tmp_path: Path) -> None:
    members = [write(tmp_path / f"m{i}.nc", [0, 1], i) for i in range(3)]
    with pytest.raises(DataError, match=r"the same labels along time, lat.*matrix.*op stack.*along: time"):
        from_netcdf(path=members)
    maps = [str(tmp_path / f"map{i}.nc") for i in (0, 1)]
    for i, path in enumerate(maps):
        x = xr.Dataset({"x": ("lat", [1.0, 2.0])}, {"lat": [1.0, 2.0], "time": i})
        x.x.attrs["coordinates"] = "time"
        x.reset_coords("time").to_netcdf(path, engine="h5netcdf")
    with pytest.raises(DataError, match=r"same labels along lat \(time is one value in each file\)"):
        from_netcdf(path=maps, variable="x")


def test_the_cure_of_members_without_a_label_works(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"m{i}.nc", [0, 1], i)
    got = values_of(
        """
        steps:
          x: {op: from_netcdf, matrix: {member: [0, 1, 2]}, path: "m${member}.nc"}
          all: {op: stack, input: "x[*]", dim: member}
        """,
        tmp_path,
    )["all"]
    assert got.sizes == {"member": 3, "time": 2, "lat": 2}
    assert got.values[:, 0, 0].tolist() == [0, 1, 2]


def test_without_labels_along_says_the_dim(tmp_path: Path) -> None:
    for name, n in (("b", 1), ("a", 2)):
        x = xr.Dataset({"x": (("m", "y"), np.full((n, 2), float(n)))})
        x.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
    paths = [str(tmp_path / f"{name}.nc") for name in "ba"]
    with pytest.raises(DataError, match=r"no labels that give an order.*along: m"):
        from_netcdf(path=paths)
    assert first_column(from_netcdf(path=paths, along="m")) == [1, 2, 2]
    with pytest.raises(OpError, match=r"'n' is no dim of .*; its dims are m, y"):
        from_netcdf(path=paths, along="n")


def test_labels_of_text_keep_the_order_of_the_files(tmp_path: Path) -> None:
    for name, stations in (("a", ["ZRH", "BER"]), ("b", ["AMS"])):
        x = xr.Dataset({"x": ("s", np.arange(len(stations)))}, {"s": np.array(stations, "S3")})
        x.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
    assert from_netcdf(path=f"{tmp_path}/*.nc").s.values.tolist() == ["ZRH", "BER", "AMS"]


def test_files_differ_along_one_dim_only(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.nc", [0]), write(tmp_path / "b.nc", [1], lat=(10.0, 20.000001))
    with pytest.raises(DataError, match=r"along 'lat', too \(10.0 to 20.000001 and 10.0 to 20.0\).*op align"):
        from_netcdf(path=[a, b])


# ---------------------------------------------------------------------------------------------------------------------
# Overlap
# ---------------------------------------------------------------------------------------------------------------------


def test_labels_in_two_files_are_refused_or_settled(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.nc", [0, 1, 2], 1), write(tmp_path / "b.nc", [1, 2, 3], 2)
    with pytest.raises(DataError, match=r"b\.nc and .*a\.nc both have time 2001-01-02, and 1 more"):
        from_netcdf(path=[a, b])
    assert first_column(from_netcdf(path=[a, b], overlap="first")) == [1, 1, 1, 2]
    assert first_column(from_netcdf(path=[a, b], overlap="last")) == [1, 2, 2, 2]


@settings(SETTINGS, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_joining_is_sorting_by_label(tmp_path: Path, data: st.DataObject) -> None:
    """Cells go with their labels, whatever files hold them, in whatever order the files are named."""
    labels = data.draw(st.lists(st.integers(0, 30), min_size=2, max_size=12, unique=True))
    owners = data.draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels)))
    sign = data.draw(st.sampled_from([1, -1]))
    paths, calendar = [], data.draw(st.sampled_from(["standard", "360_day"]))
    for number in set(owners):
        own = sorted((k for k, o in zip(labels, owners, strict=True) if o == number), reverse=sign < 0)
        x = xr.Dataset({"x": ("time", np.array(own, float))}, {"time": ("time", np.array(own, float))})
        x.time.attrs = {"units": "days since 2001-01-01", "calendar": calendar}
        paths.append(str(tmp_path / f"{number}.nc"))
        x.to_netcdf(paths[-1], engine="scipy")
    alone = all(owners.count(number) == 1 for number in owners)  # single labels have no direction: they increase
    chunks = data.draw(st.sampled_from([None, {"time": 2}]))
    got = from_netcdf(path=data.draw(st.permutations(paths)), chunks=chunks).compute(scheduler="sync")
    assert got.values.tolist() == sorted(map(float, labels), reverse=sign < 0 and not alone)
    every = xr.date_range("2001-01-01", periods=31, calendar=calendar, use_cftime=True)
    assert days(got) == [str(time)[:10] for time in every[got.values.astype(int)]]


# ---------------------------------------------------------------------------------------------------------------------
# Siblings
# ---------------------------------------------------------------------------------------------------------------------


def test_zarr_stores_are_joined_by_the_same_rules(tmp_path: Path) -> None:
    for name, step in (("s10", 10.0), ("s9", 9.0)):
        x = xr.Dataset({"x": ("time", [step], {"units": "K"})}, {"time": [step]})
        x.to_zarr(tmp_path / f"{name}.zarr", consolidated=False)
    assert from_zarr(path=f"{tmp_path}/*.zarr").compute(scheduler="sync").values.tolist() == [9, 10]
    x.assign_coords(time=[8.0]).assign(x=x.x.assign_attrs(units="degC").variable).to_zarr(
        tmp_path / "s8.zarr", consolidated=False
    )
    with pytest.raises(DataError, match=r"s9\.zarr: units of 'x' is 'K', in .*s8\.zarr 'degC'"):
        from_zarr(path=[f"{tmp_path}/s8.zarr", f"{tmp_path}/s9.zarr"])


def test_along_is_the_dim_of_npy_files(tmp_path: Path) -> None:
    for i in (0, 1):
        np.save(tmp_path / f"{i}.npy", np.full((2, 2), i))
    got = from_npy(path=f"{tmp_path}/*.npy", dims=["y", "x"], along="x").compute(scheduler="sync")
    assert got.values.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
