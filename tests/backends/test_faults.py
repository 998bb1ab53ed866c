"""Faults from outside: workers that are stopped or killed while they start, processes that tasks leave, signals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import until
from dask_tasks import left_on, mapped, one
from distributed import Client
from fault_tasks import keep_the_gil, leave_processes, opened, stop_itself
from schedulers import process, scheduler, worker

from pipeline.backends import descendants
from pipeline.backends.base import Backend
from pipeline.backends.dask import backend as dask_backend
from pipeline.backends.dask import cluster
from pipeline.backends.stopped import StoppedProcesses, patience
from pipeline.errors import OutputError, TaskTimeout
from pipeline.outputs.files import Context, write_bytes
from pipeline.outputs.recovery import recover

TAG = "PIPELINE_TEST_TAG"


def slow(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


def tagged(tag: str) -> list[psutil.Process]:
    """The processes with this tag in their environment that have not ended."""
    found = []
    for candidate in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if candidate.environ().get(TAG) == tag and candidate.status() != psutil.STATUS_ZOMBIE:
                found.append(candidate)
    return found


@pytest.fixture
def tag() -> Iterator[str]:
    name = uuid.uuid4().hex
    yield name
    for left in tagged(name):
        with contextlib.suppress(psutil.Error):
            left.kill()


SCRIPT = """
import sys, threading
from dask_tasks import mapped
from fault_tasks import leave_processes, opened
if __name__ == "__main__":
    with opened(sys.argv[1]) as backend:
        backend.run(mapped(leave_processes, 2))
        if "wait" in sys.argv:
            print("left", flush=True)
            threading.Event().wait()
"""


# ---------------------------------------------------------------------------------------------------------------------
# What tasks have started
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["processes", "dask", *slow("pool", "process-per-task", "manager")])
def test_what_tasks_have_started_ends_when_the_program_is_killed(name: str, tag: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with process(str(script), name, "wait", **{TAG: tag}) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "left\n"
        assert len(tagged(tag)) >= 11  # two workers, what they left, and this
        child.kill()
        assert until(lambda: not tagged(tag))


@pytest.mark.parametrize("name", ["dask", *slow("pool", "processes")])
def test_what_tasks_have_started_ends_when_the_back_end_is_left(name: str) -> None:
    before = set(tagged_by_mark())
    with opened(name) as backend:
        backend.run(mapped(leave_processes, 2))
        assert len(set(tagged_by_mark()) - before) >= 8
    assert not set(tagged_by_mark()) - before


def tagged_by_mark() -> list[int]:
    """The processes that workers of this process have started, and the workers, but for the server of forks."""
    own = descendants.mark().rpartition(":")[2]
    children = {child.pid for child in psutil.Process().children()}
    return [p for p in descendants._parents() if p not in children and descendants._has_mark(p, own)]


def test_only_what_left_the_tree_of_this_process_is_a_stray() -> None:
    with descendants.marked():
        child = subprocess.Popen(["sleep", "3600"])
        subprocess.run(["sh", "-c", "sleep 3600 > /dev/null &"], check=True)
    try:
        strays = [p for p in tagged_by_mark() if psutil.Process(p).ppid() != os.getpid()]
        assert strays
        descendants.end_strays()
        assert not any(descendants._has_mark(p, descendants.mark()) for p in strays)
        assert child.poll() is None  # of this process, whoever has started it
    finally:
        child.kill()
        child.wait()


def test_below_are_children_of_children_but_not_the_roots() -> None:
    parents = {1: 0, 2: 1, 3: 2, 4: 3, 5: 1, 6: 5}
    assert descendants.below({2}, parents) == {3, 4}
    assert descendants.below({2, 3}, parents) == {4}
    assert descendants.below({1}, parents) == {2, 3, 4, 5, 6}
    assert descendants.below({7}, parents) == set()


# ---------------------------------------------------------------------------------------------------------------------
# Workers that are stopped, keep the GIL, or end while they start
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["dask", *slow("pool", "processes", "process-per-task", "manager")])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with opened(request.param) as found:
        found.run(mapped(abs, 1))  # some start their last processes with the first graph
        yield found


@pytest.mark.parametrize("function", [stop_itself, keep_the_gil])
def test_a_timeout_holds_for_a_stopped_worker_and_one_in_c_code(backend: Backend, function: Any) -> None:
    with pytest.raises(TaskTimeout, match=r"fit\[x=7\]: ran longer than its timeout of 0\.5 s"):
        backend.run(one(function, 1, timeout=0.5))
    assert backend.run(mapped(abs, 3)).results == {("total",): 3}


def test_a_stopped_worker_counts_as_lost_after_the_shortest_timeout() -> None:
    assert patience(mapped(abs, 3)) == 35
    assert patience(mapped(abs, 3, timeout=2.0)) == 7
    with subprocess.Popen(["sleep", "3600"]) as child:
        try:
            looks = StoppedProcesses()
            assert dict(looks.look([child.pid, None])) == {}
            child.send_signal(signal.SIGSTOP)
            assert until(lambda: looks.look([child.pid]).get(child.pid, 0.0) > 0.05)
            looks._looked -= 1000  # this process was stopped, too
            assert looks.look([child.pid])[child.pid] < 100
            child.send_signal(signal.SIGCONT)
            assert until(lambda: not looks.look([child.pid]))
        finally:
            child.kill()


@pytest.mark.parametrize("name", ["dask", *slow("pool", "processes", "process-per-task", "manager")])
def test_a_worker_killed_while_it_starts_is_started_again(name: str) -> None:
    before = set(workers_of_this())
    killed: list[int] = []

    def kill_first() -> None:
        while not (new := sorted(set(workers_of_this()) - before)):
            time.sleep(0.001)
        os.kill(new[0], signal.SIGKILL)
        killed.append(new[0])

    killer = threading.Thread(target=kill_first)
    killer.start()
    with opened(name) as backend:
        killer.join()
        assert backend.run(mapped(abs, 5)).results == {("total",): 10}
    assert killed


def workers_of_this() -> list[int]:
    """The processes that the server of forks has forked."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            parent = child.parent()
            if parent is not None and parent.pid != os.getpid() and "forkserver" in " ".join(parent.cmdline()):
                found.append(child.pid)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# What a client leaves on a running scheduler; ports; the staging folder
