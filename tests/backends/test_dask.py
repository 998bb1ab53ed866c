"""The Dask back end: on its own cluster, on a running one, and what can go wrong there."""

from __future__ import annotations

import contextlib
import operator
import os
import signal
import socket
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from conftest import passing_children, until
from dask_tasks import (
    call,
    count,
    count_kept,
    die_at_three,
    die_once,
    die_with,
    drop_at_three,
    fail,
    fail_at_three,
    fail_until_third,
    give_a_lock,
    graph,
    kill_noted,
    leave,
    left_on,
    mapped,
    note,
    note_pid,
    one,
    only_here,
    staging_of,
    wait_for_ever,
)
from distributed import Client
from distributed.scheduler import KilledWorker
from schedulers import Standing, process, scheduler, worker

from pipeline.backends.dask import execution, health, keep_going, probe, submission
from pipeline.backends.dask.backend import Dask
from pipeline.backends.dask.clock import Rows
from pipeline.backends.dask.cluster import Settings, _free_port, _trust, restart_workers
from pipeline.backends.dask.error_translation import worker_lost
from pipeline.backends.dask.keys import lower
from pipeline.backends.dask.nannies import Tending
from pipeline.backends.dask.status_files import Status, status_file
from pipeline.backends.events import Event
from pipeline.backends.versions import installed
from pipeline.errors import BackendError, ConfigError, TaskError, TaskTimeout, WorkerLost
from pipeline.graph.graph import CONTEXT, Graph, Key, Policy
from pipeline.graph.nodes import for_any_worker, listed, ref, task
from pipeline.graph.segments import Segment, SegmentTask
from pipeline.trace.trace import INSTANTS
from pipeline.worker.temp_folders import Folder

# ---------------------------------------------------------------------------------------------------------------------
# Clusters
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Iterator[Dask]:
    with Dask(workers=2, dashboard=False) as backend:
        yield backend


@pytest.fixture
def local(shared: Dask) -> Iterator[Dask]:
    """One cluster for many tests; each leaves it with both workers."""
    yield shared
    client = shared._client
    assert client is not None
    assert until(lambda: _manned(client))


def _manned(client: Client) -> bool:
    health.in_loop(client, restart_workers, client.cluster)
    return len(health.identity(client)["workers"]) == 2


@pytest.fixture(scope="module")
def standing() -> Iterator[Standing]:
    """A scheduler with one worker, each in a process of its own."""
    with scheduler() as found, worker(found):
        yield found


# ---------------------------------------------------------------------------------------------------------------------
# What a run gives
# ---------------------------------------------------------------------------------------------------------------------


def test_every_task_has_a_row_and_every_item_an_event(local: Dask) -> None:
    events: list[Event] = []
    outcome = local.run(mapped(operator.neg, 200), listener=events.append)
    rows = outcome.trace.tasks.to_pylist()
    assert outcome.results == {("total",): -19900}
    assert sorted(row["key"] for row in rows) == sorted([*(str(("fit", i)) for i in range(200)), "('total',)"])
    assert all(row["ready"] <= row["start"] <= row["stop"] <= row["done"] for row in rows)
    assert {row["worker"] for row in rows} <= {"0", "1"}
    assert {e.item for e in events if e.kind == "task" and e.step == "fit"} == {f"x={i}" for i in range(200)}
    assert outcome.trace.n_workers == local.n_workers == 2


def test_a_task_is_ready_when_its_last_input_is_done(local: Dask) -> None:
    rows = local.run(mapped(operator.neg, 5)).trace.tasks.to_pylist()
    assert rows[-1]["step"] == "total"
    assert rows[-1]["ready"] == max(row["sent"] for row in rows[:-1])


def test_the_context_reaches_the_tasks_that_ask_for_it(local: Dask) -> None:
    key = ("write",)
    asking = graph({key: task(key, staging_of, ref(CONTEXT))}, key)
    assert local.run(asking, context=SimpleNamespace(staging="s1")).results[key] == "s1"
    assert local.run(asking, context=SimpleNamespace(staging="s2")).results[key] == "s2"


