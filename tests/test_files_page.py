"""docs/files.md: its steps are run, each block after those above it."""

from __future__ import annotations

from pathlib import Path

import h5netcdf
import numpy as np
import xarray as xr
from pages import blocks
from serially import values_of

PAGE = Path(__file__).parents[1] / "docs" / "files.md"


def fill(folder: Path) -> None:
    """The files that the page names."""
    for name, first, calendar in (
        ("days1", 0, "standard"),
        ("days2", 30, "standard"),
        ("days3", 40, "standard"),
        ("noleap", 0, "noleap"),
    ):
        time = ("time", np.arange(first, first + 40.0), {"units": "days since 2001-01-01", "calendar": calendar})
        x = xr.Dataset({"t": (("time", "lat"), np.ones((40, 2)))}, {"time": time, "lat": [10.0, 20.0]})
        x.to_netcdf(folder / f"{name}.nc", engine="scipy")
    for number in (1, 2):
        x.assign(t=x.t * number).to_netcdf(folder / f"member{number}.nc", engine="scipy")
    noise = xr.Dataset({"t": (("time", "lat"), np.full((40, 2), 3.0))}, {"lat": [20.0000001, 10.0]})
    time = ("time", np.arange(40.0), {"units": "days since 2001-01-01 00:30:00"})
    noise.assign_coords(time=time).to_netcdf(folder / "noise.nc", engine="scipy")
    with h5netcdf.File(folder / "groups.nc", "w") as file:
        file.dimensions = {"y": 2}
        file.create_group("model").create_group("daily").create_variable("x", ("y",), "f8", data=[1.0, 2.0])


def test_the_steps_of_the_page(tmp_path: Path) -> None:
    fill(tmp_path)
    steps = "".join(f"  {line}\n" for block in blocks(PAGE) for line in block.text.splitlines())
    names = [line.strip().partition(":")[0] for line in steps.splitlines()]
    got = values_of(f"keep: [{', '.join(names)}]\nsteps:\n{steps}", tmp_path)
    assert got["days"].sizes["time"] == 80
    assert got["merged"].sizes["time"] == 70
    assert got["members"].sizes["member"] == 2
    assert got["february"].sizes["time"] == 9
    assert got["monthly"].sizes["time"] == 2
    assert int(np.isfinite(got["first"].values).all(axis=1).sum()) == 31
    assert got["difference"].values.tolist() == np.full((40, 2), 2).tolist()
    assert got["rounded"].lat.values.tolist() == [20, 10]
    assert "lat" not in got["bare"].coords
    assert got["numbers"].time.values[1] == 1
    assert got["daily"].values.tolist() == [1, 2]
