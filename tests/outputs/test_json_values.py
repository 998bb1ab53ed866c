"""JSON of arrays, items, parts and scalars: the types in the file, and what comes back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pipeline.config.loader import loads
from pipeline.errors import ConfigError, TaskDataError
from pipeline.outputs import whole_values
from pipeline.runs.run import Run, run

MODULE = """
import datetime, decimal
import numpy as np

def fit(alpha):
    if alpha == 3:
        raise ValueError("three")
    return {"rmse": np.float32(alpha / 2), "n": np.int64(2**53 + alpha), "when": np.datetime64("2001-02-03")}

def odd():
    return {"nan": float("nan"), "inf": np.inf, "none": None, "yes": np.bool_(True), "day": datetime.date(2001, 2, 3),
            "exact": decimal.Decimal("1.10"), "nat": np.datetime64("NaT"), "big": 2**70, "tiny": np.array(5)}

def number():
    return np.float64(0.1)

def letters():
    return list("abc")
"""


@pytest.fixture
def ran(tmp_path: Path) -> Any:
    (tmp_path / "mine.py").write_text(MODULE)

    def ran(steps: str, outputs: str) -> Run:
        text = f"version: 1\nmodules: [./mine.py]\nsteps:\n{steps}outputs:\n{outputs}"
        return run(loads(text, name="j", root=tmp_path), backend="serial", out=tmp_path, runs=tmp_path / "runs")

    return ran


def stored(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_items_are_a_map_by_key_or_a_list(ran: Any, tmp_path: Path) -> None:
    made = ran(
        '  fit: {call: "mine:fit", over: {alpha: [1, 2, 3]}, parts: [rmse, n, when], on_error: drop}\n',
        "  fit: {to: json, path: fit.json}\n  rmse: {input: fit.rmse, to: json, path: rmse.json}\n"
        "  n: {input: fit.n, to: json, path: n.json, options: {keys: false}}\n"
        '  each: {input: fit.n, to: json, path: "n/${key}.json"}\n',
    )
    assert stored(tmp_path, "rmse.json") == {"alpha=1": 0.5, "alpha=2": 1.0}
    assert stored(tmp_path, "n.json") == [2**53 + 1, 2**53 + 2]
    assert stored(tmp_path, "fit.json")["alpha=1"] == {"rmse": 0.5, "n": 2**53 + 1, "when": "2001-02-03"}
    assert stored(tmp_path, "n/alpha=1.json") == 2**53 + 1
    assert made["fit.rmse"] == {"alpha=1": 0.5, "alpha=2": 1.0}
    assert made.open("n") == {"0": 2**53 + 1, "1": 2**53 + 2}
    assert [(made.outputs[name].rows, made.outputs[name].dropped) for name in ("fit", "n")] == [(2, ("alpha=3",))] * 2


def test_items_of_unknown_number_are_in_one_file(ran: Any, tmp_path: Path) -> None:
    steps = '  v: {call: "mine:letters"}\n  i: {op: to_items, input: v, size: 2}\n'
    ran(steps, "  i: {to: json, path: i.json, options: {keys: false, indent: 0}}\n")
    assert stored(tmp_path, "i.json") == [["a", "b"], ["c"]]


def test_values_have_defined_forms(ran: Any, tmp_path: Path) -> None:
    ran('  odd: {call: "mine:odd"}\n  n: {call: "mine:number"}\n',
        "  odd: {to: json, path: odd.json}\n  n: {to: json, path: n.json}\n")  # fmt: skip
    assert stored(tmp_path, "n.json") == 0.1
    assert stored(tmp_path, "odd.json") == {"nan": None, "inf": None, "none": None, "yes": True, "day": "2001-02-03",
                                            "exact": "1.10", "nat": None, "big": 2**70, "tiny": 5}  # fmt: skip


ARRAYS = {
    "f4": np.array([[0.1, np.nan], [1e30, -0.0]], np.float32),
    "f8": np.array([0.1, 1 / 3, 5e-324]),
    "i8": np.array([2**62 + 1, -1]),
    "u8": np.array([2**64 - 1], np.uint64),
    "b1": np.array([True, False]),
    "time": np.array(["2001-02-03T04:05:06.000000007", "NaT"], "datetime64[ns]"),
    "span": np.array([5, "NaT"], "timedelta64[ns]"),
    "text": np.array(["a", "é"]),
    "empty": np.zeros((0, 3)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_lists_and_come_back_in_their_types(name: str, ran: Any, tmp_path: Path) -> None:
    values = ARRAYS[name]
    dims = ["y", "x"][: values.ndim]
    chunks = ", chunks: {" + ", ".join(f"{d}: 1" for d in dims) + "}" if dims and values.size else ""
    xr.DataArray(values, dims=dims, name="v").to_dataset().to_zarr(tmp_path / "x.zarr", zarr_format=2)
    made = ran(f"  a: {{op: from_zarr, path: x.zarr{chunks}}}\n", "  a: {to: json, path: a.json}\n")
    found = made["a"]
    assert (found.dims, found.dtype.kind) == (tuple(dims), values.dtype.kind)
    np.testing.assert_array_equal(found.values, values)
    if name in ("f4", "f8"):
        first = stored(tmp_path, "a.json")[0]
        assert (first[0] if name == "f4" else first) == float(values.ravel()[0])
        assert math.isclose(found.values.ravel()[-1], values.ravel()[-1])


def test_an_array_of_one_number_is_that_number(ran: Any, tmp_path: Path) -> None:
    made = ran("  a: {op: arange, stop: 4, chunks: 2}\n  n: {op: sum, input: a}\n", "  n: {to: json, path: n.json}\n")
    assert (tmp_path / "n.json").read_text() == "6\n"
    assert (made["n"].shape, int(made["n"])) == ((), 6)


def test_a_large_array_is_refused_with_the_limit(ran: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_values, "MOST_CELLS", 10)
    message = r"json takes arrays of at most 10 cells, and this one has 11; write netcdf, zarr or npy, or reduce it"
    with pytest.raises(ConfigError, match=message):
        ran("  a: {op: arange, stop: 11}\n", "  a: {to: json, path: a.json}\n")
    steps = "  f: {op: timeseries, start: '2001-01-01', end: '2001-01-12', freq: 24h}\n"
    steps += "  g: {op: filter, input: f, where: 'id > 0'}\n"
    steps += "  a: {op: to_array, input: g, columns: [id, x], dims: [row, c]}\n"
    with pytest.raises(TaskDataError, match="json takes arrays of at most 10 cells, and this one has 22"):
        ran(steps, "  a: {to: json, path: a.json}\n")
