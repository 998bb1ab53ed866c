"""Parts of outputs that a run has written which did not end: the next run writes the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from resumed import Project

from pipeline import cli
from pipeline.errors import CheckError, PipelineError, TaskError
from pipeline.outputs import written_parts
from pipeline.runs.run import Run

MODULE = """
import os
import signal

def doubled(frame):
    first = int(frame.i.iloc[0])
    with open("PLACE", "a") as file:
        file.write(f"part{first} ")
    if first == 30 and not os.path.exists("PLACE.ok"):
        if os.environ.get("KILLED"):
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("bad")
    return frame.assign(j=2 * frame.i)

def shifted(x):
    with open("PLACE", "a") as file:
        file.write(f"part{int(x.flat[0])} ")
    if x.flat[0] == 30 and not os.path.exists("PLACE.ok"):
        raise ValueError("bad")
    return x + 1
"""
FRAME = """
version: 1
modules: [./part_functions.py]
steps:
  raw: {op: read_csv, path: in}
  all: {op: map_partitions, input: raw, function: "part_functions:doubled", columns: {i: int64, j: int64}}
outputs:
  all: OUTPUT
"""
ARRAY = """
version: 1
modules: [./part_functions.py]
steps:
  raw: {op: arange, start: 0, stop: 50, chunks: 10, dim: i}
  all: {op: map_blocks, input: raw, function: "part_functions:shifted", dtype: int64}
outputs:
  all: OUTPUT
