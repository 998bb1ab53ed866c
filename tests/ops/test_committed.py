"""A source, and a Run, refuse outputs of earlier runs that are not as they were committed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import pipeline
from pipeline.errors import ConfigError, DataError
from pipeline.ops.sources.committed import CommittedOutputs
from pipeline.outputs.locks import Lock

STEPS = """
version: 1
modules: [./mine.py]
steps:
  x: {op: arange, stop: 1001, chunks: 100, dim: i}
  f: {op: timeseries, start: "2020", end: "2020-01-02", freq: 1h, partitions: 3, columns: {name: string, v: int64}}
  m: {op: arange, matrix: {k: [a, b]}, start: 0, stop: 5}
  items: {call: "mine:one", over: {n: [p, q, deep/r]}}
  v: {op: svd, input: y}
  y: {op: random, shape: {a: 4, b: 3}}
outputs:
  z: {input: x, to: zarr, path: out/z.zarr}
  u: {input: "v.u", to: zarr, path: out/u.zarr}
  npy: {input: x, to: npy, path: out/x.npy}
  nc: {input: x, to: netcdf, path: out/x.nc}
  p: {input: f, to: parquet, path: out/p}
  q: {input: f, to: parquet, path: out/q, partition_by: [name]}
  csv: {input: f, to: csv, path: out/f.csv}
  gz: {input: f, to: csv, path: out/f.csv.gz}
  rows: {input: f, to: json, path: out/f.jsonl}
  m: {to: npy, path: "out/m-${k}.npy"}
  items: {to: npy, path: "out/items/${key}.npy"}
  texts: {input: items, to: json, path: "out/texts/${key}/value.json"}
"""


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A folder with an output of every kind, and the run that wrote them."""
    folder = tmp_path_factory.mktemp("committed")
    (folder / "mine.py").write_text("import numpy\ndef one(n):\n    return numpy.arange(len(n))\n")
    (folder / "w.yaml").write_text(STEPS)
    run = pipeline.run(str(folder / "w.yaml"), backend="serial", out=folder, runs=folder / "runs")
    return folder, run


@pytest.fixture
def place(committed, tmp_path):
    """The outputs, moved with their manifests to a new folder."""
    shutil.copytree(committed[0] / "out", tmp_path / "out")
    return tmp_path


def read(place: Path, source: str) -> None:
    """Check a file with this source, and that a check finds what a run does."""
    (place / "r.yaml").write_text(f"version: 1\nsteps:\n  s: {source}\n")
    pipeline.check(str(place / "r.yaml"))


def removed(path: str) -> Callable[[Path], None]:
    return lambda place: (place / path).unlink()


def cut(path: str, n: int = 3) -> Callable[[Path], None]:
    return lambda place: os.truncate(place / path, (place / path).stat().st_size - n)


def added(path: str, like: str) -> Callable[[Path], None]:
    return lambda place: shutil.copy(place / like, place / path)  # type: ignore[return-value]


def deleted(path: str) -> Callable[[Path], None]:
    return lambda place: shutil.rmtree(place / path)


