"""The cache: what is kept comes back, whatever is damaged is a miss, and only the user's own files are read."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kept_values import VALUES

from pipeline.errors import ConfigError, EntryDamaged
from pipeline.worker import cache_entries, entry_files
from pipeline.worker.cache_entries import Store
from pipeline.worker.value_digest import digest

KEY, OTHER = "a1" * 16, "b2" * 16


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "cache"))
    made.prepare()
    return made


def file_of(store: Store, key: str = KEY) -> Path:
    return Path(store.path(key))


def files_of(store: Store) -> list[str]:
    return sorted(path.name for path in Path(store.folder).rglob("*") if path.is_file() and path.name != "CACHEDIR.TAG")


# ---------------------------------------------------------------------------------------------------------------------
# There and back
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VALUES)
def test_what_is_kept_comes_back_as_an_equal_value(store: Store, name: str) -> None:
    value = VALUES[name]()
    assert store.keep(KEY, value, seconds=2.5, step="fit", pipeline="models") == ""
    found, entry = store.load(KEY), store.find(KEY)
    assert entry is not None
    assert type(found) is type(value)
    assert entry.digest == digest(value) == digest(found) is not None
    assert (entry.key, entry.seconds, entry.step, entry.pipeline) == (KEY, 2.5, "fit", "models")
    assert entry.nbytes == file_of(store).stat().st_size
    assert store.why_unusable(KEY) == ""


def test_the_kind_of_a_file_is_the_one_that_runs_no_code(store: Store) -> None:
    kinds = {}
    for name, make in VALUES.items():
        store.keep(KEY, make())
        entry = store.find(KEY)
        kinds[name] = entry.kind if entry else ""
    assert {kinds[name] for name in ("array", "array in columns", "times", "records with gaps", "empty array")} == {
        "npy"
    }
    assert {kinds[name] for name in ("table", "table of types", "slice of a table")} == {"arrow"}
    assert {kinds[name] for name in ("none", "float", "list", "map", "large int")} == {"json"}
    assert {kinds[name] for name in ("tuple", "other nan", "frame", "objects")} == {"pickle"}


def test_arrays_that_come_back_can_be_written_to(store: Store) -> None:
    for name in ("large array", "array"):
        store.keep(KEY, VALUES[name]())
        before = file_of(store).read_bytes()
        found = store.load(KEY)
        found[...] = 0
        assert file_of(store).read_bytes() == before
        file_of(store).unlink()
        assert found.sum() == 0


@pytest.mark.parametrize("local", [True, False])
def test_a_large_value_is_the_same_mapped_and_read(store: Store, monkeypatch: pytest.MonkeyPatch, local: bool) -> None:
    monkeypatch.setattr(entry_files, "is_local", lambda _: local)
    for name in ("large array", "map of arrays"):
        store.keep(KEY, VALUES[name]())
        assert digest(store.load(KEY)) == digest(VALUES[name]())
    table = pa.table({"a": np.arange(300_000)})
    store.keep(KEY, table)
    assert store.load(KEY).equals(table)


def test_a_class_of_this_session_comes_back(store: Store) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("class Model:\n    def __init__(self, n): self.n = n\n", namespace)
    assert store.keep(KEY, namespace["Model"](7)) == ""
    entry = store.find(KEY)
    assert entry is not None
    assert entry.digest is None
    assert store.load(KEY).n == 7


def test_what_can_not_be_pickled_is_not_kept(store: Store) -> None:
    assert "generator can't be pickled: TypeError" in store.keep(KEY, (i for i in range(3)))
    assert store.find(KEY) is None
    assert files_of(store) == []


def test_one_value_can_have_two_keys(store: Store) -> None:
    store.keep(KEY, [1, 2], seconds=3.0, step="fit")
    assert store.link(OTHER, KEY) == ""
    assert store.load(OTHER) == [1, 2]
    entry = store.find(OTHER)
    assert entry is not None
    assert (entry.key, entry.seconds, entry.digest) == (KEY, 3.0, digest([1, 2]))
    assert store.remove(KEY)
    assert store.find(OTHER) is None
    with pytest.raises(EntryDamaged, match="no such entry"):
        store.load(OTHER)
    assert "No such file" in store.link(OTHER, KEY)


def test_many_keys_are_looked_up_at_once(store: Store) -> None:
    keys = [f"{i:032x}" for i in range(0, 3 << 120, 1 << 119)]
    for key in keys[::2]:
        store.keep(key, key)
    assert list(store.known(keys)) == keys[::2]


# ---------------------------------------------------------------------------------------------------------------------
# Damage
# ---------------------------------------------------------------------------------------------------------------------

SMALL = {"json": {"a": 1}, "npy": np.arange(3, dtype="i2"), "pickle": (1, 2), "arrow": pa.table({"a": [1]}), "same": ""}


def keep_small(store: Store, kind: str) -> None:
    if kind == "same":
        store.keep(OTHER, 1)
        store.link(KEY, OTHER)
    else:
        store.keep(KEY, SMALL[kind])
    store.load(KEY)


def is_miss(store: Store) -> bool:
    """Whether there is no value, for all that look for it; that there is one may be seen when it is loaded."""
    store.find(KEY)
    with pytest.raises(EntryDamaged):
        store.load(KEY)
    return True


EVERY = pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
"""Of the bytes of a file, each seventh; in the long tests all."""


@EVERY
@pytest.mark.parametrize("kind", SMALL)
def test_each_byte_that_is_flipped_makes_an_entry_a_miss(store: Store, kind: str, step: int) -> None:
    keep_small(store, kind)
    path = file_of(store)
    whole = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for position in range(0, len(whole), step):
            flipped = bytes([whole[position] ^ (1 << position % 8)])
            assert os.pwrite(file.fileno(), flipped, position) == 1
            assert is_miss(store), position
            assert store.why_unusable(KEY)
            assert os.pwrite(file.fileno(), whole[position : position + 1], position) == 1
    store.load(KEY)


@EVERY
@pytest.mark.parametrize("kind", SMALL)
def test_an_entry_that_is_cut_or_longer_is_a_miss(store: Store, kind: str, step: int) -> None:
    keep_small(store, kind)
    path = file_of(store)
    whole = path.read_bytes()
    for size in range(len(whole) - 1, -1, -step):
        os.truncate(path, size)
        assert store.find(KEY) is None, size
        assert is_miss(store)
    for more in (b"\0", b"x" * 64):
        path.write_bytes(whole + more)
        assert store.find(KEY) is None
        assert is_miss(store)


def test_the_reason_of_a_miss_can_be_asked(store: Store) -> None:
    store.keep(KEY, [1])
    path, other = file_of(store), file_of(store, OTHER)
    whole = path.read_bytes()
    cases: dict[str, Callable[[], Any]] = {
        "the file is empty": lambda: path.write_bytes(b""),
        "it is no entry of a cache": lambda: path.write_bytes(b"x" * 500),
        "its bytes are not those that were written": lambda: path.write_bytes(whole[:-1] + b"!"),
        "the file is cut": lambda: path.write_bytes(whole[:-1]),
        "the file is longer than what was written": lambda: path.write_bytes(whole + b"!"),
        "the file may be written by other users": lambda: path.chmod(0o666),
    }
    for why, damage in cases.items():
        path.write_bytes(whole)
        path.chmod(0o600)
        assert store.why_unusable(KEY) == ""
        damage()
        assert store.why_unusable(KEY) == why
    other.parent.mkdir()
    other.write_bytes(whole)
    other.chmod(0o600)
    assert store.why_unusable(OTHER) == "it is the entry of another key"
    other.unlink()
    other.symlink_to(path)
    assert "symbolic link" in store.why_unusable(OTHER)
    other.unlink()
    other.mkdir()
    assert store.why_unusable(OTHER) == "it is no file"
    assert [entry.kind for entry in store.entries()] == [""]


def test_an_entry_of_a_class_that_is_gone_is_a_miss(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone_for_tests.py").write_text("class Model: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import gone_for_tests  # type: ignore[import-not-found]

    store.keep(KEY, gone_for_tests.Model())
    store.load(KEY)
    del gone_for_tests.Model
    with pytest.raises(EntryDamaged, match="AttributeError"):
        store.load(KEY)


def test_an_entry_of_another_format_is_a_miss(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_files, "_FORMAT", 2)
    store.keep(KEY, 1)
    monkeypatch.undo()
    assert store.why_unusable(KEY) == "it has format 2, and this version reads 1"


# ---------------------------------------------------------------------------------------------------------------------
# Whose it is
# ---------------------------------------------------------------------------------------------------------------------


def test_folder_and_files_are_for_one_user_only(store: Store) -> None:
    store.keep(KEY, np.arange(3))
    modes = {path: path.stat().st_mode & 0o777 for path in (Path(store.folder), file_of(store).parent, file_of(store))}
    assert list(modes.values()) == [0o700, 0o700, 0o600]


def test_a_folder_that_others_may_write_to_is_refused(store: Store) -> None:
    os.chmod(store.folder, 0o777)
    with pytest.raises(ConfigError, match=r"may be written by other users.*any code; chmod go-w "):
        store.prepare()
    assert "may be written by other users" in store.keep(KEY, 1)


def test_the_folder_and_files_of_another_user_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.keep(KEY, (1, 2))
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigError, match=r"belongs to another user \(uid \d+\).*name another folder"):
        store.check()
    assert store.find(KEY) is None
    assert "belongs to another user" in store.why_unusable(KEY)
    assert "belongs to another user" in store.keep(OTHER, 1)


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/cache: the cache can't be made: Not a directory"):
        Store(str(tmp_path / "file" / "cache")).prepare()


def test_a_folder_that_is_not_there_is_not_made_by_a_task(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "cache"))
    assert store.keep(KEY, 1) == "No such file or directory"
    assert not (tmp_path / "cache").exists()
    assert store.find(KEY) is None
    assert list(store.entries()) == []


# ---------------------------------------------------------------------------------------------------------------------
# Disks
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_value_that_the_disk_does_not_take_is_not_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store.keep(KEY, 1)

    def full(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(entry_files.os, "write", full)
    for value in (2, np.arange(100), pa.table({"a": [1]})):
        assert f"can't be written: {os.strerror(number)}" in store.keep(KEY, value)
    monkeypatch.undo()
    assert store.load(KEY) == 1
    assert files_of(store) == [KEY]


def test_the_last_of_a_disk_is_left_to_the_outputs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = os.statvfs(store.folder)
    blocks = [disk.f_bsize, 4096, 1_000_000, 60_000, 50_100, *disk[5:]]
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(blocks))
    assert store.keep(KEY, 1) == ""
    assert "the disk is nearly full; 204.8 MB are left to the outputs" in store.keep(KEY, bytes(1_000_000))


# ---------------------------------------------------------------------------------------------------------------------
# Several processes
# ---------------------------------------------------------------------------------------------------------------------

_KEEPS = """
import sys
import numpy as np
from pipeline.worker.cache_entries import Store
store = Store(sys.argv[1])
for i in range(60):
    assert store.keep("a1" * 16, np.full(5_000, int(sys.argv[2]))) == ""
