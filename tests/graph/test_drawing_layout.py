"""Boxes of a graph of steps: known positions of small graphs, and properties of random ones."""

from __future__ import annotations

import re
from itertools import combinations, pairwise

import pytest
from folders import HOSTILE, edges_of
from hypothesis import given
from hypothesis import strategies as st

from pipeline.graph.drawing_layout import Box, Drawing, Sizes, cut, place_boxes

NAMES = [f"step_number_{i}" for i in range(100)]
SMALL = Sizes(width=500, height=30, between=20, narrowest=60, letter=7)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    """Any edges between up to 25 steps with names of any length, circles included."""
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=25))
    steps = [f"{i}".rjust(length, "s") for i, length in enumerate(lengths, 100)]
    edge = st.tuples(st.sampled_from(steps), st.sampled_from(steps))
    return steps, draw(st.lists(edge, max_size=60))


def points(path: str) -> list[tuple[float, float]]:
    """Where a path begins, and where each of its parts ends."""
    found = []
    for letter, inner in re.findall(r"([MCV])([^MCV]+)", path):
        numbers = [float(number) for number in inner.split()]
        found.append((found[-1][0], numbers[0]) if letter == "V" else (numbers[-2], numbers[-1]))
    return found


def holds(box: Box, x: float, y: float) -> bool:
    return box.x + 0.1 < x < box.x + box.width - 0.1 and box.y + 0.1 < y < box.y + box.height - 0.1


def check(drawing: Drawing, width: float) -> None:
    """What holds of every drawing."""
    boxes = {box.step: box for box in drawing.boxes}
    assert drawing.width <= width + 0.01
    for box in drawing.boxes:
        assert 0 <= box.x <= box.x + box.width <= drawing.width
        assert 0 <= box.y <= box.y + box.height <= drawing.height
        assert box.width >= 7 * len(box.text)
    for a, b in combinations(drawing.boxes, 2):
        assert a.x + a.width < b.x or b.x + b.width < a.x or a.y + a.height < b.y or b.y + b.height < a.y
    for (source, target), path in zip(drawing.edges, drawing.paths, strict=True):
        one, other = boxes[source], boxes[target]
        assert one.y + one.height < other.y
        way = points(path)
        assert way[0] == pytest.approx((one.x + one.width / 2, one.y + one.height), abs=0.06)
        assert way[-1] == pytest.approx((other.x + other.width / 2, other.y), abs=0.06)
        assert all(y0 < y1 for (_, y0), (_, y1) in pairwise(way))
        assert all(0 <= x <= drawing.width for x, _ in way)
        for (x0, y0), (x1, y1) in pairwise(way):  # each part is vertical, or between two layers
            assert not any(holds(box, (x0 + x1) / 2, (y0 + y1) / 2) for box in drawing.boxes)


@pytest.mark.parametrize("sizes", [Sizes(), Sizes(width=1_200, height=74, narrowest=196, letter=9), SMALL])
@pytest.mark.parametrize("n", [1, 5, 30, 100])
def test_edges_go_down_and_boxes_neither_overlap_nor_leave_width(n: int, sizes: Sizes) -> None:
    edges = edges_of(NAMES[:n])
    drawing = place_boxes(NAMES[:n], edges, sizes)
    check(drawing, sizes.width)
    assert [box.step for box in drawing.boxes] == NAMES[:n]
    assert sorted(drawing.edges) == sorted(edges)
    assert {box.height for box in drawing.boxes} == {sizes.height}


@given(graphs())
def test_any_graph_is_drawn_within_the_width(graph: tuple[list[str], list[tuple[str, str]]]) -> None:
    steps, edges = graph
    drawing = place_boxes(steps, edges, SMALL)
    check(drawing, SMALL.width)
    assert [box.step for box in drawing.boxes] == steps
    assert set(drawing.edges) <= {(a, b) for a, b in edges if a != b}
    assert drawing == place_boxes(steps, edges, SMALL)


def test_of_a_graph_without_a_circle_each_edge_is_drawn_once() -> None:
    edges = [(a, b) for a, b in combinations(NAMES[:12], 2)]
    drawing = place_boxes(NAMES[:12], [*edges, *edges])
    check(drawing, 1_120)
    assert sorted(drawing.edges) == sorted(edges)


@pytest.mark.parametrize("n", [25, pytest.param(45, marks=pytest.mark.slow)])
def test_many_lines_stay_within_the_width_and_off_the_boxes(n: int) -> None:
    sources, targets = NAMES[:n], NAMES[50 : 50 + n]
    edges = [*pairwise(sources), *((a, b) for a in sources for b in targets)]
    check(place_boxes([*sources, *targets], edges, SMALL), SMALL.width)


def test_steps_side_by_side_become_rows() -> None:
    wide = place_boxes(["a", *NAMES[:60]], [("a", name) for name in NAMES[:60]])
    check(wide, 1_120)
    assert len({box.y for box in wide.boxes}) > 6


def test_a_circle_is_drawn_without_what_closes_it() -> None:
    ring = place_boxes(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "a"), ("a", "a"), ("a", "x")])
    assert ring.edges == (("a", "b"), ("b", "c"))
    assert place_boxes([], []) == Drawing((), (), (), 0.0, 0.0)


def test_a_chain_is_a_line() -> None:
    drawing = place_boxes(list("abcd"), list(pairwise("abcd")))
    assert len({box.x for box in drawing.boxes}) == 1
    assert drawing.width == drawing.boxes[0].width + 6


def test_a_source_stands_just_before_the_first_that_needs_it() -> None:
    boxes = {box.step: box for box in place_boxes(list("abcs"), [("a", "b"), ("b", "c"), ("s", "c")]).boxes}
    assert boxes["s"].y == boxes["b"].y


def test_two_chains_that_are_told_crosswise_do_not_cross() -> None:
    boxes = {box.step: box for box in place_boxes(list("abcd"), [("a", "d"), ("b", "c")]).boxes}
    assert (boxes["a"].x < boxes["b"].x) == (boxes["d"].x < boxes["c"].x)


def test_a_box_stands_above_the_middle_of_what_needs_it() -> None:
    drawing = place_boxes(["a", "b", "one", "x", "y", "z"], [("a", "one"), ("b", "x"), ("b", "y"), ("b", "z")])
    x = {box.step: box.x for box in drawing.boxes}
    assert x["a"] == pytest.approx(x["one"], abs=0.5)
    assert x["b"] == pytest.approx((x["x"] + x["y"] + x["z"]) / 3, abs=0.5)


def test_a_box_wider_than_the_drawing_stands_alone() -> None:
    drawing = place_boxes(["a" * 20, "b" * 20], [], Sizes(width=100))
    assert len({box.y for box in drawing.boxes}) == 2
    assert drawing.width == drawing.boxes[0].width + 6


@pytest.mark.parametrize("name", HOSTILE)
def test_the_text_of_a_box_is_one_line_that_fits(name: str) -> None:
    (box,) = place_boxes([name], []).boxes
    assert box.step == name
    assert box.text == cut(name, 26)
    assert box.text.isprintable()
    assert len(box.text) <= 26
