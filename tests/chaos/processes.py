"""The processes of a run, found by a variable of their environment; a Dask cluster that was there before it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

__all__ = ["Cluster", "commands", "environment", "kill_all", "of_run", "segments", "wait", "workers"]

_MARK = "CHAOS_RUN"
_SEGMENT = re.compile(r"/dev/shm/\S+")


def environment(place: Path, mark: str) -> dict[str, str]:
    """Return the environment of a run, or of a cluster, in a folder of its own."""
    tests = str(Path(__file__).parents[1])  # the judge runs a function of theirs on the scheduler
    paths = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {_MARK: mark, "CHAOS_EVENTS": str(place / "events"), "TMPDIR": str(place / mark), "PYTHONPATH": paths}
    return {**os.environ, **own}


def of_run(place: Path, mark: str) -> list[int]:
    """Return the living processes that were started with this environment, the oldest first."""
    wanted = [f"{name}={value}".encode() for name, value in ((_MARK, mark), ("CHAOS_EVENTS", place / "events"))]
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            variables = Path("/proc", name, "environ").read_bytes().split(b"\0")
            if all(variable in variables for variable in wanted):
                found.append(int(name))
    return sorted(found)


def commands(pids: Iterable[int]) -> dict[int, str]:
    """Return the state and the command line of each process that lives."""
    found = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                found[pid] = f"{process.status()}: {' '.join(process.cmdline())[:120]}"
    return found


def workers(pids: Iterable[int]) -> list[int]:
    """Return those that run tasks: spawned, or forked from a server."""
    told, found = commands(pids), []
    for pid, command in told.items():
        with contextlib.suppress(psutil.Error):
            forked = "forkserver" in command and "forkserver" in told.get(psutil.Process(pid).ppid(), "")
            if "spawn_main" in command or forked:
                found.append(pid)
    return found


def segments(pids: Iterable[int]) -> set[str]:
    """Return the files in shared memory that processes have mapped."""
    found: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.update(_SEGMENT.findall(Path(f"/proc/{pid}/maps").read_text()))
    return found


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait(condition: Callable[[], bool], limit: float) -> bool:
    """Return whether a condition comes true in time."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Cluster:
    """A scheduler and two workers with nannies; each nanny in a process of its own, or both in one."""

    def __init__(self, place: Path, *, nannies: int) -> None:
        self._place, self._log = place, place / "cluster.log"
        (place / "cluster").mkdir()
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-show")
        options = ["--nthreads", "1", "--nworkers", str(2 // nannies), "--local-directory", str(place / "cluster")]
        self.nannies = [self._start("worker", *options) for _ in range(nannies)]
        wait(lambda: self._log.read_text().count("Registered to:") >= 2, 120)
        self.address = next(line.split()[-1] for line in self._log.read_text().splitlines() if "Scheduler at:" in line)

    def _start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{name}", "--no-dashboard", *options]
        command += ["--scheduler-file", str(self._place / "cluster/scheduler.json")]
        with open(self._log, "a") as log:
            return subprocess.Popen(
                command, env=environment(self._place, "cluster"), cwd=self._place, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def lives(self) -> bool:
        return self.scheduler.poll() is None

    def pids(self) -> list[int]:
        return of_run(self._place, "cluster")

    def end(self) -> None:
        while pids := self.pids():
            kill_all(pids)
        for child in (self.scheduler, *self.nannies):
            child.wait()