def test_a_graph_runs_twice_though_its_first_results_are_held(local: Dask, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    twice = one(note, str(path), 5)
    held = [local.run(twice), local.run(twice)]
    assert [outcome.results["fit", 0] for outcome in held] == [5, 5]
    assert path.read_text() == "x\nx\n"


def test_dropped_items_are_named_and_the_others_kept(local: Dask) -> None:
    tasks: dict[Key, Any] = {("fit", i): task(("fit", i), drop_at_three, i) for i in range(10)}
    tasks[("n",)] = task(("n",), count_kept, listed(ref(("fit", i)) for i in range(10)))
    policy = Policy("fit", over="fit", items=tuple(f"x={i}" for i in range(10)))
    events: list[Event] = []
    outcome = local.run(graph(tasks, ("n",), fit=policy), listener=events.append)
    assert outcome.results[("n",)] == 9
    assert outcome.dropped == (("fit", "x=3", "ValueError: not three"),)
    assert [e.item for e in events if e.kind == "dropped"] == ["x=3"]


def test_a_graph_brings_its_modules(local: Dask) -> None:
    key = ("fit",)
    for answer in (41, 42):
        shipped = Graph(
            tasks={key: task(key, call, "shipped_for_dask:answer")},
            wanted=(key,),
            owners={key: "fit"},
            policies={"fit": Policy("fit")},
            modules={"shipped_for_dask.py": f"def answer():\n    return {answer}\n".encode()},
        )
        assert local.run(shipped).results[key] == answer


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong in tasks and workers
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "cause"), [(fail, "ValueError: too high"), (leave, "SystemExit: 3"), (give_a_lock, "TypeError: ")]
)
def test_a_failed_task_is_named_with_its_item_and_cause(local: Dask, function: Callable[..., Any], cause: str) -> None:
    with pytest.raises(TaskError) as caught:
        local.run(one(function))
    assert (caught.value.step, caught.value.key, caught.value.item) == ("fit", "('fit', 0)", "x=7")
    assert caught.value.cause.startswith(cause)


def test_a_result_that_another_worker_cannot_read_is_named(local: Dask, tmp_path: Path) -> None:
    tasks: dict[Key, Any] = {("fit", i): task(("fit", i), only_here, i, str(tmp_path)) for i in range(2)}
    tasks["n",] = task(("n",), count, listed(map(ref, list(tasks))))
    with pytest.raises(TaskError, match=r"fit: another worker can't read the result: MemoryError.*too large for here"):
        local.run(graph(tasks, ("n",)))
    for path in tmp_path.iterdir():
        path.unlink()
    tasks = {key: task(key, only_here, i, str(tmp_path), 0) for key, i in [(("fit", 0), 0), (("fit", 1), 1)]}
    tasks["n",] = task(("n",), count, listed(map(ref, list(tasks))))
    assert local.run(graph(tasks, ("n",))).results == {("n",): 2}  # over the same connections


def test_the_item_that_failed_among_many_is_the_one_named(local: Dask) -> None:
    with pytest.raises(TaskError, match=r"fit\[x=3\]: ValueError: not three"):
        local.run(mapped(fail_at_three, 400))
    assert local.run(mapped(operator.pos, 3)).results == {("total",): 3}


def test_a_task_is_tried_again_as_often_as_its_step_says(local: Dask, tmp_path: Path) -> None:
    path, events = tmp_path / "tries", []
    outcome = local.run(one(fail_until_third, str(path), retries=2), listener=events.append)
    assert outcome.results["fit", 0] == 1
    assert [e.kind for e in events] == ["retry", "retry", "task"]
    assert outcome.trace.tasks["attempt"].to_pylist() == [0, 1, 2]


def test_a_run_goes_on_after_a_worker_was_killed(local: Dask, tmp_path: Path) -> None:
    events: list[Event] = []
    outcome = local.run(mapped(die_once, 50, str(tmp_path / "died")), listener=events.append)
    assert outcome.results == {("total",): 1225}
    assert [e.kind for e in events if e.kind != "task"] == ["worker lost"]


def test_a_task_that_ends_worker_after_worker_is_named(local: Dask) -> None:
    with pytest.raises(WorkerLost, match=r"fit\[x=3\]: worker .* ended while it ran task \('fit', 3\), as 2 workers"):
        local.run(mapped(die_at_three, 12, batch=6))


