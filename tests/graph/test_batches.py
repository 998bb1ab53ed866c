"""Items with retries, timeout and on_error in a batch: what one item does costs no other item a second run."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_functions import act
from schedulers import manned

from pipeline.backends.base import Backend
from pipeline.backends.events import Event, ItemDropped, TaskRetry, TasksDone
from pipeline.backends.registry import create
from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.errors import PipelineError
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.nodes import task

OPTIONS: dict[str, dict[str, Any]] = {
    "pool": {"start_method": "forkserver"},
    "processes": {"start_method": "forkserver"},
    "process-per-task": {"start_method": "forkserver"},
    "dask": {"dashboard": False},
}
LIMIT = 0.4
"""Seconds that an item may take; those that are slow take 0.6 s, those that hang never return."""


def graph_of(plans: list[str], folder: Path, *, batch: int | None, **policy: Any) -> Graph:
    tasks = {("fit", n): task(("fit", n), act, plan, n, str(folder)) for n, plan in enumerate(plans)}
    owners: dict[Key, str] = dict.fromkeys(tasks, "fit")
    policies = {
        "fit": Policy(
            "fit", merge=False, batch=batch, items=tuple(f"n={n}" for n in range(len(plans))), over="fit", **policy
        )
    }
    return Graph(tasks, tuple(tasks), owners, policies)


class Seen:
    """What a run has told, in a form that does not depend on order and time."""

    def __init__(self, backend: Backend, graph: Graph, folder: Path) -> None:
        folder.mkdir()
        self.events: list[Event] = []
        self.error, self.results, self.rows, self.dropped = "", {}, Counter(), ()
        try:
            outcome = backend.run(graph, listener=self.events.append)
        except PipelineError as error:
            self.error = f"{type(error).__name__}: {error}"
        else:
            self.results = {key: str(value) for key, value in outcome.results.items()}
            self.dropped = sorted(outcome.dropped)
            self.rows = Counter(outcome.trace.tasks["key"].to_pylist())
            self.attempts = sorted(zip(*(outcome.trace.tasks[n].to_pylist() for n in ("key", "attempt")), strict=True))
        self.runs = Counter(int(name.partition("-")[0]) for name in os.listdir(folder))

    @property
    def told(self) -> list[Any]:
        retries = sorted((e.item, e.message) for e in self.events if isinstance(e, TaskRetry))
        dropped = sorted((e.item, e.message) for e in self.events if isinstance(e, ItemDropped))
        done = sum(e.count for e in self.events if isinstance(e, TasksDone))
        return [self.results, self.dropped, retries, dropped, done, self.runs]


def plans_of(seed: int, n: int, kinds: str) -> list[str]:
    """Plans of which half do nothing."""
    rng = random.Random(seed)
    return ["".join(rng.choices(kinds, k=rng.randint(1, 3))) if rng.random() < 0.5 else "" for _ in range(n)]


@pytest.fixture(
    scope="module",
    params=["serial", "threads", "pool", "processes", "dask", pytest.param("process-per-task", marks=pytest.mark.slow)],
)
def shared(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with create(request.param, workers=2, **OPTIONS.get(request.param, {})) as opened:
        yield opened


@pytest.fixture
def backend(shared: Backend) -> Iterator[Backend]:
    """One for many tests; each leaves it with both workers, so that none of them is taken for the next one's leak."""
    yield shared
    assert manned(shared)


@pytest.mark.parametrize("seed", range(3))
def test_failures_in_batches_are_those_of_single_items(backend: Backend, seed: int, tmp_path: Path) -> None:
    plans = plans_of(seed, 40, "f.")
    policy: dict[str, Any] = {"retries": seed, "drop": True, "timeout": 60.0 if seed == 1 else None}
    one = Seen(backend, graph_of(plans, tmp_path / "one", batch=1, **policy), tmp_path / "one")
    many = Seen(backend, graph_of(plans, tmp_path / "many", batch=20, **policy), tmp_path / "many")
    assert not one.error
    assert many.told == one.told
    assert many.runs == {n: 1 + min(seed, len(p) - len(p.lstrip("f"))) for n, p in enumerate(plans)}
    tried = [(key, attempt) for key, attempt in many.attempts if "Dropped" not in one.results.get(key, "")]
    assert {row for row in one.attempts if row in tried} == set(tried) & set(one.attempts)


