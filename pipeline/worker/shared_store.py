"""Where the shared objects of a run are, and their locks; users make them by :mod:`pipeline.worker.shared`.

In worker processes each is a file in a folder of the run; where tasks run in the process of the run, it is its own.
"""

# A process finds an object by a file with its name in a folder of the run. Rejected: objects of multiprocessing, which
# can only be handed to a process when it starts, before the modules of the user are known; its locks, which stay locked
# for ever when their holder is killed. A lock of the file is the kernel's: it ends with its holder.

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import Any, Self
from urllib.parse import quote, unquote

__all__ = [
    "GUARD",
    "HEAD",
    "Lock",
    "Store",
    "attach",
    "bind",
    "current",
    "during",
    "refuse",
    "release_all",
    "step_without",
    "task_begins",
]

HEAD = struct.Struct("<Q248s")  # bytes of the object; what it is, as text
_PREFIX = "object-"  # of the name of a file
_POLL = 0.001  # seconds between two tries to get a lock in time

GUARD = threading.RLock()
_here = threading.local()  # of the thread: ``step`` that must not use these, ``locks`` that it holds
_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


# ---------------------------------------------------------------------------------------------------------------------
# Where the objects are
# ---------------------------------------------------------------------------------------------------------------------


class Store:
    """The objects of one run, as far as this process has them. States: active, while its tasks run -> over.

    Parameters
    ----------
    folder : of their files; empty: they are this process's own
    refused : name of the back end that can't have any; empty: it can
    """

    def __init__(self, folder: str = "", refused: str = "") -> None:
        self.folder, self.refused, self.active = folder, refused, True
        self._memories: dict[str, _Memory] = {}

    def memory(self, name: str, what: str, initial: bytes) -> _Memory:
        found = self._memories.get(name)
        if found is None:
            found = self._memories[name] = _Memory(_opened(self.folder, name, what, initial))
        if found.what != what:
            raise ValueError(f"shared object {name!r}: {what} is asked for, but it is {found.what} already")
        if found.initial != initial:
            raise ValueError(
                f"shared object {name!r}: it is made twice, with different initial values; make it in one module and "
                "import it, or choose another name"
            )
        return found

    def close(self) -> None:
        """Keep the values, in memory of this process, without the files."""
        for name in _files(self.folder):
            with suppress(OSError), open(os.path.join(self.folder, name), "rb") as file:
                memory = _Memory(_filled(_own_file(), file.read()))
                self._memories[unquote(name.removeprefix(_PREFIX))] = memory
        self.active, self.folder = False, ""
        for bound in list(_bound):
            bound.unbind()


class _Memory:
    """The bytes of one object, and the lock of its file; ``what`` it is, as text, and its initial value."""

    def __init__(self, file: int) -> None:
        self._file = file
        size, what = HEAD.unpack(os.pread(file, HEAD.size, 0))
        self.what = what.rstrip(b"\0").decode()
        self.initial = os.pread(file, size, HEAD.size + size)
        self.bytes = mmap.mmap(file, HEAD.size + 2 * size)
        self.lock = Lock(file, self.what)
        weakref.finalize(self, os.close, file).atexit = False


_store = Store()
_store.active = False
_bound: weakref.WeakSet[Any] = weakref.WeakSet()  # what has found its memory in the store


def _opened(folder: str, name: str, what: str, initial: bytes) -> int:
    """Return a file with the object, made if this process is the first to need it."""
    content = HEAD.pack(len(initial), what.encode()) + initial + initial
    if not folder:
        return _filled(_own_file(), content)
    path = os.path.join(folder, _PREFIX + quote(name, safe=""))
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDWR)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    own = os.path.join(folder, f"new-{os.getpid()}")
    new = _filled(os.open(own, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), content)
    try:
        os.link(own, path)  # whole, for others to see
        return new
    except FileExistsError:
        os.close(new)
        return os.open(path, os.O_RDWR)
    finally:
        os.unlink(own)


def _files(folder: str) -> list[str]:
    """Return the names of the files of all objects."""
    try:
        return [name for name in os.listdir(folder) if name.startswith(_PREFIX)] if folder else []
    except OSError:
        return []


def _own_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _filled(file: int, content: bytes) -> int:
    try:
        os.posix_fallocate(file, 0, len(content))  # else a full disk is found by a signal
        os.pwrite(file, content, 0)
    except BaseException:
        os.close(file)
        raise
    return file