def test_a_segment_that_waited_on_a_lost_worker_is_not_blamed(tmp_path: Path) -> None:
    both = [Segment(n, "fit", tuple(_inner(n, i) for i in range(3)), (), (("fit", n, 0),)) for n in range(2)]
    plan = lower(both, [("fit", 0, 0), ("fit", 1, 0)], None, "run", "topic", "")
    waited = next(key for key, segment in plan.segments.items() if segment.number == 1)
    lost = KilledWorker(waited, SimpleNamespace(address="tcp://127.0.0.1:4000"), 3)
    (tmp_path / "4000-1").write_bytes(Status(0, 2, 1).to_bytes())
    assert str(worker_lost(plan, str(tmp_path), lost, Tending())).startswith(
        "fit[x=0.2]: worker tcp://127.0.0.1:4000 ended while"
    )
    (tmp_path / "4000-1").write_bytes(Status(1, 1, 1).to_bytes())
    assert str(worker_lost(plan, str(tmp_path), lost, Tending())).startswith("fit[x=1.1]: ")
    (tmp_path / "4000-2").write_bytes(Status(0, 2, 1).to_bytes())
    assert str(worker_lost(plan, str(tmp_path), lost, Tending())).startswith("fit[x=1.1]: ")
    (tmp_path / "4000-1").write_bytes(Status(0, 1, 1).to_bytes())
    for slots in ("", str(tmp_path)):  # no note, or two threads that ran something else
        assert "or one of 2 with it" in str(worker_lost(plan, slots, lost, Tending()))


def _inner(n: int, i: int) -> SegmentTask:
    return SegmentTask(("fit", n, i), task(("fit", n, i), fail), "fit", f"x={n}.{i}")


def test_a_task_that_never_returns_is_stopped_at_its_timeout(local: Dask) -> None:
    with pytest.raises(TaskTimeout, match=r"fit\[x=7\]: ran longer than its timeout of 0\.2 s"):
        local.run(one(wait_for_ever, timeout=0.2))
    assert local.run(mapped(operator.pos, 3)).results == {("total",): 3}


def test_no_other_worker_gets_a_task_that_was_stopped(local: Dask, monkeypatch: pytest.MonkeyPatch) -> None:
    leave, client = submission.Submission.__exit__, local._client
    assert client is not None
    before = {nanny.pid for nanny in client.cluster.workers.values()}  # type: ignore[union-attr]
    running: list[int] = []

    def busy() -> list[int]:
        found = client.run(lambda dask_worker: (os.getpid(), dask_worker.state.executing_count), on_error="ignore")
        return (
            [n for _, n in found.values()] if len(found) == 2 and {pid for pid, _ in found.values()} != before else []
        )

    def leave_late(self: submission.Submission, *exc: object) -> None:
        """Release the futures when all workers are there again, as on a busy machine."""
        assert until(lambda: _manned(client) and running.extend(busy()) is None and running)
        leave(self, *exc)

    monkeypatch.setattr(submission.Submission, "__exit__", leave_late)
    with pytest.raises(TaskTimeout):
        local.run(one(wait_for_ever, timeout=0.2))
    assert running == [0, 0]


def test_resources_that_no_worker_offers_are_refused_at_once(local: Dask) -> None:
    with pytest.raises(BackendError, match="step 'fit' needs GPU: 1, which no worker offers"):
        local.run(one(operator.pos, 1, resources={"GPU": 1}))


def limited(folder: Path, *steps: Any) -> Graph:
    """Steps with a limit of one, each of which is an item; ``sum`` needs all."""
    tasks: dict[Key, Any] = {(f"s{i}", 0): task((f"s{i}", 0), *step) for i, step in enumerate(steps)}
    tasks["sum",] = task(("sum",), sum, listed(map(ref, list(tasks))))
    owners = {key: str(key[0]) for key in tasks}
    policies = {name: Policy(name, uses=("db",) if name != "sum" else ()) for name in owners.values()}
    return Graph(tasks, (("sum",),), owners, policies, limits={"db": 1})


def test_a_lost_result_is_made_again_with_a_place(local: Dask, tmp_path: Path) -> None:
    graph = limited(tmp_path, (note_pid, str(tmp_path)), (kill_noted, str(tmp_path)))
    assert local.run(graph).results["sum",] == 3


def test_a_place_is_given_back_for_what_its_segment_waits_for(local: Dask, tmp_path: Path) -> None:
    # the result of s0 is lost when s1 begins; s1, which has the only place, needs it again
    tasks: dict[Key, Any] = {
        ("s0", 0): task(("s0", 0), note_pid, str(tmp_path)),
        ("s1", 0): task(("s1", 0), die_with, ref(("s0", 0)), str(tmp_path)),
    }
    policies = {name: Policy(name, uses=("db",)) for name in ("s0", "s1")}
    graph = Graph(tasks, (("s1", 0),), {key: key[0] for key in tasks}, policies, limits={"db": 1})
    assert local.run(graph).results["s1", 0] == 2


