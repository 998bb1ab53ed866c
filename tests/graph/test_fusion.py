"""Fusing tasks to segments: joining, batches, order."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask._task_spec import convert_legacy_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.graph.fusion import SEGMENTS_A_WORKER, fuse
from pipeline.graph.graph import CONTEXT, Graph, Key, Policy
from pipeline.graph.nodes import constant, cull, dependencies, is_constant, listed, part, ref, task
from pipeline.graph.segments import Segment
from pipeline.worker.run_segment import run_segment


def graph(tasks: dict[Key, Any], wanted: tuple[Key, ...], **policies: Policy) -> Graph:
    """Each task is owned by the step that its key begins with; one step ``s`` where no policies are given."""
    if not policies:
        return Graph(tasks, wanted, dict.fromkeys(tasks, "s"), {"s": Policy("s")})
    return Graph(tasks, wanted, {key: str(key[0]) for key in tasks}, policies)


def of_array(x: Any) -> Graph:
    wanted = tuple(dask.core.flatten(x.__dask_keys__()))
    return graph(cull(convert_legacy_graph(dict(x.__dask_graph__())), wanted), wanted)


def total(values: list[Any], *more: Any) -> Any:
    return sum(values)


def cut(first: int, n: int) -> list[int]:
    return list(range(first, first + n))


def run(g: Graph, segments: tuple[Segment, ...]) -> dict[Key, Any]:
    """The wanted values, each segment given its inputs alone."""
    values: dict[Key, Any] = {CONTEXT: "here"}
    for segment in segments:
        completion = run_segment(segment, {key: values[key] for key in segment.inputs})
        assert completion.failure is None
        assert set(completion.outputs) == set(segment.outputs)
        values.update(completion.outputs)
    return {key: values[key] for key in g.wanted}


def keys(segment: Segment) -> list[Key]:
    return [inner.key for inner in segment.tasks]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random DAGs over few chunk indices, with constants, several steps, policies that differ."""
    tasks: dict[Key, Any] = {}
    made: list[Key] = []
    for i in range(draw(st.integers(1, 25))):
        key = (f"s{draw(st.integers(0, 2))}-{i}", draw(st.integers(0, 3)))
        if draw(st.integers(0, 9)) == 0:
            tasks[key] = constant(key, i)
        else:
            needed = draw(st.lists(st.sampled_from([*made, CONTEXT]), max_size=3, unique=True)) if made else []
            data = [ref(k) for k in needed if k != CONTEXT]
            tasks[key] = task(key, total, listed(data), i, *([ref(CONTEXT)] if CONTEXT in needed else []))
        made.append(key)
    wanted = tuple(draw(st.lists(st.sampled_from(made), min_size=1, unique=True)))
    tasks = cull({**tasks, CONTEXT: constant(CONTEXT, None)}, wanted)
    tasks.pop(CONTEXT, None)
    truth = st.booleans()
    policies = {f"s{i}": Policy(f"s{i}", merge=draw(truth), waits=draw(truth), light=draw(truth)) for i in range(3)}
    return Graph(tasks, wanted, {key: key[0][:2] for key in tasks}, policies)


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_segments_have_each_task_once_after_those_it_needs(g: Graph) -> None:
    segments = fuse(g, n_workers=1)
    times = Counter(key for segment in segments for key in keys(segment))
    assert {key for key in g.tasks if not is_constant(g.tasks[key])} <= set(times)
    assert all(n == 1 or is_constant(g.tasks[key]) for key, n in times.items())
    there: set[Key] = {CONTEXT}
    for number, segment in enumerate(segments):
        assert segment.number == number
        assert set(segment.inputs) <= there  # thus the segments have no cycle
        there |= set(segment.outputs)
    assert set(g.wanted) <= there


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_segments_of_any_graph_give_what_the_tasks_give(g: Graph) -> None:
    alone = {name: Policy(name, merge=False) for name in g.policies}
    apart = Graph(g.tasks, g.wanted, g.owners, alone)
    assert run(g, fuse(g, n_workers=1)) == run(apart, fuse(apart, n_workers=1))