ZARR = "{op: from_zarr, path: out/z.zarr}"
PARQUET = "{op: read_parquet, path: out/p}"
SPLIT = "{op: read_parquet, path: out/q}"
DAMAGES = {
    "zarr chunk": (ZARR, removed("out/z.zarr/z/3"), r"z\.zarr is not .*: z\.zarr/z/3 is missing\. If it was"),
    "zarr metadata": (ZARR, cut("out/z.zarr/.zattrs", 1), r"z\.zarr/\.zattrs has 2 bytes; it was committed with 3"),
    "zarr metadata gone": (ZARR, removed("out/z.zarr/.zmetadata"), r"\.zmetadata is missing"),
    "zarr extra": (
        ZARR,
        added("out/z.zarr/zarr.json", "out/z.zarr/.zattrs"),
        r"zarr\.json was not written by that run",
    ),
    "zarr array": ("{op: from_zarr, path: out/z.zarr/z}", removed("out/z.zarr/z/3"), r"z\.zarr/z/3 is missing"),
    "zarr of several": ("{op: from_zarr, path: out/u.zarr}", deleted("out/u.zarr/u"), r"u\.zarr/u/.* is missing"),
    "stores by pattern": ("{op: from_zarr, path: 'out/z*.zarr'}", removed("out/z.zarr/z/3"), r"z\.zarr/z/3 is missing"),
    "store gone": ("{op: from_zarr, path: 'out/[uz].zarr'}", deleted("out/u.zarr"), r"u\.zarr/.* is missing"),
    "part": (PARQUET, removed("out/p/part-00001.parquet"), r"p/part-00001\.parquet is missing"),
    "part extra": (PARQUET, added("out/p/part-7.parquet", "out/p/part-00000.parquet"), r"part-7\.parquet was not wr"),
    "part cut": (PARQUET, cut("out/p/part-00001.parquet"), r"part-00001\.parquet has \d+ bytes; it was"),
    "part alone": ("{op: read_parquet, path: out/p/part-00001.parquet}", cut("out/p/part-00001.parquet"), "has"),
    "parts by pattern": ("{op: read_parquet, path: 'out/p/*.parquet'}", removed("out/p/part-00002.parquet"), "missing"),
    "all parts": (
        "{op: read_parquet, path: 'out/p/*'}",
        lambda place: [f.unlink() for f in place.glob("out/p/*")],
        "miss",
    ),
    "folder part": (SPLIT, lambda place: shutil.rmtree(next(place.glob("out/q/name=*"))), r"q/name=\w+/.* is missing"),
    "csv": ("{op: read_csv, path: out/f.csv}", cut("out/f.csv"), r"f\.csv has \d+ bytes; it was committed with"),
    "csv gone": ("{op: read_csv, path: out/f.csv}", removed("out/f.csv"), r"f\.csv is missing"),
    "csv.gz": ("{op: read_csv, path: out/f.csv.gz}", cut("out/f.csv.gz"), r"f\.csv\.gz has"),
    "csv in a list": ("{op: read_csv, path: [out/f.csv, out/f.csv.gz]}", cut("out/f.csv.gz"), r"f\.csv\.gz has"),
    "csv in a folder": ("{op: read_csv, path: out}", removed("out/f.csv"), r"f\.csv is missing"),
    "json": ("{op: read_json, path: out/f.jsonl}", cut("out/f.jsonl"), r"f\.jsonl has"),
    "npy": ("{op: from_npy, path: out/x.npy}", cut("out/x.npy"), r"x\.npy has"),
    "netcdf": ("{op: from_netcdf, path: out/x.nc}", cut("out/x.nc"), r"x\.nc has"),
    "instance": ("{op: from_npy, path: 'out/m-*.npy'}", removed("out/m-b.npy"), r"m-b\.npy is missing"),
    "instance cut": ("{op: from_npy, path: 'out/m-*.npy'}", cut("out/m-b.npy"), r"m-b\.npy has"),
    "item": ("{op: from_npy, path: 'out/items/*.npy'}", removed("out/items/n=p.npy"), r"n=p\.npy is missing"),
    "item alone": ("{op: from_npy, path: 'out/items/n=p.npy'}", cut("out/items/n=p.npy"), r"n=p\.npy has"),
    "item listed": ("{op: files, path: out/items}", removed("out/items/n=q.npy"), r"n=q\.npy is missing"),
    "item below": ("{op: files, path: 'out/**/*.npy'}", cut("out/items/n=deep/r.npy"), r"n=deep/r\.npy has"),
    "item in folder": (
        "{op: files, path: 'out/texts/*/value.json'}",
        deleted("out/texts/n=p"),
        r"n=p/value\.json is miss",
    ),
}


