"""Calls: over, args, parts, seed, on_error; the same arguments, keys and seeds on whatever runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from serially import graph_of, values_of

from pipeline.errors import ConfigError, DataError, TaskTimeout
from pipeline.graph.segments import Dropped
from pipeline.ops.calls.calls import Call, derived_seed
from pipeline.ops.calls.mapping import item_key, run_group

MODULE = """
def add(a, b=0, **rest):
    return a + b + sum(rest.values())

def pair(x, seed=None):
    return {"double": 2 * x, "seed": seed}

def as_tuple(x):
    return x, -x

def keywords(**given):
    return dict(sorted(given.items()))

def odd_only(x):
    if x % 2 == 0:
        raise ValueError("even")
    return x

def several():
    return [10, 20, 30]

def maps():
    return [{"a": 1}, {"a": 2, "b": 3}]

def size(values, **rest):
    return len(values)

def kind(x):
    return f"{type(x).__module__.split('.')[0]}.{type(x).__name__}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path


def values(steps: str, folder: Path, **params: Any) -> dict[str, Any]:
    return values_of("modules: [./mine.py]\nsteps:\n" + steps, folder, **params)


def test_a_call_gets_its_inputs_in_order_and_its_args_by_name(folder: Path) -> None:
    got = values(
        """
          one: {call: "mine:add", args: {a: 1}}
          two: {call: "mine:add", input: [one, one], args: {c: "${one}", d: 5}}
        """,
        folder,
    )
    assert got == {"two": 1 + 1 + 1 + 5}


def test_over_makes_one_item_a_combination_the_first_key_slowest(folder: Path) -> None:
    text = '  grid: {call: "mine:add", over: {a: [1, 2], b: [10, 20]}}\n'
    assert values(text, folder)["grid"] == [11, 21, 12, 22]
    value_type = graph_of("modules: [./mine.py]\nsteps:\n" + text, folder).value_types["grid"]
    assert value_type.names == ("a=1,b=10", "a=1,b=20", "a=2,b=10", "a=2,b=20")
    assert value_type.columns == {"a": (1, 1, 2, 2), "b": (10, 20, 10, 20)}


def test_items_handed_on_keep_their_keys(folder: Path) -> None:
    text = """
      first: {call: "mine:add", over: {a: [1, 2]}}
      second: {call: "mine:add", over: {a: first}, args: {b: 100}}
      third: {call: "mine:add", over: {a: second, k: [0, 1]}}
    """
    assert values(text, folder)["third"] == [101, 102, 102, 103]
    value_types = graph_of("modules: [./mine.py]\nsteps:\n" + text, folder).value_types
    assert value_types["second"].names == ("a=1", "a=2")
    assert value_types["third"].names[:2] == ("a=a=1,k=0", "a=a=1,k=1")


def test_a_list_of_maps_is_spread_as_keywords(folder: Path) -> None:
    got = values('  s: {call: "mine:keywords", over: [{x: 1, y: 2}, {x: 3}], args: {z: 0}}', folder)
    assert got["s"] == [{"x": 1, "y": 2, "z": 0}, {"x": 3, "z": 0}]


def test_a_list_known_only_in_the_run_is_dealt_into_tasks(folder: Path) -> None:
    text = """
      numbers: {call: "mine:several"}
      more: {call: "mine:add", over: {a: numbers}, args: {b: 1}}
      spread: {call: "mine:keywords", over: made}
      made: {call: "mine:maps"}
    """
    got = values(text, folder)
    assert got["more"] == [11, 21, 31]
    assert got["spread"] == [{"a": 1}, {"a": 2, "b": 3}]


@pytest.mark.parametrize("drop", [True, False])
def test_items_that_share_a_task_have_a_timeout_each(monkeypatch: pytest.MonkeyPatch, *, drop: bool) -> None:
    clock = [0.0]
    monkeypatch.setattr("pipeline.ops.calls.mapping.perf_counter", lambda: clock[0])

    def waits(work: Any, item: dict[str, Any], key: str) -> Any:
        clock[0] += item["x"]
        return key

    group = [("0", 2.0), ("1", 5.0), ("2", 3.0)]
    work = Call("m:f", (), {}, drop=drop)
    assert run_group(waits, work, (0, 5.0, False), "x", group) == [("0", "0"), ("1", "1"), ("2", "2")]
    if drop:
        found = run_group(waits, work, (0, 4.0, False), "x", group)
        assert found.dropped == (("1", "ran longer than its timeout of 4 s"),)
        assert [key for key, value in found if not isinstance(value, Dropped)] == ["0", "2"]
    else:
        with pytest.raises(TaskTimeout, match="timeout of 4 s"):
            run_group(waits, work, (0, 4.0, False), "x", group)


def test_an_over_key_may_stand_in_the_arguments(folder: Path) -> None:
    got = values('  s: {call: "mine:keywords", over: {n: [1, 2]}, args: {text: "n is ${n}", whole: "${n}"}}', folder)
    assert got["s"] == [{"n": 1, "text": "n is 1", "whole": 1}, {"n": 2, "text": "n is 2", "whole": 2}]


