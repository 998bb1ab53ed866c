"""What users see: formats and tables, drawn from numbers made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.plan_text import plan_text
from pipeline.report.terminal import run_text, wall_time_lines
from pipeline.report.text_tables import Column, table_text
from pipeline.trace.scaling_laws import is_fraction, karp_flatt


def test_a_table_drops_empty_columns_and_reads_no_markup():
    text = table_text((Column("a", "A"), Column("b", "B", True)), [{"a": "[red]fit[a]", "b": "-"}])
    assert "[red]fit[a]" in text
    assert "B" not in text


def test_a_title_in_brackets_is_shown_as_it_is() -> None:
    assert "pool[ordered=true]" in table_text((Column("a", "pool[ordered=true]"),), [{"a": "1"}])


def test_a_table_that_can_not_be_narrower_is_not_cut():
    columns = [Column(name, f"{name} of some length", True) for name in "abcdefgh"]
    text = table_text(columns, [dict.fromkeys("abcdefgh", "1")], width=40)
    assert all(column.title in text for column in columns)


def test_a_plan_counts_the_tasks_that_write():
    rows = [SimpleNamespace(step="a", kind="array", copies=1, tasks=7, notes=(), shape="", largest_chunk=None, moved=0,
                            whole=None)]  # fmt: skip
    text = plan_text(SimpleNamespace(rows=rows, absent={}, writing=3))
    assert "1 step, 10 tasks (3 of them write outputs); " in text


def test_a_serial_fraction_is_between_0_and_1():
    """On slower workers Karp and Flatt's number is above 1, on a speedup beyond the workers below 0."""
    assert [is_fraction(karp_flatt(speedup, 4)) for speedup in (0.3, 1, 2.5, 4, 5)] == [False, True, True, True, False]
    assert not is_fraction(None)


def test_a_plan_with_long_names_fits_into_80_columns():
    rows = [
        SimpleNamespace(step="a_step_with_quite_a_long_name", kind="array", copies=2, tasks=2_000, notes=["has a note"],
                        shape="time: 1,020 in 5 chunks, latitude: 721, longitude: 1,440 float32",
                        largest_chunk=128e6, moved=41e9, whole=None),
        SimpleNamespace(step="t", kind="frame", copies=1, tasks=7, notes=(), shape="a int64, b string",
                        largest_chunk=None, moved=0, whole=2e9),
    ]  # fmt: skip
    text = plan_text(SimpleNamespace(rows=rows, absent={}))
    assert max(map(len, text.split("\n"))) <= 80
    for said in ("2 x 1,000", "41.0 GB", "2.0 GB", "has a note", "2 steps, 2,007 tasks", "float32"):
        assert said in text


def test_a_run_ends_with_drops_checks_outputs_and_times():
    told = {
        "name": "census", "backend": "dask", "workers": 2, "tasks": 1234, "elapsed": 12.34, "wall": 14.008,
        "times": {"loading": 0.144, "metadata": 0.0, "start-up": 1.504, "running": 12.34, "commit": 0.02},
        "folder": "runs/census/1", "checks": [{"check": "x", "ok": True, "message": ""}],
        "outputs": [{"name": "u", "format": "zarr", "path": "/o/u.zarr", "files": 3, "rows": 8, "bytes": 1500,
                     "unchanged": False}],
        "resumed": {},
        "dropped": [{"step": "parse", "item": f"i{i}", "cause": "SyntaxError: no"} for i in range(12)],
    }  # fmt: skip
    lines = run_text(SimpleNamespace(to_dict=lambda: told)).split("\n")
    assert lines[0] == "dropped parse, item i0: SyntaxError: no"
    assert lines[10:] == [
        "… 2 more; all of them are in runs/census/1",
        "1 check passed",
        "u: /o/u.zarr (zarr, 3 files, 1.5 kB)",
        "run folder: runs/census/1",
        "  loading    0.14 s   1%  Python, imports, reading the file",
        "  start-up   1.51 s  11%  fusing tasks, starting the workers",
        "  running   12.34 s  88%  tasks, until the outputs are verified",
        "  commit     0.02 s   0%  committing the outputs",
        "census: 14.0 s in all; 1,234 tasks took 12.3 s on 2 workers of 'dask'",
    ]
    told |= {"tasks": 0, "resumed": {"summary": "3 of 3 steps unchanged: nothing to do"}}
    *_, summary, last = run_text(SimpleNamespace(to_dict=lambda: told)).split("\n")
    assert summary == "3 of 3 steps unchanged: nothing to do"
    assert last == "census: 14.0 s in all; no task ran"


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=8))
def test_the_parts_of_the_wall_time_add_up_as_shown(seconds):
    shown = [float(line.split()[1]) for line in wall_time_lines(dict(zip("abcdefgh", seconds, strict=False)))]
    assert round(sum(shown), 2) == pytest.approx(round(sum(seconds), 2), abs=1e-6)


def test_a_title_with_brackets_is_no_markup():
    text = table_text([Column("a", "pool\n[transport=\nauto]", number=True)], [{"a": "1.5"}])
    assert [line.strip() for line in text.splitlines()] == ["pool", "[transport=", "auto]", "\u2500" * 11, "1.5"]