# ---------------------------------------------------------------------------------------------------------------------
# The Dask graph
# ---------------------------------------------------------------------------------------------------------------------


def segments() -> list[Segment]:
    """A segment with three outputs: two that the second needs, one that the third needs."""
    inner = [SegmentTask((name,), task((name,), fail), "a") for name in "pqr"]
    first = Segment(0, "a", tuple(inner), (), (("p",), ("q",), ("r",)))
    second = Segment(1, "b", (SegmentTask(("s",), task(("s",), fail), "b"),), (("p",), ("q",)), (("s",),), retries=2)
    third = Segment(2, "c", (SegmentTask(("t",), task(("t",), fail), "c"),), (("r",),), (("t",),))
    return [first, second, third]


def test_outputs_with_the_same_consumers_travel_together() -> None:
    plan = lower(segments(), [("s",), ("t",)], None, "run", "topic", "")
    assert len(plan.tasks) == 5
    assert plan.places[("p",)][0] == plan.places[("q",)][0] != plan.places[("r",)][0]
    assert (plan.places[("p",)][1], plan.places[("q",)][1], plan.places[("r",)][1]) == (0, 1, None)


def test_keys_show_the_step_and_are_unique_to_a_run() -> None:
    from dask.utils import key_split

    first, second = (lower(segments(), [("s",), ("t",)], None, run, "topic", "").tasks for run in ("1", "2"))
    assert sorted(map(key_split, first)) == ["a", "a", "a", "b", "c"]
    assert not first.keys() & second.keys()


def test_segments_of_a_step_are_one_task_group_of_dask() -> None:
    from distributed.utils import key_split_group

    tasks = [(("p", n), task(("p", n), fail)) for n in range(8)]
    many = [Segment(n, "a", (SegmentTask(key, node, "a"),), (), (key,)) for n, (key, node) in enumerate(tasks)]
    plan = lower(many, [key for key, _ in tasks], None, "run", "topic", "")
    assert len(plan.tasks) == 8
    assert len({key_split_group(key) for key in plan.tasks}) == 1
    apart = lower(segments(), [("s",), ("t",)], None, "run", "topic", "")
    groups = {key_split_group(key): bool(node.dependencies) for key, node in apart.tasks.items() if key[0][0] == "a"}
    assert sorted(groups.values()) == [False, True]  # what takes a result apart needs something


def test_what_reads_rows_goes_to_any_worker_wherever_their_partner_is() -> None:
    there, read, joined = ("there", 0), ("read", 0), ("joined", 0)
    tasks = [task(there, int), task(read, int), task(joined, max, ref(read), ref(there))]
    small = Segment(0, "there", (SegmentTask(there, tasks[0], "there"),), (), (there,))
    both = (SegmentTask(read, tasks[1], "read"), SegmentTask(joined, tasks[2], "joined"))
    plan = lower([small, Segment(1, "joined", both, (there,), (joined,))], [joined], None, "run", "topic", "")
    assert [node.data_producer for node in plan.tasks.values()] == [False, True]


def test_dask_gives_such_a_task_to_a_worker_that_is_free(local: Dask) -> None:
    """It has few of its kind and a dependency: without the mark it would go to the worker that has that one."""
    client = local._client
    assert client is not None
    nodes = {"there": task("there", int), "plain": task("plain", abs, ref("there"))}
    nodes["marked"] = for_any_worker(task("marked", abs, ref("there")))
    futures = client.get(nodes, ["plain", "marked"], sync=False)
    assert client.gather(futures) == [0, 0]

    async def rootish(dask_scheduler: Any) -> list[bool]:
        return [bool(dask_scheduler.is_rootish(dask_scheduler.tasks[key])) for key in ("plain", "marked")]

    assert client.run_on_scheduler(rootish) == [False, True]
    del futures


