"""A full disk is exit code 5 with the path, in every writer; earlier outputs stay, and nothing is left behind.

A limit of the size of files stands for the full disk: it needs no rights and works on every machine.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline import cli
from pipeline.errors import OutputError, TaskWriteError, WriteError
from pipeline.trace.trace import Trace

LIMIT = 50_000
MINE = """
def raw(n): return b"x" * n
def text(n): return "x" * n
def each(k, n): return "x" * n
def shout(n):
    for i in range(n // 1000):
        print("x" * 1000)
"""
TEXT = """
version: 1
modules: [./mine.py]
params: {n: 10, days: 1}
steps:
  x: {op: random, shape: {i: "${n}"}, chunks: {i: 10000}}
  f: {op: timeseries, start: "2020-01-01", end: "2020-01-0${days}", freq: 10s, partitions: 2}
  raw: {call: "mine:raw", args: {n: "${n}"}}
  text: {call: "mine:text", args: {n: "${n}"}}
  items: {call: "mine:each", over: {k: [a, b]}, args: {n: "${n}"}}
"""


@contextmanager
def small_files(n: int = LIMIT) -> Iterator[None]:
    """Files may have at most ``n`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def large(file: str = "w.yaml") -> pipeline.Pipeline:
    return pipeline.load(file, params={"n": 100_000, "days": 9})


WRITERS = {
    "npy": ("x", "out.npy"),
    "netcdf": ("x", "out.nc"),
    "netcdf in chunks": ("x", "out.nc"),
    "zarr": ("x", "out.zarr"),
    "parquet": ("f", "out"),
    "csv": ("f", "out.csv"),
    "csv packed": ("f", "out.csv.gz"),
    "json": ("f", "out.json"),
    "pickle": ("text", "out.pkl"),
    "text": ("text", "out.txt"),
    "file": ("raw", "out.bin"),
    "json of items": ("items", "out/${key}.json"),
    "pickle of items": ("items", "out/${key}.pkl"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_in_a_writer_names_the_path(kind, here):
    step, path = WRITERS[kind]
    more = ", options: {chunks: {i: 100}, level: 1}" if "chunks" in kind else ""
    more += ", files: 1" if kind == "parquet" else ""
    (here / "w.yaml").write_text(
        f"{TEXT}outputs:\n  out: {{input: {step}, to: {kind.split()[0]}, path: 'o/{path}'{more}}}\n"
    )
    pipeline.run("w.yaml", backend="serial")
    before = contents(here / "o")
    with small_files(), pytest.raises(TaskWriteError) as failed:
        pipeline.run(large(), backend="serial", runs=here / "elsewhere")
    assert failed.value.exit_code == 5
    assert failed.value.step == "write out"
    start = str(here / "o" / path).partition("${key}")[0]
    assert failed.value.cause.startswith(start)
    assert "can't be written: File too large; raise the limit of the size of files" in failed.value.cause
    assert contents(here / "o") == before
    assert not list(here.rglob(".staging-*"))
    assert not list(here.rglob("*.lock"))


def test_a_worker_process_with_a_full_disk_names_the_path(here, capsys):
    (here / "w.yaml").write_text(f"{TEXT}outputs: {{out: {{input: x, to: netcdf, path: o/out.nc}}}}\n")
    with small_files(200_000):
        code = cli.main(["run", "w.yaml", "--backend", "processes", "--workers", "1", "--set", "n=100000"])
    assert code == 5
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("pipeline: error: write out (w.yaml:11")
    assert error.endswith("/o/out.nc: can't be written: File too large; raise the limit of the size of files "
                          "(ulimit -f), or write elsewhere.")  # fmt: skip
    assert not list(here.rglob(".staging-*"))


def test_what_tasks_print_may_fill_the_disk(here):
    (here / "w.yaml").write_text(f"{TEXT}  loud: {{call: 'mine:shout', args: {{n: 200000}}}}\nkeep: [loud]\n")
    with small_files(), pytest.raises(WriteError, match=r"tasks\.log: can't be written: File too large"):
        pipeline.run("w.yaml", backend="serial", listener=lambda event: None)


def test_a_run_folder_on_a_full_disk_is_named(here):
    (here / "w.yaml").write_text(TEXT)
    with small_files(100), pytest.raises(WriteError, match=r"runs/w/.*\.json: can't be written: File too large"):
        pipeline.run("w.yaml", backend="serial")


def full(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_after_the_commit_a_full_disk_says_that_outputs_are_there(here, monkeypatch, capsys):
    (here / "w.yaml").write_text(f"{TEXT}outputs: {{out: {{input: x, to: npy, path: o/out.npy}}}}\n")
    monkeypatch.setattr(Trace, "save", full)
    assert cli.main(["run", "w.yaml", "--backend", "serial"]) == 5
    error = capsys.readouterr().err.splitlines()[-1]
    assert "trace.parquet: can't be written: No space left on device; free some space" in error
    assert error.endswith("The outputs are committed, but the run folder is not complete.")
    assert (here / "o/out.npy").exists()


@pytest.mark.parametrize("stage", ["locked", "staged", "verified", "journal", "swap 0"])
def test_a_full_disk_at_any_stage_of_a_commit_is_recovered(stage, here, monkeypatch):
    from pipeline.outputs.commit import OutputTransaction

    (here / "w.yaml").write_text(f"{TEXT}outputs: {{out: {{input: text, to: text, path: o/out.txt}}}}\n")
    pipeline.run("w.yaml", backend="serial")
    before = contents(here / "o")
    start = OutputTransaction.__init__

    def begin(self: Any, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, on_stage=lambda name: full() if name == stage else None, **options)

    monkeypatch.setattr(OutputTransaction, "__init__", begin)
    with pytest.raises(OutputError, match="No space left on device"):
        pipeline.run("w.yaml", backend="serial", runs=here / "elsewhere", force=True)
    assert contents(here / "o") == before
    assert not list(here.rglob(".staging-*"))


@pytest.mark.parametrize("name", ["report.json", "report.html", "perfetto.json"])
def test_a_folder_in_the_place_of_a_report_is_named(name, here, capsys):
    (here / "w.yaml").write_text(TEXT)
    run = pipeline.run("w.yaml", backend="serial")
    (run.folder / name).mkdir()
    assert cli.main(["report", "w"]) == 5
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(f"{name}: can't be written: Is a directory; move the folder that is in its place.")


@pytest.mark.parametrize("command", [["graph", "w.yaml", "-o"], ["schema", "-o"]])
def test_a_file_that_a_user_named_and_cannot_be_written(command, here, capsys):
    (here / "w.yaml").write_text(TEXT)
    (here / "out.svg").mkdir()
    assert cli.main([*command, "out.svg"]) == 5
    message = "pipeline: error: out.svg: can't be written: Is a directory; move the folder that is in its place.\n"
    assert capsys.readouterr().err == message
