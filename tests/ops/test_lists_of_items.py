"""``to_items`` with ``size``: lists of so many consecutive items, of whatever they are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import values_of

from pipeline.errors import ConfigError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import constant, execute, toposort
from pipeline.graph.segments import Dropped
from pipeline.ops.collections import Items
from pipeline.ops.conversions import in_lists

MODULE = """
def numbers(n): return list(range(n))
def half(x):
    if x == 3:
        raise ValueError("three")
    return x / 2
def total(batch): return sum(batch)
def names(batch): return [path[-5:] for path in batch]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    for i in range(5):
        (tmp_path / f"{i}.txt").write_text(str(i))
    return tmp_path


def lists(steps: str, folder: Path) -> Any:
    return values_of(f"modules: [./mine.py]\nsteps:\n{steps}\nkeep: [i]\n", folder)["i"]


CASES: dict[str, tuple[str, list[Any]]] = {
    "value": (
        "v: {call: 'mine:numbers', args: {n: 7}}\n  i: {op: to_items, input: v, size: 3}",
        [[0, 1, 2], [3, 4, 5], [6]],
    ),
    "no elements": ("v: {call: 'mine:numbers', args: {n: 0}}\n  i: {op: to_items, input: v, size: 3}", []),
    "items of unknown number": (
        """v: {call: 'mine:numbers', args: {n: 5}}
  e: {op: to_items, input: v, split: 3}
  i: {op: to_items, input: e, size: 2}""",
        [[0, 1], [2, 3], [4]],
    ),
    "dropped items": (
        """e: {call: 'mine:half', over: {x: [1, 2, 3, 4, 6]}, on_error: drop}
  i: {op: to_items, input: e, size: 2}""",
        [[0.5, 1.0], [2.0], [3.0]],
    ),
    "array": (
        """x: {op: arange, stop: 5, chunks: 2, dim: t}
  e: {op: to_items, input: x, along: t, size: 2}
  i: {call: 'mine:total', over: {batch: e}}""",
        [1, 5, 4],
    ),
    "files": (
        """f: {op: files, path: '*.txt'}
  e: {op: to_items, input: f, size: 2}
  i: {call: 'mine:names', over: {batch: e}}""",
        [["0.txt", "1.txt"], ["2.txt", "3.txt"], ["4.txt"]],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_items_are_lists_of_the_size_that_was_asked_for(case: str, folder: Path) -> None:
    steps, found = CASES[case]
    assert lists(f"  {steps}", folder) == found


@pytest.mark.parametrize("by", ["rows", "partitions"])
def test_rows_and_partitions_of_a_frame_are_put_into_lists(by: str, folder: Path) -> None:
    (folder / "f.csv").write_text("a\n" + "".join(f"{i}\n" for i in range(5)))
    steps = f"  f: {{op: read_csv, path: f.csv}}\n  i: {{op: to_items, input: f, by: {by}, size: 2}}"
    found = lists(steps, folder)
    assert found == [[{"a": 0}, {"a": 1}], [{"a": 2}, {"a": 3}], [{"a": 4}]] if by == "rows" else len(found[0]) == 1


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=6), st.integers(1, 7))
def test_lists_over_tasks_of_any_length_lose_nothing(groups: list[list[int]], size: int) -> None:
    tasks = {("g", i): constant(("g", i), [(str(n), Dropped("") if n == 9 else n) for n in group])
             for i, group in enumerate(groups)}  # fmt: skip
    made = in_lists(Items("g", tasks, len(groups)), "l", size)
    results: dict[Key, Any] = {}
    for key in toposort(made.tasks):
        results[key] = execute(made.tasks[key], results)
    pairs = [pair for key in made.keys for pair in results[key]]
    items = [n for group in groups for n in group if n != 9]
    assert [one for _, some in pairs for one in some] == items
    assert [len(some) for _, some in pairs[:-1]] == [size] * (len(pairs) - 1)
    assert [key for key, _ in pairs] == [str(i) for i in range(-(-len(items) // size))]


def test_items_need_a_size(folder: Path) -> None:
    with pytest.raises(ConfigError, match="op 'to_items' of items needs size"):
        lists("  f: {op: files, path: '*.txt'}\n  i: {op: to_items, input: f}", folder)