@pytest.mark.parametrize(("source", "damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_output_is_refused_before_anything_runs(source, damage, message, place):
    damage(place)
    with pytest.raises(DataError, match=rf"steps\.s \(.*r\.yaml:3:3\): .*{message}") as refused:
        read(place, source)
    assert "pipeline verify --accept" in str(refused.value)


@pytest.mark.parametrize("source", sorted({source for source, *_ in DAMAGES.values() if "[uz]" not in source}))
def test_an_output_that_was_moved_with_its_manifest_is_read(source, place):
    read(place, source)


HARMLESS = {
    "no manifest": (
        ZARR,
        lambda place: [removed("out/z.zarr/z/3")(place), removed("out/.z.zarr.manifest.json")(place)],
    ),
    "another output": ("{op: from_npy, path: out/x.npy}", removed("out/f.csv")),
    "another item": ("{op: from_npy, path: 'out/items/n=p.npy'}", removed("out/items/n=q.npy")),
    "another part": ("{op: read_parquet, path: out/p/part-00001.parquet}", removed("out/p/part-00002.parquet")),
    "own file beside items": ("{op: from_npy, path: 'out/items/*.npy'}", added("out/items/n.npy", "out/items/n=p.npy")),
    "hidden file": (PARQUET, added("out/p/_note", "out/p/part-00000.parquet")),
    "other kind": (PARQUET, added("out/p/note.txt", "out/p/part-00000.parquet")),
}


@pytest.mark.parametrize(("source", "change"), HARMLESS.values(), ids=HARMLESS)
def test_what_a_source_does_not_read_does_not_matter(source, change, place):
    change(place)
    read(place, source)


def test_a_renamed_output_keeps_its_manifest(place):
    os.rename(place / "out/z.zarr", place / "new.zarr")
    os.rename(place / "out/.z.zarr.manifest.json", place / ".new.zarr.manifest.json")
    read(place, "{op: from_zarr, path: new.zarr}")
    removed("new.zarr/z/3")(place)
    with pytest.raises(DataError, match=r"new\.zarr/z/3 is missing"):
        read(place, "{op: from_zarr, path: new.zarr}")


@pytest.mark.parametrize("kind", ["to it", "in its place", "to a folder above", "in a pattern"])
def test_a_link_is_followed_to_the_manifest(kind, place):
    source = "{op: read_parquet, path: link}"
    if kind == "to it":
        (place / "link").symlink_to("out/p")
    elif kind == "in its place":
        os.rename(place / "out/p", place / "elsewhere")
        (place / "out/p").symlink_to(place / "elsewhere")
        source = PARQUET
    elif kind == "to a folder above":
        (place / "link").symlink_to("out")
        source = "{op: read_parquet, path: link/p}"
    else:
        (place / "links").mkdir()
        (place / "links/a.parquet").symlink_to(place / "out/p/part-00001.parquet")
        source = "{op: read_parquet, path: 'links/*.parquet'}"
    read(place, source)
    cut("out/p/part-00001.parquet")(place)
    with pytest.raises(DataError, match=r"part-00001\.parquet has"):
        read(place, source)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_hashes_find_what_sizes_do_not(place):
    flip(place / "out/x.npy")
    read(place, "{op: from_npy, path: out/x.npy}")
    with pytest.raises(DataError, match=r"x\.npy has another hash than it was committed with"):
        read(place, "{op: from_npy, path: out/x.npy, hashes: true}")
    read(place, "{op: read_parquet, path: out/p, hashes: true}")


def test_all_damaged_sources_are_named_at_once(place):
    cut("out/x.npy")(place)
    cut("out/f.csv")(place)
    (place / "r.yaml").write_text(
        "version: 1\nsteps:\n  a: {op: from_npy, path: out/x.npy}\n  b: {op: read_csv, path: out/f.csv}\n"
    )
    with pytest.raises(DataError, match=r"(?s)steps\.a .*x\.npy has.*steps\.b .*f\.csv has"):
        pipeline.check(str(place / "r.yaml"))


def test_a_damaged_manifest_is_one_clear_error(place):
    (place / "out/.x.npy.manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"\.x\.npy\.manifest\.json: the manifest is damaged: .*delete the file"):
        read(place, "{op: from_npy, path: out/x.npy}")


def test_the_file_of_a_check_and_of_file_are_compared(place):
    shutil.copytree(place / "out", place / "o", dirs_exist_ok=True)
    (place / "r.yaml").write_text(
        "version: 1\nsteps: {f: {op: read_csv, path: o/f.csv}}\nchecks: [{that: f, equals_csv: out/f.csv}]\n"
    )
    pipeline.check(str(place / "r.yaml"))
    cut("out/f.csv")(place)
    with pytest.raises(DataError, match=r"checks\[0\]\.equals_csv .*f\.csv has"):
        pipeline.check(str(place / "r.yaml"))
    (place / "r.yaml").write_text(
        "version: 1\nparams: {p: '${file:out/f.csv}'}\nsteps: {f: {op: read_csv, path: o/f.csv}}\n"
    )
    with pytest.raises(DataError, match=r"f\.csv has"):
        pipeline.check(str(place / "r.yaml"))


def test_an_output_that_is_being_written_is_said_to_be(place):
    lock = Lock(place / "out/.x.npy.lock", "npy")
    lock.acquire()
    try:
        read(place, "{op: from_npy, path: out/x.npy}")
        cut("out/x.npy")(place)
        with pytest.raises(DataError, match="A run is writing it, or died while it did"):
            read(place, "{op: from_npy, path: out/x.npy}")
    finally:
        lock.release()


def test_an_output_that_is_committed_anew_meanwhile_is_read(place, monkeypatch):
    outputs = CommittedOutputs()
    manifest = place / "out/.x.npy.manifest.json"
    old = manifest.read_text()
    cut("out/x.npy")(place)
    new = json.loads(old)
    new["files"][0]["bytes"] -= 3
    outputs._manifest(str(manifest))  # the old one is known
    manifest.write_text(json.dumps(new))
    outputs.require_undamaged("from_npy", str(place / "out/x.npy"))


def test_a_run_opens_its_outputs_only_undamaged(committed, tmp_path):
    folder, run = committed
    shutil.copytree(folder / "out", tmp_path / "out")
    moved = replace(run, root=tmp_path)
    assert float(moved["x"].sum()) == 500500
    flip(tmp_path / "out/x.npy")
    moved.open("npy")
    for path, output in {"out/z.zarr/z/3": "z", "out/p/part-00001.parquet": "p", "out/items/n=p.npy": "items"}.items():
        moved.open(output)
        removed(path)(tmp_path)
        with pytest.raises(DataError, match=f"{Path(path).name} is missing"):
            moved.open(output)
    with pytest.raises(DataError, match="another hash"):
        moved.open("npy", hashes=True)


@pytest.mark.parametrize("output", ["npy", "csv", "rows", "p", "nc"])
def test_an_opened_output_that_cannot_be_read_is_named(output, committed, tmp_path):
    folder, run = committed
    shutil.copytree(folder / "out", tmp_path / "out")
    moved = replace(run, root=tmp_path)
    path = {"npy": "x.npy", "csv": "f.csv", "rows": "f.jsonl", "p": "p/part-00001.parquet", "nc": "x.nc"}[output]
    size = (tmp_path / "out" / path).stat().st_size
    (tmp_path / "out" / path).write_bytes(b"\xff" * size)
    with pytest.raises(DataError, match=rf"{Path(path).name}: can't be read"):
        getattr(moved.open(output), "compute", lambda: None)()


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("group", [True, False])
def test_chunks_that_a_foreign_store_lacks(form, group, tmp_path, monkeypatch):
    import zarr

    monkeypatch.chdir(tmp_path)
    if group:
        x = xr.DataArray(np.ones(10), dims="i", name="v", coords={"i": np.arange(10)}).chunk({"i": 2})
        x.to_dataset().to_zarr("f.zarr", zarr_format=form, consolidated=False)
    else:
        zarr.create_array("f.zarr", shape=10, chunks=2, dtype="f8", fill_value=7, zarr_format=form)[:] = 1
    where = Path("f.zarr", "v" if group else "")
    source = "{op: from_zarr, path: f.zarr%s}"
    for option in ("", ", missing: warn", ", missing: error"):
        read(tmp_path, source % option)
    (where / "c/3" if form == 3 else where / "3").unlink()
    read(tmp_path, source % "")
    read(tmp_path, source % ", missing: warn")
    plan = pipeline.check("r.yaml")
    (warning,) = plan.warnings
    assert "steps.s (r.yaml:3:3): " in warning
    assert "f.zarr: 1 of 5 chunks of " in warning
    with pytest.warns(UserWarning, match="1 of 5 chunks"):
        pipeline.run("r.yaml", backend="serial")
    with pytest.raises(DataError, match=r"1 of 5 chunks of .* is not stored; write them, or"):
        read(tmp_path, source % ", missing: error")


def test_missing_takes_three_words(tmp_path):
    with pytest.raises(ConfigError, match=r"missing"):
        read(tmp_path, "{op: from_zarr, path: f.zarr, missing: maybe}")
