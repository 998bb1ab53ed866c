"""A task never changes what another sees: functions that change their arguments give the same on every back end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import changing_functions as functions
import numpy as np
import pandas as pd
import pytest
from changing_functions import MAKERS, READ_ONLY

from pipeline.backends.events import Event, Note
from pipeline.backends.registry import BACKENDS, create
from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.errors import ConfigError, TaskError
from pipeline.graph.collect import collect
from pipeline.graph.graph import Graph
from pipeline.worker.isolation import detached, handed_out

HERE = Path(__file__).parents[1]
OPTIONS: dict[str, dict[str, Any]] = {
    "pool": {"start_method": "forkserver"},
    "processes": {"start_method": "forkserver"},
    "dask": {"dashboard": False},
}
STEPS = f"""
version: 1
modules: [./changing_functions.py]
params: {{folder: none, numbers: [1]}}
steps:
  made: {{call: "changing_functions:make", matrix: {{kind: [{", ".join(MAKERS)}]}}, args: {{kind: "${{kind}}"}}}}
  own: {{call: "changing_functions:make", matrix: {{kind: [{", ".join(MAKERS)}]}}, args: {{kind: "${{kind}}"}}}}
  one: {{call: "changing_functions:change", args: {{kind: "${{kind}}", x: "${{own}}"}}}}
  each:
    {{call: "changing_functions:change", over: {{n: {{range: 3}}}}, args: {{kind: "${{kind}}", x: "${{made}}"}}}}
  written:
    call: "changing_functions:change"
    over: {{n: {{range: 3}}}}
    args: {{kind: "${{kind}}", x: "${{made}}"}}
    writable: true
  listed:
    call: "changing_functions:add_to"
    over: {{numbers: [[1], [1, 2]], more: [{{k: [1]}}, {{k: [2]}}]}}
    batch: 4
  given:
    call: "changing_functions:add_to"
    over: {{n: [{{k: [1]}}, {{k: [1]}}]}}
    args: {{numbers: "${{numbers}}"}}
    batch: 2
  zeros: {{op: zeros, shape: {{x: 6}}, chunks: {{x: 2}}}}
  blocks:
    op: map_blocks
    input: zeros
    function: "changing_functions:add_to_block"
    dtype: float64
    args: {{numbers: [1]}}
  chunks:
    op: from_call
    function: "changing_functions:add_to_chunk"
    shape: {{x: 6}}
    chunks: {{x: 2}}
    dtype: float64
    args: {{numbers: [1]}}
  lists: {{call: "changing_functions:lists"}}
  parts: {{op: to_items, input: lists, split: 2}}
  grown: {{call: "changing_functions:add_to", over: {{more: parts}}, args: {{numbers: [1]}}}}
  counted: {{call: "changing_functions:counter", over: {{k: {{range: 20}}}}}}
  total: {{op: tree_reduce, input: counted, function: "changing_functions:joined", args: {{numbers: []}}, fan_in: 4}}
  whole: {{call: "changing_functions:write", args: {{x: "${{zeros}}"}}, writable: true}}
  wrapped: {{call: "changing_functions:wrapped", args: {{x: "${{zeros}}"}}}}
  inside: {{call: "changing_functions:write_inside", args: {{x: "${{wrapped}}"}}, writable: true}}
"""
RETRIED = """
  number: {call: "changing_functions:numbers"}
  again:
    call: "changing_functions:fail_once"
    over: {n: {range: 4}}
    args: {x: "${number}", folder: "${folder}"}
    retries: 2
  boxes: {call: "changing_functions:boxed", over: {n: {range: 4}}}
  alone: {call: "changing_functions:fail_first", over: {x: boxes}, args: {folder: "${folder}"}, retries: 2, batch: 4}
