"""``mode: append``: each run adds its rows once, or none; what is there stays as it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import cli
from pipeline.backends.events import Event, Note
from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.errors import CheckError, ConfigError, OutputError
from pipeline.outputs.appending import with_earlier
from pipeline.outputs.commit import OutputTransaction
from pipeline.outputs.manifest import Manifest
from pipeline.outputs.open import read
from pipeline.runs.run import Run, run

TEXT = """
version: 1
params: {day: 1, most: 100}
steps:
  read: {op: read_parquet, path: "day${day}.parquet"}
  all: {op: assign, input: read, columns: {b: "a * 2"}}
outputs:
  all: {to: parquet, path: all, mode: append}
checks:
  - {that: all, rows: "<= ${most}"}
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    for day in (1, 2, 3):
        rows = pa.table({"a": pa.array([day * 10, day * 10 + 1], "int64"), "k": pa.array(["x", None], "string")})
        pq.write_table(rows, tmp_path / f"day{day}.parquet")
    return tmp_path


def ran(here: Path, text: str = TEXT, listener: Any = None, **params: Any) -> Run:
    config = loads(text, name="t", root=here, sets={name: str(value) for name, value in params.items()})
    return run(config, backend="serial", out=here / "out", runs=here / "runs", listener=listener)


def rows(r: Run) -> list[int]:
    return sorted(read(r.graph.sinks[0], r.root)["a"].to_pylist())


def state(here: Path) -> dict[str, tuple[int, int]]:
    """Every file of the output root with its inode and time of change; locks are left out."""
    found = [path for path in (here / "out").rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return {str(path.relative_to(here)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def test_runs_add_their_rows_and_leave_the_others(here: Path) -> None:
    first = ran(here)
    before = state(here)
    second = ran(here, day=2)
    assert (rows(first), rows(second)) == ([10, 11, 20, 21], [10, 11, 20, 21])
    assert sorted(second["all"]["b"].compute()) == [20, 22, 40, 42]
    kept = {name: found for name, found in state(here).items() if name in before and "manifest" not in name}
    assert kept == {name: found for name, found in before.items() if "manifest" not in name}
    manifest = second.outputs["all"]
    assert manifest == Manifest.load(here / "out", "all")
    assert (manifest.rows, len(manifest.files)) == (4, 2)
    assert [(each.rows, each.run in each.files[0]) for each in manifest.appended] == [(2, True), (2, True)]
    assert [each.run for each in manifest.appended] == [first.outputs["all"].run, manifest.run]
    assert cli.main(["verify", str(here / "out" / "all")]) == 0


def test_the_same_is_added_once(here: Path) -> None:
    first = ran(here)
    ran(here, day=2)
    before, told = state(here), list[Event]()
    again = ran(here, listener=told.append)
    assert state(here) == before
    assert rows(again) == [10, 11, 20, 21]
    assert [e.message for e in told if type(e) is Note] == [
        f"all: nothing is appended, since the run {first.outputs['all'].run} has appended the same"
    ]


def test_what_was_read_decides_and_not_when_it_was_written(here: Path) -> None:
    ran(here)
    os.utime(here / "day1.parquet")
    assert rows(ran(here)) == [10, 11]
    pq.write_table(pq.read_table(here / "day2.parquet"), here / "day1.parquet")
    assert rows(ran(here)) == [10, 11, 20, 21]
    other_step = TEXT.replace("outputs:", "  other: {op: select, input: read, columns: [a]}\noutputs:")
    assert rows(ran(here, other_step)) == [10, 11, 20, 21]


def test_a_run_that_fails_adds_nothing(here: Path) -> None:
    ran(here)
    before = state(here)
    with pytest.raises(CheckError, match="nothing was committed"):
        ran(here, day=2, most=1)
    assert state(here) == before
    assert rows(ran(here, day=2)) == [10, 11, 20, 21]


@pytest.mark.parametrize("stage", ["verified", "journal", "swap 0", "swap 1"])
def test_a_commit_that_breaks_off_adds_nothing(stage: str, here: Path) -> None:
    ran(here)
    before = state(here)
    graph = build(loads(TEXT, name="t", root=here, sets={"day": "2"}))

    def stop(reached: str) -> None:
        if reached == stage:
            raise KeyboardInterrupt

    def commit() -> None:
        with OutputTransaction(graph.sinks, here / "out", run="broken", on_stage=stop) as transaction:
            results: dict[Any, Any] = {}
            from pipeline.graph.graph import CONTEXT
            from pipeline.graph.nodes import constant, execute, toposort

            tasks = {**graph.tasks, CONTEXT: constant(CONTEXT, transaction.context)}
            for key in toposort(tasks):
                results[key] = execute(tasks[key], results)
            records = transaction.verify(results)
            made = {"all": Manifest.of(graph.sinks[0], records["all"], run="broken")}
            manifests, unchanged = with_earlier(made, {"all": "k"}, transaction.root)
            transaction.commit({"all": manifests["all"].to_bytes()}, unchanged=unchanged)

    with pytest.raises(KeyboardInterrupt):
        commit()
    assert state(here) == before
    assert rows(ran(here, day=2)) == [10, 11, 20, 21]


def test_folders_grow_too(here: Path) -> None:
    text = TEXT.replace("mode: append", "mode: append, partition_by: [k]")
    ran(here, text)
    second = ran(here, text, day=2)
    assert rows(second) == [10, 11, 20, 21]
    assert {path.name for path in (here / "out/all").iterdir()} == {"k=x", "k=__HIVE_DEFAULT_PARTITION__"}
    assert all(len(list(path.iterdir())) == 2 for path in (here / "out/all").iterdir())
    with pytest.raises(OutputError, match="partition_by is no column, and what it is added to has k"):
        ran(here, day=3)


def test_an_output_that_a_run_has_written_anew_grows(here: Path) -> None:
    replacing = TEXT.replace(", mode: append", "")
    first = ran(here, replacing)
    second = ran(here, day=2)
    assert rows(second) == [10, 11, 20, 21]
    assert [(each.key == "", each.run) for each in second.outputs["all"].appended] == [
        (True, first.outputs["all"].run), (False, second.outputs["all"].run)
    ]  # fmt: skip
    assert rows(ran(here, replacing, day=3)) == [30, 31]
    document = json.loads((here / "out/.all.manifest.json").read_text())
    assert (document["version"], "appended" in document) == (1, False)


def test_no_rows_are_added_too(here: Path) -> None:
    pq.write_table(pq.read_table(here / "day1.parquet").slice(0, 0), here / "day1.parquet")
    first = ran(here, TEXT.replace("mode: append", "mode: append, partition_by: [k]"))
    (only,) = first.outputs["all"].files  # which tells the columns
    assert (only.path.split("/")[1], rows(first)) == ("k=__HIVE_DEFAULT_PARTITION__", [])
    assert len(first["all"].compute()) == 0
    assert (here / "out/all").is_dir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('b: "a / 2"', "column 'b' is float64, and in what it is added to int64; make it the same"),
        ('c: "a * 2"', "column 'c' is int64, and in what it is added to no column"),
    ],
)
def test_other_columns_are_refused(change: str, message: str, here: Path) -> None:
    ran(here)
    before = state(here)
    with pytest.raises(OutputError, match=message):
        ran(here, TEXT.replace('b: "a * 2"', change), day=2)
    assert state(here) == before


def test_missing_values_may_come_later(here: Path) -> None:
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("k", pa.string())])
    pq.write_table(pa.table([pa.array([1], "int64"), ["x"]], schema=schema), here / "day1.parquet")
    pq.write_table(pa.table({"a": pa.array([None], "int64"), "k": ["y"]}), here / "day2.parquet")
    ran(here)
    second = ran(here, day=2)
    assert read(second.graph.sinks[0], second.root)["a"].to_pylist() == [1, None]
    assert second["all"]["a"].compute().isna().tolist() == [False, True]


