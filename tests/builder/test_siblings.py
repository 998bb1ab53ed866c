"""Siblings: one instance of a step under other names is what building each of them gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline
from pipeline.builder import siblings
from pipeline.builder.blockwise import Layers
from pipeline.builder.build import build
from pipeline.builder.step import StepBuilder
from pipeline.config.loader import loads
from pipeline.graph.graph import Graph
from pipeline.graph.nodes import ref, task
from pipeline.graph.value_types import ObjectType

_HEAD = "version: 1\nseed: 3\nmodules: [builtins]\nsteps:\n"


@contextmanager
def built_one_by_one() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(siblings, "_FEW", 10**9)
        yield


def facts(graph: Graph) -> Any:
    """What a Graph says beside its tasks; objects by what they look like."""
    types = {name: (value_type.kind, value_type.keys) for name, value_type in graph.value_types.items()}
    return types, graph.policies, graph.moves, graph.owners, graph.warnings, graph.wanted, list(graph.tasks)


def both_ways(steps: str) -> tuple[Graph, Graph]:
    """The Graph with siblings renamed, and with each instance built."""
    config = loads(_HEAD + steps, name="siblings")
    renamed = build(config)
    with built_one_by_one():
        return renamed, build(config)


def n_built(steps: str, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many instances of each step are built."""
    counts: Counter[str] = Counter()
    value = StepBuilder.value

    def counted(self: StepBuilder) -> Any:
        counts[self.step.step] += 1
        return value(self)

    monkeypatch.setattr(StepBuilder, "value", counted)
    build(loads(_HEAD + steps, name="siblings"))
    return counts


_X = "  x: {op: random, shape: {t: 6, y: 4}, chunks: {t: 4, y: 3}, matrix: {k: {range: 7}}}\n"
_F = '  f: {op: timeseries, start: "2001-01-01", end: "2001-01-03", freq: 6h, partitions: 2, matrix: {k: {range: 5}}}\n'


def test_two_instances_of_a_follower_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = _X + "  m: {op: mean, input: x, axis: t}\n  d: {expr: x - m}\n  all: {op: stack, input: 'd[*]', dim: n}\n"
    assert n_built(steps, monkeypatch) == {"x": 7, "m": 2, "d": 2, "all": 1}


def test_a_parameter_that_a_matrix_key_changes_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = _X + "  a: {expr: 'x * ${k}'}\n  b: {op: roll, input: x, shift: {t: '${k}'}}\n"
    assert n_built(steps, monkeypatch) == {"x": 7, "a": 7, "b": 7}


def test_instances_of_equal_parameters_are_siblings_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = "  x: {op: ones, shape: {t: 6}, chunks: {t: 2}}\n"
    steps += "  a: {expr: 'x * ${n}', matrix: {n: [1, 2], copy: {range: 6}}}\n"
    assert n_built(steps, monkeypatch)["a"] == 4