def test_retries_are_those_of_each_segment() -> None:
    plan = lower(segments(), [("s",), ("t",)], None, "run", "topic", "")
    retries = plan.annotation("retries", 0)
    assert retries is not None
    assert sorted((key[0].partition("-")[0], retries(key)) for key in plan.tasks) == [
        ("a", 0),
        ("a", 0),
        ("a", 0),
        ("b", 2),
        ("c", 0),
    ]
    assert plan.annotation("resources", {}) is None


def test_times_of_another_machine_are_converted_to_our_clock() -> None:
    first, second, _ = segments()
    rows = Rows([first, second])
    message = {"boot": "there", "address": "w", "name": "0", "bytes_in": 0, "measuring": 3, "partial": False}
    times = [1_080, 1_085, 1_090, 1_220, 0]  # nothing was seen of it being sent
    rows.add({**message, "segment": 0, "rows": [[0, 1_100, 1_200, [5], 8, 9]], "times": times}, 260)
    here = {**message, "segment": 1, "rows": [[0, 1_300, 1_400, [5], 8, 9]], "boot": "here", "times": [0] * 5}
    rows.add(here, 1_500)
    records = rows.records({"there": (1_000, 7), "here": (0, 0)}, 50)
    assert [(r.start, r.stop, r.ready, r.done) for r in records] == [(50, 150, 0, 210), (1_250, 1_350, 170, 1_450)]
    assert [[getattr(r, name) for name in INSTANTS] for r in records] == [
        [30, 35, 40, 50, 150, 170, 170],
        [1_250, 1_250, 1_250, 1_250, 1_350, 1_350, 1_350],
    ]
    assert (rows.clock_error, rows.measuring) == (7e-9, 6)


def test_a_lost_worker_leaves_a_gap_until_the_next_reports() -> None:
    first, second, _ = segments()
    rows = Rows([first, second])
    message = {"boot": "here", "name": "0", "bytes_in": 0, "measuring": 0, "times": [0] * 5, "partial": False}
    rows.add({**message, "address": "a", "segment": 0, "rows": [[0, 100, 200, [5], 8, 9]]}, 210)
    rows.add({**message, "address": "b", "segment": 1, "rows": [[0, 700, 800, [5], 8, 9]]}, 810)
    records = rows.records({"here": (0, 0)}, 0)
    assert rows.gaps(records, ["a"], 900) == [["0", 200, 700]]
    assert rows.gaps(records, ["a", "c"], 900)[1] == ["c", 0, 900]
    assert rows.gaps(records, ["b"], 900) == [["0", 800, 900]]