def test_a_late_item_in_a_batch_is_stopped_alone(backend: Backend, tmp_path: Path) -> None:
    plans = ["", "", "s" if not backend.capabilities.can_stop_tasks else "h", "", "f", "", ""]
    policy: dict[str, Any] = {"retries": 1, "timeout": LIMIT, "drop": True}
    many = Seen(backend, graph_of(plans, tmp_path / "many", batch=7, **policy), tmp_path / "many")
    assert many.results == {("fit", n): str(n * 10) for n in range(7)}
    assert many.runs == {0: 1, 1: 1, 2: 2, 3: 1, 4: 2, 5: 1, 6: 1}
    assert Counter(e.item for e in many.events if isinstance(e, TaskRetry)) == {"n=2": 1, "n=4": 1}
    assert sum(e.count for e in many.events if isinstance(e, TasksDone)) == 7
    assert set(many.rows) == {f"('fit', {n})" for n in range(7)}


def test_an_item_that_is_late_twice_is_dropped_alone(backend: Backend, tmp_path: Path) -> None:
    late = "s" if not backend.capabilities.can_stop_tasks else "h"
    plans = ["", late * 2, "", "ff", "", f"f{late}"]
    policy: dict[str, Any] = {"retries": 1, "timeout": LIMIT, "drop": True}
    many = Seen(backend, graph_of(plans, tmp_path / "many", batch=6, **policy), tmp_path / "many")
    assert many.runs == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1, 5: 2}
    assert [(item, cause.partition(" (")[0]) for _, item, cause in many.dropped] == [
        ("n=1", f"ran longer than its timeout of {LIMIT} s"),
        ("n=3", "ValueError: item 3 fails, try 1"),
        ("n=5", f"ran longer than its timeout of {LIMIT} s"),
    ]


def test_too_many_failures_end_the_run_with_the_same_text(backend: Backend, tmp_path: Path) -> None:
    plans = ["", "ff", ""]
    texts = []
    for batch in (1, 3):
        folder = tmp_path / str(batch)
        seen = Seen(backend, graph_of(plans, folder, batch=batch, retries=1), folder)
        texts.append(seen.error)
        assert seen.runs[1] == 2
    assert texts[0] == texts[1]
    assert "fit[n=1]: ValueError: item 1 fails, try 1" in texts[0]


def test_a_lost_worker_costs_no_item_that_has_finished(backend: Backend, tmp_path: Path) -> None:
    if not backend.capabilities.recovers_workers:
        return  # it ends the run
    plans = ["", "f", "k", "", "k", ""]
    folder = tmp_path / "many"
    many = Seen(backend, graph_of(plans, folder, batch=6, retries=1), folder)
    assert many.results == {("fit", n): str(n * 10) for n in range(6)}
    assert many.runs == {0: 1, 1: 2, 2: 2, 3: 1, 4: 2, 5: 1}
    assert sum(e.count for e in many.events if isinstance(e, TasksDone)) == 6


KEYS = ["retries: 2", "timeout: 60", "on_error: drop", "retries: 1, timeout: 60, on_error: drop, parts: [a]"]


@pytest.mark.parametrize("keys", KEYS)
def test_items_are_batched_whatever_their_step_says(keys: str) -> None:
    text = f"""
version: 1
modules: [./batch_functions.py]
steps: {{fit: {{call: "batch_functions:count", over: {{n: {{range: 1000}}}}, {keys}}}}}
"""
    graph = build(loads(text, name="t", root=Path(__file__).parents[1]))
    assert len(fuse(graph, n_workers=2)) == 128
    impure = build(loads(text.replace(keys, "pure: false"), name="t", root=Path(__file__).parents[1]))
    assert len(fuse(impure, n_workers=2)) == 1000
