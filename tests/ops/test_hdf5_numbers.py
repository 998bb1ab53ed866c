"""Chunks of netCDF files that h5py reads alone are those that xarray reads, bit by bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.ops.sources import stored_values
from pipeline.ops.sources.array_files import from_netcdf
from pipeline.ops.sources.hdf5_parts import numbers_of

CELLS = np.arange(12).reshape(3, 4)
NUMBERS: dict[str, tuple[Any, Mapping[str, Any]]] = {
    "plain float32": (CELLS.astype("f4"), {"units": "K"}),
    "plain int16": (CELLS.astype("i2"), {}),
    "big-endian": (CELLS.astype(">f8"), {}),
    "fill value": (CELLS.astype("f4"), {"_FillValue": np.float32(3)}),
    "fill value of one cell": (CELLS.astype("i4"), {"_FillValue": np.array([3], "i4")}),
    "missing value": (CELLS.astype("i2"), {"missing_value": np.int16(5)}),
    "two fill values": (CELLS.astype("f4"), {"_FillValue": np.float32(3), "missing_value": np.float32(5)}),
    "several missing values": (CELLS.astype("f8"), {"missing_value": np.array([3.0, 5.0])}),
    "packed": (CELLS.astype("i2"), {"scale_factor": 0.01, "add_offset": 273.15, "_FillValue": np.int16(7)}),
    "packed in single precision": (CELLS.astype("i2"), {"scale_factor": np.float32(0.01)}),
    "unsigned": (CELLS.astype("i1"), {"_Unsigned": "true", "_FillValue": np.int8(-1)}),
    "durations": (CELLS.astype("i8"), {"units": "days", "dtype": "timedelta64[ns]"}),
    "no durations": (CELLS.astype("i8"), {"units": "days"}),
    "truth values": (CELLS.astype("i1") % 2, {"dtype": "bool"}),
    "one number": (np.float64(7.5), {"_FillValue": -1.0}),
    "no cells": (np.empty((0, 4), "f4"), {}),
}
OTHERS: dict[str, tuple[Any, Mapping[str, Any]]] = {
    "text": (np.array([b"ab", b"c"], "S2"), {}),
    "fill value that is empty": (CELLS.astype("f4"), {"_FillValue": h5py.Empty("f4")}),
    "text in bytes": (CELLS.astype("i1"), {"_Unsigned": np.bytes_("true")}),
    "names of numbers": (CELLS.astype("i1") % 2, {"enum": True}),
}


def written(path: Path, values: Any, attrs: Mapping[str, Any], group: str = "") -> None:
    dtype = np.asarray(values).dtype
    if "enum" in attrs:
        dtype, attrs = h5py.enum_dtype({"no": 0, "yes": 1}, basetype="i1"), {}
    with h5py.File(path, "w") as file:
        x = file.create_dataset(f"{group}/x" if group else "x", data=values, dtype=dtype)
        x.attrs.update(attrs)


def same(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.filterwarnings("ignore:variable 'x' has multiple fill values")
@pytest.mark.parametrize("group", ["", "a/b"])
@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_are_those_that_xarray_reads(
    case: str, group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "x.nc", *NUMBERS[case], group)
    values = NUMBERS[case][0]
    slabs: list[tuple[int | slice, ...]] = [(slice(None),) * np.ndim(values)]
    slabs += [(slice(1, 3), slice(0, 4)), (1, slice(2, 4)), (2, 3)] if np.size(values) == 12 else []
    assert numbers_of(str(tmp_path / "x.nc"), group, "x", slabs[0]) is not None
    declared = from_netcdf(path=str(tmp_path / "x.nc"), variable="x", group=group).dtype
    for slab in slabs:
        read = (str(tmp_path / "x.nc"), "h5netcdf", group, "x", slab, declared, None, {})
        alone = stored_values.read_slab(*read)
        with monkeypatch.context() as patch:
            patch.setattr(stored_values, "numbers_of", lambda *_: None)
            assert same(alone, stored_values.read_slab(*read))


@pytest.mark.parametrize("case", OTHERS)
def test_other_values_are_left_to_xarray(case: str, tmp_path: Path) -> None:
    written(tmp_path / "x.nc", *OTHERS[case])
    assert numbers_of(str(tmp_path / "x.nc"), "", "x", (slice(None),)) is None
    assert numbers_of(str(tmp_path / "x.nc"), "", "y", (slice(None),)) is None
