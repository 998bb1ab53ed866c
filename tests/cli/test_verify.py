"""``pipeline verify`` names every file that is not as committed, and accepts changes on purpose."""

from __future__ import annotations

import json
import os
import shutil

import pytest

import pipeline
from pipeline import cli

TEXT = """
version: 1
modules: [./mine.py]
steps:
  f: {op: timeseries, start: "2020-01-01", end: "2020-01-02", freq: 1h, partitions: 3, columns: {v: int64}}
  x: {op: arange, stop: 50, chunks: 10, dim: i}
  items: {call: "mine:one", over: {n: [p, q]}}
outputs:
  f: {to: parquet, path: out/f}
  x: {to: zarr, path: out/deep/x.zarr}
  items: {to: json, path: "out/items/${key}.json"}
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    (folder / "mine.py").write_text("def one(n):\n    return n\n")
    (folder / "w.yaml").write_text(TEXT)
    pipeline.run(str(folder / "w.yaml"), backend="serial", out=folder, runs=folder / "runs")
    return folder


@pytest.fixture
def out(written, tmp_path, monkeypatch):
    """The outputs of all three kinds, with which nothing is wrong yet; the current folder is theirs."""
    for name in ("out", "w.yaml", "mine.py"):
        (shutil.copytree if (written / name).is_dir() else shutil.copy)(written / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def verified(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["verify", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def damage(out):
    (out / "f/part-00001.parquet").unlink()
    (out / "f/more.parquet").write_bytes(b"1")
    data = bytearray((out / "deep/x.zarr/x/3").read_bytes())
    data[-1] ^= 1
    (out / "deep/x.zarr/x/3").write_bytes(data)
    os.truncate(out / "items/n=q.json", 1)


def test_undamaged_outputs_are_listed(out, capsys):
    code, text, error = verified(capsys, "out")
    assert (code, error) == (0, "")
    assert [line.split(": ")[1].split(" (")[0] for line in text.splitlines()] == ["as committed"] * 3


def test_every_file_that_differs_is_named(out, capsys):
    damage(out)
    code, text, error = verified(capsys, "out")
    assert code == 3
    assert {line.strip() for line in text.splitlines() if line.startswith("  ")} == {
        "f/part-00001.parquet is missing",
        "f/more.parquet was not written by that run",
        "x.zarr/x/3 has another hash than it was committed with",
        "n=q.json has 1 bytes; it was committed with 4",
    }
    assert error.startswith("pipeline: error: 3 of 3 outputs are not as committed, listed above. ")


@pytest.mark.parametrize(
    ("path", "n"),
    [
        ("out/f", 1),
        ("out/f/", 1),
        ("out/f/part-00000.parquet", 1),
        ("out/.f.manifest.json", 1),
        ("out/deep", 1),
        ("out/items", 1),
        ("out/items/${key}.json", 1),
        ("out/items/n=p.json", 1),
        (".", 3),
    ],
)
def test_an_output_is_found_by_its_path_a_part_or_a_folder(path, n, out, capsys):
    code, text, _ = verified(capsys, path)
    assert (code, len(text.splitlines())) == (0, n)


def test_an_output_is_verified_once(out, capsys):
    assert len(verified(capsys, "out/f", "out", "out/f/part-00000.parquet")[1].splitlines()) == 3


def test_the_json_event_has_the_differences(out, capsys):
    damage(out)
    code, text, _ = verified(capsys, "--json", "out/f")
    event = json.loads(text)
    assert (code, event["ok"], event["exit_code"]) == (3, False, 3)
    (output,) = event["outputs"]
    assert [(each["kind"], os.path.basename(each["path"])) for each in output["differences"]] == [
        ("missing", "part-00001.parquet"),
        ("extra", "more.parquet"),
    ]


def test_what_is_accepted_is_what_readers_expect(out, capsys):
    damage(out)
    (out / "f/more.parquet").unlink()
    code, text, error = verified(capsys, "--accept", "out")
    assert (code, error) == (0, "")
    assert text.count("accepted as it is now") == 3
    assert verified(capsys, "out")[0] == 0
    (out.parent / "r.yaml").write_text("version: 1\nsteps: {f: {op: read_parquet, path: out/f}}\n")
    assert len(pipeline.run("r.yaml", backend="serial")["f"]) == 16
    pipeline.run("w.yaml", backend="serial")  # replaces them
    assert verified(capsys, "out")[0] == 0
    assert (out / "f/part-00001.parquet").exists()


def test_accepting_an_output_that_is_gone_removes_its_manifest(out, capsys):
    shutil.rmtree(out / "f")
    assert verified(capsys, "--accept", "out/f")[0] == 0
    assert not (out / ".f.manifest.json").exists()


def test_an_output_that_a_run_writes_is_not_accepted(out, capsys):
    from pipeline.outputs.locks import Lock

    damage(out)
    lock = Lock(out / ".f.lock", "f")
    lock.acquire()
    try:
        code, _, error = verified(capsys, "--accept", "out/f")
    finally:
        lock.release()
    assert code == 5
    assert "output 'f' is being written by another run" in error


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere", "nowhere: no such file"), ("w.yaml", "w.yaml: has no manifest beside it, above it or in it")],
)
def test_what_is_no_output_is_refused(path, message, out, capsys):
    code, _, error = verified(capsys, path)
    assert code == 3
    assert message in error


def test_a_damaged_manifest_is_refused(out, capsys):
    (out / ".f.manifest.json").write_text("[]")
    code, _, error = verified(capsys, "out")
    assert code == 3
    assert ".f.manifest.json: got manifest format None" in error
