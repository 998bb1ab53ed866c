"""Where numbers came from: the machine, versions, the user's code, the files that were read."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import fsspec
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr

from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.graph.graph import Graph
from pipeline.ops.sources.paths import locate
from pipeline.runs.provenance import file_digests, inputs, machine, reads
from pipeline.runs.provenance.code import code_hashes
from pipeline.runs.provenance.inputs import UNKNOWN, input_hashes
from pipeline.runs.provenance.machine import PACKAGES, environment
from pipeline.runs.provenance.record import record

EMPTY = Graph({}, (), {}, {})


def config(folder, steps, more=""):
    return loads(f"version: 1\nsteps:\n  {steps}\n{more}", root=folder)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# The machine and the versions
# ---------------------------------------------------------------------------------------------------------------------


def test_the_machine_and_the_versions_are_told():
    told = environment()
    assert list(told) == ["python", "platform", "machine", "processor", "cores", "memory", "versions"]
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(told["versions"]) == set(PACKAGES)
    assert told["cores"] == len(os.sched_getaffinity(0))
    assert told["memory"] > 100_000_000
    assert told["processor"]


def test_a_machine_is_the_same_one_each_time_and_is_not_named():
    told = json.dumps(environment())
    assert environment()["machine"] == environment()["machine"]
    for file in (Path("/etc/machine-id"), Path("/proc/sys/kernel/random/boot_id"), Path("/etc/hostname")):
        if file.is_file() and len(file.read_text().strip()) > 8:
            assert file.read_text().strip() not in told


def test_other_hardware_is_another_machine():
    one = machine._machine("cpu", 4, 16 * 2**30)
    assert (
        len({one, *(machine._machine(*other) for other in (("gpu", 4, 2**34), ("cpu", 8, 2**34), ("cpu", 4, 2**35)))})
        == 4
    )
    assert machine._machine("cpu", 4, 16 * 2**30 - 50_000_000) == one


def test_versions_of_named_and_installed_packages_are_recorded():
    named = environment(["hypothesis.strategies", "no_such_package"])["versions"]
    assert set(named) == {*PACKAGES, "hypothesis"}


# ---------------------------------------------------------------------------------------------------------------------
# The code
# ---------------------------------------------------------------------------------------------------------------------


def test_a_shipped_module_is_told_by_the_hash_of_its_source(tmp_path):
    (tmp_path / "mine.py").write_text("def f(x):\n    return x\n")
    made = config(tmp_path, 'x: {call: "mine:f", args: {x: 1}}', "modules: [./mine.py]\n")
    told = code_hashes(build(made), made)
    assert told == {"mine.py": sha256((tmp_path / "mine.py").read_bytes()), "pipeline": told["pipeline"]}
    (tmp_path / "mine.py").write_text("def f(x):\n    return x + 1\n")
    assert code_hashes(build(made), made)["mine.py"] != told["mine.py"]


def test_every_source_of_a_users_package_is_hashed_not_imported(tmp_path, monkeypatch):
    (tmp_path / "laboratory" / "deep").mkdir(parents=True)
    for name in ("__init__.py", "fit.py", "deep/__init__.py", "notes.txt"):
        (tmp_path / "laboratory" / name).write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    made = config(tmp_path, 'x: {call: "laboratory.fit:f", args: {x: 1}}', "modules: [laboratory]\n")
    found = set(code_hashes(EMPTY, made)) - {"pipeline"}
    assert found == {"laboratory/__init__.py", "laboratory/fit.py", "laboratory/deep/__init__.py"}
    assert "laboratory" not in sys.modules


def test_of_an_installed_package_the_module_alone_is_told(tmp_path):
    made = config(tmp_path, 'x: {call: "hypothesis.errors:HypothesisException"}', "modules: [hypothesis.errors]\n")
    assert set(code_hashes(EMPTY, made)) == {"hypothesis/errors.py", "pipeline"}


@pytest.mark.parametrize("module", ["no_such_module", "sys"])
def test_a_module_without_a_source_is_left_out(tmp_path, module):
    made = config(tmp_path, f'x: {{call: "{module}:f"}}', f"modules: [{module}]\n")
    assert not {name for name in code_hashes(EMPTY, made) if "no_such" in name or "sys" in name}


def test_the_functions_of_ops_and_of_the_reference_count_too(tmp_path, monkeypatch):
    for name in ("blocks", "whole"):
        (tmp_path / f"{name}_of_mine.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    steps = "x: {op: arange, stop: 4}\n  y: {op: map_blocks, input: x, function: 'blocks_of_mine:f', dtype: int64}"
    more = "modules: [blocks_of_mine, whole_of_mine]\ncompare: {reference: {call: 'whole_of_mine:f'}}\n"
    assert set(code_hashes(EMPTY, config(tmp_path, steps, more))) == {
        "blocks_of_mine.py",
        "whole_of_mine.py",
        "pipeline",
    }


# ---------------------------------------------------------------------------------------------------------------------
# The inputs
# ---------------------------------------------------------------------------------------------------------------------


def fill(folder):
    """A folder with files of every kind, some of which no source reads."""
    folder.mkdir()
    for name in ("a.csv", "b.tsv", "c.txt", ".hidden.csv", "read.me"):
        (folder / name).write_text("x\n1\n")
    for name in ("a.parquet", "b.parq", "_metadata.parquet"):
        pd.DataFrame({"x": [1]}).to_parquet(folder / name)
    for name in ("a.jsonl", "b.json", ".hidden.json"):
        (folder / name).write_text('{"x": 1}\n')
    np.save(folder / "a.npy", np.zeros(1))
    for i, name in enumerate(("a.nc", "b.h5")):
        with h5py.File(folder / name, "w") as file:
            file["t"] = [float(i)]
            file["t"].make_scale()
            file["v"] = np.zeros(1)
            file["v"].dims[0].attach_scale(file["t"])
    return folder


@pytest.mark.parametrize(
    ("step", "module"),
    [("op: read_csv, path: in", "csv"), ("op: read_csv, path: ['in/a*.csv', in/b.tsv]", "csv"),
     ("op: read_parquet, path: in", "parquet"), ("op: from_netcdf, path: in, variable: v", "array_files"),
     ("op: from_npy, path: in", "array_files"), ("op: read_json, path: in", "json"),
     ("op: files, path: in", "paths"), ("op: files, path: 'in/*.?s?'", "paths")],
)  # fmt: skip
def test_the_files_told_are_those_that_the_source_reads(tmp_path, monkeypatch, step, module):
    fill(tmp_path / "in")
    made = config(tmp_path, f"x: {{{step}}}")
    read = []

    def located(*args, **kwargs):
        found = locate(*args, **kwargs)
        read.extend(found)
        return found

    monkeypatch.setattr(f"pipeline.ops.sources.{module}.locate", located)
    build(made)
    told = input_hashes(made)
    assert {str(tmp_path / name) for name in told} == set(read)
    for name, about in told.items():
        data = (tmp_path / name).read_bytes()
        modified = (tmp_path / name).stat().st_mtime_ns
        assert about == {"bytes": len(data), "mtime_ns": modified, "sha256": sha256(data)}


def test_a_changed_chunk_changes_the_one_hash_of_a_zarr_store(tmp_path):
    stored = zarr.create_array(tmp_path / "x.zarr", shape=(4,), chunks=(2,), dtype="f8")
    stored[:] = 1.0
    made = config(tmp_path, "x: {op: from_zarr, path: x.zarr}")
    before = input_hashes(made)
    assert list(before) == ["x.zarr"]
    files = [path for path in (tmp_path / "x.zarr").rglob("*") if path.is_file()]
    assert before["x.zarr"]["files"] == len(files) > 2
    assert before["x.zarr"]["bytes"] == sum(path.stat().st_size for path in files)
    stored[3] = 2.0
    assert input_hashes(made)["x.zarr"]["sha256"] != before["x.zarr"]["sha256"]


def test_the_table_that_a_check_is_held_against_is_an_input(tmp_path):
    (tmp_path / "in.csv").write_text("x\n1\n")
    (tmp_path / "want.csv").write_text("x\n1\n")
    made = config(tmp_path, "x: {op: read_csv, path: in.csv}", "checks: [{that: x, equals_csv: want.csv}]\n")
    assert list(input_hashes(made)) == ["in.csv", "want.csv"]


def test_files_that_arguments_name_are_inputs_if_older_than_run(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("a.csv", "script.sh", "by_item.txt", "made.txt", "here/beside.csv"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (2e9, 2e9) if name == "made.txt" else (1e9, 1e9))
    steps = (
        "a: {call: 'math:f', args: {paths: {x: [a.csv, beside.csv, nowhere.csv]}, log: made.txt, zero: \"a\\0b\"}}\n"
        f"  b: {{call: 'math:f', over: {{path: [by_item.txt]}}, args: {{long: {'x' * 9000}, folder: '.'}}}}\n"
        f"  c: {{command: [sh, '{tmp_path}/script.sh', '${{n}}'], over: {{n: [1]}}}}\n"
    )
    made = config(tmp_path, steps, "modules: [math]\n")
    known = {"a.csv", "here/beside.csv", "by_item.txt", "script.sh"}
    assert set(input_hashes(made, since=1.5e9)) == known
    assert set(input_hashes(made)) == {*known, "made.txt"}
    assert input_hashes(made)["a.csv"]["sha256"] == sha256(b"a.csv")


def test_beyond_the_budget_large_files_are_told_by_their_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(file_digests, "_END", 10)
    for name, size in (("small", 50), ("large", 60), ("larger", 70)):
        (tmp_path / name).write_bytes(b"." * size)
    made = config(tmp_path, "x: {op: files, path: '*'}")
    told = input_hashes(made, budget=50)
    assert {name: about.get("partial", False) for name, about in told.items()} == {
        "small": False, "large": True, "larger": True}  # fmt: skip
    assert told["large"]["sha256"] == sha256(b"." * 20)

    def changed(at):
        (tmp_path / "large").write_bytes(b"." * at + b"!" + b"." * (59 - at))
        return input_hashes(made, budget=50)["large"]["sha256"] != told["large"]["sha256"]

    assert [changed(at) for at in (0, 9, 10, 49, 50, 59)] == [True, True, False, False, True, True]


def test_of_too_many_files_the_largest_are_not_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "_MOST_OPENED", 2)
    for size in (1, 2, 3):
        (tmp_path / f"{size}").write_bytes(b"." * size)
    told = input_hashes(config(tmp_path, "x: {op: files, path: '*'}"))
    assert [about["sha256"] == UNKNOWN for about in told.values()] == [False, False, True]
    assert told["3"]["partial"] is True
    assert told["3"]["bytes"] == 3


def test_a_source_of_very_many_files_is_told_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(reads, "_MOST_SINGLE", 2)
    for size in (1, 2, 3):
        (tmp_path / f"{size}.txt").write_bytes(b"." * size)
    made = config(tmp_path, "x: {op: files, path: '*.txt'}")
    (told,) = input_hashes(made).items()
    assert told[0] == "*.txt"
    assert (told[1]["files"], told[1]["bytes"]) == (3, 6)
    (tmp_path / "3.txt").rename(tmp_path / "4.txt")
    assert input_hashes(made)["*.txt"]["sha256"] != told[1]["sha256"]


def test_an_input_that_is_gone_is_unknown_and_nothing_is_raised(tmp_path):
    for path in ("no.csv", "no/*.csv", "/nowhere/at/all.csv"):
        (told,) = input_hashes(config(tmp_path, f"x: {{op: read_csv, path: '{path}'}}")).values()
        assert told == {"bytes": None, "sha256": UNKNOWN}


def test_a_remote_file_is_told_as_its_storage_tells_it(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/provenance/a.csv", b"x\n1\n")
    try:
        made = config(tmp_path, "x: {op: read_csv, path: 'memory://provenance/*.csv'}")
        ((name, told),) = input_hashes(made).items()
        assert name.endswith("provenance/a.csv")
        assert (told["bytes"], told["sha256"]) == (4, UNKNOWN)
        assert told["modified"].startswith("20")
    finally:
        memory.rm("/provenance", recursive=True)
    (told,) = input_hashes(made).values()
    assert told == {"bytes": None, "sha256": UNKNOWN}


def test_who_asks_for_a_url_and_what_he_signs_with_are_not_told(tmp_path):
    url = "https://me:hunter2@127.0.0.1:9/a.csv?signature=topsecret"
    told = json.dumps(input_hashes(config(tmp_path, f"x: {{op: read_csv, path: '{url}'}}")))
    assert "127.0.0.1:9/a.csv" in told
    assert "hunter2" not in told
    assert "topsecret" not in told


def test_a_secret_in_a_path_is_not_told(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "hunter2")
    told = input_hashes(config(tmp_path, "x: {op: read_csv, path: 'data/${secret:TOKEN}/a.csv'}"))
    assert list(told) == ["data/***/a.csv"]


def test_a_storage_that_takes_its_time_is_not_asked_for_ever(tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.pipe({"/slow/a.csv": b"1", "/slow/b.csv": b"1"})
    seconds = iter([0.0, 1.0, 3.0])
    monkeypatch.setattr(inputs, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    try:
        told = input_hashes(config(tmp_path, "x: {op: files, path: 'memory://slow/*.csv'}"))
    finally:
        memory.rm("/slow", recursive=True)
    assert [about["bytes"] for about in told.values()] == [1, None]


def test_paths_near_the_file_are_recorded_relative_to_it(tmp_path):
    (tmp_path / "project" / "configs").mkdir(parents=True)
    (tmp_path / "data.csv").write_text("x\n1\n")
    made = config(tmp_path / "project" / "configs", "x: {op: read_csv, path: ../../data.csv}")
    assert list(input_hashes(made)) == ["../../data.csv"]
    far = config("/a/b/c/d", f"x: {{op: read_csv, path: {tmp_path / 'data.csv'}}}")
    assert list(input_hashes(far)) == [str(tmp_path / "data.csv")]


def test_a_file_that_several_steps_read_is_recorded_once(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    made = config(tmp_path, "x: {op: read_csv, path: a.csv, matrix: {n: [1, 2]}}\n  y: {op: read_csv, path: a.csv}")
    assert list(input_hashes(made)) == ["a.csv"]


def test_without_a_file_the_graph_alone_is_told():
    told = record(None, Graph({}, (), {}, {}, modules={"mine.py": b"x"}))
    assert told["inputs"] == {}
    assert set(told["code"]) == {"mine.py", "pipeline"}
    assert json.loads(json.dumps(told)) == told