def foreign(out: Path) -> None:
    (out / "all/mine.parquet").write_bytes(b"")


def cut(out: Path) -> None:
    file = next((out / "all").iterdir())
    file.write_bytes(file.read_bytes()[:-1])


def lost(out: Path) -> None:
    next((out / "all").iterdir()).unlink()


def unlisted(out: Path) -> None:
    (out / ".all.manifest.json").unlink()


def broken(out: Path) -> None:
    (out / ".all.manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (foreign, "holds 'all/mine.parquet', which no run added"),
        (cut, "has .* bytes; it was committed with"),
        (lost, "is missing"),
        (unlisted, "has no manifest, so that nothing can be added to it; move it, or let a run write it anew"),
        (broken, "the manifest is damaged"),
    ],
)
def test_nothing_is_added_to_what_is_not_as_it_was_committed(damage: Any, message: str, here: Path) -> None:
    ran(here)
    damage(here / "out")
    before = state(here)
    with pytest.raises(OutputError, match=message):
        ran(here, day=2)
    assert state(here) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("mode: grow", "outputs.all.mode: got 'grow'; modes are replace and append"),
        ("mode: append, overwrite: true", "outputs.all.mode: append replaces nothing; leave out overwrite"),
    ],
)
def test_a_mode_that_there_is_not_is_refused(change: str, message: str, here: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        ran(here, TEXT.replace("mode: append", change))


def test_csv_does_not_grow(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"outputs.all.mode: csv files can't grow; append is for parquet"):
        ran(here, TEXT.replace("to: parquet, path: all", "to: csv, path: all.csv"))