def current() -> Store:
    """Return the objects of the run that this process takes part in, or took part in last."""
    return _store


def bind(found: Any) -> None:
    """Note an object that has found its memory; its ``unbind()`` is called when that is another one."""
    _bound.add(found)


def step_without() -> str:
    """Return the step whose task runs in this thread, if it must not use objects; else an empty text."""
    return getattr(_here, "step", "")


@contextmanager
def during(folder: str = "") -> Iterator[None]:
    """Give all objects their initial values, and have those of this process be the run's.

    They can be read when the run is over. Within a task of another run, they are then that run's again.

    Parameters
    ----------
    folder : of the files for workers that are other processes; empty: the tasks run in this one
    """
    global _store
    outer = _store
    for name in _files(folder):
        _reset(os.path.join(folder, name))
    own = _store = Store(folder)
    try:
        yield
    finally:
        with GUARD:
            own.close()
            if outer.active:
                _store = outer


def _reset(path: str) -> None:
    with open(path, "r+b") as file:
        size, _ = HEAD.unpack(file.read(HEAD.size))
        file.seek(HEAD.size + size)
        initial = file.read(size)
        file.seek(HEAD.size)
        file.write(initial)


def attach(folder: str) -> None:
    """Have the objects of this process, which is a worker, be those of a run."""
    global _store
    if _store.folder != folder:
        _store = Store(folder)


def refuse(backend: str) -> None:
    """Refuse to use objects in this process, which is a worker of a back end that can't have any; empty: it can."""
    global _store
    _store = Store(refused=backend)
    _store.active = bool(backend)


def task_begins(step: str, *, pure: bool) -> None:
    """Note which step's task this thread runs: one that may be run again must not use objects."""
    _here.step = step if pure else ""


def release_all() -> None:
    """Release the locks that a task of this thread has not released: another one may wait for them for ever."""
    for lock in list(getattr(_here, "locks", ())):
        while lock in _here.locks:
            lock.release()


def _forked() -> None:
    """Forget what threads of the parent hold; the locks of files stay with the parent."""
    _here.locks = []
    for lock in list(_locks):
        lock.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


# ---------------------------------------------------------------------------------------------------------------------
# Locks
# ---------------------------------------------------------------------------------------------------------------------


class Lock:
    """The lock of an object, for all threads of all processes; who has it may take it again, as with ``RLock``.

    If its holder is killed, the next one gets it.
    """

    def __init__(self, file: int, what: str) -> None:
        self._file, self._what = file, what
        self.forked()
        _locks.add(self)

    def forked(self) -> None:
        """Be free: this process has just been forked."""
        self._threads = threading.RLock()
        self._depth = 0

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take the lock, if need be after the others; return whether it was taken.

        Parameters
        ----------
        block : whether to wait for it
        timeout : seconds to wait at most; None: for ever

        Raises
        ------
        RuntimeError : the processes would wait for each other for ever
        """
        deadline = monotonic() + max(0.0, timeout) if block and timeout is not None else None
        waiting = -1 if deadline is None else max(0.0, deadline - monotonic())
        if not (self._threads.acquire(timeout=waiting) if block else self._threads.acquire(blocking=False)):
            return False
        try:
            if self._depth == 0 and not self._lock_file(block, deadline):
                self._threads.release()
                return False
        except BaseException:
            self._threads.release()
            raise
        self._depth += 1
        if not hasattr(_here, "locks"):
            _here.locks = []
        _here.locks.append(self)
        return True

    def _lock_file(self, block: bool, deadline: float | None) -> bool:
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | (0 if block and deadline is None else fcntl.LOCK_NB))
                return True
            except OSError as error:
                if error.errno == errno.EDEADLK:
                    raise RuntimeError(f"{self._what}: the holder of its lock waits for a lock of this task") from error
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
            if deadline is None or monotonic() > deadline:
                return False
            sleep(_POLL)

    def release(self) -> None:
        """Release the lock once.

        Raises
        ------
        RuntimeError : this thread does not have it
        """
        if self not in getattr(_here, "locks", ()):
            raise RuntimeError(f"{self._what}: its lock is not held by this thread")
        _here.locks.remove(self)
        self._depth -= 1
        if self._depth == 0:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        self._threads.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()
