"""A run commits all its outputs or none, also after errors, Ctrl-C and SIGKILL at every stage."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config.model import Output, Reference
from pipeline.errors import OutputError
from pipeline.graph.graph import CONTEXT, Sink
from pipeline.graph.nodes import constant, execute, toposort
from pipeline.graph.value_types import FrameType, ItemsType, ObjectType
from pipeline.outputs import recovery
from pipeline.outputs.commit import OutputTransaction
from pipeline.outputs.manifest import Manifest, stale_files
from pipeline.outputs.open import read
from pipeline.outputs.planners import plan_sink
from pipeline.outputs.target_paths import manifest_path

META = pa.schema([pa.field("n", pa.int64())])
STAGES = ["locked", "staged", "verified", "journal", *(f"swap {i}" for i in range(7)), "committed", "cleanup"]


def planned(number: int, keys: tuple[str, ...] = ("a", "b")) -> list[tuple[Sink, dict[Any, Any]]]:
    """A folder, a file and items that hold ``number``, with the tasks that make and write them."""
    value_types: list[tuple[Output, Any, Mapping[Any, Any]]] = [
        (
            Output("frame", Reference("f", ("f",)), "parquet", "deep/frame"),
            FrameType("f", 1, META),
            {("f", 0): pa.table({"n": pa.array([number], pa.int64())})},
        ),
        (
            Output("items", Reference("i", ("i",)), "json", "items/${key}.json"),
            ItemsType("i", keys, {}, len(keys)),
            {("i", i): number for i in range(len(keys))},
        ),
        (Output("value", Reference("v", ("v",)), "json", "value.json"), ObjectType("v"), {("v",): number}),
    ]
    found = []
    for output, value_type, values in value_types:
        tasks, sink = plan_sink(output, value_type, prefix=f"write {output.name}")
        found.append((sink, tasks | {key: constant(key, value) for key, value in values.items()}))
    return found


def commit_run(out: Path, number: int, keys: tuple[str, ...] = ("a", "b"), **options: Any) -> None:
    """One whole run that writes ``number`` into every output."""
    plan = planned(number, keys)
    sinks = [sink for sink, _ in plan]
    tasks = {key: node for _, own in plan for key, node in own.items()}
    with OutputTransaction(sinks, out, run=f"run-{number}", **options) as transaction:
        results: dict[Any, Any] = {}
        tasks[CONTEXT] = constant(CONTEXT, transaction.context)
        for key in toposort(tasks):
            results[key] = execute(tasks[key], results)
        records = transaction.verify(results)
        manifests = {sink.name: Manifest.of(sink, records[sink.name], run=f"run-{number}") for sink in sinks}
        stale = {name: stale_files(out, manifest) for name, manifest in manifests.items()}
        transaction.commit({name: manifest.to_bytes() for name, manifest in manifests.items()}, stale)


def found(out: Path, keys: tuple[str, ...] = ("a", "b")) -> dict[str, Any]:
    """What each output holds, read as a user would; a manifest, where there is one, must fit it."""
    values: dict[str, Any] = {}
    for sink, _ in planned(0, keys):
        value = read(sink, out)
        values[sink.name] = value["n"].to_pylist() if sink.name == "frame" else value
    return values


def holding(number: int, keys: tuple[str, ...] = ("a", "b")) -> dict[str, Any]:
    return {"frame": [number], "items": dict.fromkeys(keys, number), "value": number}


def hidden(out: Path) -> list[str]:
    """Locks and staging folders that are left."""
    return [path.name for path in out.rglob(".*") if not path.name.endswith(".manifest.json")]


def killed(at: str, out: Path, **options: Any) -> bool:
    """Whether a process that commits 2 was ended by SIGKILL, its own, when it came to a stage."""
    pid = os.fork()
    if pid == 0:
        try:
            commit_run(
                out, 2, on_stage=lambda stage: os.kill(os.getpid(), signal.SIGKILL) if stage == at else None, **options
            )
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def passing(stage: str, action: Callable[[], None]) -> Callable[[str], None]:
    return lambda name: action() if name == stage else None


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "rename"])
def test_a_second_run_replaces_all_and_leaves_nothing_hidden(exchange, tmp_path):
    commit_run(tmp_path, 1, ("a", "b", "c"), exchange=exchange)
    commit_run(tmp_path, 2, exchange=exchange)
    assert found(tmp_path) == holding(2)
    assert not hidden(tmp_path)
    assert not (tmp_path / "items/c.json").exists()


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "rename"])
@pytest.mark.parametrize("stage", STAGES)
def test_after_sigkill_all_is_old_or_all_is_new_once_recovered(stage, exchange, tmp_path):
    commit_run(tmp_path, 1)
    assert killed(stage, tmp_path, exchange=exchange)
    one = planned(3)[0][0]
    with OutputTransaction([one], tmp_path, run="next"):
        after = found(tmp_path)
    assert after == holding(2 if stage in ("committed", "cleanup") else 1)
    commit_run(tmp_path, 3)
    assert found(tmp_path) == holding(3)
    assert not hidden(tmp_path)


@pytest.mark.parametrize("stage", STAGES)
def test_after_sigkill_each_output_is_readable_old_or_new(stage, tmp_path):
    commit_run(tmp_path, 1)
    assert killed(stage, tmp_path)
    after = found(tmp_path)
    assert after["frame"] in ([1], [2])
    assert after["value"] in (1, 2)
    assert set(after["items"].values()) <= {1, 2}
    if "swap" not in stage and stage not in ("committed", "cleanup"):
        assert after == holding(1)


@pytest.mark.parametrize("stage", STAGES[:-2])
def test_sigkill_of_a_first_run_leaves_nothing_once_recovered(stage, tmp_path):
    assert killed(stage, tmp_path)
    with OutputTransaction([planned(1)[0][0]], tmp_path, run="next"):
        pass
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    commit_run(tmp_path, 1)
    assert found(tmp_path) == holding(1)
    assert not hidden(tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "no space")])
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "rename"])
@pytest.mark.parametrize("stage", STAGES[:-2])
def test_a_run_that_fails_anywhere_leaves_everything_as_it_was(stage, exchange, error, tmp_path):
    commit_run(tmp_path, 1)
    before = sorted(tmp_path.rglob("*"))

    def fail() -> None:
        raise error

    with pytest.raises((KeyboardInterrupt, OSError, OutputError)):
        commit_run(tmp_path, 2, on_stage=passing(stage, fail), exchange=exchange)
    assert found(tmp_path) == holding(1)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("stage", STAGES[:-2])
def test_a_first_run_that_fails_leaves_nothing_not_even_folders(stage, tmp_path):
    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commit_run(tmp_path, 2, on_stage=passing(stage, fail))
    assert not list(tmp_path.iterdir())


def test_a_recovery_that_is_killed_is_done_again(tmp_path, monkeypatch):
    commit_run(tmp_path, 1)
    assert killed("swap 4", tmp_path)
    pid = os.fork()
    if pid == 0:
        recovery.delete_staging = lambda staging: os.kill(os.getpid(), signal.SIGKILL)
        try:
            commit_run(tmp_path, 3)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with OutputTransaction([planned(3)[2][0]], tmp_path, run="next"):
        assert found(tmp_path) == holding(1)
    commit_run(tmp_path, 4)
    assert found(tmp_path) == holding(4)


def test_a_second_run_names_the_holder_and_keeps_no_lock(tmp_path):
    frame, items, value = (sink for sink, _ in planned(1))
    with OutputTransaction([items], tmp_path, run="first"):
        with pytest.raises(OutputError, match=rf"output 'items' is being written by run first \(pid {os.getpid()} on "):
            OutputTransaction([frame, items, value], tmp_path, run="second").__enter__()
        with OutputTransaction([frame, value], tmp_path, run="third"):
            pass


def test_the_same_output_by_way_of_another_root_is_locked_too(tmp_path):
    frame = planned(1)[0][0]
    _, inner = plan_sink(Output("g", Reference("f", ("f",)), "parquet", "frame"), FrameType("f", 1, META), prefix="w")
    with OutputTransaction([frame], tmp_path, run="first"), pytest.raises(OutputError, match="run first"):
        OutputTransaction([inner], tmp_path / "deep", run="second").__enter__()


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "message"),
    [(damage, "its writer reported"), (change, "another hash"), (Path.unlink, "is missing, though"), (None, "")],
    ids=["shorter", "changed", "missing", "more"],
)
def test_a_staged_file_unlike_its_record_stops_the_commit(harm, message, tmp_path):
    commit_run(tmp_path, 1)
    sink, tasks = planned(2)[0]
    with OutputTransaction([sink], tmp_path, run="x") as transaction:
        tasks[CONTEXT] = constant(CONTEXT, transaction.context)
        results: dict[Any, Any] = {}
        for key in toposort(tasks):
            results[key] = execute(tasks[key], results)
        staged = transaction.staging / "deep/frame/part-00000.parquet"
        if harm is None:
            staged.with_name("part-00007.parquet").write_bytes(b"of a writer that died")
            transaction.verify(results)
            transaction.commit({})
        else:
            harm(staged)
            with pytest.raises(OutputError, match=message):
                transaction.verify(results)
    assert found(tmp_path)["frame"] == [2 if harm is None else 1]
    assert not hidden(tmp_path)


def test_a_folder_with_other_things_in_it_is_not_replaced(tmp_path):
    (tmp_path / "deep/frame").mkdir(parents=True)
    (tmp_path / "deep/frame/thesis.doc").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds 'thesis\.doc', which no manifest of this output names"):
        commit_run(tmp_path, 1)
    assert (tmp_path / "deep/frame/thesis.doc").read_text() == "years of work"
    assert not hidden(tmp_path)


@pytest.mark.parametrize("path", ["../victim.txt", "items/../../victim.txt", "/victim.txt", "far/victim.txt"])
def test_a_run_deletes_nothing_that_a_forged_manifest_names(path, tmp_path):
    out = tmp_path / "out"
    commit_run(out, 1)
    (tmp_path / "victim.txt").write_text("years of work")
    (out / "far").symlink_to(tmp_path)
    place = out / manifest_path("items/${key}.json")
    text = json.loads(place.read_text())
    text["files"].append({"path": path, "bytes": 1, "sha256": ""})
    place.write_text(json.dumps(text))
    with pytest.raises(OutputError, match=r"the manifest names .*; move it, or set overwrite: true on this output"):
        commit_run(out, 2)
    assert found(out) == holding(1)
    assert (tmp_path / "victim.txt").read_text() == "years of work"
    assert not [name for name in hidden(out) if name != "far"]


def forged_lock(out: Path, staging: Path) -> Path:
    """The lock file of an output, as a run that died leaves it."""
    out.mkdir(exist_ok=True)
    lock = out / ".value.json.lock"
    lock.write_text(json.dumps({"pid": 1, "host": "x", "run": "r", "since": "", "staging": str(staging)}))
    return lock


@pytest.mark.parametrize("name", ["mine", ".staging-mine"])
@pytest.mark.parametrize("where", ["..", "deep", "../far/.."])
def test_a_folder_elsewhere_that_a_lock_names_is_left_alone(where, name, tmp_path):
    out = tmp_path / "out"
    (out / "deep").mkdir(parents=True)
    (tmp_path / "far").mkdir()
    folder = out / where / name
    folder.mkdir()
    (folder / "thesis.doc").write_text("years of work")
    lock = forged_lock(out, folder)
    if name == "mine":
        commit_run(out, 1)
        assert found(out) == holding(1)
    else:
        with pytest.raises(OutputError, match=r"so it is left alone; to recover it, run with --out .*, or delete "):
            commit_run(out, 1)
        assert lock.exists()
        assert not [path for path in out.rglob("*.json") if not path.name.startswith(".")]
    assert (folder / "thesis.doc").read_text() == "years of work"


def test_a_link_in_the_place_of_a_staging_folder_is_left_alone(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.doc").write_text("years of work")
    (out / ".staging-x").symlink_to(tmp_path / "mine")
    forged_lock(out, out / ".staging-x")
    commit_run(out, 1)
    assert (tmp_path / "mine/thesis.doc").read_text() == "years of work"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"folders": ["../mine"], "swaps": []}',
        '{"folders": [], "swaps": [{"target": "../mine", "staged": "", "number": 0}]}',
        '{"folders": [], "swaps": [{"target": "mine", "staged": "/mine", "number": 0}]}',
        '{"folders": [], "swaps": [{"target": 1, "staged": "x", "number": 0}]}',
        '{"folders": [], "swaps": [{"target": "a", "staged": "x", "number": "/../../mine"}]}',
    ],
)
def test_a_journal_that_names_paths_outside_is_refused(text, tmp_path):
    out = tmp_path / "out"
    commit_run(out, 1)
    (tmp_path / "mine").write_text("years of work")
    (out / ".staging-x").mkdir()
    (out / ".staging-x/journal.json").write_text(text)
    forged_lock(out, out / ".staging-x")
    with pytest.raises(OutputError, match=r"journal\.json: .*restore the outputs beside it by hand"):
        commit_run(out, 2)
    assert found(out) == holding(1)
    assert (tmp_path / "mine").read_text() == "years of work"


def sink(name: str, path: str, form: str = "json") -> Sink:
    return Sink(name, form, path, ObjectType("v"), ())


@pytest.mark.parametrize(
    ("sinks", "message"),
    [
        ([sink("x", "../up.json")], "must lead below the output root"),
        ([sink("x", "/top.json")], "must lead below the output root"),
        ([sink("x", "a.json"), sink("y", "a.json")], "outputs 'x' and 'y' have the same path"),
        ([sink("x", "a", "zarr"), sink("y", "a/b.json")], r"'y' \(a/b\.json\) would be inside output 'x' \(a\)"),
        ([sink("x", "folder")], "is a folder, but json is one file"),
        ([sink("x", "link/a.json")], "leads out of the output root"),
    ],
)
def test_targets_that_must_not_be_replaced_are_refused_first(sinks, message, tmp_path):
    out = tmp_path / "out"
    (out / "folder").mkdir(parents=True)
    (out / "link").symlink_to(tmp_path)
    with pytest.raises(OutputError, match=message):
        OutputTransaction(sinks, out, run="x").__enter__()
    assert not hidden(out)


def test_a_run_without_outputs_needs_no_output_root(tmp_path):
    with OutputTransaction([], tmp_path / "none", run="x") as transaction:
        assert transaction.verify({}) == {}
        transaction.commit({})
        assert transaction.context.staging == ""
    assert not list(tmp_path.iterdir())