def test_a_result_stands_inside_a_text_if_it_is_a_scalar(folder: Path) -> None:
    steps = """
      n: {call: "mine:add", args: {a: 1}}
      line: {op: arange, stop: 4}
      x: {op: sum, input: line}
      yes: {expr: "x > 0"}
      s: {call: "mine:keywords", args: {text: "${n} of ${x}: ${yes}"}}
    """
    got = values(steps, folder)
    assert got["s"] == {"text": "1 of 6: true"}
    for what, said in (("several", "list"), ("maps", "list"), ("as_tuple", "tuple")):
        given = ", args: {x: 1}" if what == "as_tuple" else ""
        with pytest.raises(DataError, match=f"got a {said} for \\$\\{{…\\}} inside a text; it must be a scalar"):
            values(
                f'  m: {{call: "mine:{what}"{given}}}\n  s: {{call: "mine:keywords", args: {{t: "x ${{m}}"}}}}\n',
                folder,
            )


def test_parts_of_a_map_and_of_a_tuple(folder: Path) -> None:
    got = values(
        """
          m: {call: "mine:pair", over: {x: [1, 2]}, parts: [double]}
          t: {call: "mine:as_tuple", args: {x: 3}, parts: [plus, minus]}
          sums: {call: "mine:size", input: m.double}
          difference: {call: "mine:add", args: {a: "${t.plus}", b: "${t.minus}"}}
        """,
        folder,
    )
    assert got == {"sums": 2, "difference": 0}


def test_a_part_that_the_function_does_not_return_fails_its_task(folder: Path) -> None:
    with pytest.raises(DataError, match="without the parts"):
        values(
            '  m: {call: "mine:pair", args: {x: 1}, parts: [triple]}\n  u: {call: "mine:add", input: m.triple}', folder
        )


def test_seeds_depend_on_the_item_and_not_on_how_many_there_are(folder: Path) -> None:
    few = values('  s: {call: "mine:pair", over: {x: [1, 2]}, seed: true}', folder)["s"]
    more = values('  s: {call: "mine:pair", over: {x: [2, 5, 1]}, seed: true}', folder)["s"]
    assert few[0]["seed"] == more[2]["seed"] == derived_seed(0, "s", "x=1")
    assert few[0]["seed"] != few[1]["seed"]


def test_dropped_items_are_left_out_downstream(folder: Path) -> None:
    got = values(
        """
          odd: {call: "mine:odd_only", over: {x: [1, 2, 3]}, on_error: drop}
          next: {call: "mine:add", over: {a: odd}, args: {b: 1}}
          n: {call: "mine:size", input: odd}
          frame: {op: to_frame, input: odd, columns: {value: int64}}
        """,
        folder,
    )
    assert got["next"] == [2, 4]
    assert got["n"] == 2
    assert got["frame"]["key"].tolist() == ["x=1", "x=3"]
    assert got["frame"]["value"].tolist() == [1, 3]


def test_what_a_call_gets_of_each_kind(folder: Path) -> None:
    got = values(
        """
          x: {op: arange, stop: 10, chunks: 3}
          f: {op: to_frame, input: x}
          items: {call: "mine:add", over: {a: [1, 2]}}
          of_array: {call: "mine:kind", args: {x: "${x}"}}
          of_frame: {call: "mine:kind", args: {x: "${f}"}}
          of_items: {call: "mine:kind", args: {x: "${items}"}}
        """,
        folder,
    )
    assert got == {"of_array": "xarray.DataArray", "of_frame": "pandas.DataFrame", "of_items": "builtins.list"}


def test_gathered_copies_come_as_a_list(folder: Path) -> None:
    got = values(
        """
          x: {call: "mine:add", matrix: {k: [1, 2, 3]}, args: {a: "${k}"}}
          n: {call: "mine:size", args: {values: "${x[*]}"}}
        """,
        folder,
    )
    assert got == {"n": 3}


def test_no_items_are_no_fault(folder: Path) -> None:
    got = values('  s: {call: "mine:add", over: {a: []}}\n  f: {op: to_frame, input: s, columns: {v: float64}}', folder)
    assert len(got["f"]) == 0


def test_a_length_known_only_in_the_run_is_not_multiplied(folder: Path) -> None:
    with pytest.raises(ConfigError, match="unknown until run time"):
        values('  n: {call: "mine:several"}\n  s: {call: "mine:add", over: {a: n, b: [1]}}', folder)


@pytest.mark.parametrize(
    ("value", "key"),
    [(0.1, "a=0.1"), (True, "a=true"), ("x", "a=x"), ([1], "7"), ({"p": 1, "q": "z"}, "p=1,q=z"), ({"p": [1]}, "7")],
)
def test_item_keys(value: Any, key: str) -> None:
    assert item_key("a", value, 7) == key


def test_ten_thousand_items_share_one_description(folder: Path) -> None:
    graph = graph_of('modules: [./mine.py]\nsteps:\n  s: {call: "mine:add", over: {a: {range: 10000}}}', folder)
    assert len(graph) == 10_000
    assert len({id(node.args[0]) for node in graph.tasks.values()}) == 1