@pytest.mark.parametrize("index", [(0,), (1,), ()])
def test_a_source_with_100_consumers_stays_100_wide(index: tuple[int, ...]) -> None:
    tasks = {("source", 0): task(("source", 0), int, 1)}
    for i in range(100):
        key = (f"use-{i}", *index)
        tasks[key] = task(key, operator.add, ref(("source", 0)), i)
    segments = fuse(graph(tasks, tuple(tasks)[1:]), n_workers=2)
    assert sorted(len(segment.tasks) for segment in segments) == [1] * 101


def test_calls_that_read_one_value_stay_apart() -> None:
    tasks = {("load",): task(("load",), int, 1)}
    tasks |= {(f"fit{i}",): task((f"fit{i}",), operator.add, ref(("load",)), i) for i in range(3)}
    assert len(fuse(graph(tasks, tuple(tasks)[1:]), n_workers=2)) == 4


def test_parts_are_taken_where_a_value_was_made_and_go_their_ways() -> None:
    tasks: dict[Key, Any] = {("split", i): task(("split", i), cut, 10 * i, 6) for i in range(3)}
    for i in range(3):
        for j in range(6):
            tasks["piece", i, j] = task(("piece", i, j), part, ref(("split", i)), j)
    for j in range(6):
        tasks["join", j] = task(("join", j), total, listed(ref(("piece", i, j)) for i in range(3)))
    g = graph(tasks, tuple(("join", j) for j in range(6)))
    segments = fuse(g, n_workers=2)
    assert Counter(len(segment.tasks) for segment in segments) == {7: 3, 1: 6}
    assert [len(segment.outputs) for segment in segments if len(segment.tasks) == 7] == [6] * 3
    assert run(g, segments) == {("join", j): 30 + 3 * j for j in range(6)}


def joined(n: int, **policy: Any) -> Graph:
    """n partitions of a large table, each joined with all of a small one, which has n partitions, too."""
    tasks: dict[Key, Any] = {}
    for name in ("large", "small"):
        tasks |= {(name, i): task((name, i), int, i) for i in range(n)}
    tasks["all", 0] = task(("all", 0), total, listed(ref(("small", i)) for i in range(n)))
    for i in range(n):
        tasks["join", i] = task(("join", i), operator.add, ref(("large", i)), ref(("all", 0)))
    policies = {name: Policy(name, **policy) for name in ("large", "small", "all", "join")}
    return graph(tasks, tuple(("join", i) for i in range(n)), **policies)


def test_rows_are_read_when_what_they_are_joined_with_is_there() -> None:
    g = joined(6, waits=True)
    segments = fuse(g, n_workers=2)
    pairs = sorted(keys(segment) for segment in segments if len(segment.tasks) > 1)
    assert pairs == [[("large", i), ("join", i)] for i in range(6)]
    alone = sorted(keys(segment) for segment in segments if len(segment.tasks) == 1)
    assert alone == [[("all", 0)], *([("small", i)] for i in range(6))]
    assert run(g, segments) == {("join", i): 15 + i for i in range(6)}
    at_once = fuse(joined(6), n_workers=2)
    assert [len(segment.tasks) for segment in at_once] == [1] * 19


def test_what_another_task_needs_sooner_does_not_wait() -> None:
    g = joined(6, waits=True)
    tasks = {**g.tasks, ("sum", 0): task(("sum", 0), total, listed(ref(("large", i)) for i in range(6)))}
    tasks["all", 0] = task(("all", 0), total, listed(map(ref, [*(("small", i) for i in range(6)), ("sum", 0)])))
    both = graph(tasks, g.wanted, **g.policies, sum=Policy("sum", waits=True))
    segments = fuse(both, n_workers=2)
    assert [keys(segment) for segment in segments if ("large", 1) in keys(segment)] == [[("large", 1)]]
    assert [keys(segment) for segment in segments if ("join", 1) in keys(segment)] == [[("join", 1)]]
    assert run(both, segments) == {("join", i): 30 + i for i in range(6)}


