"""Tasks that keep their value: what is kept under which key, what is loaded, what is said of it."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pytest

from pipeline.backends.local.serial import Serial
from pipeline.errors import EntryDamaged, TaskEntryDamaged
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.nodes import (
    GraphNode,
    dependencies,
    execute,
    function_of,
    ref,
    task,
    token,
    unwrapped,
    with_constants,
)
from pipeline.graph.ownership import runs_users_code
from pipeline.graph.segments import Dropped, Group
from pipeline.graph.task_keys import combine, needs_of
from pipeline.trace.trace import Trace
from pipeline.worker import item_logs
from pipeline.worker.cache_entries import Store
from pipeline.worker.item_logs import ItemLog
from pipeline.worker.kept_tasks import KeepRule, KeptTask, is_worth_it, kept, loaded
from pipeline.worker.value_digest import digest

A, B, C = ("a",), ("b",), ("c",)
KEYS = {A: "a0" * 16, B: "b0" * 16, C: "c0" * 16}

calls: list[Any] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "cache"))
    made.prepare()
    return made


@pytest.fixture
def rule(store: Store) -> KeepRule:
    return KeepRule(store, "step", "models", always=True)


def double(value: Any) -> Any:
    calls.append(value)
    return value * 2


def run(tasks: Mapping[Key, GraphNode], **policy: Any) -> tuple[dict[Key, Any], dict[str, str]]:
    """The results, and what became of each value."""
    owners = {key: str(key[0]) for key in tasks}
    graph = Graph(tasks, tuple(tasks), owners, {name: Policy(name, **policy) for name in owners.values()})
    with Serial() as backend:
        outcome = backend.run(graph)
    rows = outcome.trace.tasks.to_pylist()
    return dict(outcome.results), {row["step"]: row["kept"] for row in rows}


def chain(rule: KeepRule, start: Any, *, own: str = "doubles", look: bool = True) -> dict[Key, GraphNode]:
    """``a`` gives the start, ``b`` doubles it, ``c`` doubles that; their keys are known when their input is there."""
    a = kept(task(A, operator.pos, start), KeptTask(rule, KEYS[A]))
    b = kept(task(B, double, ref(A)), KeptTask(rule, "", own, (None,), look))
    return {A: a, B: b, C: kept(task(C, double, ref(B)), KeptTask(rule, KEYS[C], own, (None,), look))}


# ---------------------------------------------------------------------------------------------------------------------
# Keys
# ---------------------------------------------------------------------------------------------------------------------


def test_a_value_is_kept_under_its_key_with_what_it_cost(store: Store, rule: KeepRule) -> None:
    results, became = run({A: kept(task(A, double, 2), KeptTask(rule, KEYS[A]))})
    entry = store.find(KEYS[A])
    assert results == {A: 4}
    assert became == {"a": "kept"}
    assert entry is not None
    assert (entry.step, entry.pipeline, entry.digest) == ("step", "models", digest(4))
    assert 0 < entry.seconds < 60


def test_a_key_is_found_when_the_values_it_depends_on_are_there(store: Store, rule: KeepRule) -> None:
    results, became = run(chain(rule, 3))
    assert results == {A: 3, B: 6, C: 12}
    assert set(became.values()) == {"kept"}
    of_b, of_c = combine("doubles", [digest(3) or ""]), combine("doubles", [digest(6) or ""])
    assert store.load(of_b) == 6
    assert store.load(of_c) == store.load(KEYS[C]) == 12  # the next run can know the second one before it runs
    assert sorted(store.known([KEYS[A], KEYS[B], KEYS[C], of_b, of_c])) == sorted([KEYS[A], KEYS[C], of_b, of_c])


def test_an_equal_value_stops_what_comes_after(store: Store, rule: KeepRule) -> None:
    run(chain(rule, 3))
    calls.clear()
    other = chain(rule, 3)
    other[A] = kept(task(A, operator.add, 1, 2), KeptTask(rule, "a1" * 16))  # computed in another way
    results, became = run(other)
    assert results == {A: 3, B: 6, C: 12}
    assert became == {"a": "kept", "b": "loaded", "c": "loaded"}
    assert calls == []


def test_another_value_or_task_is_computed(rule: KeepRule) -> None:
    run(chain(rule, 3))
    assert run(chain(rule, 4))[1] == {"a": "kept", "b": "kept", "c": "kept"}
    assert run(chain(rule, 3, own="doubles, changed"))[1] == {"a": "kept", "b": "kept", "c": "kept"}
    assert calls == [3, 6, 4, 8, 3, 6]


def test_a_task_that_is_forced_is_computed_and_replaced(rule: KeepRule) -> None:
    run(chain(rule, 3))
    assert run(chain(rule, 3, look=False))[1] == {"a": "kept", "b": "kept", "c": "kept"}
    assert calls == [3, 6, 3, 6]


def test_inputs_stand_in_an_order_that_no_process_changes(store: Store, rule: KeepRule) -> None:
    pair = task(C, operator.sub, ref(B), ref(A))
    assert needs_of(pair) == (A, B)
    tasks = {A: task(A, operator.pos, 1), B: task(B, operator.pos, 5)}
    results, _ = run({**tasks, C: kept(pair, KeptTask(rule, "", "minus", ("known", None)))})
    assert results[C] == 4
    assert store.load(combine("minus", ["known", digest(5) or ""])) == 4


def test_an_input_without_digest_leaves_the_key_of_the_plan(store: Store, rule: KeepRule) -> None:
    tasks = {A: task(A, object), B: kept(task(B, str, ref(A)), KeptTask(rule, KEYS[B], "own", (None,)))}
    results, became = run(tasks)
    assert became == {"a": "", "b": "kept"}
    assert store.load(KEYS[B]) == results[B]
    tasks[B] = kept(task(B, str, ref(A)), KeptTask(rule, "", "own", (None,)))
    assert run(tasks)[1]["b"] == "computed: its key is unknown"


# ---------------------------------------------------------------------------------------------------------------------
# What is kept
# ---------------------------------------------------------------------------------------------------------------------


def test_what_is_sooner_computed_than_read_is_not_kept(store: Store) -> None:
    rule = KeepRule(store)
    assert run({A: kept(task(A, double, 2), KeptTask(rule, KEYS[A]))})[1] == {"a": "cheap"}
    assert store.find(KEYS[A]) is None
    assert is_worth_it(0.01, 1_000_000, rule)
    assert not is_worth_it(0.01, 5_000_000, rule)
    assert not is_worth_it(0.001, 0, rule)


def test_what_takes_longer_is_kept(store: Store) -> None:
    rule = KeepRule(store, least=1e-9, rate=1e15)
    assert run({A: kept(task(A, double, 2), KeptTask(rule, KEYS[A]))})[1] == {"a": "kept"}


def fail(value: Any) -> Any:
    raise ValueError(f"not {value}")


def test_items_that_failed_are_not_kept(store: Store, rule: KeepRule) -> None:
    tasks: dict[Key, GraphNode] = {("fit", i): task(("fit", i), double if i else fail, i) for i in range(3)}
    tasks = {key: kept(node, KeptTask(rule, f"{key[1]:032x}")) for key, node in tasks.items()}
    policy = Policy("fit", items=("x=0", "x=1", "x=2"), over="fit", drop=True)
    with Serial() as backend:
        outcome = backend.run(Graph(tasks, tuple(tasks), dict.fromkeys(tasks, "fit"), {"fit": policy}))
    assert [type(value) for value in outcome.results.values()] == [Dropped, int, int]
    assert [store.find(f"{i:032x}") is not None for i in range(3)] == [False, True, True]


def some() -> Group:
    group = Group([("a", 1)])
    group.dropped = (("b", "no good"),)
    return group


def test_a_group_without_some_of_its_items_is_not_kept(store: Store, rule: KeepRule) -> None:
    tasks = {A: kept(task(A, some), KeptTask(rule, KEYS[A])), B: kept(task(B, Group), KeptTask(rule, KEYS[B]))}
    assert run(tasks)[1] == {"a": "computed: items were left out", "b": "kept"}
    assert store.load(KEYS[B]) == []


def test_why_a_value_was_not_kept_is_in_the_trace(tmp_path: Path) -> None:
    rule = KeepRule(Store(str(tmp_path / "gone")), always=True)
    results, became = run({A: kept(task(A, double, 2), KeptTask(rule, KEYS[A]))})
    assert (results, became) == ({A: 4}, {"a": "computed: No such file or directory"})


def test_the_trace_keeps_what_became_of_values(rule: KeepRule, tmp_path: Path) -> None:
    with Serial() as backend:
        graph = Graph({A: kept(task(A, double, 2), KeptTask(rule, KEYS[A]))}, (A,), {A: "a"}, {"a": Policy("a")})
        trace = backend.run(graph).trace
    trace.save(tmp_path / "trace.parquet")
    assert Trace.load(tmp_path / "trace.parquet").tasks["kept"].to_pylist() == ["kept"]
    before = trace.tasks.drop_columns(["kept"]).replace_schema_metadata(
        {"pipeline": '{"format": 5, "elapsed": 1.0, "backend": "serial", "n_workers": 1, "start_up": 0, "notes": {}}'}
    )
    pa.parquet.write_table(before, tmp_path / "old.parquet")
    assert Trace.load(tmp_path / "old.parquet").tasks["kept"].to_pylist() == [""]


# ---------------------------------------------------------------------------------------------------------------------
# Loading
# ---------------------------------------------------------------------------------------------------------------------


def test_a_value_that_was_kept_is_loaded_without_its_inputs(store: Store, rule: KeepRule) -> None:
    run(chain(rule, 3))
    calls.clear()
    results, became = run({C: loaded(C, store, KEYS[C])})
    assert (results, became, calls) == ({C: 12}, {"c": "loaded"}, [])


@pytest.mark.parametrize("policy", [{}, {"retries": 2}, {"drop": True, "items": ("x=0",), "over": "a"}])
def test_an_entry_that_is_damaged_is_removed_and_named(store: Store, rule: KeepRule, policy: dict[str, Any]) -> None:
    run(chain(rule, 3))
    path = Path(store.path(KEYS[A]))
    path.write_bytes(path.read_bytes()[:-1])
    key: Key = ("a", 0)
    with pytest.raises(TaskEntryDamaged, match=f"entry {KEYS[A]}: the file is cut") as caught:
        run({key: loaded(key, store, KEYS[A])}, **policy)
    assert caught.value.key == "('a', 0)"
    assert not path.exists()


def test_a_damaged_entry_of_an_unknown_key_is_computed_again(store: Store, rule: KeepRule) -> None:
    run(chain(rule, 3))
    key = combine("doubles", [digest(3) or ""])
    Path(store.path(key)).write_bytes(b"")
    assert run(chain(rule, 3))[1] == {"a": "kept", "b": "kept", "c": "loaded"}
    assert store.load(key) == 6


# ---------------------------------------------------------------------------------------------------------------------
# An ordinary node
# ---------------------------------------------------------------------------------------------------------------------


def test_a_kept_node_looks_like_the_one_that_it_is_around(rule: KeepRule) -> None:
    plain = task(B, double, ref(A))
    node = kept(plain, KeptTask(rule, KEYS[B]))
    assert (node.key, dependencies(node), function_of(node)) == (B, frozenset({A}), double)
    assert unwrapped(node) is plain
    assert runs_users_code(node)
    again = pickle.loads(cloudpickle.dumps(node))
    assert execute(again, {A: 4}) == 8
    assert (again.key, dependencies(again), repr(again)) == (B, frozenset({A}), repr(plain))
    changed = with_constants(kept(task(B, operator.add, ref(A), 1), KeptTask(rule, KEYS[B])), lambda value: value + 1)
    assert execute(changed, {A: 0}) == 2


def test_a_graph_with_kept_tasks_has_the_token_of_the_plain_one(rule: KeepRule) -> None:
    plain = {A: task(A, double, 1), B: task(B, double, ref(A)), C: task(C, operator.neg, ref(A))}
    some = {**plain, A: kept(plain[A], KeptTask(rule, KEYS[A])), C: kept(plain[C], KeptTask(rule, KEYS[C]))}
    assert token(some) == token(plain) != token({**some, A: task(A, double, 2)})


def write(array: Any) -> Any:
    array[0] = 7
    return array


@pytest.mark.parametrize("writable", [True, False])
def test_a_kept_task_gets_what_the_plain_one_would(store: Store, rule: KeepRule, writable: bool) -> None:
    first = {A: kept(task(A, np.zeros, 3), KeptTask(rule, KEYS[A])), B: task(B, np.copy, ref(A))}
    assert run(first)[1]["a"] == "kept"
    for source in (first[A], loaded(A, store, KEYS[A])):
        node = kept(task(C, write, ref(A)), KeptTask(rule, KEYS[C]))
        tasks = {A: source, B: first[B], C: node}
        if writable:
            results, _ = run(tasks, writable=True)
            assert [results[key].tolist() for key in (A, B, C)] == [[0, 0, 0], [0, 0, 0], [7, 0, 0]]
            assert store.load(KEYS[A]).tolist() == [0, 0, 0]
        else:
            with pytest.raises(Exception, match="read-only"):
                run(tasks)


def change_list(values: Any) -> Any:
    values.append(0)
    return len(values)


def test_a_constant_of_a_kept_task_is_not_changed_for_the_next_run(store: Store, rule: KeepRule) -> None:
    node = kept(task(A, change_list, [1]), KeptTask(rule._replace(always=False), KEYS[A]))
    assert [run({A: node})[0][A] for _ in range(2)] == [2, 2]


def test_kept_tasks_are_fused_as_the_plain_ones(rule: KeepRule) -> None:
    def graph(keep: bool) -> Graph:
        tasks: dict[Key, GraphNode] = {}
        for i in range(5):
            tasks["raw", i] = task(("raw", i), double, i)
            tasks["fit", i] = task(("fit", i), double, ref(("raw", i)))
        if keep:
            tasks |= {key: kept(node, KeptTask(rule, f"{i:032x}")) for i, (key, node) in enumerate(tasks.items())}
        return Graph(tasks, tuple(tasks), {key: str(key[0]) for key in tasks}, {n: Policy(n) for n in ("raw", "fit")})

    shapes = [[[one.key for one in segment.tasks] for segment in fuse(graph(keep), n_workers=2)] for keep in (0, 1)]
    assert shapes[0] == shapes[1]


def test_a_kept_task_adds_little_to_a_message(rule: KeepRule) -> None:
    plain = [task(("fit", i), operator.add, ref(("raw", i)), i) for i in range(1000)]
    nodes = [kept(node, KeptTask(rule, f"{i:032x}")) for i, node in enumerate(plain)]
    assert len(pickle.dumps(nodes)) - len(pickle.dumps(plain)) < 75 * 1000


def test_items_can_be_kept_in_the_log_of_their_run(tmp_path: Path) -> None:
    log = ItemLog(str(tmp_path / "items"))
    log.prepare()
    rule = KeepRule(log, "fit", always=True)
    tasks = {key: kept(task(key, double, i), KeptTask(rule, KEYS[key])) for i, key in enumerate((A, B))}
    assert run(tasks)[1] == {"a": "kept", "b": "kept"}
    found = log.index()
    assert {key: (item.step, item.digest) for key, item in found.items()} == {
        KEYS[A]: ("fit", digest(0)),
        KEYS[B]: ("fit", digest(2)),
    }
    calls.clear()
    assert run({B: loaded(B, log, found[KEYS[B]].place)}) == ({B: 2}, {"b": "loaded"})
    assert calls == []


def test_an_item_that_can_not_be_read_is_taken_out_of_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ItemLog(str(tmp_path / "items"))
    log.prepare()
    log.keep(KEYS[A], 1)
    log.keep(KEYS[B], 2)
    place = log.index()[KEYS[A]].place
    (file,) = (tmp_path / "items").iterdir()
    data = file.read_bytes()
    file.write_bytes(data[:12] + b"?" + data[13:])
    with pytest.raises(EntryDamaged):
        log.load(place)
    monkeypatch.setattr(item_logs.os, "getpid", lambda: 1)  # as if the log were of an earlier run
    with pytest.raises(TaskEntryDamaged, match="there is no whole record"):
        run({A: loaded(A, log, place)})
    file.write_bytes(data)  # the next run must not try it again, whatever happens
    assert list(log.index()) == [KEYS[B]]
