"""Start a run, send the signal of its case at the moment of its case, and see how it ends."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

from chaos import processes
from chaos.cases import Case, Moment
from chaos.pipelines import prepared
from chaos.processes import Cluster, wait

__all__ = ["Ended", "disturb"]

_GIVE_UP = 10.0  # seconds after which a user ends a run that waits for a process that is stopped for ever


@dataclass
class Ended:
    """How a run ended.

    Parameters
    ----------
    exit_code : as a shell shows it, 137 for SIGKILL; None: it hung
    gone : seconds until the last process of the run was gone; None: it is not
    left : those that are left; they were killed
    segments : files in shared memory that it has left
    """

    exit_code: int | None
    out: str
    err: str
    gone: float | None
    left: list[str] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)


Verdict = TypeVar("Verdict")
Judge: TypeAlias = Callable[[Case, Path, Ended, Cluster | None], Verdict]
Command: TypeAlias = Callable[[Case, Path, Cluster | None], list[str]]


def command_of(case: Case, place: Path, cluster: Cluster | None) -> list[str]:
    """Return the command of a run."""
    file = prepared(case.pipeline) / "p.yaml"
    where = ["--cluster", cluster.address] if cluster else ["--backend", case.backend, "--workers", "2"]
    folders = ["--out", str(place / "out"), "--runs", str(place / "runs")]
    return [sys.executable, "-m", "pipeline", "run", str(file), *folders, *where]


def disturb(case: Case, place: Path, judge: Judge[Verdict], command: Command = command_of) -> Verdict | None:
    """Disturb a run in ``place`` and have it judged; None where the signal came too late, each time it was tried."""
    for moment in case.moments:
        whole = _duration(case.pipeline, case.backend) if moment.at == "fraction" else 0.0
        with _fresh(case, place) as cluster, _Watched(command(case, place, cluster), place, cluster) as run:
            pid = run.hit(case, moment, whole)
            if pid is not None:
                return judge(case, place, run.to_the_end(case, pid), cluster)
    return None


@contextlib.contextmanager
def _fresh(case: Case, place: Path) -> Iterator[Cluster | None]:
    """Make a folder as it is before a run, and the cluster to run on."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "tmp").mkdir(parents=True)
    if case.earlier:
        shutil.copytree(prepared(case.pipeline) / "old", place / "out")
    cluster = Cluster(place, nannies=2 if case.target == "nanny" else 1) if case.backend == "standing" else None
    try:
        yield cluster
    finally:
        if cluster is not None:
            cluster.end()


@functools.cache
def _duration(pipeline: str, backend: str) -> float:
    """Return the seconds that a run takes which nothing disturbs."""
    case = Case(0, pipeline, backend, "parent", "SIGKILL", (), 0.0, earlier=False)
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp") as folder, _fresh(case, Path(folder)) as cluster:
        run = _Watched(command_of(case, Path(folder), cluster), Path(folder), cluster)
        run.parent.wait()
        return time.monotonic() - run.began