@pytest.mark.parametrize(("n_workers", "n_segments"), [(1, 3), (2, 3), (8, 10), (100, 20)])
def test_small_partitions_share_segments_but_leave_one_for_each_worker(n_workers: int, n_segments: int) -> None:
    tasks: dict[Key, Any] = {}
    for i in range(20):
        tasks["read", i] = task(("read", i), int, i)
        tasks["count", i] = task(("count", i), operator.neg, ref(("read", i)))
    wanted = tuple(("count", i) for i in range(20))
    policies = {"read": Policy("read", waits=True, light=True), "count": Policy("count", waits=True)}
    g = graph(tasks, wanted, **policies)
    segments = fuse(g, n_workers=n_workers)
    assert len(segments) == n_segments
    assert run(g, segments) == {("count", i): -i for i in range(20)}
    heavy = graph(tasks, wanted, **policies | {"read": Policy("read", waits=True)})
    assert len(fuse(heavy, n_workers=n_workers)) == 20
    others = graph(tasks, wanted, **policies | {"count": Policy("count")})  # a function of the user
    assert len(fuse(others, n_workers=n_workers)) == 20


@pytest.mark.parametrize(("policy", "most"), [({"merge": False}, 1), ({"uses": ("disk",)}, 1), ({}, 4)])
def test_small_partitions_that_are_tried_again_or_use_a_limit_stay_single(policy: dict[str, Any], most: int) -> None:
    tasks: dict[Key, Any] = {("read", i): task(("read", i), int, i) for i in range(8)}
    g = graph(tasks, tuple(tasks), read=Policy("read", waits=True, light=True, **policy))
    assert {len(segment.tasks) for segment in fuse(g, n_workers=2)} == {most}


def test_chains_on_one_chunk_become_one_segment() -> None:
    tasks = {(f"t{i}", 3): task((f"t{i}", 3), operator.neg, ref((f"t{i - 1}", 3))) for i in range(1, 6)}
    tasks["t0", 3] = task(("t0", 3), int, 7)
    (segment,) = fuse(graph(tasks, (("t5", 3),)), n_workers=2)
    assert keys(segment) == [(f"t{i}", 3) for i in range(6)]
    assert [inner.frees for inner in segment.tasks] == [(), *((("t" + str(i), 3),) for i in range(5))]


@pytest.mark.parametrize(
    ("name", "most"),
    [("standard", 72), ("elementwise", 48), ("product", 133)],
)
def test_array_graphs_have_at_least_as_many_segments_as_dasks(name: str, most: int) -> None:
    x = da.random.default_rng(1).random((400, 400), chunks=(100, 100))
    y = da.random.default_rng(2).random((400, 400), chunks=(100, 100))
    made = {
        "standard": lambda: (x - x.mean(0)) / x.std(0),
        "elementwise": lambda: da.sqrt(x**2 + y**2) * 3 + 1,
        "product": lambda: x @ y.T,
    }[name]()
    g = of_array(made)
    segments = fuse(g, n_workers=2)
    assert len(segments) <= most
    assert len(segments) < len(g)
    blocks = run(g, segments)
    whole = np.block([[blocks[made.name, i, j] for j in range(4)] for i in range(4)])
    np.testing.assert_allclose(whole, made.compute(scheduler="sync"))


def test_steps_that_are_not_merged_stay_single() -> None:
    tasks = {("a", 0): task(("a", 0), int, 1), ("b", 0): task(("b", 0), operator.neg, ref(("a", 0)))}
    segments = fuse(graph(tasks, (("b", 0),), a=Policy("a"), b=Policy("b", merge=False)), n_workers=2)
    assert [keys(segment) for segment in segments] == [[("a", 0)], [("b", 0)]]


