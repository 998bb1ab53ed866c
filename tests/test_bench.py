"""The benchmark runs: every case once, as small as can be. How fast it is, is not tested."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench import cluster, loading
from bench.__main__ import CASES, FULL, line, main
from bench.pairs import Aim, Differs, Row, Sizes, Skipped, counted, differences, measured, ratios, take_turns
from pipeline.trace.statistics import Interval

TINY = Sizes(
    pairs=1,
    few_pairs=1,
    n_workers=1,
    n_tasks=3,
    seconds=0.001,
    n_partitions=2,
    n_rows=100,
    n_items=10,
    n_many=10,
    build=((10, 1000.0),),
    n_small=2,
    tpch=0.01,
    accounted=("climate",),
    warm_up=0,
)
LONG = (
    "accounting",
    "blas",
    "fixed",
    "memory",
    "tpch",
    "transport",
    "whole",
)  # several seconds each, even of the smallest sizes
N_ROWS = {
    "building": 1,
    "metadata": 2,
    "counts": 2,
    "frame": 2,
    "tpch": 21,
    "memory": 14,
    "transport": 2,
    "loading": 4,
    "accounting": 6,
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of one LocalCluster for all cases, where the benchmark starts one for each."""
    with cluster.standing(TINY) as (address, _):
        yield address


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in CASES]
)
def test_each_case_runs_and_both_sides_give_the_same(
    name: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "standing", lambda sizes: contextlib.nullcontext((address, tmp_path)))
    if name == "loading" and loading.torch is None:
        with pytest.raises(Skipped, match=r"pip install pipeline\[bench\]"):
            list(CASES[name](TINY))
        return
    rows = list(CASES[name](TINY))
    assert len(rows) == N_ROWS.get(name, 1)
    assert all(len(line(row)) <= 80 for row in rows)


def test_segments_are_at_most_a_tenth_more_than_dasks_own_fusion() -> None:
    for row in CASES["counts"](TINY):
        assert row.aim is not None
        assert row.aim.met(row.figure), line(row)


def test_contenders_alternate_after_a_warm_up_round() -> None:
    order: list[str] = []

    def contender(name: str):
        return lambda: order.append(name) or (lambda: 1.0)

    seconds = take_turns({name: contender(name) for name in "ab"}, 2)
    assert "".join(order) == "ba" + "ab" + "ba"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_contenders_that_differ_are_no_benchmark() -> None:
    with pytest.raises(Differs, match=r"a gave 1\.0, b gave 2\.0"):
        take_turns({"a": lambda: lambda: 1.0, "b": lambda: lambda: 2.0}, 1)


def test_the_figures_are_ratios_differences_or_seconds() -> None:
    aim = Aim(1.0)
    assert ratios("x", [3.0, 3.0, 3.0], [2.0, 2.0, 2.0], aim).figure.value == 1.5
    assert differences("x", [3.0, 5.0], [2.0, 4.0], aim).figure.value == 1.0
    assert measured("x", [3.0], aim).figure.value == 3.0
    assert counted("x", 11, 10, aim).figure == Interval(1.1, 1.1, 1.1, 1, 1.0)


@pytest.mark.parametrize(
    ("aim", "value", "low", "met"),
    [
        (Aim(1.05), 1.05, 1.0, True),
        (Aim(1.05), 1.06, 1.0, False),
        (Aim(1.05, by="low"), 1.06, 1.05, True),
        (Aim(1.05, by="low"), 1.08, 1.06, False),
        (Aim(1.05, by="low"), 1.06, np.nan, False),
        (Aim(1.05, by="low"), 1.04, np.nan, True),
    ],
)
def test_an_aim_is_met_by_the_median_or_by_the_lower_end(aim: Aim, value: float, low: float, met: bool) -> None:
    assert aim.met(Interval(value, low, value, 7, 0.95)) is met


def test_the_widest_row_has_80_columns() -> None:
    figure = Interval(12.34, 10.11, 14.56, 7, 0.95)
    case = f"{FULL.n_items:,} x 1 ms / batch: 1"
    assert len(line(Row(case, "12.3 s", "12.3 s", figure, "s", Aim(1.05)))) == 80


def test_the_exit_code_tells_of_a_missed_aim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def case(sizes: Sizes):
        yield counted("good", 10, 10, Aim(1.1))
        yield counted("bad", 12, 10, Aim(1.1))

    monkeypatch.setitem(CASES, "counts", case)
    assert main(["--only", "counts", "--quick"]) == 1
    said = capsys.readouterr().out
    assert "MISS" in said
    assert "1 missed" in said
    monkeypatch.setitem(CASES, "counts", lambda sizes: iter([counted("good", sizes.pairs, sizes.pairs, Aim(1.1))]))
    assert main(["--only", "counts", "--pairs", "2"]) == 0


def test_a_case_that_cannot_run_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def case(sizes: Sizes) -> Iterator[Row]:
        yield counted("good", 10, 10, Aim(1.1))
        raise Skipped("needs torch")

    monkeypatch.setitem(CASES, "counts", case)
    assert main(["--only", "counts", "--quick"]) == 0
    assert "counts: skipped, needs torch" in capsys.readouterr().out