def test_inputs_of_other_chunks_make_no_siblings(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = "  x: {op: ones, shape: {t: 6}, chunks: {t: '${c}'}, matrix: {c: [1, 2, 3]}}\n  y: {expr: x + 1}\n"
    assert n_built(steps, monkeypatch)["y"] == 3


def test_labels_and_attributes_of_inputs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = "  x: {op: ones, shape: {t: 3}, chunks: {t: 1}}\n"
    steps += (
        "  l: {op: set_labels, input: x, labels: {t: ['${a}', b, c]}, matrix: {a: [p, q, r]}}\n  y: {expr: l + 1}\n"
    )
    assert n_built(steps, monkeypatch)["y"] == 3


def test_a_seed_of_an_instance_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = _F + "  s: {op: sample, input: f, fraction: 0.5}\n"
    assert n_built(steps, monkeypatch)["s"] == 5
    renamed, built = both_ways(steps)
    assert renamed.fingerprint == built.fingerprint


def test_an_input_used_twice_is_no_sibling_of_two_inputs() -> None:
    config = loads(_HEAD + _X, name="siblings")
    same, (one, other) = ObjectType("a"), (ObjectType("b"), ObjectType("c"))
    first = siblings.Lowered("s[0]", {("s[0]",): task(("s[0]",), max, ref(("a",)))}, ObjectType("s[0]"))
    kind = siblings._Kind(first, (same, same))
    renaming = siblings.Siblings(config, {}, Layers())
    assert renaming._renamed(kind, "s[1]", (one, other)) is None
    found = renaming._renamed(kind, "s[1]", (one, one))
    assert found is not None
    assert found.tasks[("s[1]",)].dependencies == {("b",)}


def test_renamed_instances_give_their_own_values(tmp_path: Path) -> None:
    steps = "  base: {op: arange, stop: 4, dim: t, chunks: 2}\n"
    steps += "  x: {expr: 'base + ${k}', matrix: {k: {range: 5}}}\n  s: {op: sum, input: x}\n"
    file = tmp_path / "siblings.yaml"
    file.write_text(_HEAD + steps)
    done = pipeline.run(file, backend="serial", runs=tmp_path / "runs", out=tmp_path)
    assert [float(done[f"s[{k}]"]) for k in range(5)] == [6.0 + 4 * k for k in range(5)]


# -- any pipeline of a few steps

_ARRAY_STEPS = (
    *("{{expr: {0} + 1}}", "{{expr: {0} - {1}}}", "{{expr: '{0} * ${{k}}'}}", "{{op: cumsum, input: {0}, axis: t}}"),
    *("{{op: rechunk, input: {0}, chunks: {{t: 3}}}}", "{{op: roll, input: {0}, shift: {{t: 1}}}}"),
    *("{{op: topk, input: {0}, k: 6, axis: t}}", "{{expr: '{0}[t=0:6] * 2'}}", "{{expr: 'abs({0}) + {0}'}}"),
)
_FRAME_STEPS = (
    *("{{op: filter, input: {0}, where: x > 0}}", "{{op: assign, input: {0}, columns: {{x: 'x * ${{k}}'}}}}"),
    *("{{op: sort_values, input: {0}, by: x}}", "{{op: assign, input: {0}, columns: {{x: x + 1}}}}"),
    *("{{op: concat, input: [{0}, {1}]}}", "{{op: sample, input: {0}, fraction: 0.5}}"),
)
_CALL_STEPS = (
    *("{{call: 'builtins:abs', input: {0}}}", "{{call: 'builtins:max', input: [{0}, {1}]}}"),
    *(
        "{{call: 'builtins:pow', input: {0}, args: {{exp: '${{k}}'}}}}",
        "{{call: 'builtins:abs', input: {0}, retries: 1}}",
    ),
)
_SOURCES = {
    "a": "{op: random, shape: {t: 6}, chunks: {t: 2}",
    "f": '{op: timeseries, start: "2001-01-01", end: "2001-01-02", freq: 6h, partitions: 2',
    "c": "{call: 'builtins:int'",
}


@st.composite
def steps(draw: st.DrawFn) -> str:
    """Steps over one kind of value: each of the steps before it, some of them gathered or indexed by hand."""
    kind, templates = draw(st.sampled_from(list(zip(_SOURCES, (_ARRAY_STEPS, _FRAME_STEPS, _CALL_STEPS), strict=True))))
    lines = [f"  s0: {_SOURCES[kind]}, matrix: {{k: {{range: {draw(st.integers(1, 5))}}}}}}}"]
    for i in range(1, draw(st.integers(2, 5))):
        inputs = [f"s{draw(st.integers(0, i - 1))}" for _ in range(2)]
        lines.append(f"  s{i}: {draw(st.sampled_from(templates)).format(*inputs)}")
    if draw(st.booleans()):
        gathers = {"a": "{{op: stack, input: '{0}[*]', dim: n}}", "f": "{{op: concat, input: '{0}[*]'}}"}
        template = gathers.get(kind, "{{call: 'builtins:len', input: '{0}[*]'}}")
        lines.append(f"  end: {template.format(f's{len(lines) - 1}')}")
    return "\n".join(lines) + "\n"


@settings(max_examples=25, deadline=None)
@given(steps())
def test_a_graph_is_the_same_with_and_without_renaming(text: str) -> None:
    renamed, built = both_ways(text)
    renamed.validate()
    assert renamed.fingerprint == built.fingerprint
    assert facts(renamed) == facts(built)
