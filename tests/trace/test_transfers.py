"""Bytes and seconds of pipes and shared memory, of Traces made by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
from folders import comparison
from traces import row, trace

from pipeline.report import loss_tables
from pipeline.report.html import page, tables
from pipeline.trace.account import Runs, account
from pipeline.trace.shape import Shape
from pipeline.trace.trace import Trace
from pipeline.trace.transfers import Transfers, transfers

MOVED = Transfers(pickled=1_500, pickling=2.0, shared=9_000_000, sharing=1.0)


def shared_run() -> Trace:
    """One task that waits 1 s for its message and 2 s around its work, of which shared memory takes 1 s."""
    around = {"received": 1.0, "loaded": 2.0, "opened": 2.0, "packed": 7.0, "sent": 7.0}
    sizes = {"bytes_in": 1_000, "bytes_sent": 500, "shared_in": 8_000_000, "shared_sent": 1_000_000}
    return trace([row("a-0", 3.0, 6.0, **around, **sizes, sharing=1.0)], elapsed=8, n_workers=1)


def test_the_seconds_of_shared_memory_are_not_those_of_pickle() -> None:
    assert transfers(shared_run()) == MOVED


def test_without_shared_memory_there_is_nothing_to_show() -> None:
    assert transfers(trace([row("a-0", 3.0, 6.0, bytes_in=1_000)], elapsed=8, n_workers=1)) is None


def test_a_trace_of_format_3_is_read_with_no_shared_bytes(tmp_path: Path) -> None:
    shared_run().save(tmp_path / "new")
    table = pq.read_table(tmp_path / "new")
    head = re.sub(rb'"format": \d+', b'"format": 3', table.schema.metadata[b"pipeline"])
    later = ["shared_in", "shared_sent", "sharing", "granted", "limit", "kept"]
    old = table.drop_columns(later).replace_schema_metadata({"pipeline": head})
    pq.write_table(old, tmp_path / "old")
    loaded = Trace.load(tmp_path / "old")
    assert loaded.tasks.num_rows == 1
    assert transfers(loaded) is None
    assert transfers(Trace.load(tmp_path / "new")) == MOVED


def test_tables_show_bytes_and_seconds_of_both_ways(tmp_path: Path) -> None:
    shape = Shape({"a-0": ()}, {"a-0": "a"}, {"a": "a"}, {"a": "array"}, ())
    found = account([shared_run()], Runs("pool[transport=auto]", "pool", 1), shape=shape)
    text = loss_tables._transfers_text([found], 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "pool[transport=auto]     1.5 kB   2.00 s     9.0 MB   1.00 s" in text
    told = comparison(tmp_path)
    told["accounts"][1]["transfers"] = found.to_dict()["transfers"]
    (tmp_path / "report.json").write_text(json.dumps(told))
    assert "How values went from worker to worker" in page.write(tmp_path).read_text()
    table = tables.transfers(told["accounts"])
    assert table.rows == ((told["accounts"][1]["case"], "1.5 kB", "2.00 s", "9.0 MB", "1.00 s"),)


def test_reports_without_shared_memory_have_no_such_section(tmp_path: Path) -> None:
    comparison(tmp_path)
    assert "How values went" not in page.write(tmp_path).read_text()
