"""Graphs of steps drawn in layers: made by hand with known places, and at random with what always holds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.layering import layered


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Acyclic graphs: every edge goes to a node of a higher number."""
    n = draw(st.integers(0, 15))
    pairs = [(a, b) for b in range(n) for a in range(b)]
    return n, draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30)) if pairs else []


@given(graphs())
def test_boxes_never_overlap_and_arrows_go_one_layer_on(graph: tuple[int, list[tuple[int, int]]]) -> None:
    n, edges = graph
    drawing = layered(n, edges)
    assert len(drawing.boxes) == n
    taken: dict[int, list[float]] = {}
    for layer, place in [*drawing.boxes, *(point for arrow in drawing.arrows for point in arrow[1:-1])]:
        taken.setdefault(layer, []).append(place)
    assert sorted(taken) == list(range(len(taken)))
    assert all(b - a >= 0.99 for places in taken.values() for a, b in pairwise(sorted(places)))
    assert min((min(places) for places in taken.values()), default=0) == 0
    for (start, stop), arrow in zip(edges, drawing.arrows, strict=True):
        assert (arrow[0], arrow[-1]) == (drawing.boxes[start], drawing.boxes[stop])
        assert [layer for layer, _ in arrow] == list(range(arrow[0][0], arrow[-1][0] + 1))


def test_a_chain_is_a_line() -> None:
    assert layered(4, [(0, 1), (1, 2), (2, 3)]).boxes == ((0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0))


def test_a_source_stands_just_before_the_first_that_needs_it() -> None:
    assert layered(4, [(0, 1), (1, 2), (3, 2)]).boxes[3][0] == 1


def test_two_chains_that_are_told_crosswise_do_not_cross() -> None:
    boxes = layered(4, [(0, 3), (1, 2)]).boxes
    assert (boxes[0][1] < boxes[1][1]) == (boxes[3][1] < boxes[2][1])


def test_a_cycle_is_told() -> None:
    with pytest.raises(ValueError, match="2 of 3 steps lie on a cycle"):
        layered(3, [(0, 1), (1, 2), (2, 1)])
