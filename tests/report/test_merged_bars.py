"""Bars of many tasks: few enough for a page, and nothing is lost in them."""

from __future__ import annotations

import pytest
from folders import simulated

from pipeline.report.html import bokeh_figures, merged_bars
from pipeline.trace.lanes import lanes


def merged(
    n_tasks: int, *, most: int, n_steps: int = 3, critical: set[tuple[str, int]] | None = None
) -> merged_bars.Bars:
    steps = [f"s{i}" for i in range(n_steps)]
    trace, _ = simulated(steps, [], n_tasks=n_tasks, backend="pool", workers=3)
    return merged_bars.bars(trace, lanes(trace), critical or set(), most=most)


def test_up_to_5000_tasks_each_has_its_bar() -> None:
    found = merged(5_000, most=30_000)
    assert (len(found.n), found.width) == (5_000, 0)


@pytest.mark.parametrize("most", [20_000, 2_000, 60])
def test_merged_bars_are_few_and_contain_all_tasks_and_seconds(most: int) -> None:
    found = merged(20_001, most=most)
    alone = merged(20_001, most=10**9)
    assert len(found.n) <= most
    assert found.n.sum() == 20_001
    for name in ("seconds", "bytes_in", "bytes_out"):
        assert getattr(found, name).sum() == getattr(alone, name).sum() > 0
    assert (found.stop - found.start >= found.seconds).all()


def test_only_neighbours_of_one_step_on_one_lane_are_merged() -> None:
    found = merged(20_000, most=20_000)
    assert not found.mixed
    trace, _ = simulated(["s0", "s1", "s2"], [], n_tasks=20_000, backend="pool", workers=3)
    frame = trace.to_frame()
    for i in (len(found.n) // 3, len(found.n) // 2):
        inside = frame[(frame["start"] * 1e9 >= found.start[i] - 1) & (frame["stop"] * 1e9 <= found.stop[i] + 1)]
        own = inside[inside["worker"] == lanes(trace)[found.lane[i]][0]]
        assert len(own) == found.n[i]
        assert set(own["step"]) == {found.steps[found.step[i]]}


def test_the_longest_tasks_and_the_critical_path_stay_apart() -> None:
    trace, _ = simulated(["s0", "s1"], [], n_tasks=20_000, backend="pool", workers=3)
    frame = trace.to_frame()
    path = {(row.key, round(row.start * 1e9)) for row in frame[::40].itertuples()}
    found = merged_bars.bars(trace, lanes(trace), path, most=20_000)
    assert found.critical.sum() == len(path) == 500
    assert set(found.n[found.critical]) == {1}
    longest = frame["seconds"].nlargest(500).index
    alone = set(found.row[found.n == 1].tolist())
    assert alone >= set(longest.tolist())


def test_a_critical_path_of_all_tasks_is_merged_too_and_said() -> None:
    trace, _ = simulated(["s0", "s1"], [], n_tasks=20_000, backend="serial", workers=1)
    path = set(zip(trace.tasks["key"].to_pylist(), trace.tasks["start"].to_pylist(), strict=True))
    found = merged_bars.bars(trace, lanes(trace), path, most=8_000)
    assert not found.path
    assert found.critical.all()
    assert len(found.n) <= 8_000


def test_instances_share_a_colour_and_nine_steps_have_their_own() -> None:
    tints = bokeh_figures.step_colours(
        [bokeh_figures.step_of(copy) for copy in ("fit[A]", "fit[B]", *(f"s{i}" for i in range(12)))]
    )
    assert len(tints) == 13
    assert len({tint for tint in tints.values() if tint != bokeh_figures.OTHER}) == 9
    assert list(tints.values())[9:] == [bokeh_figures.OTHER] * 4
