"""Run one measured run in a fresh process, watch its memory, end everything below it.

The child leads its own process group, so that everything it leaves behind can be killed. Its stdin is a pipe of this
process: if this process is killed, the child sees the pipe close, and ends.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.experiments.comparison.measured_run import Report, Spec
from pipeline.worker.atomic_write import write_text

__all__ = ["Child", "measured"]

_POLL = 0.1  # least seconds between two measurements of the child's memory
_SHARE = 0.02  # share of a core that this may take: the core is one of those that are measured
_GRACE = 5.0  # seconds in which a child must end its workers
_LOG_TAIL = 2_000  # characters


@dataclass(frozen=True)
class Child:
    """The result of a child: report, exception if it failed, lifetime in seconds, peak memory of its process tree."""

    report: Report
    error: BaseException | None
    elapsed: float
    peak_memory: float


def measured(
    *,
    graph: Path,
    backend: str,
    workers: int,
    options: Mapping[str, Any],
    storage: Mapping[str, Any],
    outputs: Path,
    folder: Path,
    call: str = "",
    params: Mapping[str, Any] | None = None,
    inputs: str = "",
    deadline: float = math.inf,
) -> Child:
    """Make one run in a fresh process and wait for it; see :class:`pipeline.experiments.comparison.measured_run.Spec`.

    A run that fails, or that is ended at the ``deadline`` (on the clock of ``perf_counter``), is a report with
    ``failure``; nothing is raised for it. Whatever is raised here, Ctrl-C included,
    the child and all below it have ended by then.
    """
    spec = Spec(
        graph=str(graph),
        backend=backend,
        workers=workers,
        outputs=str(outputs),
        folder=str(folder),
        options=dict(options),
        storage=dict(storage),
        call=call,
        params=dict(params or {}),
        inputs=inputs,
    )
    write_text(folder / "spec.json", json.dumps(asdict(spec), indent=1, default=str))
    began = time.perf_counter()
    with (folder / "log.txt").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "pipeline.experiments.comparison.measured_run", str(folder / "spec.json")],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(),
        )
        try:
            peak = _watch(child.pid, deadline)
        except BaseException:
            child.terminate()
            _wait(child.pid, _GRACE)
            raise
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)  # the group is ours as long as its leader is not reaped
            child.wait()
            if call or storage:
                (folder / "spec.json").unlink()  # they may hold secrets
            if child.stdin is not None:
                child.stdin.close()
    return Child(_report(folder, child.returncode), _error(folder), time.perf_counter() - began, peak)


def _environment() -> dict[str, str]:
    """Return the environment of this process, with a fixed hash seed and the same import path."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": path}


def _watch(pid: int, deadline: float) -> float:
    """Wait until the process has ended (it is not reaped) or the deadline is over; return its peak memory.

    The memory is that of the process and all processes below it.
    """
    peak = pause = 0.0
    while not _wait(pid, max(_POLL, pause)):
        began = time.perf_counter()
        if began > deadline:
            break
        peak = max(peak, _resident(pid))
        pause = (time.perf_counter() - began) / _SHARE
    return peak


def _wait(pid: int, seconds: float) -> bool:
    """Return whether the process has ended within ``seconds``; it is not reaped."""
    deadline = time.perf_counter() + seconds
    while True:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            return True
        if time.perf_counter() >= deadline:
            return False
        time.sleep(min(0.02, seconds))


def _resident(pid: int) -> float:
    """Return the resident bytes of a process and all processes below it."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        for process in [top, *top.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                total += process.memory_info().rss
    return total


def _report(folder: Path, code: int) -> Report:
    file = folder / "report.json"
    if file.is_file():
        return Report(**json.loads(file.read_text()))
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    log = (folder / "log.txt").read_text(errors="replace").strip()
    last = log[-_LOG_TAIL:].split("\n")[-1]
    output = f"; the last line of its output: {last}" if last else ""
    return Report(failure=f"the process {ended} and left no report{output}", exit_code=4, traceback=log[-_LOG_TAIL:])


def _error(folder: Path) -> BaseException | None:
    """Return the exception of a child that failed; None if there is none, or it can't be unpickled."""
    file = folder / "error.pickle"
    if not file.is_file():
        return None
    try:
        error = pickle.loads(file.read_bytes())  # written by our own child, a moment ago
    except Exception:  # noqa: BLE001  (unpickling runs the user's code; the report has the text)
        return None
    return error if isinstance(error, BaseException) else None