# ---------------------------------------------------------------------------------------------------------------------

CLIENT = """
import sys, threading
from pipeline.backends.dask.backend import Dask
if __name__ == "__main__":
    with Dask(address=sys.argv[1]):
        print("open", flush=True)
        threading.Event().wait()
"""


def test_a_killed_client_leaves_no_plugin_on_a_scheduler(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(CLIENT)
    with scheduler() as found, worker(found), Client(found.address, set_as_default=False) as client:
        with process(str(script), found.address) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
            assert len(client.run_on_scheduler(left_on)[1]) == 1
            child.kill()
        assert until(lambda: client.run_on_scheduler(left_on) == ([], []))


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # tornado's
def test_a_port_taken_meanwhile_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(cluster, "_free_port", lambda: port)
        with dask_backend.Dask(workers=1) as opened:  # warnings are errors
            assert f":{port}/" not in opened.pages["dashboard"]


def test_a_writer_never_makes_the_staging_folder_anew(tmp_path: Path) -> None:
    context = Context(str(tmp_path / ".staging-x"))
    Path(context.staging).mkdir()
    write_bytes(context, "a/b/part", [b"1"])
    recover(Path(context.staging))
    for path in ("a/b/part", "part"):
        with pytest.raises(OutputError, match=r"\.staging-x is gone"):
            write_bytes(context, path, [b"1"])
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------------
# Ctrl-C
# ---------------------------------------------------------------------------------------------------------------------


def test_ctrl_c_while_the_program_is_imported_is_one_line() -> None:
    slow = "import os, signal, sys, pipeline.__main__ as m\nsys.modules['pipeline.cli'] = None\n"
    script = f"""{slow}
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.modules.pop("pipeline.cli")
sys.meta_path.insert(0, Finder())
sys.exit(m.main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (130, "pipeline: error: ended by Ctrl-C. Nothing was begun.\n")


def test_a_second_ctrl_c_does_not_interrupt_the_cleaning_up() -> None:
    from pipeline.cli.signals import Interrupted, raising

    cleaned = False
    with raising():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except Interrupted:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)
            cleaned = True
    assert cleaned


def test_ctrl_c_that_a_finalizer_swallows_is_raised_after_it() -> None:
    from pipeline.cli.signals import Interrupted, raising

    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)

    def wait_for_the_signal() -> None:
        Finalized()
        while True:
            time.sleep(0.001)

    with raising(), pytest.raises(Interrupted):
        wait_for_the_signal()
