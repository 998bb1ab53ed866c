"""A run that keeps going: which tasks run after some have failed, whatever segments they are fused into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.backends.events import Event
from pipeline.backends.local.serial import Serial
from pipeline.errors import TaskError
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.nodes import GraphNode, ref, task
from pipeline.graph.segments import Failure

_ran: list[Key] = []  # by this thread's runs, in order


def note(key: Key, fails: int, *needed: Any) -> int:
    """Fails as often as asked."""
    _ran.append(key)
    if _ran.count(key) <= fails:
        raise ValueError(f"{key} fails")
    return 1 + sum(map(len if isinstance(needed, str) else int, needed))


def graph_of(needs: Mapping[Key, list[Key]], fails: Mapping[Key, int], wanted: list[Key], **policies: Policy) -> Graph:
    tasks: dict[Key, GraphNode] = {
        key: task(key, note, key, fails.get(key, 0), *map(ref, needed)) for key, needed in needs.items()
    }
    owners: dict[Key, str] = {key: str(key[0]) for key in tasks}
    found = {name: policies.get(name, Policy(name)) for name in dict.fromkeys(owners.values())}
    return Graph(tasks, tuple(wanted), owners, found)


def descendants(needs: Mapping[Key, list[Key]], failed: set[Key]) -> set[Key]:
    """The tasks that need one of the failed, directly or through others; ``needs`` is in topological order."""
    found: set[Key] = set()
    for key, needed in needs.items():
        if any(other in failed or other in found for other in needed):
            found.add(key)
    return found


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, dict[Key, list[Key]], set[Key]]:
    """Steps of several chunks each, a step over items among them; some tasks fail, some of these not finally."""
    n_steps, n_chunks = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    needs: dict[Key, list[Key]] = {}
    policies, fails, final = {}, {}, set()
    for i in range(n_steps):
        retries, is_over = draw(st.integers(0, 2)), draw(st.booleans())
        name, pure = f"s{i}", draw(st.booleans()) or bool(retries)
        items = tuple(f"x={j}" for j in range(n_chunks)) if is_over else None
        policies[name] = Policy(
            name,
            retries=retries,
            merge=draw(st.booleans()) and pure,  # a task with effects outside is a segment of its own
            items=items,
            over=name if is_over else "",
            batch=draw(st.sampled_from([None, 1, 2])),
            pure=pure,
        )
        for j in range(n_chunks):
            earlier = [key for key in needs if key[0] != name]
            chosen = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
            needs[name, j] = sorted(chosen)
            if draw(st.integers(0, 3)) == 0:
                fails[name, j] = draw(st.sampled_from([retries, 1_000]))
                if fails[name, j] > retries:
                    final.add((name, j))
    wanted = draw(st.lists(st.sampled_from(sorted(needs)), unique=True, min_size=1))
    return graph_of(needs, fails, wanted, **policies), needs, final


@settings(max_examples=50)
@given(graphs())
def test_exactly_the_descendants_of_failed_tasks_are_not_run(made: tuple[Graph, Any, set[Key]]) -> None:
    graph, needs, failing = made
    lost = descendants(needs, failing)
    _ran.clear()
    with Serial() as backend:
        outcome = backend.run(graph, keep_going=True)
    assert set(_ran) == set(needs) - lost
    assert set(outcome.results) == set(graph.wanted) - lost - failing
    assert {failure.key for failure in outcome.failures} == {str(key) for key in failing - lost}
    assert len(outcome.failures) == len(failing - lost)
    assert {row["key"] for row in outcome.trace.tasks.to_pylist()} == {str(key) for key in set(needs) - lost}


def test_a_task_is_tried_again_before_it_is_given_up() -> None:
    needs: dict[Key, list[Key]] = {("a", 0): [], ("b", 0): [("a", 0)], ("c", 0): []}
    graph = graph_of(needs, {("a", 0): 1_000, ("c", 0): 1}, [("b", 0), ("c", 0)], a=Policy("a", retries=2),
                     c=Policy("c", retries=1))  # fmt: skip
    heard: list[Event] = []
    _ran.clear()
    with Serial() as backend:
        outcome = backend.run(graph, listener=heard.append, keep_going=True)
    assert (_ran.count(("a", 0)), _ran.count(("c", 0)), outcome.results) == (3, 2, {("c", 0): 1})
    assert [event.kind for event in heard if event.kind != "task"] == ["retry", "retry", "failed", "retry"]
    assert sum(event.count for event in heard if event.kind == "task") == 1


def test_without_it_the_first_failure_ends_the_run() -> None:
    graph = graph_of({("a", 0): [], ("c", 0): []}, {("a", 0): 1}, [("a", 0), ("c", 0)])
    _ran.clear()
    with Serial() as backend, pytest.raises(TaskError, match="fails"):
        backend.run(graph)


def test_a_segment_that_is_lost_names_each_task_that_needs_no_other() -> None:
    needs: dict[Key, list[Key]] = {("a", 0): [], ("b", 0): [("a", 0)], ("c", 0): [("a", 0)], ("d", 0): [("c", 0)]}
    (segment,) = fuse(graph_of(needs, {}, [("b", 0), ("d", 0)]), n_workers=1)
    keys = [failure.key for failure in segment.all_failed(Failure("b", "('b', 0)", "", "gone", kind="lost"))]
    assert keys == ["('b', 0)", "('a', 0)"]
    left = segment.computable([("b", 0)])
    assert ([inner.key for inner in left.tasks], left.outputs) == ([("a", 0), ("c", 0), ("d", 0)], (("d", 0),))
    assert segment.computable([("a", 0)]).is_empty


def test_ctrl_c_ends_a_run_that_keeps_going() -> None:
    def interrupt(event: Event) -> None:
        if event.kind == "failed":
            raise KeyboardInterrupt

    graph = graph_of({("a", 0): [], ("c", 0): []}, {("a", 0): 1_000}, [("a", 0), ("c", 0)])
    _ran.clear()
    with Serial() as backend, pytest.raises(KeyboardInterrupt):
        backend.run(graph, listener=interrupt, keep_going=True)
    assert _ran == [("a", 0)]
