"""Why results differ between back ends: what tasks share, as the functions show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.experiments.comparison.compare import compare
from pipeline.experiments.comparison.shared_state import global_use, shared_state

HEAD = "import random\nimport numpy as np\nseen = []\ntable = {}\ncount = 0\nnumbers = iter([])\n"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("seen.append(x)", "seen"),
        ("table[x] = 1", "table"),
        ("table['k']['l'] += 1", "table"),
        ("del table[x]", "table"),
        ("global count; count += 1", "count"),
        ("return next(numbers)", "numbers"),
        ("helper(x)", "seen"),
        ("return random.random()", ""),
        ("np.random.seed(1)", ""),
        ("seen = []; seen.append(x)", None),
        ("x.append(1)", None),
        ("return seen[0] + count", None),
        ("return np.random.default_rng(1).random()", None),
        ("return random.Random(1).random()", None),
        ("table = dict(table or {}); table[1] = 2", None),
    ],
)
def test_a_changed_global_is_found(body: str, name: str | None) -> None:
    source = f"{HEAD}def helper(x):\n    seen.append(x)\ndef f(x):\n    {body}\n"
    found = global_use(source, "f")
    assert (found.name if found is not None else None) == name


def test_a_source_that_is_no_python_has_no_cause() -> None:
    assert global_use("def f(:", "f") is None


FILE = """
version: 1
modules: [./counts.py]
steps:
  first: {call: "counts:one", over: {n: {range: 4}}, batch: 1}
  plain: {call: "counts:plain", args: {x: 1}}
"""
MODULE = "calls = []\ndef one(n):\n    calls.append(n)\n    return len(calls)\ndef plain(x):\n    return x\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "counts.py").write_text(MODULE)
    return tmp_path


def test_the_cause_is_named_with_step_and_place(folder: Path) -> None:
    graph = build(loads(FILE, name="t", root=folder))
    keys = graph.value_types["first"].keys
    assert shared_state(graph, keys, []) == (
        "first: one changes the global 'calls', which the tasks of a process share (counts.py:3)"
    )
    assert "tasks of 'first' share a lock, which can't be pickled" in shared_state(graph, keys, [["first", "lock"]])
    assert not shared_state(graph, graph.value_types["plain"].keys, [["first", "lock"]])


@pytest.mark.slow
def test_compare_says_it(folder: Path) -> None:
    found = compare(loads(FILE, name="t", root=folder), backends=["pool"], workers=2, repeat=1, runs=folder / "runs")
    wrong = [d.message for d in found.differences["pool"] if not d.same]
    assert len(wrong) == 1
    assert "first: one changes the global 'calls'" in wrong[0]
