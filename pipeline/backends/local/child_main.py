"""A worker process from within: how it begins, gets ready for a graph, and says what it does.

It ignores Ctrl-C (the parent answers it), leads a process group of its own (ending it ends the programs that its task
started, too), and dies with its parent: by the kernel's signal where the starting thread is the main one (the signal
comes when that *thread* ends), and by a thread that watches the parent in any case.
"""

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

from pipeline.backends.local.status_slots import StatusSlots
from pipeline.graph.graph import Graph
from pipeline.worker import output_capture
from pipeline.worker.process_setup import install_modules, limit_threads, settle

__all__ = ["ChildConfig", "begin", "idle", "meet", "note", "set_up", "write_setup"]

_PR_SET_PDEATHSIG = 1
_MEETING_LIMIT = 20_000_000_000  # ns
_SAMPLE_LIMIT = 1_000_000  # bytes of a task that is worth sending just to have its modules imported


@dataclass
class ChildConfig:
    """What a child is told when it starts."""

    slots: StatusSlots
    slot: int
    parent: int
    signal_death: bool
    blas_threads: int


@dataclass
class _Self:
    """What a child knows of itself."""

    slots: StatusSlots | None = None
    slot: int = 0
    blas_threads: int = 1
    setups: dict[str, dict[str, int]] = field(default_factory=dict)  # at most the latest


_self = _Self()


def begin(birth: ChildConfig) -> None:
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    output_capture.install(alone=True)
    _self.slots, _self.slot, _self.blas_threads = birth.slots, birth.slot, birth.blas_threads
    _self.setups = {}
    parent = multiprocessing.parent_process()
    if birth.signal_death and sys.platform == "linux" and os.getppid() == birth.parent:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != birth.parent:
            os.kill(os.getpid(), signal.SIGKILL)  # it ended before the signal was asked for
    if parent is not None:
        threading.Thread(target=_die_after, args=(parent.sentinel,), name="parent-watcher", daemon=True).start()
    limit_threads(birth.blas_threads)


def _die_after(sentinel: int) -> None:
    wait([sentinel])
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class _Setup:
    sys_path: tuple[str, ...]
    modules: Mapping[str, bytes]
    samples: tuple[bytes, ...]


def write_setup(folder: str, graph: Graph, modules: Mapping[str, bytes]) -> str:
    """Write down what a child needs before its first task of a graph; the file, which is named by its content.

    That is where to import from, the shipped modules, and one task a step: opening it imports what the step needs.
    """
    samples: dict[str, bytes] = {}
    for key, node in graph.tasks.items():
        step = graph.policies[graph.owners[key]].step
        if step not in samples:
            samples[step] = b""
            with contextlib.suppress(Exception):  # a task that can't be pickled is reported when it is to run
                data = cloudpickle.dumps(node)
                samples[step] = data if len(data) < _SAMPLE_LIMIT else b""
    setup = _Setup(tuple(sys.path), {**modules, **graph.modules}, tuple(s for s in samples.values() if s))
    data = pickle.dumps(setup)
    path = os.path.join(folder, f"setup-{hashlib.sha256(data).hexdigest()[:32]}")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            file.write(data)
    return path


def set_up(path: str) -> dict[str, int]:
    """Do in this child what a set-up file says, once; the threads that BLAS, OpenMP and Arrow have after it."""
    if path not in _self.setups:
        with open(path, "rb") as file:
            setup: _Setup = pickle.load(file)
        sys.path[:] = setup.sys_path
        install_modules(setup.modules)
        for sample in setup.samples:
            with contextlib.suppress(Exception):  # if it can't be opened, that is reported when it is to run
                pickle.loads(sample)
        first = not _self.setups
        _self.setups = {path: limit_threads(_self.blas_threads)}
        if first:
            settle()
    return _self.setups[path]


def meet(n_workers: int, token: int) -> None:
    """Wait until so many children are here, but not for long: it is only to have each of them do something once."""
    if _self.slots is None:
        return
    note(-2 - token, -1, 0)
    deadline = perf_counter_ns() + _MEETING_LIMIT
    while perf_counter_ns() < deadline:
        here = sum(_self.slots.read(slot)[0] == -2 - token for slot in range(_self.slots.n))
        if here >= n_workers:
            return
        sleep(0.002)


def note(segment: int, position: int, start: int) -> None:
    if _self.slots is not None:
        _self.slots.write(_self.slot, segment, position, start)


def idle() -> None:
    """Say that this child runs nothing now."""
    note(-1, -1, 0)
