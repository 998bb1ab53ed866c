"""A Trace for Perfetto: every task and what happens around it, in slices that a viewer can nest, none left out."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from folders import HOSTILE, simulated
from hypothesis import given, settings
from traces import any_trace, row, trace

from pipeline.report.perfetto import events, write
from pipeline.trace.trace import Trace


def of_kind(found: list[dict[str, Any]], phase: str, category: str | None = None) -> list[dict[str, Any]]:
    return [event for event in found if event["ph"] == phase and category in (None, event.get("cat"))]


def threads(found: list[dict[str, Any]]) -> dict[int, str]:
    return {e["tid"]: e["args"]["name"] for e in found if e["name"] == "thread_name"}


def one_task() -> Trace:
    at = {"ready": 0.5, "received": 1, "loaded": 2, "opened": 4, "packed": 17, "sent": 23}
    sizes = {"bytes_in": 7, "bytes_out": 9, "bytes_sent": 11, "memory": 1_000, "attempt": 2, "segment": 5}
    return trace([row("fit-1", 7, 12, **at, **sizes)], elapsed=24, n_workers=2)


def test_a_task_and_its_phases_are_slices_of_one_thread() -> None:
    found = list(events(one_task()))
    slices = [(e["name"], e["cat"], e["ts"], e["dur"]) for e in of_kind(found, "X")]
    assert slices == [
        ("transfer in", "transfer", 1e6, 1e6),
        ("runtime", "runtime", 2e6, 2e6),
        ("deserialization", "serialization", 4e6, 3e6),
        ("fit", "task", 7e6, 5e6),
        ("serialization", "serialization", 12e6, 5e6),
        ("transfer out", "transfer", 17e6, 6e6),
    ]
    (task,) = of_kind(found, "X", "task")
    assert task["args"] == {
        "key": "fit-1",
        "attempt": 2,
        "worker": "w0",
        "segment": 5,
        "bytes": 9,
        "bytes_in": 7,
        "bytes_sent": 11,
        "cpu_seconds": 5.0,
    }
    assert len({e["tid"] for e in of_kind(found, "X")}) == 1


def test_threads_are_named_in_order_and_idle_workers_have_one() -> None:
    found = list(events(one_task()))
    (process,) = [e for e in found if e["name"] == "process_name"]
    assert process["args"]["name"] == "processes: 1 task on 2 workers"
    named = threads(found)
    assert [named[number] for number in sorted(named)] == ["critical path", "ready", "w0", "idle"]
    assert {e["tid"]: e["args"]["sort_index"] for e in found if e["name"] == "thread_sort_index"} == {
        n: n for n in named
    }


def test_a_segment_becomes_ready_once_and_memory_is_a_counter() -> None:
    rows = [row("a-1", 1, 2, ready=0.5, segment=3, memory=10), row("b-1", 2, 3, ready=0.5, segment=3, memory=20)]
    found = list(events(trace(rows, elapsed=3, n_workers=1)))
    (ready,) = of_kind(found, "i")
    assert (ready["ts"], ready["name"], ready["args"]) == (5e5, "a", {"key": "a-1", "segment": 3, "attempt": 0})
    assert [(e["ts"], e["name"], e["args"]) for e in of_kind(found, "C")] == [
        (2e6, "memory of w0", {"bytes": 10}),
        (3e6, "memory of w0", {"bytes": 20}),
    ]


def test_the_critical_path_is_a_thread_of_its_own() -> None:
    path = [
        {"key": "a-1", "step": "a", "worker": "w0", "kind": "data-wait", "start": 0.0, "stop": 1.0},
        {"key": "a-1", "step": "a", "worker": "w0", "kind": "compute", "start": 1.0, "stop": 3.0},
    ]
    found = list(events(trace([row("a-1", 1, 3)], elapsed=3, n_workers=1), critical=path))
    told = of_kind(found, "X", "critical path")
    assert [(e["name"], e["ts"], e["dur"], e["args"]["kind"]) for e in told] == [
        ("data-wait", 0, 1e6, "data-wait"),
        ("a", 1e6, 2e6, "compute"),
    ]
    assert {threads(found)[e["tid"]] for e in told} == {"critical path"}


def test_a_transfer_during_a_task_is_on_another_thread() -> None:
    rows = [row("a-1", 0, 10), row("b-2", 10, 12, received=4, loaded=6, opened=10)]
    found = list(events(trace(rows, elapsed=12, n_workers=1)))
    where = {e["name"]: threads(found)[e["tid"]] for e in of_kind(found, "X")}
    assert where == {"a": "w0", "b": "w0", "transfer in": "w0, beside 1", "runtime": "w0, beside 1"}


def overlap(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two slices share more than a moment, or one without length lies within the other."""
    (s, t), (u, v) = ((round(e["ts"] * 1e3), round((e["ts"] + e["dur"]) * 1e3)) for e in (a, b))
    return s < v and u < t


