"""The identities of the files that steps read: by content, from notes where a file has not changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
import zarr

from pipeline.config.loader import loads
from pipeline.config.model import Config
from pipeline.runs.provenance import file_digests as hashing
from pipeline.runs.provenance.inputs import ABSENT, FileIdentity, InputFiles, StepFiles
from pipeline.worker.file_notes import FileNotes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name, text in {"a.csv": "x\n1\n", "b.csv": "x\n2\n", "note.txt": "n"}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def made(folder: Path, step: str, more: str = "") -> Config:
    return loads(f"version: 1\nmodules: [math]\nsteps:\n  x: {{{step}}}\n{more}", root=folder)


def files(folder: Path, step: str = "op: files, path: '*.csv'", **how: Any) -> StepFiles:
    config = made(folder, step)
    return InputFiles(config, FileNotes(folder), **how).of(config.steps["x"])


def digests(found: StepFiles) -> dict[str, str]:
    return {one.label: one.digest for one in found.identities.values()}


def set_times(path: Path, ns: int) -> None:
    os.utime(path, ns=(ns, ns))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of which anything is read."""
    names: list[str] = []
    for function in ("_whole", "_ends"):
        inner = getattr(hashing, function)

        def noted(path: str, *size: int, inner: Any = inner) -> Any:
            names.append(os.path.basename(path))
            return inner(path, *size)

        monkeypatch.setattr(hashing, function, noted)
    return names


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """All files count as unchanged for long enough."""
    monkeypatch.setattr("pipeline.worker.file_notes.SETTLED_NS", 0)


@pytest.mark.usefixtures("settled")
def test_what_has_not_changed_is_not_read_again(folder: Path, hashed: list[str]) -> None:
    first = files(folder)
    assert sorted(hashed) == ["a.csv", "b.csv"]
    assert files(folder).identities == first.identities
    assert len(hashed) == 2


@pytest.mark.usefixtures("settled")
def test_a_touched_file_is_read_and_is_the_same(folder: Path, hashed: list[str]) -> None:
    first = files(folder)
    set_times(folder / "a.csv", 10**18)
    assert digests(files(folder)) == digests(first)
    assert hashed.count("a.csv") == 2
    assert hashed.count("b.csv") == 1


@pytest.mark.usefixtures("settled")
def test_other_content_with_the_same_size_and_time_is_seen(folder: Path) -> None:
    set_times(folder / "a.csv", 10**18)
    first = digests(files(folder))
    (folder / "a.csv").write_text("x\n9\n")
    set_times(folder / "a.csv", 10**18)
    now = digests(files(folder))
    assert now["a.csv"] != first["a.csv"]
    assert now["b.csv"] == first["b.csv"]


def test_a_file_that_is_young_when_it_is_read_is_read_again(folder: Path, hashed: list[str]) -> None:
    assert digests(files(folder)) == digests(files(folder))
    assert hashed.count("a.csv") == 2


def test_equal_content_has_an_equal_digest_also_through_links(folder: Path) -> None:
    (folder / "b.csv").unlink()
    (folder / "b.csv").symlink_to("a.csv")
    found = digests(files(folder))
    assert found["a.csv"] == found["b.csv"]
    (folder / "c").write_text("x\n7\n")
    (folder / "b.csv").unlink()
    (folder / "b.csv").symlink_to("c")
    assert digests(files(folder))["b.csv"] != found["b.csv"]


@pytest.mark.usefixtures("settled")
def test_large_files_are_recognised_by_size_time_and_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_END", 2)
    (folder / "large.csv").write_text("x\n" + "1\n" * 9)
    set_times(folder / "large.csv", 10**18)
    first = files(folder, budget=10)
    assert [(one.label, one.checked) for one in first.identities.values()] == [
        ("a.csv", True), ("b.csv", True), ("large.csv", False)]  # fmt: skip
    assert digests(files(folder, budget=1000)) == digests(first), "whatever else is read, it stays as it is"
    set_times(folder / "large.csv", 10**18 + 1)
    assert digests(files(folder, budget=0))["large.csv"] != digests(first)["large.csv"]


def test_a_file_that_is_changed_while_it_is_used_is_named(folder: Path) -> None:
    found = files(folder)
    assert found.changed() == []
    (folder / "b.csv").write_text("x\n3\n4\n")
    assert found.changed() == [str(folder / "b.csv")]
    (folder / "a.csv").unlink()
    assert found.changed() == [str(folder / "a.csv"), str(folder / "b.csv")]


