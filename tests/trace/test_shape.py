"""The Shape of a Graph, and its file."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.graph.graph import Graph, Policy
from pipeline.graph.nodes import constant, ref, task
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
    limited = replace(graph, policies={**graph.policies, "a": Policy("a", uses=("db",))}, limits={"db": 1})
    Shape.of(limited).save(tmp_path / "limited.parquet")
    assert Shape.load(tmp_path / "limited.parquet") == Shape.of(limited)
    assert (Shape.of(limited).uses, Shape.of(limited).limits) == ({"a": ("db",)}, {"db": 1})
    nothing = Graph({}, (), {}, {})
    Shape.of(nothing).save(tmp_path / "nothing.parquet")
    assert Shape.load(tmp_path / "nothing.parquet") == Shape.of(nothing)


def test_another_parquet_file_is_not_a_shape(tmp_path) -> None:
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="not a shape of format 2"):
        Shape.load(tmp_path / "other.parquet")


def test_a_shape_of_format_1_has_no_limits(graph: Graph, tmp_path) -> None:
    path = tmp_path / "old.parquet"
    Shape.of(graph).save(path)
    table = pq.read_table(path)
    head = json.loads(table.schema.metadata[b"pipeline"])
    head = {name: value for name, value in head.items() if name not in ("uses", "limits")} | {"format": 1}
    pq.write_table(table.replace_schema_metadata({"pipeline": json.dumps(head)}), path)
    assert Shape.load(path) == Shape.of(graph)
