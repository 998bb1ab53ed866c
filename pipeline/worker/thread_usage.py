"""What the system counted for this thread: why it was off its core, and what else its process used meanwhile."""

from __future__ import annotations

import resource
from time import perf_counter_ns, process_time_ns, thread_time_ns
from typing import NamedTuple

__all__ = ["TaskUsage", "UsageMeter"]

_BLOCK = 512  # bytes of a block in `getrusage`
_RUN_DELAY = "/proc/thread-self/schedstat"  # ns on a core, ns ready without a core, number of turns
_LEAST = 1_000_000  # ns of a task for which the run delay is read: opening the file takes some microseconds


class TaskUsage(NamedTuple):
    """What a task used.

    Parameters
    ----------
    cpu : ns of CPU time of its thread
    delay : ns for which its thread was ready to run and had no core; of tasks below a millisecond counted with the next
    switches : how often its thread gave up its core to wait for something
    faults : pages of memory that the system had to map for it
    disk : bytes that it read from a disk or wrote to one
    cpu_beside : ns of CPU time of other threads of its process, and of programs that ended meanwhile
    """

    cpu: int = 0
    delay: int = 0
    switches: int = 0
    faults: int = 0
    disk: int = 0
    cpu_beside: int = 0


class UsageMeter:
    """Measures the tasks of one thread, one after the other: ``begin()``, the task, ``end()``.

    State: the system's counters when the current task began.
    """

    def __init__(self) -> None:
        self._delay = _run_delay()
        self.begin()

    def begin(self) -> None:
        """Note the counters before a task."""
        self._before = _counters()
        self._started = perf_counter_ns()

    def end(self) -> TaskUsage:
        """Return what was used since :meth:`begin`."""
        lasted = perf_counter_ns() - self._started
        cpu, switches, faults, blocks, in_process = (a - b for a, b in zip(_counters(), self._before, strict=True))
        delay = 0
        if lasted >= _LEAST:
            now = _run_delay()
            delay, self._delay = now - self._delay, now
        return TaskUsage(cpu, delay, switches, faults, blocks * _BLOCK, max(0, in_process - cpu))


def _counters() -> tuple[int, int, int, int, int]:
    thread, children = resource.getrusage(resource.RUSAGE_THREAD), resource.getrusage(resource.RUSAGE_CHILDREN)
    programs = round((children.ru_utime + children.ru_stime) * 1e9)
    return (
        thread_time_ns(),
        thread.ru_nvcsw,
        thread.ru_minflt + thread.ru_majflt,
        thread.ru_inblock + thread.ru_oublock,
        process_time_ns() + programs,
    )


def _run_delay() -> int:
    """Return the ns for which this thread was ready to run and had no core; 0 if the system does not count them."""
    try:
        with open(_RUN_DELAY, "rb", buffering=0) as file:
            return int(file.read().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
