"""Comparisons: the verdict from numbers made by hand, and measured runs of Graphs made by hand."""

from __future__ import annotations

import json

import pytest

from pipeline.comparison.result import Difference, Measurement, compared
from pipeline.comparison.rounds import chosen, new_folder, rotated
from pipeline.errors import ConfigError
from pipeline.report.terminal import comparison_text


def measurement(backend, number, elapsed, *, start_up=1.0, workers=2):
    return Measurement(
        backend=backend,
        round=number,
        elapsed=elapsed,
        start_up=start_up,
        verify=0.01,
        user=elapsed * 0.9,
        system=0.1,
        memory=2e8,
        n_workers=workers,
        process=elapsed + start_up,
    )


def comparison(times, *, differences=None, failures=None):
    """A comparison from elapsed times: back end -> one a round."""
    runs = [
        measurement(name, i, t, start_up=0.0 if name == "serial" else 1.0, workers=1 if name == "serial" else 2)
        for name, elapsed in times.items()
        for i, t in enumerate(elapsed)
    ]
    if differences is None:
        differences = {name: [Difference("output 'x'", True, True)] for name in times if name != "serial"}
    return compared(
        runs,
        backends=[*times, *(failures or {})],
        workers=2,
        differences=differences,
        failures=failures or {},
        name="census",
        fingerprint="0123456789abcdef",
        n_tasks=1234,
        folder="runs/census/2026",
    )


FASTER = {"serial": [12.0, 12.4, 12.2], "threads": [12.1, 12.5, 12.0], "processes": [6.7, 6.9, 6.8]}


def test_the_last_line_says_which_is_fastest_by_how_much_and_whether_results_are_equal():
    verdict = comparison(FASTER).verdict[-1]
    assert verdict == "fastest: processes, 1.8x of serial on 2 workers; results equal bit by bit"


def test_speedup_efficiency_and_the_speedup_with_everything_included_have_known_values():
    row = {row.backend: row for row in comparison({"serial": [8.0] * 3, "pool": [4.0] * 3}).rows}["pool"]
    assert (row.speedup.value, row.efficiency, row.speedup_all.value) == (2.0, 1.0, 1.6)


def test_overlapping_intervals_are_told_as_no_difference():
    result = comparison(FASTER)
    assert [row.differs for row in result.rows] == [False, False, True]
    assert any("no difference to serial is shown" in line and "threads" in line for line in result.footnotes)


def test_two_fastest_that_overlap_are_told_together():
    result = comparison(FASTER | {"pool": [6.75, 6.85, 6.95]})
    assert "fastest: processes, 1.8x of serial on 2 workers (no difference shown to pool)" in result.verdict[-1]


def test_nothing_faster_than_serial_is_said_so():
    assert comparison({"serial": [1.0, 1.1, 1.2], "pool": [2.0, 2.1, 2.2]}).verdict[-1].startswith("fastest: serial;")


def test_one_round_claims_no_difference():
    result = comparison({"serial": [9.0], "pool": [1.0]})
    assert "no difference to serial shown" in result.verdict[-1]
    assert "one round" in result.footnotes[0]


def test_unequal_results_are_exit_6_and_stand_in_the_verdict():
    wrong = {"processes": [Difference("output 'x'", False, False, 0.5, 1e-9, "3 of 8 cells differ")],
             "threads": [Difference("output 'x'", True, True)]}  # fmt: skip
    result = comparison(FASTER, differences=wrong, failures={"pool": ("no", 4)})
    assert result.exit_code == 6
    assert result.verdict[-1].endswith("RESULTS DIFFER: processes")
    assert "3 of 8 cells differ" in result.problem


def test_equality_within_a_tolerance_says_both_numbers():
    near = {name: [Difference("output 'x'", True, False, 3.2e-16, 1e-9)] for name in ("threads", "processes")}
    result = comparison(FASTER, differences=near)
    assert result.verdict[-1].endswith("results equal within 3e-16 (relative; 1e-09 is allowed)")
    assert result.exit_code == 0


def test_a_back_end_that_did_not_run_is_a_row_with_its_reason_and_its_exit_code():
    result = comparison(FASTER, failures={"dask": ("fit[a]: ValueError: no", 1)})
    assert result.exit_code == 1
    assert result.verdict[0] == "dask did not run: fit[a]: ValueError: no"
    text = comparison_text(result)
    assert "did not run" in text
    assert text.split("\n")[-1].startswith("fastest: processes")


def test_the_tables_fit_80_columns_and_hold_every_quantity():
    text = comparison_text(comparison(FASTER | {"pool": [123.4, 125.6, 129.9], "dask": [0.0123, 0.0133, 0.0143]}))
    assert max(map(len, text.split("\n"))) <= 80
    for said in ("elapsed", "speedup", "ciency", "CPU", "start-up", "verify", "peak", "all included", "equal",
                 "12.2 [12.0, 12.4]", "1.79x [", "200.0 MB", "6.12 + 0.10", "reference"):  # fmt: skip
        assert said in text


def test_a_comparison_is_a_frame_a_text_html_and_strict_json():
    result = comparison(FASTER, failures={"dask": ("<lost>", 4)})
    frame = result.to_frame()
    assert list(frame.index) == ["serial", "threads", "processes", "dask"]
    assert frame.loc["processes", "speedup_low"] <= frame.loc["processes", "speedup"]
    assert "processes" in repr(result)
    assert "<lost>" not in result._repr_html_()
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["rows"][2]["speedup"]["value"] == pytest.approx(12.2 / 6.8)
    assert plain["exit_code"] == 4


def test_serial_is_always_there_and_first():
    assert chosen(["dask", "pool", "dask"]) == ("serial", "dask", "pool")


def test_an_unknown_back_end_is_refused_by_name():
    with pytest.raises(ConfigError, match="no back end 'procs'"):
        chosen(["procs"])


def test_each_round_begins_with_another_back_end():
    assert {next(iter(rotated("abc", i))) for i in range(3)} == set("abc")


def test_two_run_folders_of_one_second_are_two(tmp_path):
    assert new_folder(tmp_path, "x") != new_folder(tmp_path, "x")
