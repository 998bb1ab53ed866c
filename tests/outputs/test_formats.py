"""Outputs of every format are committed, listed and read back, and a second run writes the same bytes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.loader import loads
from pipeline.config.sections import formats
from pipeline.errors import ConfigError
from pipeline.outputs.damage import differences
from pipeline.runs.equality import equal
from pipeline.runs.run import Run, run

FUNCTIONS = "def png(n): return bytes([n])\ndef lines(): return ['a', 'b']\ndef table(): return {'n': 1}\n"
COMMAND = f"[\"{sys.executable}\", -c, \"import sys; print(sys.argv[1]); open('o.txt', 'w').write(sys.argv[1] * 2)\""
TEXT = f"""
version: 1
modules: [./formats_functions.py]
steps:
  made: {{command: {COMMAND}, "${{n}}"], over: {{n: [1, 2]}}, files: {{out: o.txt}}}}
  one: {{command: {COMMAND}, x], files: {{out: o.txt}}}}
  png: {{call: "formats_functions:png", over: {{n: [1, 2]}}}}
  lines: {{call: "formats_functions:lines"}}
  table: {{call: "formats_functions:table"}}
  x: {{op: random, matrix: {{m: [a, b]}}, shape: {{y: 5, z: 4}}, chunks: {{y: 2}}}}
  f: {{op: timeseries, start: "2001-01-01", end: "2001-01-05", freq: 12h, partitions: 3}}
