"""The Shape of a Graph, and its file."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.graph.graph import Graph, Policy, constant, ref, task
from pipeline.trace.shape import Shape


@pytest.fixture
def graph() -> Graph:
    tasks = {
        ("a", 0): task(("a", 0), int),
        ("a", 1): task(("a", 1), int),
        "one": constant("one", 1),
        ("b", 0): task(("b", 0), max, ref(("a", 0)), ref(("a", 1)), ref("one")),
    }
    owners = {("a", 0): "a[x]", ("a", 1): "a[y]", "one": "c", ("b", 0): "b"}
    policies = {"a[x]": Policy("a"), "a[y]": Policy("a"), "c": Policy("c"), "b": Policy("b", kind="items")}
    return Graph(tasks, (("b", 0),), owners, policies)


def test_a_shape_has_the_tasks_and_the_edges_of_the_steps(graph: Graph) -> None:
    shape = Shape.of(graph)
    assert {key: set(needed) for key, needed in shape.needs.items()} == {
        "('a', 0)": set(),
        "('a', 1)": set(),
        "('b', 0)": {"('a', 0)", "('a', 1)"},
    }
    assert shape.n_tasks == {"a": 2, "b": 1}
    assert shape.to_dict() == {
        "steps": [
            {"step": "a", "kind": "value", "n_tasks": 2},
            {"step": "c", "kind": "value", "n_tasks": 0},
            {"step": "b", "kind": "items", "n_tasks": 1},
        ],
        "edges": [["a", "b"], ["c", "b"]],
    }


def test_a_shape_is_read_as_it_was_written(graph: Graph, tmp_path) -> None:
    Shape.of(graph).save(tmp_path / "shape.parquet")
    assert Shape.load(tmp_path / "shape.parquet") == Shape.of(graph)
    nothing = Graph({}, (), {}, {})
    Shape.of(nothing).save(tmp_path / "nothing.parquet")
    assert Shape.load(tmp_path / "nothing.parquet") == Shape.of(nothing)


def test_another_parquet_file_is_not_a_shape(tmp_path) -> None:
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="not a shape of format 1"):
        Shape.load(tmp_path / "other.parquet")