def items(n: int, **policy: Any) -> Graph:
    tasks: dict[Key, Any] = {("a", i): task(("a", i), operator.neg, i) for i in range(n)}
    names = tuple(f"x={i}" for i in range(n))
    return graph(tasks, tuple(tasks), a=Policy("a", items=names, over="a", **policy))


@pytest.mark.parametrize(
    ("n", "policy", "n_segments"),
    [
        (10_000, {}, 2 * SEGMENTS_A_WORKER),
        (100, {}, 100),
        (100, {"batch": 1}, 100),
        (100, {"batch": 30}, 4),
        (1_000, {"batch": 1}, 1_000),
        (1_000, {"merge": False}, 2 * SEGMENTS_A_WORKER),
        (1_000, {"pure": False}, 1_000),
        (1_000, {"merge": False, "batch": 10}, 100),
    ],
)
def test_items_of_an_over_are_batched(n: int, policy: dict[str, Any], n_segments: int) -> None:
    g = items(n, **policy)
    before = g.fingerprint
    segments = fuse(g, n_workers=2)
    assert len(segments) == n_segments
    assert g.fingerprint == before
    sizes = {len(segment.tasks) for segment in segments}
    assert max(sizes) - min(sizes) <= 1 or policy.get("batch") == 30
    assert [inner.item for segment in segments for inner in segment.tasks] == [f"x={i}" for i in range(n)]


def test_what_follows_an_item_stays_with_it_in_its_batch() -> None:
    g = items(1_000)
    parts = {("b", i): task(("b", i), operator.neg, ref(("a", i))) for i in range(1_000)}
    both = graph({**g.tasks, **parts}, tuple(parts), a=g.policies["a"], b=Policy("b"))
    segments = fuse(both, n_workers=1)
    assert len(segments) == SEGMENTS_A_WORKER
    assert keys(segments[0])[:4] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_overs_that_need_each_other_are_batched_without_a_cycle() -> None:
    """Item i of b needs items i and i + 1 of a: whole batches of both would need each other."""
    n = 300
    tasks: dict[Key, Any] = {("a", i): task(("a", i), int, i) for i in range(n)}
    for i in range(n):
        tasks["b", i] = task(("b", i), operator.add, ref(("a", i)), ref(("a", (i + 1) % n)))
    names = tuple(map(str, range(n)))
    policies = {name: Policy(name, items=names, over=name) for name in ("a", "b")}
    g = graph(tasks, tuple(("b", i) for i in range(n)), **policies)
    segments = fuse(g, n_workers=1)
    assert len(segments) <= 2 * SEGMENTS_A_WORKER
    assert run(g, segments)["b", n - 1] == n - 1


def test_one_worker_makes_a_tree_depth_first() -> None:
    tasks: dict[Key, Any] = {("leaf", i): task(("leaf", i), int, i) for i in range(4)}
    for i in range(2):
        tasks["pair", i] = task(("pair", i), total, listed([ref(("leaf", 2 * i)), ref(("leaf", 2 * i + 1))]))
    tasks["root", 9] = task(("root", 9), total, listed([ref(("pair", 0)), ref(("pair", 1))]))
    segments = fuse(graph(tasks, (("root", 9),)), n_workers=1)
    order = [key for segment in segments for key in keys(segment)]
    assert order == [("leaf", 0), ("leaf", 1), ("pair", 0), ("leaf", 2), ("leaf", 3), ("pair", 1), ("root", 9)]


def test_the_last_consumer_of_a_value_runs_next() -> None:
    """Two reductions over the same chunks: each chunk goes into both before the next one is made."""
    tasks: dict[Key, Any] = {("x", i): task(("x", i), int, i) for i in range(6)}
    for name in ("p", "q"):
        parts = []
        for i in range(6):
            tasks[name, i + 10] = task((name, i + 10), operator.neg, ref(("x", i)))
            parts.append(ref((name, i + 10)))
        tasks[name, 99] = task((name, 99), total, listed(parts))
    segments = fuse(graph(tasks, (("p", 99), ("q", 99))), n_workers=1)
    order = [key for segment in segments for key in keys(segment)]
    assert order[:6] == [("x", 0), ("p", 10), ("q", 10), ("x", 1), ("p", 11), ("q", 11)]