"""


def fresh(kind: str) -> str:
    """What the function says of an argument that nobody else has."""
    return functions.change(kind, functions.make(kind))


def found(graph: Graph, backend: str) -> dict[str, Any]:
    """The values of all steps that nobody uses."""
    with create(backend, workers=2, **OPTIONS.get(backend, {})) as opened:
        results = opened.run(graph).results
    return {name: collect(graph.value_types[name], results) for name in graph.kept}


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "process-per-task"])  # one for each change
def test_an_argument_is_changed_for_its_own_task_alone(backend: str, tmp_path: Path) -> None:
    config = loads(STEPS + RETRIED, name="changing", root=HERE, sets={"folder": str(tmp_path)})
    values = found(build(config), backend)
    for kind in MAKERS:
        same = f"read-only: {functions.shown(functions.make(kind))}" if kind in READ_ONLY else fresh(kind)
        if kind == "labelled":  # its attributes are changed before its values
            same = same.replace("'k': [1]", "'k': [1, 2]")
        elif kind == "dataset":  # what is new in it is its own
            changed = functions.make(kind)
            changed["w"] = changed["v"] * 2
            same = f"read-only: {functions.shown(changed)}"
        assert values[f"one[{kind}]"] == same
        assert set(values[f"each[{kind}]"].values()) == {same}, kind
        assert set(values[f"written[{kind}]"].values()) == {fresh(kind)}, kind
    assert list(values["listed"].values()) == [[1, 1, 2], [1, 1, 2], [1, 2, 2, 2], [1, 2, 2, 2]]
    assert list(values["given"].values()) == [[1, 1, 2]] * 2
    assert values["blocks"].values.tolist() == [2.0] * 6
    assert values["chunks"].values.tolist() == [2.0] * 6
    assert list(values["grown"].values()) == [[1, 1, 2]] * 6
    assert values["total"] == {"k": sum(range(20)) + 100 * 7}
    assert values["whole"] == 5.0
    assert values["inside"] == 7.0
    assert list(values["again"].values()) == [[1, n] for n in range(4)]
    assert list(values["alone"].values()) == [[n, 1000 + n] for n in range(4)]


def test_a_task_that_writes_to_an_array_is_told_the_key() -> None:
    text = """
version: 1
modules: [./changing_functions.py]
steps:
  x: {op: zeros, shape: {x: 6}}
  fit: {call: "changing_functions:write", args: {x: "${x}"}}
"""
    with pytest.raises(TaskError, match=r"destination is a view.*read-only.*'writable: true' on the step"):
        found(build(loads(text, name="t", root=HERE)), "serial")
    dropped = text.replace("steps:", "steps:\n  n: {op: zeros, shape: {x: 1}}").replace(
        '"${x}"}}', '"${x}"}, over: {n: {range: 2}}, on_error: drop}'
    )
    with create("serial") as opened:
        outcome = opened.run(build(loads(dropped, name="t", root=HERE)))
    assert all("writable" in cause for _, _, cause in outcome.dropped)
    written = text.replace('"${x}"}}', '"${x}"}, writable: true}')
    assert found(build(loads(written, name="t", root=HERE)), "serial") == {"fit": 5.0}


def test_writable_is_refused_where_no_function_is_called() -> None:
    text = "version: 1\nsteps: {x: {op: zeros, shape: {x: 6}, writable: true}}"
    with pytest.raises(ConfigError, match=r"writable.*calls none"):
        loads(text, name="t", root=HERE)


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_what_cannot_be_pickled_is_shared_and_said_once(backend: str) -> None:
    text = """
version: 1
modules: [./changing_functions.py]
steps:
  lock: {call: "changing_functions:lock"}
  hold: {call: "changing_functions:hold", over: {n: {range: 5}}, args: {x: "${lock}"}}
"""
    events: list[Event] = []
    with create(backend, workers=2) as opened:
        outcome = opened.run(build(loads(text, name="t", root=HERE)), listener=events.append)
    assert [event.message for event in events if isinstance(event, Note)] == [
        "hold: a lock can't be pickled, so its tasks share it with others: none of them should change it"
    ]
    assert outcome.trace.notes["shared"] == [["hold", "lock"]]


def test_the_owner_of_an_array_can_still_write_to_it() -> None:
    for own in (np.arange(3.0), np.ma.array([1.0, 2.0], mask=[True, False])):
        view = handed_out(own)
        assert np.shares_memory(view, own)
        assert not view.flags.writeable
        assert own.flags.writeable
        own[0] = 9.0


def test_large_arrays_of_a_map_are_copied_once_each() -> None:
    given = {"a": np.arange(100_000.0), "f": pd.DataFrame({"x": [1.0]})}
    got = handed_out(given)
    assert got["a"].flags.writeable
    assert not np.shares_memory(got["a"], given["a"])
    got["f"].loc[0, "x"] = 2.0
    assert given["f"].loc[0, "x"] == 1.0


def test_a_result_does_not_hold_read_only_arguments() -> None:
    view = handed_out(np.arange(3.0))
    assert detached({"k": [view]})["k"][0].flags.writeable
    kept = {"k": [np.arange(3.0)]}
    assert detached(kept) is kept
    assert detached(view) is view


def test_copies_for_several_tasks_count_as_transfer(tmp_path: Path) -> None:
    text = """
version: 1
modules: [./changing_functions.py]
steps:
  box: {call: "changing_functions:boxed", args: {n: 1}}
  hold: {call: "changing_functions:hold", over: {n: {range: 4}}, args: {x: "${box}"}, batch: 2}
"""
    with create("serial") as opened:
        frame = opened.run(build(loads(text, name="t", root=HERE))).trace.to_frame()
    assert (frame[frame["step"] == "hold"]["transfer"] > 0).all()
