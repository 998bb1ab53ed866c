"""A worker process from the inside: how it starts, gets ready for a graph and reports what it runs."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from time import perf_counter_ns, sleep

import cloudpickle

from pipeline.backends.descendants import VARIABLE
from pipeline.backends.local.shared_memory import Sharing
from pipeline.backends.local.status_slots import StatusSlots
from pipeline.graph.graph import Graph
from pipeline.worker import output_capture, shared_store
from pipeline.worker.atomic_write import write_errors
from pipeline.worker.process_setup import (
    freeze_objects,
    install_modules,
    limit_threads,
    limit_threads_of_later_libraries,
)

__all__ = [
    "ChildConfig",
    "Setup",
    "begin",
    "set_idle",
    "set_status",
    "set_up",
    "setup_of",
    "sharing",
    "values_folder",
    "wait_for_others",
    "write_setup",
]

_PR_SET_PDEATHSIG = 1
_WAIT_LIMIT = 20_000_000_000  # ns
_SAMPLE_LIMIT = 1_000_000  # bytes of a task that is worth sending just to have its modules imported


@dataclass
class ChildConfig:
    """What a child gets when it starts.

    Parameters
    ----------
    slot : its own in ``slots``
    parent : process id
    signal_death : whether the kernel is to kill it when the thread that started it ends
    mark : of the processes that it starts, see :mod:`pipeline.backends.descendants`
    blas_threads : 0: it runs no tasks, so that nothing is limited
    """

    slots: StatusSlots
    slot: int
    parent: int
    signal_death: bool
    mark: str
    blas_threads: int


@dataclass
class _State:
    """The state of this child.

    Parameters
    ----------
    setups : path of the latest set-up -> threads of the libraries after it
    sharing : how it shares large values; None: it does not
    """

    slots: StatusSlots | None = None
    slot: int = 0
    blas_threads: int = 1
    setups: dict[str, dict[str, int]] = field(default_factory=dict)
    sharing: Sharing | None = None


_state = _State()


def begin(config: ChildConfig) -> None:
    """Prepare this process, which has just started, for its work.

    It ignores Ctrl-C, which the parent handles, and leads a process group, so that ending the group ends the programs
    that its tasks have started. It dies with its parent.
    """
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ[VARIABLE] = config.mark
    output_capture.install(one_task=True)
    _state.slots, _state.slot, _state.blas_threads = config.slots, config.slot, config.blas_threads
    _state.setups = {}
    parent = multiprocessing.parent_process()
    # The kernel's signal comes when the starting *thread* ends, so it is asked for where that is the main thread. The
    # thread that watches the parent works everywhere, but not while a task holds the GIL.
    if config.signal_death and sys.platform == "linux" and os.getppid() == config.parent:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != config.parent:
            os.kill(os.getpid(), signal.SIGKILL)  # the parent ended before the signal was asked for
    if parent is not None:
        threading.Thread(target=_die_after, args=(parent.sentinel,), name="parent-watcher", daemon=True).start()
    if config.blas_threads:
        limit_threads_of_later_libraries(config.blas_threads)  # of those that are there: when it is set up


def _die_after(sentinel: int) -> None:
    wait([sentinel])
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Setup:
    """What a child needs before its first task of a graph.

    Parameters
    ----------
    samples : one pickled task of each step
    sharing : how large values go through shared memory; None: none does
    has_values : whether all workers of the run are on this machine, and have its shared values
    """

    sys_path: tuple[str, ...]
    modules: Mapping[str, bytes]
    samples: tuple[bytes, ...]
    sharing: Sharing | None = None
    has_values: bool = False


def setup_of(
    graph: Graph, modules: Mapping[str, bytes], sharing: Sharing | None = None, *, has_values: bool = False
) -> Setup:
    """Return what a child needs before its first task of a graph.

    That is the import path, the shipped modules and one task of each step: unpickling that imports what the step needs.
    """
    samples: dict[str, bytes] = {}
    for key, node in graph.tasks.items():
        step = graph.policies[graph.owners[key]].step
        if step not in samples:
            samples[step] = b""
            with contextlib.suppress(Exception):  # a task that can't be pickled is reported when it is to run
                data = cloudpickle.dumps(node)
                samples[step] = data if len(data) < _SAMPLE_LIMIT else b""
    return Setup(
        tuple(sys.path), {**modules, **graph.modules}, tuple(s for s in samples.values() if s), sharing, has_values
    )


def write_setup(folder: str, setup: Setup) -> str:
    """Write a set-up to a file that is named by its content; return its path."""
    data = pickle.dumps(setup)
    path = os.path.join(folder, f"setup-{hashlib.sha256(data).hexdigest()[:32]}")
    if not os.path.exists(path):
        with write_errors(path), open(path, "wb") as file:
            file.write(data)
    return path


def values_folder(folder: str) -> str:
    """Return where the shared values of users are, of workers with their set-up files in a folder."""
    return os.path.join(folder, "values")


def set_up(path: str) -> dict[str, int]:
    """Get this child ready as a set-up file describes, unless it is already.

    Returns
    -------
    library -> its number of threads, see :func:`pipeline.worker.process_setup.limit_threads`
    """
    if path not in _state.setups:
        with open(path, "rb") as file:
            setup: Setup = pickle.load(file)
        sys.path[:] = setup.sys_path
        if setup.has_values:
            shared_store.attach(values_folder(os.path.dirname(path)))
        else:
            shared_store.refuse("manager")
        install_modules(setup.modules)
        for sample in setup.samples:
            with contextlib.suppress(Exception):  # a task that can't be unpickled is reported when it is to run
                pickle.loads(sample)
        first, _state.sharing = not _state.setups, setup.sharing
        _state.setups = {path: limit_threads(_state.blas_threads)}
        if first:
            freeze_objects()
    return _state.setups[path]


def wait_for_others(n_workers: int, token: int) -> None:
    """Wait, up to 20 s, until ``n_workers`` children have called this with the same token.

    So each of them gets one of the calls that a Pool hands out.
    """
    if _state.slots is None:
        return
    set_status(-2 - token, -1, 0)
    deadline = perf_counter_ns() + _WAIT_LIMIT
    while perf_counter_ns() < deadline:
        n_here = sum(_state.slots.read(slot)[0] == -2 - token for slot in range(_state.slots.n))
        if n_here >= n_workers:
            return
        sleep(0.002)


def set_status(segment: int, position: int, start: int) -> None:
    """Write what this child is about to run to its status slot."""
    if _state.slots is not None:
        _state.slots.write(_state.slot, segment, position, start)


def sharing() -> Sharing | None:
    """Return how this child shares large values; None: it does not."""
    return _state.sharing


def set_idle() -> None:
    """Write to the status slot that this child runs nothing."""
    set_status(-1, -1, 0)
