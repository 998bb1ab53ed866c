"""Workers of a manager on other machines: network namespaces with addresses of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import until
from machines import Machine, network

N = 4  # tasks
PORT = "5077"


@pytest.fixture
def authkey_file(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text("0123456789abcdef" * 4)
    return str(path)


def joined(machine: Machine, authkey_file: str, **environment: str) -> subprocess.Popen[str]:
    """A worker process of one worker, which has joined the run of the first machine."""
    options = ["--join", f"{machine.there}:{PORT}", "--authkey-file", authkey_file, "--workers", "1", "--wait", "10min"]
    child = machine.start("-m", "pipeline", "worker", *options, **environment)
    assert child.stdout is not None
    said = list(iter_until(child.stdout, "joined the run"))
    assert "joined the run" in said[-1], said
    return child


def iter_until(lines: Iterator[str], wanted: str) -> Iterator[str]:
    for line in lines:
        yield line
        if wanted in line:
            return


def rest(child: subprocess.Popen[str]) -> str:
    """What a process still prints until it ends."""
    assert child.stdout is not None
    text = child.stdout.read()
    child.wait(timeout=120)
    return text


@contextlib.contextmanager
def served(n: int, authkey_file: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[Machine]]]:
    """A run of ``N`` tasks on the first of ``n + 1`` machines, and the others."""
    with network(n) as (first, *others):
        yield first.start("manager_tasks.py", f"0.0.0.0:{PORT}", authkey_file, str(folder), str(N)), others


def test_tasks_of_a_killed_machine_run_on_another(authkey_file: str, tmp_path: Path) -> None:
    with served(2, authkey_file, tmp_path) as (run, (good, bad)):
        lost = joined(bad, authkey_file, BAD_MACHINE="bad")
        assert until(lambda: any(tmp_path.glob("bad-*")))
        joined(good, authkey_file)
        for pid in bad.living():
            with contextlib.suppress(ProcessLookupError):  # those of the child end with it
                os.kill(pid, signal.SIGKILL)
        (tmp_path / "go").touch()
        said = rest(run)
        assert run.returncode == 0, said
        assert f"results {[x * x for x in range(N)]}" in said
        assert "worker lost" in said
        assert lost.wait() == -signal.SIGKILL
        assert until(lambda: not good.living())
        assert "the run is over; 4 segments ran here" in rest(good.processes[0])


@pytest.mark.slow
def test_a_cut_cable_ends_the_worker_and_moves_its_tasks(authkey_file: str, tmp_path: Path) -> None:
    with served(2, authkey_file, tmp_path) as (run, (good, bad)):
        lost = joined(bad, authkey_file, BAD_MACHINE="bad")
        assert until(lambda: any(tmp_path.glob("bad-*")))
        bad.cut()
        joined(good, authkey_file)
        (tmp_path / "go").touch()
        said = rest(run)
        assert f"results {[x * x for x in range(N)]}" in said
        assert "worker lost" in said
        assert "pipeline: error: the run at 10.77.2.1:5077 is gone: " in rest(lost)
        assert lost.returncode == 4
        assert until(lambda: not bad.living())


@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True])
def test_workers_leave_when_the_server_is_killed(authkey_file: str, tmp_path: Path, busy: bool) -> None:
    with served(1, authkey_file, tmp_path) as (run, (other,)):
        worker = joined(other, authkey_file, BAD_MACHINE="bad")
        assert until(lambda: any(tmp_path.glob("bad-*")) if busy else bool(other.living()))
        os.killpg(run.pid, signal.SIGKILL)
        assert "pipeline: error: the run at 10.77.1.1:5077 is gone: " in rest(worker)
        assert worker.returncode == 4
        assert until(lambda: not other.living())


@pytest.mark.slow
def test_ctrl_c_of_a_worker_is_one_line_and_leaves_nothing(authkey_file: str, tmp_path: Path) -> None:
    with served(1, authkey_file, tmp_path) as (_, (other,)):
        worker = joined(other, authkey_file, BAD_MACHINE="bad")
        assert until(lambda: any(tmp_path.glob("bad-*")))
        os.killpg(worker.pid, signal.SIGINT)
        assert rest(worker) == "pipeline: error: ended by Ctrl-C.\n"
        assert worker.returncode == 130
        assert until(lambda: not other.living())
