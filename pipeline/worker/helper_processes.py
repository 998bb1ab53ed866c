"""Call a function for many arguments: in this process, and in helper processes too if it takes long.

Nothing is started for what is done soon. A helper is a new interpreter, so no thread, lock or open file of this process
is in it, and it is not a child that imports the user's script again.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["FAILED", "call_each"]

T = TypeVar("T")

FAILED = "failed in a helper process"
"""What a helper returns for an argument for which the function raised, or warned."""

_SOME, _PARTS = 16, 64  # most arguments that are given to a helper at once; parts of all of them, at least
_LOOK = 0.3  # seconds of calls in this process from which the others are estimated
_WORTH = 1.5  # seconds of calls that must be left; a helper takes about 0.5 s to start
_MOST = 8  # helpers
_MOST_ON_FEW_CORES = 4  # helpers where calls mostly wait, as for a file system that is far away

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from pipeline.worker.helper_processes import serve; serve()"
)


def call_each(
    arguments: Sequence[str],
    here: Callable[[str], T],
    there: Callable[[str], Any],
    received: Callable[[Any], T],
    done: Callable[[int], object],
    *,
    n_helpers: int | None = None,
) -> list[T]:
    """Return ``here(argument)`` for each argument, in their order.

    Parameters
    ----------
    there : what helpers call instead; it is pickled when they are started, and so is what it returns. Where it raises
        or warns, ``here`` is called, so that errors and warnings come from this process
    received : makes of what a helper returned what ``here`` would have returned
    done : called in this thread with a number of arguments that are done now
    n_helpers : at most this many; default: as many as there are other cores

    Raises
    ------
    The first error of ``here`` in the order of the arguments.
    """
    work = _Work(len(arguments))
    helpers: list[_Helper] = []
    look = _Look()
    try:
        while (some := work.take()) is not None:
            for i in some:
                work.finish(i, here, arguments)
            done(len(some))
            for positions, replies in work.arrived():
                _receive(work, positions, replies, here, received, arguments)
                done(len(positions))
            if not helpers and look.is_worth(len(some), work.n_left):
                with contextlib.suppress(OSError, RuntimeError):  # of processes or threads: those there are must do
                    for _ in range(_number(look) if n_helpers is None else n_helpers):
                        helpers.append(_Helper(work, there, arguments))
        for positions, replies in work.rest():
            _receive(work, positions, replies, here, received, arguments)
            done(len(positions))
    except BaseException:
        work.stop()
        for helper in helpers:
            helper.kill()
        raise
    finally:
        for helper in helpers:
            helper.join()
    if work.errors:
        raise work.errors[min(work.errors)]
    return [work.values[i] for i in range(len(arguments))]


def _receive(
    work: _Work,
    positions: Sequence[int],
    replies: Sequence[Any],
    here: Callable[[str], Any],
    received: Callable[[Any], Any],
    arguments: Sequence[str],
) -> None:
    for i, reply in zip(positions, replies, strict=True):
        if isinstance(reply, str) and reply == FAILED:
            work.finish(i, here, arguments)
        else:
            work.values[i] = received(reply)


@dataclass
class _Look:
    """How long calls take in this process.

    Parameters
    ----------
    began, cpu : when the first began, in seconds of the wall and of this process
    """

    began: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)
    n: int = 0

    def is_worth(self, n: int, n_left: int) -> bool:
        """Return whether helpers would be of use, after ``n`` more calls."""
        self.n += n
        passed = time.perf_counter() - self.began
        return passed >= _LOOK and passed / self.n * n_left >= _WORTH

    def waits(self) -> bool:
        """Return whether the calls wait most of their time."""
        return time.process_time() - self.cpu < 0.5 * (time.perf_counter() - self.began)


def _number(look: _Look) -> int:
    others = (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) - 1
    return min(max(others, _MOST_ON_FEW_CORES if look.waits() else 0), _MOST)


class _Work:
    """The arguments that are left, by their numbers, and what came of the others. Some methods are for any thread."""

    def __init__(self, n: int) -> None:
        self.values: dict[int, Any] = {}
        self.errors: dict[int, Exception] = {}
        size = max(1, min(_SOME, n // _PARTS))
        self._todo = deque(range(start, min(start + size, n)) for start in range(0, n, size))
        self._lock = threading.Lock()
        self._n_given, self._n_received = 0, 0  # parts that helpers took, and that came back
        self._replies: queue.SimpleQueue[tuple[Sequence[int], Sequence[Any]]] = queue.SimpleQueue()

    @property
    def n_left(self) -> int:
        """Return how many arguments nobody has begun."""
        with self._lock:
            return sum(map(len, self._todo))

    def finish(self, i: int, here: Callable[[str], Any], arguments: Sequence[str]) -> None:
        """Call ``here`` for argument ``i``; after an error, later ones are left out."""
        if self.errors and i > min(self.errors):
            return
        try:
            self.values[i] = here(arguments[i])
        except Exception as error:  # noqa: BLE001 - raised again when all arguments before it are done
            self.errors[i] = error
            self.stop()

    def stop(self) -> None:
        """Let nobody begin another part."""
        with self._lock:
            self._todo.clear()

    def take(self, *, helper: bool = False) -> Sequence[int] | None:
        """Return the numbers of the next arguments; None if nothing is left. For any thread."""
        with self._lock:
            if not self._todo:
                return None
            self._n_given += helper
            return self._todo.popleft()

    def give(self, positions: Sequence[int], replies: Sequence[Any]) -> None:
        """Return what a helper has made of a part. For any thread."""
        self._replies.put((positions, replies))

    def arrived(self) -> list[tuple[Sequence[int], Sequence[Any]]]:
        """Return what helpers have given up to now."""
        found = []
        while not self._replies.empty():
            found.append(self._replies.get())
        self._n_received += len(found)
        return found

    def rest(self) -> Iterator[tuple[Sequence[int], Sequence[Any]]]:
        """Yield what helpers still give, waiting for it, when nothing is left to begin."""
        while self._n_received < self._n_given:
            self._n_received += 1
            yield self._replies.get()


class _Helper:
    """One helper process, and the thread that gives it work."""

    def __init__(self, work: _Work, function: Callable[[str], Any], arguments: Sequence[str]) -> None:
        self._work = work
        self._function = pickle.dumps(function, protocol=5)
        self._arguments = arguments
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._thread = threading.Thread(target=self._run, name="pipeline-helper", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self.kill()
            self._process.communicate()
            raise

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def join(self) -> None:
        """Wait until the process has ended, which it does when there is no work."""
        self._thread.join()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _run(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        some: Sequence[int] | None = None
        with contextlib.suppress(OSError), self._process.stdin as requests:
            requests.write(self._function)
            while (some := self._work.take(helper=True)) is not None:
                pickle.dump([self._arguments[i] for i in some], requests, protocol=5)
                requests.flush()
                try:
                    replies = pickle.load(self._process.stdout)
                except (EOFError, pickle.UnpicklingError):  # it was killed
                    break
                self._work.give(some, replies)
                some = None
        if some is not None:
            self._work.give(some, [FAILED] * len(some))


# ---------------------------------------------------------------------------------------------------------------------
# In the helper process
# ---------------------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer lists of arguments from stdin with lists of results on stdout, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process has it, too, and ends this one
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        function = pickle.load(sys.stdin.buffer)
        while True:
            try:
                arguments = pickle.load(sys.stdin.buffer)
            except EOFError:
                break
            pickle.dump([_result(function, argument) for argument in arguments], answers, protocol=5)
            answers.flush()
    os._exit(0)  # without waiting for threads of libraries


def _result(function: Callable[[str], Any], argument: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return function(argument)
    except Exception:  # noqa: BLE001 - the other process calls it again, and raises it
        return FAILED
