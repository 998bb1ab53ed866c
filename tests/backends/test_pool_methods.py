"""The methods of a Pool: which is used when, and that all of them hold to what is promised of the back end."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from backend_tasks import drop_two, hang_once, kill_worker, leave, never_return, one_way, square
from process_tasks import end_by_itself, files_in, wait_for_file
from test_backends import mapped

from pipeline.backends.base import Backend
from pipeline.backends.events import Event
from pipeline.backends.local.executor import Job
from pipeline.backends.local.pool import Pool
from pipeline.backends.options import parse
from pipeline.backends.registry import create
from pipeline.config.loader import loads
from pipeline.errors import ConfigError, TaskError, TaskTimeout, WorkerLost
from pipeline.experiments.comparison.compare import compare_graph
from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.nodes import task
from pipeline.graph.segments import Dropped, Segment, SegmentTask

OPTIONS: dict[str, dict[str, Any]] = {
    "apply_async": {},
    "map_async": {"chunksize": 2},
    "imap": {"ordered": True, "chunksize": 2},
    "imap_unordered": {"ordered": False},
}


def opened(**options: Any) -> Any:
    return create("pool", **{"workers": 2, "start_method": "forkserver", **options})


def steps(*functions: Callable[..., Any], **policy: Any) -> Graph:
    """Steps of two items each, ``a``, ``b``, …; an item has two keys in the second."""
    tasks, owners, policies = {}, dict[Key, str](), {}
    for name, function in zip("abcd", functions, strict=False):
        for i in range(2):
            tasks[name, i] = task((name, i), function, i + 1)
            owners[name, i] = name
        items = tuple(f"x={i},y=7" if name == "b" else f"x={i}" for i in range(2))
        policies[name] = Policy(name, items=items, over=name, batch=1, **policy)
    return Graph(tasks, tuple(tasks), owners, policies)


@pytest.fixture(scope="module", params=list(OPTIONS))
def pool(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with opened(**OPTIONS[request.param]) as backend:
        yield backend


@pytest.mark.parametrize("method", list(OPTIONS))
def test_the_options_choose_the_method_of_the_pool(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    for name in ("apply_async", "map_async", "starmap_async", "imap", "imap_unordered"):
        own = getattr(multiprocessing.pool.Pool, name)

        def spy(self: Any, function: Any, *args: Any, name: str = name, own: Any = own, **more: Any) -> Any:
            if getattr(function, "__name__", "") != "_warm":
                used.append(name)
            return own(self, function, *args, **more)

        monkeypatch.setattr(multiprocessing.pool.Pool, name, spy)
    with opened(**OPTIONS[method]) as backend:
        outcome = backend.run(steps(square, square))
    assert outcome.results == {("a", 0): 1, ("a", 1): 4, ("b", 0): 1, ("b", 1): 4}
    assert outcome.trace.notes["method"] == method
    expected = {"apply_async": [method] * 4, "map_async": [method, "starmap_async"]}  # b is over two keys
    assert used == expected.get(method, [method])


def test_results_are_the_same_by_every_method(pool: Backend) -> None:
    assert pool.run(mapped(square, list(range(50)), last=sum, batch=3)).results == {("sum",): 40_425}
    assert pool.run(mapped(drop_two, [1, 2, 3], last=list, batch=1)).results["sum",] == [1, Dropped("no good"), 3]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (leave, TaskError, r"fit\[x=1\]: SystemExit: 3"),
        (one_way, TaskError, r"fit\[x=1\].*(ZeroDivision|unpickle)"),
        (kill_worker, WorkerLost, r"fit\[x=1\].*SIGKILL while it ran task \('fit', 1\)"),
    ],
)
def test_a_task_that_ends_badly_is_named_by_every_method(
    pool: Backend, function: Callable[..., Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pool.run(mapped(function, [1, 2, 3, 4], batch=1))
    assert pool.run(mapped(square, [3])).results == {("fit", 0): 9}


def test_a_timeout_ends_a_chunk_and_all_others_run_again(pool: Backend, tmp_path: Path) -> None:
    graph = mapped(square, [1, 2, 3, 4], retries=1, timeout=2.0, merge=False, batch=1)
    tasks = {**graph.tasks, ("fit", 1): task(("fit", 1), hang_once, str(tmp_path))}
    assert list(pool.run(Graph(tasks, graph.wanted, graph.owners, graph.policies)).results.values()) == [1, 7, 9, 16]
    with pytest.raises(TaskTimeout, match=r"fit\[x=1\]"):
        pool.run(mapped(never_return, [1, 2, 3], timeout=0.2, batch=1))


@pytest.mark.parametrize(("ordered", "order"), [(True, ["x=0", "x=1"]), (False, ["x=1", "x=0"])])
def test_ordered_results_wait_for_those_before_them(ordered: bool, order: list[str], tmp_path: Path) -> None:
    """The first item waits for the second: for its end, or for its result to be handed on."""
    heard: list[str] = []

    def listen(event: Event) -> None:
        heard.append(event.item)  # type: ignore[union-attr]
        (tmp_path / "heard").touch()

    graph = mapped(wait_for_file, [1, 2], batch=1)
    wanted = tmp_path / ("ended" if ordered else "heard")
    tasks = {
        key: task(key, wait_for_file, i, str(wanted), str(tmp_path / "ended")) for i, key in enumerate(graph.tasks)
    }
    with opened(ordered=ordered) as backend:
        backend.run(Graph(tasks, graph.wanted, graph.owners, graph.policies), listener=listen)
    assert heard == order


def test_idle_workers_of_a_pool_end_by_themselves(pool: Backend, tmp_path: Path) -> None:
    with opened(workers=1) as backend:
        backend.run(mapped(end_by_itself, [str(tmp_path / "ended")]))
        assert not list(tmp_path.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["ended"]


def test_a_segment_with_effects_that_has_begun_is_known() -> None:
    """Whatever its worker does by then: its result may wait behind others of its chunk."""
    inner = SegmentTask(("a", 0), task(("a", 0), square, 1), "a")
    impure = Job(Segment(0, "a", (inner,), (), (("a", 0),), pure=False), {})
    with opened(workers=1) as backend:
        assert isinstance(backend, Pool)
        assert backend._folder is not None
        graph = mapped(files_in, [backend._folder.path], pure=False)
        (found,) = backend.run(graph).results.values()
        assert "finished-0" in found
        assert backend._interrupted(impure).lost is None  # its mark is removed with its result
        Path(backend._folder.path, "finished-0").touch()
        assert backend._interrupted(impure).lost is not None


@pytest.mark.slow
def test_compare_shows_ordered_beside_unordered(tmp_path: Path) -> None:
    variants = ["pool[ordered=true]", "pool[ordered=false]"]
    graph = mapped(square, list(range(8)), last=sum, batch=1)
    found = compare_graph(graph, folder=tmp_path / "r", backends=variants, workers=2, repeat=1)
    assert [(row.label, row.failure) for row in found.rows] == [(name, "") for name in ("serial", *variants)]


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunksize": 0}, "chunksize: got 0; write a whole number >= 1"),
        ({"maxtasksperchild": 1.5}, "maxtasksperchild: got 1.5; write a whole number >= 1"),
        ({"ordered": "yes"}, "ordered: got 'yes'; allowed: true, false"),
    ],
)
def test_an_option_with_another_value_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(**options)


def test_a_start_method_that_the_system_lacks_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    for name in ("pool", "processes", "process-per-task"):
        with pytest.raises(ConfigError, match="start_method: got 'fork', which this system lacks; it has spawn"):
            create(name, start_method="fork")
    text = (
        "version: 1\nmodules: [math]\nsteps: {a: {call: 'math:sqrt', args: {x: 2}}}\ncluster:\n  start_method: fork\n"
    )
    with pytest.raises(ConfigError, match=r":5:.*cluster.start_method: got 'fork', which this system lacks; it has"):
        loads(text)
    with pytest.raises(ConfigError, match="got 'fork', which this system lacks"):
        parse("pool[start_method=fork]")
    for value in ("chunksize: 0", "ordered: 3", "start_method: thread"):
        with pytest.raises(ConfigError, match=rf":5:.*cluster\.{value.partition(':')[0]}: got"):
            loads(text.replace("start_method: fork", value))


FORKING = """
import sys, pyarrow as pa, pyarrow.parquet as pq
import pipeline
from pipeline.errors import ConfigError
pq.write_table(pa.table({"a": pa.array([1, 2, 3], pa.int64())}), "t.parquet")
p = pipeline.load('''
version: 1
steps:
  t: {op: read_parquet, path: t.parquet}
  u: {op: assign, input: t, columns: {b: "a + 1"}}
outputs:
  u: {to: csv, path: u.csv}
''')
for method in ("pool", "processes"):
    p.run(backend=f"{method}[start_method=fork]", workers=1, force=True)
    assert open("u.csv").read().split() == ["a,b", "1,2", "2,3", "3,4"]
p.run(backend="serial", force=True)
for method in ("pool", "processes"):
    try:
        p.run(backend=f"{method}[start_method=fork]", workers=1, force=True)
    except ConfigError as error:
        assert "start_method: got 'fork', but this process has run frames" in str(error), error
        assert "use spawn or forkserver" in str(error)
    else:
        raise AssertionError("it forked")
"""


def test_fork_is_refused_once_this_process_has_run_frames(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORKING], check=True, cwd=tmp_path, timeout=240)