def test_small_constants_are_copied_and_large_ones_are_handed_on() -> None:
    big = np.zeros(100_000)
    tasks: dict[Key, Any] = {("small",): constant(("small",), 5), ("big",): constant(("big",), big)}
    for i in range(2):
        tasks["a", i] = task(("a", i), operator.mul, ref(("small",)), i)
        tasks["b", i] = task(("b", i), len, ref(("big",)))
    g = graph(tasks, (("a", 0), ("a", 1), ("b", 0), ("b", 1)))
    segments = fuse(g, n_workers=1)
    assert sum(("small",) in keys(segment) for segment in segments) == 2
    assert sum(("big",) in keys(segment) for segment in segments) == 1
    assert sum(("big",) in segment.inputs for segment in segments) == 2
    assert run(g, segments)["b", 1] == 100_000


def test_the_context_is_an_input_like_any_other() -> None:
    tasks = {("w", i): task(("w", i), operator.add, ref(CONTEXT), str(i)) for i in range(2)}
    g = graph(tasks, tuple(tasks))
    segments = fuse(g, n_workers=1)
    assert [segment.inputs for segment in segments] == [(CONTEXT,)] * 2
    assert run(g, segments) == {("w", 0): "here0", ("w", 1): "here1"}


def test_limits_and_retries_of_a_segment_are_those_of_its_tasks() -> None:
    tasks = {("a", 0): task(("a", 0), int, 1)}
    (segment,) = fuse(graph(tasks, (("a", 0),), a=Policy("a", merge=False, retries=3, timeout=5.0)), n_workers=1)
    assert (segment.retries, segment.timeout, segment.tasks[0].timeout) == (3, 5.0, 5.0)


def test_the_graph_may_hold_more_than_is_wanted_of_a_task() -> None:
    tasks = {("a", 0): task(("a", 0), int, 1), ("b", 0): task(("b", 0), operator.neg, ref(("a", 0)))}
    segments = fuse(graph(tasks, (("a", 0),)), n_workers=1)
    assert [segment.outputs for segment in segments] == [(("a", 0),)]
    assert all(dependencies(inner.node) <= set(tasks) for segment in segments for inner in segment.tasks)


def test_a_task_that_uses_a_limit_is_fused_with_its_own_step_only() -> None:
    tasks: dict[Key, Any] = {}
    for i in range(2):
        tasks["read", i] = task(("read", i), total, [i])
        tasks["ask", i] = task(("ask", i), total, listed([ref(("read", i))]))
        tasks["more", i] = task(("more", i), total, listed([ref(("ask", i))]))
        tasks["use", i] = task(("use", i), total, listed([ref(("more", i))]))
    policies = {"read": Policy("read"), "ask": Policy("ask", uses=("db",)), "use": Policy("use")}
    owners = {key: {"more": "ask"}.get(str(key[0]), str(key[0])) for key in tasks}
    g = Graph(tasks, (("use", 0), ("use", 1)), owners, policies, limits={"db": 1})
    segments = fuse(g, n_workers=2)
    assert sorted((segment.step, segment.uses, len(segment.tasks)) for segment in segments) == [
        ("ask", ("db",), 2), ("ask", ("db",), 2), ("read", (), 1), ("read", (), 1), ("use", (), 1), ("use", (), 1)
    ]  # fmt: skip


def test_a_constant_of_a_step_with_a_limit_has_no_place() -> None:
    g = graph({("s", 0): constant(("s", 0), 1)}, (("s", 0),), s=Policy("s", uses=("db",)))
    assert [segment.uses for segment in fuse(g, n_workers=2)] == [()]