# ---------------------------------------------------------------------------------------------------------------------
# Ways to a cluster
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "cluster", "allowed"),
    [
        ("tcp://127.0.0.1:8786", {}, True),
        ("127.0.0.1:8786", {}, True),
        ("tcp://[::1]:8786", {}, True),
        ("tcp://localhost:8786", {}, True),
        ("tls://10.0.0.7:8786", {}, True),
        ("tcp://10.0.0.7:8786", {"insecure": True}, True),
        ("tcp://10.0.0.7:8786", {}, False),
        ("10.0.0.7:8786", {}, False),
        ("ws://10.0.0.7:8786", {}, False),
        ("tcp://localhost.example.org:8786", {}, False),
    ],
)
def test_an_open_address_elsewhere_must_be_allowed(address: str, cluster: dict[str, Any], allowed: bool) -> None:
    expected = contextlib.nullcontext() if allowed else pytest.raises(BackendError, match="insecure: true")
    with expected:
        _trust(address, Settings.read(cluster, address=address))


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"worker": 3}, "got worker; allowed: adapt, address, class"),
        ({"address": "tcp://127.0.0.1:1", "class": "a:B"}, "address and class"),
        ({"workers": 0}, "workers: got 0"),
    ],
)
def test_a_wrong_cluster_map_is_refused(cluster: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Dask(cluster=cluster)


def test_an_address_goes_before_the_class_of_the_file() -> None:
    assert Settings.read({"class": "a:B", "workers": "auto"}, address="tcp://127.0.0.1:1").class_ == ""


def test_a_taken_port_of_the_dashboard_is_passed_over() -> None:
    first = _free_port()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # an old connection is no listener
        taken.bind(("127.0.0.1", first))
        taken.listen()
        assert _free_port() > first


def test_a_cluster_class_is_made_scaled_and_closed() -> None:
    kwargs = {"n_workers": 0, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": 60}
    before = set(psutil.Process().children(recursive=True))
    with Dask(cluster={"class": "distributed:LocalCluster", "kwargs": kwargs, "scale": 1}) as backend:
        assert backend.run(mapped(operator.pos, 5)).results == {("total",): 10}
    assert not set(psutil.Process().children(recursive=True)) - before


def test_a_missing_cluster_class_is_named() -> None:
    with pytest.raises(BackendError, match="got 'nowhere:Cluster'"), Dask(cluster={"class": "nowhere:Cluster"}):
        pass


def test_an_address_without_a_scheduler_is_refused() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.raises(BackendError, match="no Dask scheduler answers"), Dask(address=address, timeout=0.5):
            pass


# ---------------------------------------------------------------------------------------------------------------------
# A running cluster
# ---------------------------------------------------------------------------------------------------------------------


def test_a_running_scheduler_keeps_nothing_of_ours(standing: Standing) -> None:
    with Dask(address=standing.address) as backend:
        assert backend.run(mapped(operator.neg, 20)).results == {("total",): -190}
    with Client(standing.address, set_as_default=False) as client:
        assert client.run_on_scheduler(left_on) == ([], [])


def test_a_running_scheduler_runs_a_graph_twice_while_it_is_held(standing: Standing, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    twice = one(note, str(path), 5)
    with Dask(address=standing.address) as first, Dask(address=standing.address) as second:
        assert [b.run(twice).results["fit", 0] for b in (first, second)] == [5, 5]
    assert path.read_text() == "x\nx\n"


def test_a_run_keeps_going_on_a_running_scheduler(standing: Standing, tmp_path: Path) -> None:
    tasks = {("fit", i): task(("fit", i), fail_at_three, i) for i in range(5)}
    tasks["sum",] = task(("sum",), sum, listed(map(ref, tasks)))
    wanted = graph(tasks, *tasks)
    with Dask(address=standing.address) as backend:
        outcome = backend.run(wanted, keep_going=True)
        assert sorted(outcome.results) == [("fit", i) for i in (0, 1, 2, 4)]
        assert [failure.key for failure in outcome.failures] == ["('fit', 3)"]


@pytest.mark.parametrize("ours", [True, False])
def test_workers_that_a_task_has_ended_are_counted(ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: dict[str, int] = {}

    def sync(loop: Any, function: Any, *, keys: list[str], **more: int) -> int:
        noted[keys[-1]] = more["value"] if "value" in more else noted.get(keys[-1], more["default"])
        return noted[keys[-1]]

    monkeypatch.setattr(keep_going, "sync", sync)
    scheduler = SimpleNamespace(get_metadata=None, set_metadata=None)
    this = SimpleNamespace(loop=None, scheduler=scheduler, address="tcp://127.0.0.1:1")
    where = keep_going.Reporting("run", "", str(tmp_path) if ours else "")
    dead = []  # that did not come to the end
    for n in range(3):
        dead.append(keep_going.losses(cast("Any", this), where, 7))
        found = dead[-1].__enter__()
        assert dict(found) == ({} if ours and not n else {2 if ours else -1: n})
        if ours:
            status_file(str(tmp_path), this.address).write_bytes(Status(7, 2, 1).to_bytes())
    for context in dead:
        context.__exit__(None, None, None)
    with keep_going.losses(cast("Any", this), where, 7) as found:
        assert dict(found) == ({2: 2} if ours else {-1: 0})


def test_a_worker_without_the_package_gets_it(tmp_path: Path) -> None:
    bare = {"PYTHONPATH": os.pathsep.join([sysconfig.get_paths()["purelib"], str(tmp_path)])}
    (tmp_path / "mine.py").write_text("def double(x):\n    return 2 * x\n")
    with scheduler() as found, worker(found, "-S", **bare), Dask(address=found.address) as backend:
        assert any(name.startswith("pipeline-package") for name in backend._plugins)
        key = ("a",)
        assert backend.run(graph({key: task(key, operator.mul, 2, 21)}, key)).results[key] == 42


def test_a_worker_must_see_the_staging_folder(standing: Standing, tmp_path: Path) -> None:
    with Dask(address=standing.address) as backend:
        assert backend._client is not None
        assert probe.probe(backend._client, staging=str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("differs", "fault"),
    [
        ({}, None),
        ({"python": "3.99"}, "w: python 3.99; here it is 3.1"),
        ({"dask": "2020.1.0"}, "w: dask 2020.1.0; here it is"),
        ({"pandas": None}, "w: pandas is missing; here it is"),
        ({"pipeline": None}, None),
        ({"pipeline": "0123"}, "w: pipeline differs from the version here"),
        ({"marker": None}, "w: does not see /staging"),
    ],
)
def test_what_a_worker_lacks_is_listed(differs: dict[str, Any], fault: str | None) -> None:
    here = installed(probe._PACKAGES, "")
    found = list(probe._problems("w", {**here, "marker": "42", **differs}, here, "/staging/.probe", "42"))
    assert len(found) == (fault is not None)
    assert all(line.startswith(str(fault)) for line in found)


def test_a_scheduler_without_workers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = Client.wait_for_workers
    monkeypatch.setattr(Client, "wait_for_workers", lambda client, n, timeout: waits(client, n, timeout=0.1))
    with scheduler() as found, pytest.raises(BackendError, match="no worker appeared"), Dask(address=found.address):
        pass


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_scheduler_that_stops_answering_ends_the_run(how: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_SILENCE", 1.5)
    monkeypatch.setattr(execution, "_PROBE_EVERY", 0.3)
    with scheduler() as found, worker(found), Dask(address=found.address) as backend:

        def stop(event: Event) -> None:
            if event.step == "fit":
                os.kill(found.pid, how)

        tasks = {("fit",): task(("fit",), operator.pos, 1), ("slow",): task(("slow",), wait_for_ever, ref(("fit",)))}
        with pytest.raises(BackendError, match=r"the Dask scheduler (has not answered for|gave up)"):
            backend.run(graph(tasks, ("slow",), slow=Policy("slow", merge=False)), listener=stop)


# ---------------------------------------------------------------------------------------------------------------------
# Leaving
# ---------------------------------------------------------------------------------------------------------------------

SCRIPT = """
import operator, sys
import dask_tasks
from pipeline.backends.dask.backend import Dask
if __name__ == "__main__":
    try:
        with Dask(workers=2, dashboard=False) as backend:
            print(backend.run(dask_tasks.mapped(operator.pos, 5)).results, flush=True)
            if "wait" in sys.argv:
                backend.run(dask_tasks.mapped(dask_tasks.say_and_wait, 2))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return str(path)


def test_a_run_leaves_no_process_and_no_output(script: str) -> None:
    with process(script) as child:
        out, err = child.communicate(timeout=120)
        assert (out, err, child.returncode) == ("{('total',): 10}\n", "", 0)
        assert until(lambda: not _alive(child.pid))


def test_ctrl_c_leaves_no_process_and_no_output(script: str) -> None:
    with process(script, "wait") as child:
        _await_tasks(child)
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to all of the group
        _, err = child.communicate(timeout=120)
        assert (err, child.returncode) == ("", 130)
        assert until(lambda: not _alive(child.pid))


def test_leaving_ends_a_worker_that_is_just_starting() -> None:
    before = set(passing_children())
    with Dask(workers=1, dashboard=False) as backend, pytest.raises(WorkerLost):
        backend.run(one(die_at_three, 3))  # another is started at once
    assert not set(passing_children()) - before


def test_a_worker_has_the_environment_of_the_client(local: Dask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_NOW", "1")
    monkeypatch.delenv("HOME")
    with Dask(workers=1, dashboard=False) as backend:  # forked from a server that has another
        assert backend.run(one(os.getenv, "PIPELINE_NOW")).results["fit", 0] == "1"
        assert backend.run(one(os.getenv, "HOME")).results["fit", 0] is None


def test_a_kill_leaves_no_process_and_no_folder(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temp = tmp_path / "temp"
    temp.mkdir()
    with process(script, "wait", TMPDIR=str(temp)) as child:
        _await_tasks(child)
        child.kill()
        child.wait()
        assert until(lambda: not _alive(child.pid))
    monkeypatch.setattr(tempfile, "tempdir", str(temp))
    with Folder() as folder:  # making one removes what was left
        assert [*temp.iterdir(), *temp.glob("*/*")] == [Path(folder.path).parent, Path(folder.path)]


def _await_tasks(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    while "waiting" not in child.stdout.readline():  # two of them may share a line
        pass


def _alive(group: int) -> list[int]:
    """The processes of a group."""
    found = []
    for candidate in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(candidate.pid) == group and candidate.status() != psutil.STATUS_ZOMBIE:
                found.append(candidate.pid)
    return found
