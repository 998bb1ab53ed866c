"""End what the workers of this process have started, at any depth, when they end or when this process does.

A child that a task forked may leave its process group, its session and its parent, and outlive its worker: what it
keeps is the mark in its environment. Workers are started with the mark of this process (:func:`marked`). Ending workers
ends what stands below them in the tree of processes; leaving a back end ends the strays too, which are processes with
the mark that do not descend from this process any more. If this process is killed, a watcher, which waits at a pipe,
ends all that have the mark, stopped ones included, and removes the files through which they shared values.

Without ``/proc`` only the workers themselves are ended. A worker of the start method ``fork`` has the environment of
this process: what it forks without ``exec`` has no mark.
"""

# Rejected: process groups and sessions, which a daemon leaves; PR_SET_PDEATHSIG, which reaches the child alone, not
# what that has started; PR_SET_CHILD_SUBREAPER, which would hand this process the daemons of its user, too.
#
# The watcher runs this file as a script, in an interpreter without site-packages: it imports the standard library only.

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator

__all__ = ["SHARED", "VARIABLE", "below", "end", "end_below", "end_strays", "mark", "marked", "shared_prefix", "watch"]

VARIABLE = "PIPELINE_WORKER_OF"
"""The environment variable of the mark; a worker that runs a pipeline itself adds its own mark for its workers."""

SHARED = "/dev/shm"
"""Where the files are through which workers share values (:mod:`pipeline.backends.local.shared_memory`)."""

_PATIENCE = 5.0  # seconds until what was killed has ended
_marks: dict[int, str] = {}  # process id, since a fork has its own -> mark
_watchers: dict[int, tuple[int, int]] = {}  # process id -> its watcher, and the end of the pipe that is kept open
_marking = threading.Lock()


def mark() -> str:
    """Return what the environment variable of the workers of this process contains."""
    own = _marks.setdefault(os.getpid(), f"{os.getpid()}-{secrets.token_hex(8)}")
    outer = os.environ.get(VARIABLE, "")
    return f"{outer}:{own}" if outer else own


@contextlib.contextmanager
def marked() -> Iterator[None]:
    """Mark the processes that are started within the block, which should be short: it is so for all threads."""
    with _marking:
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = mark()
        try:
            yield
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before


def shared_prefix(own: str) -> str:
    """Return what the names of the folders in :data:`SHARED` begin with that belong to the process with a mark.

    The part up to the last hyphen is the same for all processes, see :func:`pipeline.worker.temp_folders.hold`.
    """
    return f"pipeline-shared-{own.replace('-', '_')}_"


def _remove_shared(own: str) -> None:
    for name in os.listdir(SHARED) if os.path.isdir(SHARED) else ():
        if name.startswith(shared_prefix(own)):
            shutil.rmtree(os.path.join(SHARED, name), ignore_errors=True)


def watch() -> None:
    """Start the watcher of this process, unless it runs."""
    if not os.path.isdir("/proc/self") or _is_watched():
        return
    reading, writing = os.pipe()
    try:
        watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, mark().rpartition(":")[2]],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != VARIABLE},
            start_new_session=True,  # a signal to this process's group must not reach it
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    watcher.returncode = 0  # it is known by its id from now on: it lives longer than this process
    _watchers[os.getpid()] = watcher.pid, writing


def _is_watched() -> bool:
    watcher, pipe = _watchers.get(os.getpid(), (0, 0))
    with contextlib.suppress(ChildProcessError):
        if watcher and not os.waitpid(watcher, os.WNOHANG)[0]:
            return True
    if _watchers.pop(os.getpid(), None):
        with contextlib.suppress(OSError):
            os.close(pipe)
    return False


def _forked() -> None:
    """Leave the pipe of the watcher to the parent: a fork that lives on would hold it open."""
    for _, pipe in _watchers.values():
        with contextlib.suppress(OSError):
            os.close(pipe)
    _watchers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


# ---------------------------------------------------------------------------------------------------------------------
# Ending processes
# ---------------------------------------------------------------------------------------------------------------------


def end(roots: Iterable[int]) -> None:
    """Kill these processes and all below them."""
    roots = set(roots)
    parents = _parents()
    for process in roots & parents.keys() | below(roots, parents):
        _kill(process)


def end_below(roots: Iterable[int]) -> None:
    """Kill all below these processes."""
    for process in below(set(roots), _parents()):
        _kill(process)


def end_strays() -> None:
    """Kill what workers of this process have started and left behind, and wait for its end."""
    own = mark().rpartition(":")[2]

    def strays() -> set[int]:
        parents = _parents()
        family = {os.getpid(), *below({os.getpid()}, parents)}
        found = {process for process in parents.keys() - family if _has_mark(process, own)}
        return found | below(found, parents)

    _kill_until_none(strays)


def _end_all(own: str) -> None:
    """Kill all processes with a mark, and what stands below them."""

    def members() -> set[int]:
        parents = _parents()
        found = {process for process in parents if _has_mark(process, own)}
        return found | below(found, parents)

    _kill_until_none(members)


def _kill_until_none(members: Callable[[], Iterable[int]]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while (found := members()) and time.monotonic() < deadline:
        for process in found:
            _kill(process)
        time.sleep(0.005)  # one may have forked before it was killed


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, signal.SIGKILL)


def below(roots: Container[int], parents: dict[int, int]) -> set[int]:
    """Return the processes that descend from some, which are not part of it."""
    found: set[int] = set()
    for process in parents:
        line = [process]
        while (parent := parents.get(line[-1], 0)) and parent not in roots and parent not in found:
            line.append(parent)
        if parent:
            found.update(line)
    return {process for process in found if process not in roots}


def _parents() -> dict[int, int]:
    """Return the parent of each process that has not ended; empty without ``/proc``."""
    found = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdecimal():
            with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                state, parent, *_ = file.read().rpartition(b")")[2].split()
                if state not in (b"Z", b"X"):
                    found[int(name)] = int(parent)
    return found


def _has_mark(process: int, own: str) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{process}/environ", "rb") as file:
        for entry in file.read().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == VARIABLE.encode():
                return own.encode() in value.split(b":")
    return False


if __name__ == "__main__":
    sys.stdin.read()
    _end_all(sys.argv[1])
    _remove_shared(sys.argv[1])
