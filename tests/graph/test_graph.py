"""The Graph is closed, acyclic and the same in every process; a Graph that is not is refused."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from serially import graph_of

from pipeline.config.secret_values import Secret
from pipeline.graph.graph import CONTEXT, Graph, Key, Policy
from pipeline.graph.nodes import (
    alias,
    constant,
    cull,
    dependencies,
    dependents,
    execute,
    is_constant,
    listed,
    ref,
    task,
    token,
    toposort,
)
from pipeline.graph.value_types import ArrayType, FrameType, ItemsType, ObjectType, PartsType

THREE_KINDS = """
version: 1
modules: [./mine.py]
seed: 3
steps:
  x: {op: random, shape: {row: 20, column: 4}, chunks: {row: 5}}
  m: {op: mean, input: x, axis: row}
  z: {expr: "x - m"}
  fitted: {call: "mine:fit", over: {power: [1, 2, 3]}, args: {z: "${z}"}, seed: true}
  table: {op: to_frame, input: fitted, columns: {low: float64, high: float64}}
  best: {op: groupby, input: table, by: power, agg: {low: min(low), n: count()}}
outputs: {best: {to: parquet, path: best}}
"""
MODULE = """
def fit(z, power, seed):
    return {"low": float((z ** power).min()), "high": float((z ** power).max())}