def test_a_store_is_one_file_and_changes_with_any_chunk(folder: Path) -> None:
    stored = zarr.create_array(folder / "x.zarr", shape=(4,), chunks=(2,), dtype="f8")
    stored[:] = 1.0
    first = files(folder, "op: from_zarr, path: x.zarr")
    ((name, one),) = first.identities.items()
    assert (name, one.label) == (str(folder / "x.zarr"), "x.zarr")
    assert one.size == sum(path.stat().st_size for path in (folder / "x.zarr").rglob("*") if path.is_file())
    stored[3] = 2.0
    assert len(first.changed()) == 1
    assert digests(files(folder, "op: from_zarr, path: x.zarr")) != digests(first)
    (folder / "x.zarr/more").write_text("")
    assert len(first.changed()) == 2


NAMED: Mapping[str, tuple[str, set[str]]] = {
    "an argument": ("call: 'math:f', args: {p: a.csv, deep: [{q: note.txt}], n: 3, no: no.csv}", {"a.csv", "note.txt"}),
    "an item": ("call: 'math:f', over: {p: [a.csv, b.csv, c.csv]}", {"a.csv", "b.csv"}),
    "an argument of a program": ("command: [cat, a.csv, '-n']", {"a.csv"}),
    "an argument of a function of an op": (
        "op: from_call, function: 'math:f', shape: {a: 1}, dtype: int8, args: {p: a.csv}", {"a.csv"}),
    "a folder": ("call: 'math:f', args: {p: kept, dot: ., up: ..}", {"kept"}),
    "a database": ("op: read_sql, uri: 'sqlite:a.csv', table: t", {"a.csv", "a.csv-wal"}),
}  # fmt: skip


@pytest.mark.parametrize(("step", "found"), NAMED.values(), ids=NAMED)
def test_files_that_a_step_names_count_as_its_inputs(folder: Path, step: str, found: set[str]) -> None:
    (folder / "kept").mkdir()
    (folder / "kept/inner.txt").write_text("1")
    before = files(folder, step)
    assert set(digests(before)) == found
    assert before.unknown == ""
    for name in found - {"a.csv-wal"}:
        path = folder / name if name != "kept" else folder / "kept/inner.txt"
        path.write_text("other")
        now = digests(files(folder, step))
        assert {one for one in now if now[one] != digests(before)[one]} == {name}
        before = files(folder, step)


def test_files_are_known_by_the_text_that_the_tasks_have(folder: Path) -> None:
    assert set(files(folder).identities) == {str(folder / "a.csv"), str(folder / "b.csv")}
    assert set(files(folder, "call: 'math:f', args: {p: ../a.csv, q: note.txt}").identities) == {"../a.csv", "note.txt"}


def test_a_file_that_is_not_there_is_a_fact(folder: Path) -> None:
    found = files(folder, "op: read_csv, path: no.csv")
    assert digests(found) == {"no.csv": ABSENT}
    (folder / "no.csv").symlink_to("nowhere")
    assert files(folder, "op: read_csv, path: no.csv").unknown == "the content of no.csv is unknown"


def test_remote_files_count_by_what_their_storage_reports(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    step = "op: read_csv, path: 'memory://identities/*.csv'"
    try:
        memory.pipe("/identities/a.csv", b"x\n1\n")
        first = files(folder, step)
        ((name, one),) = first.identities.items()
        assert name.endswith("/identities/a.csv")
        assert (one.size, one.checked, first.unknown) == (4, False, "")
        assert digests(files(folder, step)) == digests(first)
        memory.pipe("/identities/a.csv", b"x\n2\n")
        assert digests(files(folder, step)) != digests(first)
    finally:
        memory.rm("/identities", recursive=True)
    assert files(folder, step).unknown


def test_a_remote_store_counts_by_all_of_its_files(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    step = "op: from_zarr, path: 'memory://identities/x.zarr'"
    try:
        for name in ("zarr.json", "c/0", "c/1"):
            memory.pipe(f"/identities/x.zarr/{name}", b"1")
        first = files(folder, step)
        assert list(first.identities) == ["memory://identities/x.zarr"]
        assert first.unknown == ""
        assert digests(files(folder, step)) == digests(first)
        memory.pipe("/identities/x.zarr/c/1", b"2")
        assert digests(files(folder, step)) != digests(first)
    finally:
        memory.rm("/identities", recursive=True)


def test_long_lists_of_files_are_one_identity(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.runs.provenance.reads._MOST_SINGLE", 1)
    first = files(folder)
    assert [type(one) for one in first.identities.values()] == [FileIdentity]
    (folder / "b.csv").write_text("x\n7\n")
    assert digests(files(folder)) != digests(first)


def test_many_names_are_looked_up_in_few_listings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    inner = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(str(path)) or inner(path))  # type: ignore[func-returns-value]
    names = ", ".join(f"n{i}.csv" for i in range(500))
    assert set(digests(files(folder, f"call: 'math:f', over: {{p: [{names}, a.csv]}}"))) == {"a.csv"}
    assert sorted(listed) == [str(folder), str(folder / "here")]
