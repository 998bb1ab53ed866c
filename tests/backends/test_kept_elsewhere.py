"""Workers that don't see the folder of a cache as this user: they are found, and the client writes their values."""

from __future__ import annotations

import operator
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from backend_tasks import square, when_there
from schedulers import scheduler, worker

from pipeline.backends.dask.backend import Dask
from pipeline.backends.local.serial import Serial
from pipeline.backends.manager.manager_backend import Manager
from pipeline.backends.shared_folder import shared_folder
from pipeline.errors import EntryDamaged, TaskError
from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.nodes import GraphNode, ref, task
from pipeline.worker.cache_entries import Store
from pipeline.worker.client_entries import kept_by_client
from pipeline.worker.folder_probe import is_seen_by, look
from pipeline.worker.kept_tasks import KeepRule, KeptTask, kept, loaded


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "cache"))
    made.prepare()
    return made


def chain(store: Store) -> Graph:
    """``a`` squares a number, ``b`` squares that."""
    rule = KeepRule(store, "a", always=True)
    tasks: dict[Key, GraphNode] = {
        ("a",): kept(task(("a",), square, 3), KeptTask(rule, "a0" * 16)),
        ("b",): kept(task(("b",), square, ref(("a",))), KeptTask(rule, "b0" * 16)),
    }
    policies = {name: Policy(name, merge=False) for name in "ab"}
    return Graph(tasks, (("b",),), {key: str(key[0]) for key in tasks}, policies)


def test_a_folder_is_seen_by_workers_of_this_user(store: Store) -> None:
    assert is_seen_by(store.folder, lambda *asked: [look(*asked), look(*asked)])
    assert is_seen_by(store.folder, lambda *asked: [])
    assert sorted(os.listdir(store.folder)) == ["CACHEDIR.TAG"]


def test_a_worker_of_another_user_or_folder_is_found_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def another_user(token: str, content: str, uid: int) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: uid + 1)
            return [look(token, content, uid)]

    def another_folder(token: str, content: str, uid: int) -> list[str]:
        other = Path(token).parent.with_name("other")
        shutil.copytree(Path(token).parent, other)
        return [look(str(other / Path(token).name), content, uid)]

    def old_file(token: str, content: str, uid: int) -> list[str]:
        return [look(token, content + "!", uid)]

    for ask in (another_user, another_folder, old_file, lambda *asked: [look(*asked), ""]):
        assert not is_seen_by(store.folder, ask)
    assert sorted(os.listdir(store.folder)) == ["CACHEDIR.TAG"]
    assert not is_seen_by(store.folder + "/none", lambda *asked: [look(*asked)])


def test_only_workers_from_elsewhere_are_asked(store: Store, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k" * 40)
    (tmp_path / "key").chmod(0o600)
    joined = Manager(workers=1, listen="127.0.0.1:0", authkey_file=str(tmp_path / "key"))
    assert shared_folder(Serial(), store.folder)
    assert shared_folder(Manager(workers=1), store.folder)
    assert not shared_folder(joined, store.folder)
    assert not shared_folder(Dask(address="tcp://127.0.0.1:1"), store.folder)  # it is not open


def test_a_damaged_entry_is_found_before_it_is_sent(store: Store) -> None:
    graph = chain(store)
    with pytest.raises(EntryDamaged):
        kept_by_client(replace(graph, tasks={**graph.tasks, ("a",): loaded(("a",), store, "a0" * 16)}))


def as_nobody(folder: Path) -> Sequence[str]:
    caps = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]  # it may read this program wherever that is
    return ["setpriv", "--reuid=65534", *caps]


def with_another_disk(folder: Path) -> Sequence[str]:
    return ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh"]


@pytest.mark.slow
@pytest.mark.parametrize("through", [as_nobody, with_another_disk])
def test_the_client_of_a_cluster_writes_what_workers_can_not(
    store: Store, tmp_path: Path, through: Callable[[Path], Sequence[str]]
) -> None:
    if os.geteuid():
        pytest.skip("another user's worker needs root")
    with scheduler() as found, worker(found), Dask(address=found.address) as backend:
        assert shared_folder(backend, store.folder)
        environment = {"DASK_TEMPORARY_DIRECTORY": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        with worker(found, through=through(Path(store.folder)), **environment):
            assert not shared_folder(backend, store.folder)
            outcome = backend.run(kept_by_client(chain(store)))
    assert outcome.results == {("b",): 81}
    assert (store.load("a0" * 16), store.load("b0" * 16)) == (9, 81)


@pytest.mark.slow
def test_what_arrived_before_a_failure_is_kept(store: Store, tmp_path: Path) -> None:
    graph = chain(store)
    waits = task(("c",), when_there, ref(("b",)), store.path("a0" * 16))  # until the client has written it
    fails = task(("d",), operator.truediv, ref(("c",)), 0)
    tasks = {**graph.tasks, ("c",): waits, ("d",): fails}
    policies = {name: Policy(name, merge=False) for name in "abcd"}
    graph = Graph(tasks, (("d",),), {key: str(key[0]) for key in tasks}, policies)
    with (
        scheduler() as found,
        worker(found),
        Dask(address=found.address) as backend,
        pytest.raises(TaskError, match="division by zero"),
    ):
        backend.run(kept_by_client(graph))
    assert store.load("a0" * 16) == 9