"""
ALL = [f"part{i}" for i in range(0, 50, 10)]
REST = ["part30", "part40"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path, {"part_functions": MODULE})
    (tmp_path / "in").mkdir()
    for k in range(5):
        (tmp_path / f"in/{k}.csv").write_text("i\n" + "".join(f"{10 * k + i}\n" for i in range(10)))
    return made


def broken(project: Project, text: str) -> None:
    """Run it: the fourth part fails; from now on it does not."""
    with pytest.raises(TaskError, match="bad"):
        project.run(text)
    (project.folder / "log.ok").touch()


def computed(r: Run) -> Any:
    value = r.open("all")
    return value.compute() if hasattr(value, "compute") else value


def parts(project: Project) -> list[Path]:
    return [path for path in project.folder.glob("runs/t/*/items/parts/*") if path.suffix != ".json"]


@pytest.mark.parametrize(
    ("text", "output"),
    [
        (FRAME, "{to: parquet, path: o}"),
        (FRAME, "{to: parquet, path: o, files: 10}"),
        (FRAME, "{to: csv, path: o.csv.gz}"),
        (FRAME, "{to: json, path: o.json}"),
        (ARRAY, "{to: zarr, path: o.zarr}"),
        (ARRAY, "{to: npy, path: o.npy}"),
        (ARRAY, "{to: netcdf, path: o.nc}"),
    ],
)
def test_the_parts_that_were_written_are_taken_over(project: Project, text: str, output: str) -> None:
    text = text.replace("OUTPUT", output)
    broken(project, text)
    r = project.run(text)
    assert project.did == REST
    n = "4 of 6" if "zarr" in output else "3 of 5"  # the metadata are a part
    assert project.said == f"goes on from an earlier run: {n} parts of all are written already"
    taken = computed(r)
    assert not parts(project)  # nothing is left of them
    whole = computed(project.run(text, force=True))
    assert project.did == ALL
    assert taken.equals(whole)


def test_a_run_that_was_killed_goes_on(project: Project) -> None:
    text = FRAME.replace("OUTPUT", "{to: parquet, path: o}")
    (project.folder / "t.yaml").write_text(text)
    project.log.write_text("")
    command = [sys.executable, "-m", "pipeline", "run", "t.yaml", "--backend", "serial"]
    died = subprocess.run(command, cwd=project.folder, env={**os.environ, "KILLED": "1"}, check=False)
    assert died.returncode == -signal.SIGKILL
    (project.folder / "log.ok").touch()
    assert computed(project.run(text)).j.sum() == 2 * sum(range(50))
    assert project.did == REST
    assert not list(project.folder.glob(".staging-*"))


def test_several_runs_go_on_from_each_other(project: Project) -> None:
    text = FRAME.replace("OUTPUT", "{to: parquet, path: o}")
    for _ in range(3):
        with pytest.raises(TaskError, match="bad"):
            project.run(text)
    assert (project.did, len(parts(project))) == (["part30"], 3)
    (project.folder / "log.ok").touch()
    project.run(text)
    assert project.did == REST


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm",
    [
        flip,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        Path.unlink,
        lambda path: path.parent.chmod(0o777),
        lambda path: [one.write_text("{") for one in path.parent.glob("*.json")],
    ],
    ids=["flipped", "cut", "gone", "of all users", "no record"],
)
def test_a_damaged_part_is_written_again(project: Project, harm: Callable[[Path], object]) -> None:
    text = FRAME.replace("OUTPUT", "{to: parquet, path: o}")
    broken(project, text)
    harm(parts(project)[0])
    assert computed(project.run(text)).j.sum() == 2 * sum(range(50))
    assert {*REST} < {*project.did}


def test_many_damaged_parts_are_no_error(project: Project) -> None:
    text = FRAME.replace("OUTPUT", "{to: parquet, path: o, files: 20}")
    broken(project, text)
    for path in parts(project):
        flip(path)
    assert computed(project.run(text)).j.sum() == 2 * sum(range(50))


def test_parts_that_are_a_link_are_not_taken_over(project: Project, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    folder = project.folder / "runs/t/2026-01-01T00-00-00Z/items"
    folder.mkdir(parents=True)
    (folder / "parts").symlink_to(foreign)
    broken(project, FRAME.replace("OUTPUT", "{to: csv, path: o.csv}"))
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]


def test_a_record_leads_nowhere_else(project: Project) -> None:
    text = FRAME.replace("OUTPUT", "{to: parquet, path: o}")
    broken(project, text)
    for path in project.folder.glob("runs/t/*/items/parts/*.json"):
        path.write_text(path.read_text().replace("o/part-", "../../o/part-"))
    project.run(text)
    assert project.did == ALL


def test_what_has_changed_is_written_again(project: Project) -> None:
    text = FRAME.replace("OUTPUT", "{to: parquet, path: o}")
    broken(project, text)
    project.code(MODULE.replace("2 * frame.i", "3 * frame.i"), "part_functions")
    assert computed(project.run(text)).j.sum() == 3 * sum(range(50))
    assert (project.did, project.said) == (ALL, "")


def test_force_writes_all(project: Project) -> None:
    text = FRAME.replace("OUTPUT", "{to: parquet, path: o}")
    broken(project, text)
    project.run(text, force=True)
    assert project.did == ALL


def test_after_a_failed_check_nothing_is_computed(project: Project) -> None:
    text = FRAME.replace("OUTPUT", "{to: csv, path: o.csv}")
    (project.folder / "log.ok").touch()
    with pytest.raises(CheckError):
        project.run(f'{text}checks:\n  - {{that: all, rows: "> 50"}}\n')
    project.run(text)
    assert project.did == []
    assert not parts(project)


def test_the_dry_run_says_it(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    text = FRAME.replace("OUTPUT", "{to: parquet, path: o}")
    broken(project, text)
    (project.folder / "t.yaml").write_text(text)
    folder = str(project.folder)
    options = ["--dry-run", "--out", folder, "--runs", f"{folder}/runs"]
    assert cli.main(["run", f"{folder}/t.yaml", *options]) == 0
    assert "3 of 5 results are reused" in capsys.readouterr().out
    project.run(text)
    assert project.did == REST


def test_with_secrets_nothing_is_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "geheim")
    code = MODULE.replace("def doubled(frame)", "def doubled(frame, key)")
    project.code(code, "part_functions")
    text = FRAME.replace("columns:", "args: {key: '${secret:KEY}'}, columns:")
    broken(project, text.replace("OUTPUT", "{to: csv, path: o.csv}"))
    assert not parts(project)


def test_parts_are_left_only_where_there_is_room(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(written_parts.shutil, "disk_usage", lambda path: usage(10_000, 9_000, 100))
    broken(project, FRAME.replace("OUTPUT", "{to: csv, path: o.csv}"))
    assert not parts(project)


@pytest.mark.parametrize("backend", ["threads", "processes", "dask", pytest.param("pool", marks=pytest.mark.slow)])
def test_it_is_the_same_on_every_back_end(project: Project, backend: str) -> None:
    text = FRAME.replace("OUTPUT", "{to: csv, path: o.csv}")
    with pytest.raises(PipelineError, match="bad"):
        project.run(text, backend=backend, workers=2)
    (project.folder / "log.ok").touch()
    n_written = len({path.name for path in parts(project)})
    assert computed(project.run(text, backend=backend, workers=2)).j.sum() == 2 * sum(range(50))
    assert len(project.did) == len(ALL) - n_written
