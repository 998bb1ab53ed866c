"""Facts about local files that are kept between runs."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.worker import file_notes
from pipeline.worker.file_notes import FileNotes, file_stamps
from pipeline.worker.local_cache import local_cache_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local cache folder; files count as settled at once."""
    monkeypatch.setattr(file_notes, "SETTLED_NS", -(10**9))
    cache = tmp_path / "cache"
    monkeypatch.setenv("PIPELINE_CACHE", str(cache))
    return cache


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [str(tmp_path / f"{n}.txt") for n in range(2_000)]  # more than one statement takes
    for path in paths[:3]:
        Path(path).write_text(path)
    return paths


def keep(path: str, fact: bytes = b"fact", kind: str = "kind") -> None:
    FileNotes().put(kind, {path: fact}, file_stamps([path]))


def database(folder: Path) -> Path:
    (found,) = folder.glob("*.sqlite")
    return found


def test_a_fact_is_found_by_kind_and_path(folder: Path, files: list[str]) -> None:
    FileNotes().put("a", {path: path.encode() for path in files[:2]}, file_stamps(files))
    keep(files[0], b"other", "b")
    assert FileNotes().get("a", files) == {path: path.encode() for path in files[:2]}
    assert FileNotes().get("b", files) == {files[0]: b"other"}
    assert FileNotes().get("c", files) == {}
    keep(files[0], b"new", "b")
    assert FileNotes().get("b", [files[0]]) == {files[0]: b"new"}


def test_a_path_is_found_however_it_is_written(folder: Path, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    keep(files[0])
    monkeypatch.chdir(Path(files[0]).parent)
    assert FileNotes().get("kind", ["0.txt", files[0]]) == {"0.txt": b"fact", files[0]: b"fact"}
    odd = os.fsdecode(b"\xff\n.txt")
    Path(odd).write_text("")
    keep(odd)
    assert FileNotes().get("kind", [odd]) == {odd: b"fact"}


def longer(path: Path) -> None:
    path.write_text(path.read_text() + "x")


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def edited_with_its_old_time(path: Path) -> None:
    before = path.stat()
    path.write_text(path.read_text()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced_by_an_equal_file(path: Path) -> None:
    before = path.stat()
    other = path.with_suffix(".other")
    other.write_text(path.read_text())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize(
    "change",
    [longer, touched, edited_with_its_old_time, replaced_by_an_equal_file, Path.unlink],
    ids=lambda f: f.__name__,
)
def test_facts_of_a_changed_file_are_forgotten(
    folder: Path, files: list[str], change: Callable[[Path], object]
) -> None:
    stamps = file_stamps(files)
    FileNotes().put("kind", dict.fromkeys(files[:2], b"fact"), stamps)
    while file_stamps(files[2:3])[files[2]].ctime_ns == stamps[files[2]].ctime_ns:
        Path(files[2]).write_text("the clock of the file system has ticks of some milliseconds")
    change(Path(files[0]))
    assert FileNotes().get("kind", files) == {files[1]: b"fact"}


def test_facts_of_a_file_that_has_just_changed_are_not_kept(
    folder: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_notes, "SETTLED_NS", 3_600 * 10**9)
    keep(files[0])
    assert FileNotes().get("kind", files) == {}


def test_facts_of_files_without_a_stamp_are_not_kept(folder: Path, files: list[str]) -> None:
    FileNotes().put("kind", {files[0]: b"fact", files[1]: b"fact"}, file_stamps([files[1], files[5]]))
    assert FileNotes().get("kind", files) == {files[1]: b"fact"}


def no_database(path: Path) -> None:
    path.write_bytes(b"no database" * 1_000)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def another_schema(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (a)")
    connection.close()


@pytest.mark.parametrize("damage", [no_database, cut, another_schema], ids=lambda f: f.__name__)
@pytest.mark.parametrize("read_first", [True, False])
def test_a_damaged_database_is_made_anew(
    folder: Path, files: list[str], damage: Callable[[Path], object], read_first: bool
) -> None:
    keep(files[0], bytes(50_000))
    damage(database(folder))
    if read_first:
        assert FileNotes().get("kind", files) == {}
    keep(files[1])
    assert FileNotes().get("kind", files)[files[1]] == b"fact"


def test_a_flipped_bit_of_a_fact_is_noticed(folder: Path, files: list[str]) -> None:
    keep(files[0], b"a fact of some length")
    keep(files[1], b"another")
    path = database(folder)
    path.write_bytes(path.read_bytes().replace(b"a fact of", b"a fbct of"))
    assert FileNotes().get("kind", files) == {files[1]: b"another"}


def test_an_empty_database_is_one_that_is_being_made(folder: Path, files: list[str]) -> None:
    keep(files[0])
    path = database(folder)
    path.unlink()
    path.touch()
    inode = path.stat().st_ino
    assert FileNotes().get("kind", files) == {}
    assert path.stat().st_ino == inode


def test_the_longest_unused_facts_are_dropped(folder: Path, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_notes, "_today", lambda: 1)
    for path in files[:2]:
        keep(path, bytes(100_000))
    monkeypatch.setattr(file_notes, "_today", lambda: 2)
    assert FileNotes().get("kind", [files[0]])
    monkeypatch.setattr(file_notes, "_MOST", 250_000)
    keep(files[2], bytes(100_000))
    assert FileNotes().get("kind", files).keys() == {files[2]}  # the new one came last of those used today
    monkeypatch.setattr(file_notes, "_LARGEST", 99_999)
    keep(files[0], bytes(100_000))
    assert FileNotes().get("kind", files).keys() == {files[2]}


def test_a_folder_that_cannot_be_used_keeps_nothing(
    tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    def kept() -> bool:
        keep(files[0])
        return bool(FileNotes().get("kind", files))

    assert kept()
    folder.chmod(0o777)  # others could write what we then believe
    assert local_cache_folder() is None
    assert not kept()
    monkeypatch.setenv("PIPELINE_CACHE", files[1])  # a file
    assert not kept()
    monkeypatch.setenv("PIPELINE_CACHE", f"{files[1]}/below")
    assert not kept()
    monkeypatch.setenv("PIPELINE_CACHE", "/proc/below")  # nobody can make it
    assert not kept()
    mine = os.geteuid()
    folder.chmod(0o700)
    monkeypatch.setenv("PIPELINE_CACHE", str(folder))
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert not kept()


def test_where_the_local_cache_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "own" / "below"))
    assert local_cache_folder() == tmp_path / "own" / "below"
    monkeypatch.delenv("PIPELINE_CACHE")
    assert local_cache_folder() == tmp_path / "xdg" / "pipeline"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    found = local_cache_folder()
    assert found == tmp_path / "home" / ".cache" / "pipeline"
    assert found.stat().st_mode & 0o777 == 0o700


def _keep_many(paths: list[str]) -> None:
    for path in paths:
        keep(path, path.encode())


def test_processes_keep_facts_at_the_same_time(folder: Path, files: list[str]) -> None:
    shares = [files[start:45:3] for start in range(3)]
    for path in files[:45]:
        Path(path).touch()
    keep(files[0])  # the children are forked from a process that has used the database
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_keep_many, args=(share,)) for share in shares]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert FileNotes().get("kind", files) == {path: path.encode() for path in files[:45]}