outputs:
  made_files: {{input: made.out, to: file, path: "made/${{key}}.txt"}}
  made_said: {{input: made.stdout, to: text, path: "made/${{key}}.log"}}
  one_file: {{input: one.out, to: file, path: one.txt}}
  png: {{to: file, path: "png/${{key}}.png"}}
  lines: {{to: text, path: lines.txt}}
  table: {{to: json, path: table.json, options: {{indent: 0}}}}
  pickled: {{input: table, to: pickle, path: table.pkl, options: {{protocol: 4}}}}
  x: {{to: netcdf, path: "x-${{m}}.nc", attrs: {{units: K, of: "${{m}}"}}, options: {{level: 1, chunks: {{y: 2}}}}}}
  top: {{input: "x[a, y=0:2]", to: netcdf, path: top.nc}}
  stored: {{input: "x[a]", to: zarr, path: x.zarr}}
  plain: {{input: "x[a]", to: npy, path: x.npy}}
  f: {{to: parquet, path: f, partition_by: [name, id], files: 2, attrs: {{of: t}}, options: {{compression: none}}}}
  picture: {{input: "x[a]", to: png, path: x.png, plot: heatmap}}
  bars: {{input: "x[a, y=0:1]", to: svg, path: x.svg, plot: histogram}}
  written: {{input: f, to: csv, path: f.csv, options: {{float_format: "%.3f", sep: ";"}}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    (folder / "formats_functions.py").write_text(FUNCTIONS)
    return folder


def ran(text: str, folder: Path, backend: str = "serial") -> Run:
    return run(loads(text, name="t", root=folder), backend=backend, workers=None if backend == "serial" else 2,
               out=folder / backend, runs=folder / "runs")  # fmt: skip


@pytest.fixture(scope="module")
def alone(folder: Path) -> Run:
    return ran(TEXT, folder)


def test_every_format_is_here() -> None:
    assert {word for word in formats.FORMATS if f"to: {word}" in TEXT} == set(formats.FORMATS)


def test_outputs_are_read_again_by_the_step_or_by_their_own_name(alone: Run) -> None:
    assert alone["png"] == {"n=1": b"\1", "n=2": b"\2"}
    assert alone.open("made_files") == {"n=1": b"11", "n=2": b"22"}
    assert alone.open("made_said") == {"n=1": "1\n", "n=2": "2\n"}
    assert (alone.open("one_file"), alone["lines"], alone.open("table")) == (b"xx", "a\nb\n", {"n": 1})
    x = alone.open("x[b]")
    assert (x.dims, x.attrs, x.chunks) == (("y", "z"), {"units": "K", "of": "b"}, ((2, 2, 1), (4,)))
    assert alone.open("top").equals(alone.open("x[a]")[:2].compute())
    frame = alone["f"].compute()
    assert list(frame.columns) == ["timestamp", "name", "id", "x", "y"]
    assert frame["timestamp"].is_unique
    assert len(frame) == 8


def test_manifests_list_the_files_of_all_folders(alone: Run) -> None:
    manifest = alone.outputs["f"]
    assert manifest.rows == 8
    assert all(file.path.startswith("f/name=") and "/id=" in file.path for file in manifest.files)
    for output in alone.outputs.values():
        assert output.files
        assert not differences(output, alone.root, hashes=True)


def test_outputs_are_the_same_in_another_order(alone: Run, folder: Path) -> None:
    spread = ran(TEXT, folder, "threads")
    for sink in alone.graph.sinks:
        values: list[Any] = [each.open(sink.name) for each in (alone, spread)]
        values = [value.compute() if sink.format == "parquet" else value for value in values]
        found = equal(sink.value_type.kind, *values)
        assert found.bitwise, f"{sink.name}: {found.message}"


FRAME = 'version: 1\nsteps: {f: {op: timeseries, start: "2001-01-01", end: "2001-01-02", freq: 12h}'


@pytest.mark.parametrize(("by", "message"), [
    ("[nam]", "partition_by: no column nam; columns are timestamp name id x y"),
    ("[name, id, x, y, timestamp]", "partition_by: got all columns"),
])  # fmt: skip
def test_columns_that_can_not_be_folders_are_refused(by: str, message: str, tmp_path: Path) -> None:
    text = FRAME + f"}}\noutputs:\n  f: {{to: parquet, path: f, partition_by: {by}}}\n"
    with pytest.raises(
        ConfigError, match=rf"t.yaml:4:3: outputs.f(\.partition_by)?: (partition_by: )?.*{message[14:]}"
    ):
        ran(text, tmp_path)


@pytest.mark.parametrize("value", ["http://a/b", "a/../../b", "a/./b", "a/", "a\0b"])
def test_item_keys_that_are_no_paths_are_errors_of_the_file(value: str, tmp_path: Path) -> None:
    text = (
        f"version: 1\nmodules: [math]\nsteps: {{n: {{call: 'math:prod', over: {{iterable: [{json.dumps(value)}]}}}}}}\n"
        "outputs:\n  n: {to: json, path: 'n/${key}.json'}\n"
    )
    with pytest.raises(ConfigError, match=r"t.yaml:5:3: outputs.n.path: the item key .* can't be part .*to_frame"):
        ran(text, tmp_path)


def test_folders_of_no_rows_tell_the_columns(tmp_path: Path) -> None:
    text = FRAME + (
        ', k: {op: assign, input: f, columns: {k: "x % 2"}}, g: {op: filter, input: k, where: x > 1000}}\n'
        "outputs: {g: {to: parquet, path: g, partition_by: [k]}}\n"
    )
    made = ran(text, tmp_path)
    (folder,) = (tmp_path / "serial" / "g").iterdir()
    assert folder.name == "k=__HIVE_DEFAULT_PARTITION__"
    frame = ran(f"version: 1\nsteps: {{a: {{op: read_parquet, path: '{folder.parent}'}}}}", tmp_path / "again")["a"]
    assert (len(frame), {*frame.columns}) == (0, {*made["g"].compute().columns})


def test_a_missing_partition_value_has_a_folder(tmp_path: Path) -> None:
    text = FRAME + (
        ", g: {op: assign, input: f, columns: {k: \"where(x > 5, 'a', extract(name, '(#)'))\"}}}\n"
        "outputs: {g: {to: parquet, path: g, partition_by: [k]}}\n"
    )
    made = ran(text, tmp_path)
    assert [path.name for path in (tmp_path / "serial" / "g").iterdir()] == ["k=__HIVE_DEFAULT_PARTITION__"]
    assert made["g"].compute()["k"].isna().all()
