"""Logs of finished items: whole records are read, whatever was killed; nothing of others is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import EntryDamaged
from pipeline.worker import item_logs
from pipeline.worker.finished_items import FinishedItems, read_finished
from pipeline.worker.item_logs import ItemLog
from pipeline.worker.record_files import append_record, records
from pipeline.worker.segment_result import SegmentResult
from pipeline.worker.value_digest import digest


@pytest.fixture
def log(tmp_path: Path) -> ItemLog:
    made = ItemLog(str(tmp_path / "items"))
    made.prepare()
    return made


def file_of(log: ItemLog) -> Path:
    (path,) = Path(log.folder).iterdir()
    return path


def values(log: ItemLog) -> dict[str, Any]:
    return {key: log.load(item.place) for key, item in log.index().items()}


def test_items_are_read_by_key(log: ItemLog) -> None:
    assert log.keep("a", [1], seconds=0.5, step="fit[x]") == ""
    assert log.keep("b", {"w": b"x" * 70_000}) == ""
    assert values(log) == {"a": [1], "b": {"w": b"x" * 70_000}}
    item = log.index()["a"]
    assert (item.digest, item.seconds, item.step) == (digest([1]), 0.5, "fit[x]")
    assert sum(item.nbytes for item in log.index().values()) < file_of(log).stat().st_size


def test_of_an_item_logged_twice_the_last_one_counts(log: ItemLog) -> None:
    log.keep("a", 1)
    log.keep("a", 2)
    assert values(log) == {"a": 2}


def test_a_cut_record_ends_a_log_and_the_others_are_read(log: ItemLog) -> None:
    for i in range(4):
        log.keep(str(i), i)
    whole = file_of(log).read_bytes()
    starts = [start for start, _ in records(whole)]
    for size in range(len(whole)):
        os.truncate(file_of(log), size) if size else file_of(log).write_bytes(b"")
        file_of(log).write_bytes(whole[:size])
        assert list(log.index()) == [str(i) for i in range(4) if [*starts, len(whole)][i + 1] <= size]


def test_a_flipped_byte_ends_a_log_at_its_record(log: ItemLog) -> None:
    for i in range(3):
        log.keep(str(i), i)
    whole = file_of(log).read_bytes()
    starts = [start for start, _ in records(whole)]
    places = [item.place for item in log.index().values()]
    for position in range(len(whole)):
        file_of(log).write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        n = sum(start <= position for start in starts) - 1
        assert list(log.index()) == [str(i) for i in range(n)]
        with pytest.raises(EntryDamaged, match="no whole record"):
            log.load(places[n])


_LOGS = """
import os, sys
from pipeline.worker.item_logs import ItemLog
log = ItemLog(sys.argv[1])
for i in range(10_000):
    log.keep(f"{i}", "x" * 5_000)
    if i == 20:
        print("go on", flush=True)
"""


def test_what_was_logged_is_read_after_kill_9(log: ItemLog) -> None:
    with subprocess.Popen([sys.executable, "-c", _LOGS, log.folder], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"go on\n"
        process.send_signal(signal.SIGKILL)
    found = values(log)
    assert list(found) == [str(i) for i in range(len(found))]
    assert len(found) >= 21
    assert set(found.values()) == {"x" * 5_000}


def test_a_full_disk_leaves_the_log_as_it_was(log: ItemLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.keep("a", 1)
    before = file_of(log).read_bytes()
    real, written = os.write, []

    def full(descriptor: int, data: Any) -> int:
        written.append(len(data))
        if len(written) > 2:
            raise OSError(28, "No space left on device")
        return real(descriptor, bytes(data)[:3])

    monkeypatch.setattr(os, "write", full)
    assert "No space left on device" in log.keep("b", 2)
    monkeypatch.undo()
    assert file_of(log).read_bytes() == before
    assert log.keep("c", 3) == ""
    assert values(log) == {"a": 1, "c": 3}


def test_a_log_does_not_grow_beyond_its_limit(log: ItemLog) -> None:
    small = ItemLog(log.folder, max_bytes=2_000)
    assert small.keep("a", "x" * 1_000) == ""
    assert small.keep("b", "x" * 1_000) == "the log of items would exceed 2,000 bytes"
    assert small.keep("c", "x") == ""
    assert list(small.index()) == ["a", "c"]


def test_files_of_others_are_not_read(log: ItemLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.keep("a", 1)
    place = log.index()["a"].place
    file_of(log).chmod(0o622)
    assert log.index() == {}
    with pytest.raises(EntryDamaged, match="may be written by other users"):
        log.load(place)
    file_of(log).chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert log.index() == {}
    assert "belongs to another user" in log.keep("b", 2)


def test_what_can_not_be_logged_is_said(log: ItemLog, tmp_path: Path) -> None:
    assert "can't be pickled" in log.keep("a", (i for i in range(2)))
    assert ItemLog(str(tmp_path / "none")).keep("a", 1) == "No such file or directory"
    assert ItemLog(str(tmp_path / "none")).index() == {}


def test_each_process_writes_a_file_of_its_own(log: ItemLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.keep("a", 1)
    monkeypatch.setattr(item_logs.os, "getpid", lambda: 1)
    log.keep("b", 2)
    assert len(list(Path(log.folder).iterdir())) == 2
    assert values(log) == {"a": 1, "b": 2}


def test_the_items_of_a_batch_are_read_up_to_a_flipped_byte(tmp_path: Path) -> None:
    path = str(tmp_path / "finished")
    finished = FinishedItems(path, "worker")
    for i in range(3):
        finished.add(SegmentResult(done=[("fit", i)]))
    finished.close()
    assert read_finished(path).done == [("fit", 0), ("fit", 1), ("fit", 2)]
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:-20] + b"?" + data[-19:])
    assert read_finished(path).done == [("fit", 0), ("fit", 1)]
    with open(path, "ab") as file:
        append_record(file.fileno(), b"never read")
    assert read_finished(path).done == [("fit", 0), ("fit", 1)]