"""


def diamond() -> dict[Key, Any]:
    """Two tasks from one constant, and one of both."""
    return {
        ("d",): task(("d",), max, ref(("b",)), ref(("c",))),
        ("c",): task(("c",), sum, listed([ref(("a",)), 10])),
        ("b",): task(("b",), abs, ref(("a",))),
        ("a",): constant(("a",), -5),
    }


def graph(tasks: dict[Key, Any], wanted: tuple[Key, ...]) -> Graph:
    return Graph(tasks, wanted, dict.fromkeys(tasks, "s"), {"s": Policy("s")})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "three.yaml").write_text(THREE_KINDS)
    return tmp_path


# -- nodes ------------------------------------------------------------------------------------------------------------


def test_a_task_calls_its_function_with_the_results_it_refers_to() -> None:
    node = task("k", round, ref("x"), ndigits=ref("n"))
    assert dependencies(node) == {"x", "n"}
    assert execute(node, {"x": 3.14159, "n": 2, "other": 0}) == 3.14


def test_a_list_argument_may_hold_results() -> None:
    node = task("k", sum, listed([ref("x"), 1, ref("y")]))
    assert dependencies(node) == {"x", "y"}
    assert execute(node, {"x": 10, "y": 100}) == 111


def test_constants_need_no_call_and_tasks_do() -> None:
    assert is_constant(constant("k", [1, 2]))
    assert execute(constant("k", [1, 2]), {}) == [1, 2]
    assert not is_constant(task("k", abs, -1))


def test_an_alias_is_what_it_names() -> None:
    node = alias("k", "x")
    assert dependencies(node) == {"x"}
    assert execute(node, {"x": "it"}) == "it"


def test_a_context_reaches_the_tasks_that_ask_for_it() -> None:
    assert execute(task("k", str.upper, ref(CONTEXT)), {CONTEXT: "here"}) == "HERE"


# -- orders -----------------------------------------------------------------------------------------------------------


def test_everything_comes_after_what_it_needs() -> None:
    order = toposort(diamond())
    assert order[0] == ("a",)
    assert order[-1] == ("d",)
    assert sorted(order) == sorted(diamond())


def test_the_order_is_that_of_the_dict_where_there_is_a_choice() -> None:
    tasks = {key: constant(key, 0) for key in "dacb"}
    assert toposort(tasks) == list("dacb")


def test_dependents_are_the_dependencies_turned_round() -> None:
    assert dependents(diamond()) == {
        ("a",): {("b",), ("c",)},
        ("b",): {("d",)},
        ("c",): {("d",)},
        ("d",): set(),
    }


def test_culling_keeps_what_is_needed_in_its_order() -> None:
    assert list(cull(diamond(), [("c",)])) == [("c",), ("a",)]


# -- promises ---------------------------------------------------------------------------------------------------------


def test_a_graph_that_keeps_its_promises_is_valid() -> None:
    graph(diamond(), (("d",),)).validate()
    graph({("w",): task(("w",), str, ref(CONTEXT))}, (("w",),)).validate()


BROKEN = {
    "cycle": (graph({"a": task("a", abs, ref("b")), "b": task("b", abs, ref("a"))}, ("a",)), "2 of 3 tasks .* cycle"),
    "open": (graph({"a": task("a", abs, ref("nowhere"))}, ("a",)), "'a' needs 'nowhere', which no task computes"),
    "no owner": (Graph({"a": constant("a", 1)}, ("a",), {}, {"s": Policy("s")}), "'a' is owned by None"),
    "unknown owner": (Graph({"a": constant("a", 1)}, ("a",), {"a": "t"}, {"s": Policy("s")}), "'a' is owned by 't'"),
    "unmade": (graph({"a": constant("a", 1)}, ("b",)), "'b' is wanted, but no task computes it"),
}


@pytest.mark.parametrize(("broken", "message"), BROKEN.values(), ids=BROKEN)
def test_a_graph_that_breaks_a_promise_is_refused_by_key(broken: Graph, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        broken.validate()


def test_an_item_is_named_by_the_keys_of_its_step() -> None:
    tasks = {("fit", i): constant(("fit", i), i) for i in range(2)} | {("fit.u", 1): constant(("fit.u", 1), 0)}
    tasks |= {("fit/split", 0): constant(("fit/split", 0), 0)}
    policies = {"fit": Policy("fit", items=("a=1", "a=2"), over="fit")}
    g = Graph(tasks, (), dict.fromkeys(tasks, "fit"), policies)
    assert [g.item(key) for key in tasks] == ["a=1", "a=2", "a=2", ""]


# -- fingerprints -----------------------------------------------------------------------------------------------------

CHANGES = {
    "a constant": {("a",): constant(("a",), -6)},
    "a function": {("b",): task(("b",), float, ref(("a",)))},
    "a dependency": {("b",): task(("b",), abs, ref(("c",)))},
    "an argument": {("c",): task(("c",), sum, listed([ref(("a",)), 11]))},
    "a key": {("e",): constant(("e",), 1)},
    "an array": {("a",): constant(("a",), np.arange(3))},
    "a frame": {("a",): constant(("a",), pd.DataFrame({"a": [1]}))},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_fingerprint_changes_with_every_part_of_a_task(change: dict[Key, Any]) -> None:
    assert graph(diamond() | change, (("d",),)).fingerprint != graph(diamond(), (("d",),)).fingerprint


def test_the_fingerprint_is_that_of_the_content_not_of_the_order() -> None:
    turned = dict(reversed(diamond().items()))
    assert graph(turned, (("d",),)).fingerprint == graph(diamond(), (("d",),)).fingerprint
    assert len(graph(turned, ()).fingerprint) == 16


def test_the_fingerprint_changes_with_wanted_keys_and_modules() -> None:
    one = graph(diamond(), (("d",),))
    assert replace(one, wanted=(("c",),)).fingerprint != one.fingerprint
    assert replace(one, modules={"m.py": b"x = 1"}).fingerprint != one.fingerprint


def test_how_tasks_are_run_is_no_part_of_the_fingerprint() -> None:
    one = graph(diamond(), (("d",),))
    assert replace(one, policies={"s": Policy("s", batch=7, retries=2)}).fingerprint == one.fingerprint


_FINGERPRINT = """
from pipeline.config.loader import load
from pipeline.builder.build import build
print(build(load("three.yaml")).fingerprint)
"""


def test_the_fingerprint_is_the_same_in_every_process(folder: Path) -> None:
    other = subprocess.run(
        [sys.executable, "-c", _FINGERPRINT],
        cwd=folder,
        env={"PYTHONHASHSEED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    importlib.import_module("dask.dataframe")  # which describes schemas in its own way
    assert other.strip() == graph_of(THREE_KINDS.replace("version: 1\n", ""), folder).fingerprint


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_saved_graph_is_read_back_as_it_was(folder: Path) -> None:
    written = graph_of(THREE_KINDS.replace("version: 1\n", ""), folder)
    written.save(folder / "graph.bin")
    back = Graph.load(folder / "graph.bin")
    back.validate()
    assert back.fingerprint == written.fingerprint
    assert list(back.tasks) == list(written.tasks)
    assert (back.wanted, back.owners, back.policies, back.kept) == (
        written.wanted,
        written.owners,
        written.policies,
        written.kept,
    )
    assert back.modules == {"mine.py": MODULE.encode()}
    assert [sink.name for sink in back.sinks] == ["best"]


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "old.bin", "wb") as file:
        pickle.dump(99, file)
    with pytest.raises(ValueError, match=r"old\.bin: got graph format 99; this version reads 3: build it again"):
        Graph.load(tmp_path / "old.bin")


# -- value types ------------------------------------------------------------------------------------------------------


def test_value_types_name_the_keys_of_their_parts() -> None:
    x = ArrayType("x", ("t", "y"), ((2, 3), (4.0,)), np.dtype("float32"), xr.Dataset())
    assert x.keys == (("x", 0, 0), ("x", 1, 0))
    assert (x.nbytes, x.largest_chunk) == (5 * 4 * 4, 3 * 4 * 4)
    assert FrameType("f", 2, pd.DataFrame()).keys == (("f", 0), ("f", 1))
    assert ItemsType("i", ("a", "b"), {}, 2).keys == (("i", 0), ("i", 1))
    assert ObjectType("v").keys == (("v",),)
    assert PartsType({"u": ObjectType("p.u")}, whole=ObjectType("p")).keys == (("p",), ("p.u",))


def test_the_size_of_an_array_of_unknown_length_is_unknown() -> None:
    x = ArrayType("x", ("t",), ((float("nan"),) * 2,), np.dtype("int8"), xr.Dataset())
    assert np.isnan(x.nbytes)
    assert np.isnan(x.largest_chunk)


def test_a_secret_in_a_task_counts_by_its_name_alone() -> None:
    a, b = Secret("1", "${secret:A}"), Secret("1", "${secret:B}")
    for argument in (lambda x: x, lambda x: {"key": [x]}, lambda x: Named(x)):
        first, again, other = (
            token({"k": task("k", print, argument(one))}) for one in (a, Secret("2", "${secret:A}"), b)
        )
        assert first == again != other


@dataclass(frozen=True)
class Named:
    value: str