@settings(max_examples=200, deadline=None)
@given(any_trace())
def test_every_task_is_there_and_slices_never_overlap(trace: Trace) -> None:
    found = list(events(trace))
    rows = trace.tasks.to_pylist()
    told = Counter((e["args"]["key"], e["name"], round(e["ts"] * 1e3), round(e["dur"] * 1e3))
                   for e in of_kind(found, "X", "task"))  # fmt: skip
    assert told == Counter((r["key"], r["step"], r["start"], r["stop"] - r["start"]) for r in rows)
    pairs = (("received", "loaded"), ("loaded", "opened"), ("opened", "start"), ("stop", "packed"), ("packed", "sent"))
    around = sum(max(r[b] - r[a], 0) for r in rows for a, b in pairs)
    assert sum(round(e["dur"] * 1e3) for e in of_kind(found, "X") if e["cat"] != "task") == around
    by_thread: dict[int, list[dict[str, Any]]] = {}
    for event in of_kind(found, "X"):
        by_thread.setdefault(event["tid"], []).append(event)
    for slices in by_thread.values():
        assert not any(overlap(a, b) for a, b in combinations(slices, 2))
        assert [e["ts"] for e in slices] == sorted(e["ts"] for e in slices)
    assert set(by_thread) <= set(threads(found))


def test_the_file_is_valid_json_whatever_the_names(tmp_path: Path) -> None:
    trace, _ = simulated(HOSTILE, [], n_tasks=40, backend="pool", workers=3)
    path = write(trace, tmp_path / "timeline.json")
    told = json.loads(path.read_bytes().decode("ascii"))
    assert told["otherData"] == {"backend": "pool", "n_workers": 3, "elapsed_seconds": trace.elapsed}
    assert told["traceEvents"] == json.loads(json.dumps(list(events(trace))))
    assert {e["name"] for e in of_kind(told["traceEvents"], "X", "task")} == set(HOSTILE)
    assert [file.name for file in tmp_path.iterdir()] == ["timeline.json"]


def test_nothing_is_left_out_of_many_tasks() -> None:
    trace, _ = simulated(["a", "b"], [], n_tasks=6_000, backend="pool", workers=2)
    assert len(of_kind(list(events(trace)), "X", "task")) == 6_000


def test_a_file_that_cannot_be_finished_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "timeline.json"
    path.write_text("before")
    wrong = [{"key": "a-1", "step": "a", "worker": "w0", "kind": "compute", "start": float("nan"), "stop": 1.0}]
    with pytest.raises(ValueError, match="NaN"):
        write(one_task(), path, critical=wrong)
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["timeline.json"]


def test_a_run_of_no_tasks_is_a_file_without_slices(tmp_path: Path) -> None:
    told = json.loads(write(trace([], elapsed=1, n_workers=1), tmp_path / "t.json").read_text())
    assert of_kind(told["traceEvents"], "X") == []