"""


def test_two_processes_may_keep_one_key_at_once(store: Store) -> None:
    store.keep(KEY, np.full(5_000, 3))
    command = [sys.executable, "-c", _KEEPS, store.folder]
    running = [subprocess.Popen([*command, str(i)]) for i in (1, 2)]
    seen = set()
    while any(process.poll() is None for process in running):
        seen |= set(store.load(KEY).tolist())
    assert [process.returncode for process in running] == [0, 0]
    assert seen <= {1, 2, 3}
    assert files_of(store) == [KEY]


# ---------------------------------------------------------------------------------------------------------------------
# Eviction
# ---------------------------------------------------------------------------------------------------------------------


def keep_aged(store: Store, n: int = 4) -> list[str]:
    """Entries that were used ``n`` hours ago, and so on to one hour ago."""
    keys = [f"{i:032x}" for i in range(n)]
    for i, key in enumerate(keys):
        store.keep(key, i)
        used = time.time() - 3600 * (n - i)
        os.utime(store.path(key), (used, used))
    return keys


def test_what_was_not_used_for_longest_is_evicted_first(store: Store) -> None:
    keys = keep_aged(store)
    store.load(keys[0])
    each = file_of(store, keys[0]).stat().st_size
    assert store.evict(max_entries=3) == (1, each)
    assert sorted(store.known(keys)) == sorted([keys[0], *keys[2:]])
    assert store.evict(max_bytes=2 * each) == (1, each)
    assert sorted(store.known(keys)) == sorted([keys[0], keys[3]])
    assert store.evict(max_age=1800).n == 1
    assert list(store.known(keys)) == [keys[0]]
    assert store.evict(max_age=1e6, max_entries=9, max_bytes=1e9).n == 0


def test_what_a_run_has_used_is_never_evicted(store: Store) -> None:
    began = time.time() - 2.5 * 3600
    keys = keep_aged(store)
    assert store.evict(max_entries=0, since=began).n == 2
    assert list(store.known(keys)) == keys[2:]
    store.touch(keys[2:])
    assert store.evict(max_bytes=0).n == 0


def test_what_another_run_uses_that_still_runs_is_not_evicted(store: Store) -> None:
    keys = keep_aged(store)
    with store.in_use():
        (mark,) = Path(store.folder).glob("run-*")
        began = time.time() - 2.5 * 3600
        os.utime(mark, (began, began))
        assert store.evict(max_entries=0).n == 2
        assert list(store.known(keys)) == keys[2:]
    assert not mark.exists()
    assert store.evict(max_entries=0).n == 2


def test_what_dead_processes_left_is_tidied_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.keep(KEY, 1)
    left = [file_of(store).parent / ".partial-0123", Path(store.folder) / "run-4567"]
    foreign = [Path(store.folder) / "notes.txt", file_of(store).parent / "README"]
    for path in (*left, *foreign):
        path.write_text("x")
    store.evict()
    assert all(path.exists() for path in left)  # they may be a second old
    for path in left:
        os.utime(path, (0, 0))
    store.evict()
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in foreign)
    assert store.load(KEY) == 1


def test_an_unfinished_file_whose_writer_lives_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(*_: Any) -> Any:
        (partial,) = Path(store.folder).rglob(".partial-*")
        os.utime(partial, (0, 0))
        monkeypatch.setattr(cache_entries, "_OLD", 1e8)  # older than an hour, not older than a day
        store.evict()
        seen.append(partial.exists())
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(entry_files.os, "write", look)
    store.keep(KEY, 1)
    assert seen == [True]
