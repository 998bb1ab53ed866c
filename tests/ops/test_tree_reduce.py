"""``tree_reduce``: which items come together does not show, in order, without those that were dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from serially import graph_of, values_of

from pipeline.errors import DataError

FUNCTIONS = """
def letter(x):
    if x in (3, 5):
        raise ValueError("no such letter")
    return chr(97 + x)

def none(x):
    raise ValueError("nothing")

def joined(parts, sep=""):
    assert 1 <= len(parts) <= 100 and all(isinstance(part, str) for part in parts)
    return sep.join(parts)

def numbers(n):
    return list(range(n))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "letters.py").write_text(FUNCTIONS)
    return tmp_path


def reduced(folder: Path, over: str, reduce: str, *, drop: bool = False, call: str = "letter") -> Any:
    dropping = ", on_error: drop" if drop else ""
    text = f"""
    modules: [./letters.py]
    steps:
      n: {{call: "letters:numbers", args: {{n: 12}}}}
      items: {{call: "letters:{call}", over: {{x: {over}}}{dropping}}}
      one: {{op: tree_reduce, input: items, function: "letters:joined", {reduce}}}
    keep: [n]
    """
    return values_of(text, folder)["one"]


@pytest.mark.parametrize("n", [1, 2, 7, 9, 20])
@pytest.mark.parametrize("fan_in", [2, 3, 8])
def test_the_items_come_in_order_however_many_a_task_takes(folder: Path, n: int, fan_in: int) -> None:
    over = str([10 + i for i in range(n)])
    got = reduced(folder, over, f"fan_in: {fan_in}, args: {{sep: '-'}}")
    assert got == "-".join(chr(107 + i) for i in range(n))


def test_items_that_only_the_run_counts_are_reduced_too(folder: Path) -> None:
    assert reduced(folder, "n", "fan_in: 4", drop=True) == "abcegh" + "ijkl"


def test_dropped_items_are_left_out(folder: Path) -> None:
    assert reduced(folder, "[1, 3, 5, 7, 3]", "fan_in: 2", drop=True) == "bh"


def test_nothing_to_reduce_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="there are no items to reduce"):
        reduced(folder, "[1, 2, 3]", "fan_in: 2", drop=True, call="none")
    text = """
    modules: [./letters.py]
    steps:
      x: {op: arange, stop: 0}
      items: {op: to_items, input: x, along: dim_0}
      one: {op: tree_reduce, input: items, function: "letters:joined"}
    """
    with pytest.raises(DataError, match="there are no items to reduce"):
        graph_of(text, folder)