class _Watched:
    """A run that is going on, and what can be seen of it from outside; what is left of it at the end is killed."""

    def __init__(self, command: Sequence[str], place: Path, cluster: Cluster | None) -> None:
        self.place, self.cluster = place, cluster
        self.segments: set[str] = set()
        with open(place / "stdout", "w") as out, open(place / "stderr", "w") as err:
            self.parent = subprocess.Popen(
                command, cwd=place, env=processes.environment(place, "tmp"), stdout=out, stderr=err,
                start_new_session=True,
            )  # fmt: skip
        self.began = time.monotonic()

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *exc: object) -> None:
        processes.kill_all([*self.pids(), *([] if self.ended() else [self.parent.pid])])
        self.parent.wait()

    def ended(self) -> bool:
        return self.parent.poll() is not None

    def events(self, kind: str) -> list[int]:
        """Return the process of each event: of each ``task`` that has begun, each ``child`` that one has left."""
        with contextlib.suppress(FileNotFoundError):
            lines = [line.split() for line in (self.place / "events").read_text().splitlines()]
            return [int(line[1]) for line in lines if line[0] == kind]
        return []

    def pids(self) -> list[int]:
        """Return the living processes of the run, children of its tasks included."""
        return sorted({*processes.of_run(self.place, "tmp"), *processes.commands(self.events("child"))})

    def workers(self) -> list[int]:
        return processes.workers(self.cluster.pids() if self.cluster else self.pids())

    def has_come(self, moment: Moment, case: Case, whole: float) -> bool:
        """Return whether the moment has come, but for its delay."""
        if moment.at == "fraction":
            return time.monotonic() - self.began > moment.value * whole
        if moment.at == "task":
            return len(self.events("task")) >= moment.value
        if moment.at == "workers":
            time.sleep(0.05)  # looking for them takes longer than the rest
            return case.backend in ("serial", "threads") or bool(self.workers())
        mark = {"staged": "", "commit": "journal.json", "committed": "committed"}[moment.at]
        return any((staging / mark).exists() for staging in (self.place / "out").glob(".staging-*"))

    def target(self, case: Case) -> int | None:
        """Return who is hit: of the workers, one that runs a task where there is one; None if the run is over."""
        if case.target == "parent":
            return self.parent.pid
        if self.cluster is not None and case.target != "worker":
            return (self.cluster.scheduler if case.target == "scheduler" else self.cluster.nannies[0]).pid
        while not (found := self.workers()) and not self.ended():
            time.sleep(0.05)
        busy = [pid for pid in reversed(self.events("task")) if pid in found]
        return next(iter(busy + found), None)

    def hit(self, case: Case, moment: Moment, whole: float) -> int | None:
        """Send the signal at its moment; return the process that it went to, None if it would come too late."""
        looked = 0.0
        while not self.has_come(moment, case, whole) and not self.ended():
            if time.monotonic() > looked + 0.5:
                self.segments |= processes.segments(processes.of_run(self.place, "tmp"))
                looked = time.monotonic()
            time.sleep(0.001)
        time.sleep(moment.delay)
        pid = self.target(case)
        self.segments |= processes.segments(processes.of_run(self.place, "tmp"))
        if pid is None or self.ended():
            return None
        # Ctrl-C goes to the process group of the parent, as in a terminal
        send = os.killpg if case.target == "parent" and case.signal == signal.SIGINT else os.kill
        with contextlib.suppress(ProcessLookupError):
            send(pid, case.signal)
            if case.signal_name == "SIGINT twice":
                time.sleep(case.pause)
                send(pid, case.signal)
        return pid

    def to_the_end(self, case: Case, pid: int) -> Ended:
        """Wait, after the signal, until the run and all its processes have ended; end what does not."""
        if case.signal == signal.SIGSTOP and (case.target == "parent" or not case.for_ever):
            wait(self.ended, case.pause)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if case.for_ever else signal.SIGCONT)
        if case.may_wait and not wait(self.ended, _GIVE_UP):
            os.killpg(self.parent.pid, signal.SIGINT)
        code = self.parent.returncode if wait(self.ended, case.limit) else None
        ended = time.monotonic()
        gone = code is not None and wait(lambda: not self.pids(), case.gone_limit)
        seconds = time.monotonic() - ended
        left = list(processes.commands(self.pids()).values())
        self.__exit__()
        if case.for_ever and self.cluster is not None:
            processes.kill_all([pid])  # as who runs the cluster would do
        said = [(self.place / name).read_text(errors="replace") for name in ("stdout", "stderr")]
        left_over = Path("/dev/shm").glob(f"pipeline-shared-{self.parent.pid}_*")
        segments = sorted({path for path in self.segments if Path(path).exists()}.union(map(str, left_over)))
        shown = 128 - code if code is not None and code < 0 else code
        return Ended(shown, said[0], said[1], seconds if gone else None, left, segments)
