"""docs/plots.md: its outputs are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from pages import blocks

from pipeline.config.loader import loads
from pipeline.runs.run import run

PAGE = Path(__file__).parents[1] / "docs" / "plots.md"
STEPS = """
version: 1
steps:
  both: {op: from_zarr, path: x.zarr, variable: both}
  monthly: {op: mean, input: both, axis: scenario}
  change: {op: from_zarr, path: x.zarr, variable: change}
  carriers: {op: read_csv, path: carriers.csv}
  week: {op: read_csv, path: week.csv}
outputs:
"""


def test_the_outputs_of_the_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    time = np.arange("2001-01", "2003-01", dtype="datetime64[M]").astype("datetime64[ns]")
    both = xr.DataArray(np.arange(48.0).reshape(2, 24), {"scenario": ["A1B", "E1"], "time": time}, ["scenario", "time"])
    change = xr.DataArray(
        np.arange(-6.0, 6).reshape(3, 4), {"lat": [-30, 0, 30], "lon": [0, 90, 180, 270]}, ["lat", "lon"]
    )
    xr.Dataset({"both": both, "change": change}).to_zarr(tmp_path / "x.zarr", zarr_format=2)
    (tmp_path / "carriers.csv").write_text("carrier,delay,p90\nUA,4,20\nAA,-2,9\n")
    (tmp_path / "week.csv").write_text("day,hour,n\nMon,1,2\nMon,2,3\nTue,1,4\n")
    (block,) = blocks(PAGE)
    config = loads(STEPS + block.text, root=tmp_path)
    done = run(config, backend="serial", out=tmp_path / "out", runs=tmp_path / "runs")
    assert list(done.outputs) == ["series", "scenarios", "warming", "spread", "delays", "hours"]
    for name in done.outputs:
        assert done.open(name)[1:4] == (b"?xm" if name == "scenarios" else b"PNG")
