"""Runs that are disturbed hold to what is promised; the harness sees every kind of fault in a naive back end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from distributed import Client, LocalCluster, WorkerPlugin

from chaos import naive
from chaos.campaign import run_one, table
from chaos.cases import BACKENDS, Case, Moment
from chaos.disturbance import disturb
from chaos.judge import KINDS, Verdict, judge, left_on_cluster
from chaos.pipelines import TIMED, prepared
from chaos.processes import Cluster


def quick_seeds() -> list[int]:
    """The first seed of the first two cases of each back end whose moment is quickly reached."""
    wanted = {(backend, *pair) for backend, pairs in BACKENDS.items() for pair in pairs[:2]}
    found = []
    for case in map(Case.of, count()):
        one = (case.backend, case.target, case.signal_name)
        long = case.pause >= 3 or (case.for_ever and case.pipeline not in TIMED)  # 35 s until it counts as lost
        if one in wanted and case.moments[0].at in ("task", "commit") and not long:
            wanted.remove(one)
            found.append(case.seed)
        if not wanted:
            return found
    raise AssertionError


SEEDS = quick_seeds()
SLOW = {
    ("serial", "parent", "SIGTERM"),
    ("threads", "parent", "SIGKILL"),
    ("pool", "worker", "SIGKILL"),
    ("processes", "parent", "SIGINT"),
    ("process-per-task", "parent", "SIGTERM"),
    ("manager", "parent", "SIGKILL"),
    ("dask", "worker", "SIGKILL"),
}
"""Cases that are not in the short form: without them it still has every back end, signal and target."""

SIGNALS = {signal for kinds in BACKENDS.values() for _, signal in kinds}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name: there are sockets below it."""
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp") as folder:
        yield Path(folder)


def is_slow(seed: int) -> bool:
    case = Case.of(seed)
    return (case.backend, case.target, case.signal_name) in SLOW


def test_the_short_form_has_every_back_end_signal_and_target() -> None:
    cases = [Case.of(seed) for seed in SEEDS if not is_slow(seed)]
    assert len(cases) == len(SEEDS) - len(SLOW)
    assert {case.backend for case in cases} == set(BACKENDS)
    assert {case.signal_name for case in cases} == SIGNALS
    assert {case.target for case in cases} == {"parent", "worker", "nanny", "scheduler"}
    assert all(case == Case.of(case.seed) for case in cases)


@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=pytest.mark.slow if is_slow(seed) else ()) for seed in SEEDS],
    ids=lambda seed: str(Case.of(seed)).replace(" ", "-"),
)
def test_a_disturbed_run_holds_or_changes_nothing(seed: int, place: Path) -> None:
    _, verdict, told = run_one((Case.of(seed), str(place)))
    assert verdict is not None, told
    assert verdict.outcome in ("held", "changed nothing"), told


# ---------------------------------------------------------------------------------------------------------------------
# The harness fails where it should
# ---------------------------------------------------------------------------------------------------------------------


def command_of(case: Case, place: Path, cluster: Cluster | None) -> list[str]:
    return [sys.executable, naive.__file__, str(prepared(case.pipeline) / "new"), str(place / "out")]


def run_naive(case: Case, place: Path, cluster: Cluster | None) -> None:
    environment = {"CHAOS_EVENTS": str(place / "events"), "TMPDIR": str(place / "tmp")}
    subprocess.run(command_of(case, place, cluster), check=True, capture_output=True, env=environment)


def found(target: str, signal: str, tmp_path: Path) -> Verdict:
    case = Case(0, "frames", "naive", target, signal, (Moment("task", 3, 0.05),), 0.0, True, limit=3.0, gone_limit=0.5)
    verdict = disturb(case, tmp_path / "run", partial(judge, run_again=run_naive), command_of)
    assert verdict is not None
    assert verdict.outcome == "bad"
    return verdict


@pytest.mark.parametrize(
    ("target", "signal", "kinds"),
    [
        ("parent", "SIGKILL", {"process", "segment", "torn", "temp", "rerun", "staging"}),
        ("parent", "SIGINT", {"exit", "lines", "traceback"}),
        ("worker", "SIGKILL", {"hung"}),
    ],
)
def test_a_naive_back_end_is_found_bad(target: str, signal: str, kinds: set[str], tmp_path: Path) -> None:
    try:
        assert kinds <= {kind for kind, _ in found(target, signal, tmp_path).faults}
    finally:
        for path in Path("/dev/shm").glob("naive-*"):
            if path.read_bytes().startswith(os.fsencode(tmp_path)):
                path.unlink()


def test_each_kind_of_fault_has_a_case_here() -> None:
    (marker,) = test_a_naive_back_end_is_found_bad.pytestmark  # type: ignore[attr-defined]
    assert set().union(*(kinds for _, _, kinds in marker.args[1])) | {"cluster"} == set(KINDS)


def test_what_a_client_leaves_on_a_cluster_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.judge.CLUSTER_LIMIT", 0.0)
    with LocalCluster(
        n_workers=0, processes=False, dashboard_address="127.0.0.1:0", host="127.0.0.1", protocol="tcp://"
    ) as cluster:
        assert not left_on_cluster(cluster.scheduler_address)
        with Client(cluster, set_as_default=False) as client:
            client.register_plugin(WorkerPlugin(), name="pipeline-Client-1")
        assert left_on_cluster(cluster.scheduler_address) == ["pipeline-Client-1"]


def test_the_table_counts_each_group() -> None:
    killed = replace(Case.of(0), backend="pool", signal_name="SIGKILL", target="worker")
    held, bad = Verdict("new", 2, 0.5), Verdict("torn", 9, None, [("torn", "half a file")])
    head, row, last = table([(killed, held), (killed, bad), (killed, None)]).splitlines()
    assert row.split() == ["pool", "SIGKILL", "worker", "3", "1", "0", "1", "1", "9", "0.50", "0.50"]
    assert last.split() == ["~", "all", "3", "1", "0", "1", "1", "9", "0.50", "0.50"]
    assert len(head) == len(row) == len(last)
