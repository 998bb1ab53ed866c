"""What building a Graph counts and reports of the metadata that it reads."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

import pipeline
from pipeline.backends.events import Event, MetadataRead
from pipeline.graph.metadata import Metadata
from pipeline.ops import metadata_progress
from pipeline.ops.metadata_progress import FilesRead
from pipeline.report.metadata_line import MetadataLine, metadata_text
from pipeline.report.progress import EventLines, JsonLines, LiveTable, PlainLines

TEXT = """
version: 1
steps:
  a: {op: from_npy, path: "*.npy"}
  b: {op: from_npy, path: 1.npy}
outputs: {a: {to: npy, path: a.npy}, b: {to: npy, path: b.npy}}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for n in range(3):
        np.save(tmp_path / f"{n}.npy", np.arange(3))
    return tmp_path


def test_a_graph_has_what_was_read_for_it(files: Path) -> None:
    graph = pipeline.build(pipeline.load(TEXT, root=files))
    assert (graph.metadata.files, graph.metadata.read) == (4, 4)  # one of them for two steps
    assert graph.metadata.seconds > 0
    assert replace(graph, metadata=Metadata(7)).fingerprint == graph.fingerprint
    assert pipeline.build(pipeline.load("version: 1\nsteps: {a: {op: arange, stop: 3}}")).metadata == Metadata()


def clock(step: float) -> Callable[[], float]:
    ticks = itertools.count()
    return lambda: next(ticks) * step


def test_reading_is_reported_after_a_second_a_few_times_a_second() -> None:
    events: list[Event] = []
    files = FilesRead(events.append, clock(0.125))
    for n in (10, 30):
        with files.of(n) as reading:
            for _ in range(n):
                reading.done(opened=n % 20 // 10)
    files.end()
    # file 8 is done after a second; the next step begins after 10 files, and is reported every second file
    assert [event.done for event in events if isinstance(event, MetadataRead)] == [8, 10, *range(11, 41, 2), 40]
    assert events[0] == MetadataRead(8, 10)
    assert events[2] == MetadataRead(11, 40)
    assert files.metadata == Metadata(40, 40, 42 * 0.125)


def test_reading_that_is_quick_is_not_reported() -> None:
    events: list[Event] = []
    files = FilesRead(events.append, clock(0.01))
    with files.of(50) as reading:
        for _ in range(50):
            reading.done(opened=0)
    files.end()
    assert not events
    assert files.metadata.read == 0


def test_reading_is_reported_to_the_listener_of_a_run(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_progress, "_AFTER", 0.0)
    monkeypatch.setattr(metadata_progress, "_EVERY", 0.0)
    events: list[Event] = []
    config = pipeline.load(TEXT, root=files)
    config.run(backend="serial", out=files / "out", runs=files / "runs", listener=events.append)
    read = [event for event in events if isinstance(event, MetadataRead)]
    assert {MetadataRead(1, 3), MetadataRead(2, 3), MetadataRead(3, 3), MetadataRead(4, 4)} <= {*read}
    assert events[: len(read)] == read


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_about_metadata_is_rewritten_and_removed() -> None:
    file = Terminal()
    with MetadataLine(file) as line:
        line(MetadataRead(1_024, 2_128))
        line(MetadataRead(2_000, 2_128))
        line(MetadataRead(2_128, 2_128))
        line(MetadataRead(2_129, 3_000))
    written = "\rreading metadata: 1,024 of 2,128 files\x1b[K\rreading metadata: 2,000 of 2,128 files\x1b[K\r\x1b[K"
    assert file.getvalue() == f"{written}\rreading metadata: 2,129 of 3,000 files\x1b[K\r\x1b[K"


@pytest.mark.parametrize("kind", [MetadataLine, lambda file, clock: PlainLines(file, clock=clock, beat=None)])
def test_files_get_a_line_about_metadata_every_ten_seconds(kind: Callable[..., MetadataLine]) -> None:
    file = StringIO()
    with kind(file, clock=clock(1.5)) as line:
        for n in range(1, 21):
            line(MetadataRead(n, 20))
    texts = [text[text.index("reading") :] for text in file.getvalue().splitlines()]
    assert len(texts) in (2, 3)
    assert texts[0] == "reading metadata: 1 of 20 files"


def test_each_display_shows_metadata() -> None:
    event, text = MetadataRead(3, 9), "reading metadata: 3 of 9 files"
    table = LiveTable(Terminal())
    table(event)
    assert str(table._drawn()) == text
    file = StringIO()
    EventLines(file)(event)
    assert file.getvalue() == f"{text}\n"
    file = StringIO()
    JsonLines(file)(event)
    assert file.getvalue() == '{"event": "metadata", "done": 3, "n_files": 9}\n'
    assert metadata_text(MetadataRead(1, 1)) == "reading metadata: 1 file"
