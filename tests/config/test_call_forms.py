"""Calls: the function named by a param or a matrix key, and lists of arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from serially import values_of

from pipeline.config.loader import loads
from pipeline.errors import ConfigError

MODULE = """
def add(a, b): return a + b
def mul(a, b): return a * b
def pairs(): return [[1, 2], (3, 4)]
def threes(): return [[1, 2, 3]]
def name(): return "add"
"""


def values(steps: str, folder: Path) -> dict[str, Any]:
    (folder / "mine.py").write_text(MODULE)
    return values_of(f"modules: [./mine.py]\nparams: {{fn: mul, table: [[5, 6], [7, 8]]}}\nsteps:\n{steps}", folder)


def test_the_function_of_a_call_is_a_param_or_a_matrix_key(tmp_path: Path) -> None:
    steps = """
  c: {call: "mine:${fn}", args: {a: 2, b: 3}}
  d: {call: "mine:${f}", matrix: {f: [add, mul]}, args: {a: 2, b: 3}}
  e: {call: "${m}:add", matrix: {m: [mine]}, args: {a: 2, b: 3}}
"""
    assert values(steps, tmp_path) == {"c": 6, "d[add]": 5, "d[mul]": 6, "e[mine]": 5}


def test_lists_of_arguments_are_calls_with_their_names(tmp_path: Path) -> None:
    steps = """
  s: {call: "mine:add", over: [[1, 2], [3, 4]], args: [a, b]}
  t: {call: "mine:add", over: "${table}", args: [b, a]}
  p: {call: "mine:pairs"}
  u: {call: "mine:add", over: p, args: [a, b]}
"""
    assert values(steps, tmp_path) == {"s": [3, 7], "t": [11, 15], "u": [3, 7]}
    config = loads(f"version: 1\nmodules: [./mine.py]\nparams: {{table: [[5, 6]]}}\nsteps:{steps}", root=tmp_path)
    over = config.steps["s"].over
    assert over is not None
    assert over.maps == ({"a": 1, "b": 2}, {"a": 3, "b": 4})


def test_a_list_of_another_length_fails_its_item(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="over needs a list of a, b for each call"):
        values('  p: {call: "mine:threes"}\n  u: {call: "mine:add", over: p, args: [a, b]}\n', tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('call: "mine:${p}"', "'p' is known only in the run, a function needs a param or a matrix key"),
        ('call: "mine:${k}", over: {k: [1]}', "'k' is known only in the run"),
        ('call: "mine:${f}", matrix: {f: [add, nothing]}, args: {a: 1, b: 2}', "nothing"),
        ('call: "mine:${f}", matrix: {f: [add, mul]}, args: {z: 1}', "takes no argument 'z'; it takes a, b"),
        ('call: "${fn}", args: {a: 1, b: 2}', "got 'mul' for '${fn}'; a function is written \"module:function\""),
        ('call: "other:${fn}", args: {a: 1, b: 2}', "'other' is not among modules"),
        ('call: "mine:add", over: [[1, 2], [3]], args: [a, b]', "with args: [a, b] each is a list of 2"),
        ('call: "mine:add", over: [[1, 2]]', "name the elements of its lists: args: [a, b]"),
        ('call: "mine:add", over: [[1, 2]], args: [a, c]', "takes no argument 'c'; it takes a, b"),
        ('call: "mine:add", over: {a: [1]}, args: [a, b]', "they are for lists: over: [[1, 2], [3, 4]]"),
        ('call: "mine:add", over: [[1, 2]], args: [a, a]', "a name is there twice"),
        ('call: "mine:add", args: [a, b]', "write a map: {name: value}"),
    ],
)
def test_what_is_wrong_with_a_call_is_named(keys: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        values(f'  p: {{call: "mine:name"}}\n  x: {{{keys}}}\n', tmp_path)
    assert message in str(caught.value)
