"""What all tests share: each ends with the threads, child processes and open files that it began with.

Skipped tests are counted in one line; with PIPELINE_SKIPS_FAIL set, as in CI, they fail the run.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings

# How long an example takes is not what a test is about. The same examples come each time, unless new ones are sought.
settings.register_profile("pipeline", deadline=None, derandomize="PIPELINE_EXPLORE" not in os.environ)
settings.load_profile("pipeline")

# Of libraries, one a process, and kept by them until it ends.
LASTING_THREADS = ("Dask-Offload", "TCP-Executor", "Profile", "ThreadPoolExecutor-", "asyncio_", "fsspecIO", "zarr_io")
# Of Python's own multiprocessing: the same.
LASTING_CHILDREN = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "backends/descendants.py")
# Held as long as the process lives: the folders of modules it has imported, its fork server, its statements.
LASTING_FILES = re.compile(r"/pipeline-\d+/(code|server|spill)-")

GRACE = 120.0  # seconds for what is on its way, in or out: a busy machine may need them, a quiet one never waits


def _threads() -> Iterator[str]:
    for thread in threading.enumerate():
        if not thread.name.startswith(LASTING_THREADS):
            yield "thread " + re.sub(r"\d+", "N", thread.name)  # one in the place of another is no leak


_strangers: set[int] = set()  # processes that are none of ours; no process becomes a child of ours later


def _descendants() -> list[psutil.Process]:
    """What ``children(recursive=True)`` gives, at a tenth of its cost: only processes that are new are looked at."""
    there = set(psutil.pids())
    _strangers.intersection_update(there)  # a number may be used again
    found: dict[int, tuple[psutil.Process, int]] = {}
    for pid in there - _strangers - {os.getpid()}:
        with contextlib.suppress(psutil.Error):  # it ended while we looked
            process = psutil.Process(pid)
            found[pid] = process, process.ppid()
    ours = []
    for pid, (process, above) in found.items():
        while above in found:
            above = found[above][1]
        if above == os.getpid():
            ours.append(process)
        elif above == 0 or above in _strangers:
            _strangers.add(pid)
    return ours


def passing_children() -> Iterator[psutil.Process]:
    """The child processes, but for those that last: what a server forks looks like it, but is no child of ours."""
    for child in _descendants():
        with contextlib.suppress(psutil.Error):
            command = " ".join(child.cmdline())
            if child.ppid() != os.getpid() or not any(name in command for name in LASTING_CHILDREN):
                yield child


def _children() -> Iterator[str]:
    for _ in passing_children():
        yield "child process"


def _files() -> Iterator[str]:
    folder = tempfile.gettempdir() + os.sep
    for fd in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the descriptor of the listing itself
        is_ours = target.startswith(folder) and not target.startswith(sys.prefix + os.sep)
        if is_ours and not target.endswith(" (deleted)") and not LASTING_FILES.search(target):
            yield f"open file {target}"


def _shared() -> Iterator[str]:
    """What workers of this process share values through."""
    for path in Path("/dev/shm").glob(f"pipeline-shared-{os.getpid()}_*"):
        yield f"folder {path}"
        for file in path.iterdir():
            yield f"file {file}"


def _there() -> Counter[str]:
    return Counter(itertools.chain(_threads(), _children(), _files(), _shared()))


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves threads, child processes or open files behind."""
    before = _there()
    yield
    left = _there() - before
    if left:
        gc.collect()
        until(lambda: not _there() - before)
        left = _there() - before
    assert not left, "left behind: " + "; ".join(f"{n} x {what}" for what, n in sorted(left.items()))


def until(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true before the grace is over."""
    deadline = time.monotonic() + GRACE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


_cache = tempfile.mkdtemp(prefix="pipeline-tests-cache-")


def pytest_configure() -> None:
    """Have SIGINT end the children of tests though this run stands in the background, where a shell ignores it.

    What is kept between runs of Pipeline is kept in a folder of this run of the tests, by child processes too.
    """
    os.environ["PIPELINE_CACHE"] = _cache
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    """Remove what runs of Pipeline kept."""
    shutil.rmtree(_cache, ignore_errors=True)


def _n_skipped(reporter: Any) -> int:
    return len(reporter.stats.get("skipped", ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let skipped tests fail a run that must not skip any."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")  # None in the processes that run the tests
    strict = reporter is not None and os.environ.get("PIPELINE_SKIPS_FAIL")
    if strict and _n_skipped(reporter) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in one line how many tests were skipped, and why."""
    if _n_skipped(terminalreporter):
        reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats["skipped"])
        said = "; ".join(f"{n} x {reason}" for reason, n in reasons.items())
        failing = " (PIPELINE_SKIPS_FAIL is set: a failure)" if os.environ.get("PIPELINE_SKIPS_FAIL") else ""
        terminalreporter.write_line(f"skipped{failing}: {said}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data that tests may read: PIPELINE_DATA, else the one beside the checkout."""
    folder = Path(os.environ.get("PIPELINE_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():  # each test of it has a twin on data/, and CI lets the skip fail
        pytest.skip(f"real data: no folder {folder.name!r}; name it by PIPELINE_DATA")
    return folder
