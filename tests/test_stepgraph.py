"""The drawing of the step graph: boxes apart, in order, no wider than the page."""

from __future__ import annotations

import pytest
from folders import edges_of

from pipeline.report import stepgraph


@pytest.mark.parametrize("n", [1, 5, 30, 100])
def test_boxes_of_steps_do_not_overlap_fit_the_page_and_stand_below_what_they_need(n: int) -> None:
    steps = [f"step_number_{i}" for i in range(n)]
    edges = edges_of(steps)
    drawing = stepgraph.laid_out(steps, edges)
    boxes = {box.step: box for box in drawing.boxes}
    assert set(boxes) == set(steps)
    assert len(drawing.paths) == len(edges)
    assert all(boxes[a].y + boxes[a].height < boxes[b].y for a, b in edges)
    for a in drawing.boxes:
        assert a.x >= -0.01
        assert a.x + a.width <= drawing.width
        assert a.y + a.height <= drawing.height
        assert a.width >= 7 * len(a.text)
        for b in drawing.boxes:
            apart = a.x + a.width < b.x or b.x + b.width < a.x or a.y + a.height < b.y or b.y + b.height < a.y
            assert a is b or apart
    assert drawing.width <= 1_180


def test_steps_side_by_side_become_rows_and_a_circle_is_drawn_without_what_closes_it() -> None:
    wide = stepgraph.laid_out(["a", *(f"s{i}" for i in range(60))], [("a", f"s{i}") for i in range(60)])
    assert wide.width <= 1_180
    assert len({box.y for box in wide.boxes}) > 6
    ring = stepgraph.laid_out(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "a"), ("a", "a"), ("a", "x")])
    assert len(ring.paths) == 2
    assert stepgraph.laid_out([], []).boxes == ()
