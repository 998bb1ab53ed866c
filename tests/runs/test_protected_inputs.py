"""No run destroys its inputs, other outputs, or files that are not its own: `check` and `run` refuse such paths."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pipeline
from pipeline.config.loader import load
from pipeline.errors import ConfigError, OutputError
from pipeline.runs import protected_inputs
from pipeline.runs.run import run

ROWS = pd.DataFrame({"n": [1, 2, 3]})
CSV = "s: {op: read_csv, path: data/in.csv}"
SUM = "s: {expr: '1 + 1'}"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with one input of each kind, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "parts").mkdir()
    ROWS.to_csv("data/in.csv", index=False)
    ROWS.to_csv("data/deep/in.csv", index=False)
    ROWS.to_parquet("parts/one.parquet")
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text("a")
    xr.DataArray(np.arange(4.0), dims="t", name="v").to_dataset().to_zarr("in.zarr", consolidated=False)
    (tmp_path / "mine.py").write_text("def one(k=0):\n    return 1\n")
    (tmp_path / "list.txt").write_text("1\n2\n")
    (tmp_path / "base.yaml").write_text("params: {m: 1}\n")
    (tmp_path / "link").symlink_to("data")
    os.link("data/in.csv", "hard.csv")
    (tmp_path / "soft.csv").symlink_to("data/in.csv")
    return tmp_path


def written(folder: Path, steps: str, outputs: str, more: str = "") -> str:
    path = folder / "p.yaml"
    path.write_text(f"version: 1\n{more}\nsteps:\n  {steps}\noutputs:\n  {outputs}\n")
    return str(path)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "runs" not in path.parts
    }


def refused(folder: Path, file: str, message: str, **options: Any) -> None:
    """`check` and `run` refuse the file with the message at the place of the path, and nothing has changed."""
    before = contents(folder)
    for attempt in (lambda: pipeline.check(file, **options), lambda: pipeline.run(file, backend="serial", **options)):
        with pytest.raises((ConfigError, OutputError), match=message) as got:
            attempt()
        assert "p.yaml:" in str(got.value)
        assert "outputs.o.path" in str(got.value)
    assert contents(folder) == before
    assert not (folder / "runs").exists()


ZARR = "s: {op: from_zarr, path: in.zarr, variable: v}"
PARQUET = "s: {op: read_parquet, path: parts}"
FILES = "s: {op: files, path: 'text/*.txt'}\n  o: {call: 'mine:read', over: {f: s}}"


@pytest.mark.parametrize(
    ("steps", "to", "path", "message"),
    [
        (CSV, "csv", "data/in.csv", r"got 'data/in\.csv', which is .*in\.csv, which steps\.s reads, and would be repl"),
        (CSV, "csv", "data//./in.csv", "which is .*steps.s reads"),
        (CSV, "csv", "link/in.csv", "which is .*steps.s reads"),
        (CSV, "csv", "soft.csv", "which is .*steps.s reads"),
        (CSV, "csv", "hard.csv", "which is .*steps.s reads"),
        (CSV, "parquet", "data", "which contains .*steps.s reads"),
        (CSV, "parquet", "data/", "which contains .*steps.s reads"),
        (CSV, "parquet", "link", "which contains .*steps.s reads"),
        ("s: {op: read_csv, path: link/../data/in.csv}", "parquet", "data", "which contains .*steps.s reads"),
        ("s: {op: read_csv, path: soft.csv}", "csv", "data/in.csv", "which is .*steps.s reads"),
        ("s: {op: read_csv, path: link/in.csv}", "parquet", "data", "which contains .*steps.s reads"),
        (PARQUET, "parquet", "parts", "which is .*steps.s reads"),
        (PARQUET, "csv", "parts/new.csv", "which is inside .*parts, which steps.s reads"),
        (PARQUET, "parquet", "parts/deep/new", "which is inside .*parts, which steps.s reads"),
        (ZARR, "zarr", "in.zarr", "which is .*steps.s reads"),
        (ZARR, "zarr", "in.zarr/w", "which is inside .*in.zarr, which steps.s reads"),
        (ZARR, "npy", "in.zarr/v/w.npy", "which is inside .*in.zarr, which steps.s reads"),
        (
            "s: {op: read_csv, path: 'data/*.csv'}",
            "csv",
            "data/new.csv",
            r"which the pattern .*\*\.csv of steps\.s would",
        ),
        ("s: {op: read_csv, path: 'data/**/*.csv'}", "csv", "link/deep/new.csv", "the pattern .* would match"),
        ("s: {op: read_parquet, path: 'parts/**/*.parquet'}", "parquet", "parts/new", "the pattern .* would match"),
        (CSV, "csv", "p.yaml", "which is .*p.yaml, which this pipeline reads"),
        (CSV, "csv", "base.yaml", "which is .*base.yaml, which this pipeline reads"),
        (CSV, "csv", "list.txt", "which is .*list.txt, which this pipeline reads"),
        (CSV, "csv", "mine.py", "which is .*mine.py, which modules reads"),
    ],
)
def test_an_output_on_an_input_is_refused(steps, to, path, message, place):
    more = "include: [base.yaml]\nmodules: [./mine.py]\nparams: {l: '${file:list.txt}'}"
    file = written(place, steps, f"o: {{input: s, to: {to}, path: {path}}}", more)
    refused(place, file, message)
    assert pipeline.check(file, out="elsewhere")


def test_outputs_below_a_file_are_refused(place):
    Path("p.yaml").write_text(f"version: 1\nsteps: {{{SUM}}}\noutputs: {{s: {{to: json, path: s.json}}}}\n")
    with pytest.raises(OutputError, match=r"below .*/data/in\.csv: that is a file; give a folder: --out"):
        run(load("p.yaml"), backend="serial", out="data/in.csv")


def test_a_hard_link_to_a_file_inside_an_input_keeps_its_bytes(place):
    os.link("parts/one.parquet", "link.csv")
    os.link("in.zarr/v/c/0" if Path("in.zarr/v/c/0").exists() else "in.zarr/v/0", "link.npy")
    before = contents(place / "parts") | contents(place / "in.zarr")
    steps = f"{PARQUET}\n  z: {{op: from_zarr, path: in.zarr, variable: v}}"
    outputs = "o: {input: s, to: csv, path: link.csv, overwrite: true}\n"
    outputs += "  n: {input: z, to: npy, path: link.npy, overwrite: true}"
    pipeline.run(written(place, steps, outputs), backend="serial")
    assert contents(place / "parts") | contents(place / "in.zarr") == before


def test_a_comparison_writes_nothing_at_the_paths_of_outputs(place):
    before = contents(place / "data")
    file = written(place, CSV, "o: {input: s, to: csv, path: data/in.csv}")
    pipeline.compare(file, backends=["serial"], repeat=1)
    assert contents(place / "data") == before


def test_patterns_are_compared_once_for_each_folder(place, monkeypatch):
    looked: list[str] = []
    found = protected_inputs.folders_above
    monkeypatch.setattr(protected_inputs, "folders_above", lambda path: looked.append(path) or found(path))
    steps = "s: {op: files, path: 'text/*.txt'}\n  o: {call: 'mine:one', over: {k: {range: 300}}}"
    file = written(place, steps, "o: {to: json, path: 'new/${key}.json'}", "modules: [./mine.py]")
    pipeline.check(file)
    assert len(looked) == 1


def test_the_file_that_a_check_reads_is_an_input(place):
    file = written(place, CSV, "o: {input: s, to: csv, path: data/deep/in.csv}")
    Path(file).write_text(Path(file).read_text() + "checks:\n  - {that: s, equals_csv: data/deep/in.csv}\n")
    refused(place, file, r"which checks\[0\]\.equals_csv reads")


def test_a_params_file_is_an_input(place):
    (place / "m.yaml").write_text("m: 2\n")
    config = load(
        written(place, CSV, "o: {input: s, to: csv, path: m.yaml}", "params: {m: 1}"), params_files=["m.yaml"]
    )
    with pytest.raises(ConfigError, match=r"which is .*m\.yaml, which this pipeline reads"):
        run(config, backend="serial")


@pytest.mark.parametrize("over", ["{f: s}", "{f: [a, b]}"])
def test_items_on_the_files_of_a_pattern_are_refused(over, place):
    (place / "mine.py").write_text("def read(f):\n    return 'x'\n")
    steps = f"s: {{op: files, path: 'text/*.txt'}}\n  o: {{call: 'mine:read', over: {over}}}"
    file = written(place, steps, "o: {to: text, path: 'text/${key}.txt'}", "modules: [./mine.py]")
    refused(place, file, r"which is .*a\.txt, which steps\.s reads|would match")


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        ("s: {op: read_csv, path: 'data/*.csv'}", "data/new.txt"),
        ("s: {op: read_csv, path: 'data/*.csv'}", "data/out/new.csv"),
        ("s: {op: read_csv, path: data/in.csv}", "data/new.csv"),
        ("s: {op: read_csv, path: 'data/*.csv'}", "new.csv"),
    ],
)
def test_beside_its_inputs_an_output_may_be_written(steps, path, place):
    file = written(place, steps, f"o: {{input: s, to: csv, path: {path}}}")
    for _ in range(2):
        pipeline.run(file, backend="serial")
    assert pd.read_csv(place / path).equals(ROWS)


def test_inputs_are_checked_again_under_the_lock(place, monkeypatch):
    file = written(place, CSV, "o: {input: s, to: csv, path: late.csv}")
    monkeypatch.setattr("pipeline.runs.run.check_outputs", lambda *_: os.link("data/in.csv", "late.csv"))
    with pytest.raises(ConfigError, match=r"which is .*in\.csv, which steps\.s reads"):
        pipeline.run(file, backend="serial")
    assert not list(place.glob(".late*"))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("a.csv", ".a.csv.manifest.json", "the manifest or the lock file of output"),
        ("a.csv", ".a.csv.lock", "the manifest or the lock file of output"),
        ("a.csv", ".staging-x/b.csv", "the name of a staging folder"),
        ("data/a.csv", "link/a.csv", "have the same path"),
        ("data/a", "link/a/b.csv", "would be inside output"),
    ],
)
def test_an_output_on_files_of_another_output_is_refused(first, second, message, place):
    form = "parquet" if first == "data/a" else "csv"
    file = written(
        place, CSV, f"a: {{input: s, to: {form}, path: {first}}}\n  o: {{input: s, to: csv, path: {second}}}"
    )
    refused(place, file, message)


@pytest.mark.parametrize(
    ("steps", "to", "path", "inner"),
    [
        (CSV, "parquet", "out", "out/notes.txt"),
        (CSV, "parquet", "out", "out/_notes"),
        (CSV, "parquet", "out", "out/mine.parquet"),
        (ZARR, "zarr", "out.zarr", "out.zarr/notes.txt"),
        (ZARR, "zarr", "out.zarr", "out.zarr/o/c/notes.txt"),
        (CSV, "csv", "out.csv", "out.csv"),
        (SUM, "npy", "out.npy", "out.npy"),
    ],
)
@pytest.mark.parametrize("again", [False, True], ids=["first", "second"])
def test_a_foreign_file_in_the_way_is_refused(again, steps, to, path, inner, place):
    outputs = "o: {input: s, to: %s, path: %s%s}"
    if again:
        if path == inner:
            return  # what a manifest names may be replaced, whatever its state
        pipeline.run(written(place, steps, outputs % (to, path, "")), backend="serial")
    (place / inner).parent.mkdir(parents=True, exist_ok=True)
    (place / inner).write_text("years of work")
    shutil.rmtree(place / "runs", ignore_errors=True)
    refused(place, written(place, steps, outputs % (to, path, "")), r"would be replaced, but.* overwrite: true on this")
    pipeline.run(written(place, steps, outputs % (to, path, ", overwrite: true")), backend="serial")
    assert path == inner or not (place / inner).exists()


def test_a_foreign_link_to_a_folder_is_not_deleted(place):
    file = written(place, CSV, "o: {input: s, to: parquet, path: out}")
    pipeline.run(file, backend="serial")
    shutil.rmtree(place / "runs")
    (place / "out/far").symlink_to(place / "text")
    refused(place, file, "holds 'far', which no manifest")


def test_own_files_are_replaced_whatever_their_state(place):
    file = written(place, ZARR, "o: {input: s, to: zarr, path: out.zarr}")
    for _ in range(2):
        pipeline.run(file, backend="serial")
    (place / "out.zarr/.zattrs").write_text("broken")
    shutil.rmtree(place / "out.zarr/o")
    pipeline.run(file, backend="serial")
    assert xr.open_zarr(place / "out.zarr")["o"].values.tolist() == [0, 1, 2, 3]


def test_a_foreign_file_in_the_place_of_an_item_is_refused(place):
    (place / "mine.py").write_text("def read(f):\n    return 'x'\n")
    (place / "items").mkdir()
    (place / "items/b.txt").write_text("years of work")
    steps = "o: {call: 'mine:read', over: {f: [a, b]}}"
    file = written(place, steps, "o: {to: text, path: 'items/${key}.txt'}", "modules: [./mine.py]")
    (place / "items/f=b.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"items/(f=)?b\.txt would be replaced, but no manifest of this output"):
        pipeline.check(file)


def test_an_output_of_another_name_is_not_replaced(place):
    pipeline.run(written(place, CSV, "o: {input: s, to: csv, path: o.csv}"), backend="serial")
    other = written(place, CSV, "p: {input: s, to: csv, path: o.csv}")
    with pytest.raises(OutputError, match=r"o\.csv would be replaced, but it is the output 'o' of .* overwrite: true"):
        pipeline.run(other, backend="serial")
    allowed = written(place, CSV, "p: {input: s, to: csv, path: o.csv, overwrite: true}")
    pipeline.run(allowed, backend="serial")
    pipeline.run(other, backend="serial")  # which is its own now


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"version": 99}',
        b'{"version": 1}',
        b'{"version": 1, "files": 3}',
        b"[" * 100_000,
    ],
    ids=["empty", "brace", "list", "bytes", "99", "no keys", "number", "deep"],
)
def test_a_damaged_manifest_is_refused_before_anything_runs(damage, place):
    file = written(place, CSV, "o: {input: s, to: csv, path: out.csv}")
    pipeline.run(file, backend="serial")
    shutil.rmtree(place / "runs")
    (place / ".out.csv.manifest.json").write_bytes(damage)
    refused(place, file, r"\.out\.csv\.manifest\.json: .*; move it, or set overwrite: true")
    pipeline.run(written(place, CSV, "o: {input: s, to: csv, path: out.csv, overwrite: true}"), backend="serial")
