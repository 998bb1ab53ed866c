"""Reading the metadata of many netCDF files while a Graph is built, compared with h5py alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import xarray as xr

from bench.pairs import Aim, Contender, Row, Sizes, ratios, take_turns
from pipeline.ops.sources.array_files import from_netcdf
from pipeline.worker import file_notes, helper_processes

__all__ = ["metadata"]


def metadata(sizes: Sizes) -> Iterator[Row]:
    """Time both in one process; what is compared is the sum of the times of all files."""
    n = max(4, sizes.n_items // 10)
    with tempfile.TemporaryDirectory() as name, mock.patch.dict(os.environ, PIPELINE_CACHE=f"{name}/cache"):
        folder = Path(name, "days")
        folder.mkdir()
        for day in range(n):
            _write(folder / f"{day:06}.nc", day)
        with (
            mock.patch.object(file_notes, "SETTLED_NS", -(10**9)),  # the files have just been written
            mock.patch.object(helper_processes, "_WORTH", np.inf),  # h5py has one process, too
        ):
            for case, forget, aim in ((f"metadata of {n:,} files", True, 3.0), ("again, as kept", False, 0.5)):
                contenders = {"ours": _ours(folder, forget=forget), "theirs": _theirs(folder)}
                _ours(folder, forget=False)()  # kept, for the second row
                taken = take_turns(contenders, sizes.few_pairs, warm_up=sizes.warm_up)
                yield ratios(case, taken["ours"], taken["theirs"], Aim(aim))


def _write(path: Path, day: int) -> None:
    cells = np.full((1, 18, 36), day, "f4")
    attrs = {"units": "K", "long_name": "2 metre temperature", "standard_name": "air_temperature"}
    x = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), cells, attrs)},
        {
            "time": ("time", [day], {"units": "days since 2001-01-01", "standard_name": "time"}),
            "lat": ("lat", np.arange(-85.0, 90, 10), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", np.arange(0.0, 360, 10), {"units": "degrees_east", "standard_name": "longitude"}),
        },
        {"history": f"made for day {day}"},
    )
    x.to_netcdf(path, engine="h5netcdf")


def _ours(folder: Path, *, forget: bool) -> Contender:
    def run() -> Callable[[], int]:
        if forget:
            shutil.rmtree(os.environ["PIPELINE_CACHE"], ignore_errors=True)
        times = from_netcdf(path=str(folder), variable="t2m").time.values
        return lambda: int((times - np.datetime64("2001-01-01")).astype("m8[D]").astype(int).sum())

    return run


def _theirs(folder: Path) -> Contender:
    def run() -> Callable[[], int]:
        total = 0
        for path in sorted(folder.iterdir()):
            with h5py.File(path) as file:
                x = file["t2m"]
                assert (len(x.shape), x.dtype) == (3, "f4")
                assert file["time"].attrs["units"] == "days since 2001-01-01"
                total += int(file["time"][()].sum())
        return lambda: total

    return run
