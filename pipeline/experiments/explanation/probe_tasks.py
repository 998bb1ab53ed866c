"""The tasks of the probes: they run in worker processes, on the saved tasks of one batch.

A worker holds the inputs of one batch at a time: :func:`prepare` loads them, the other tasks use them.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pipeline.backends import registry
from pipeline.backends.base import Outcome
from pipeline.backends.events import Event
from pipeline.experiments.explanation.probe_backend import graph_of
from pipeline.experiments.explanation.saved_task import SavedInputs
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, execute, task
from pipeline.worker.isolation import isolated

__all__ = ["ProbeResult", "count", "hosted", "prepare", "result_of", "run_batch", "run_with", "saved_input", "unused"]

_COUNTED = 20_000  # additions in one round of counting

_batch: dict[str, tuple[GraphNode, dict[Key, Any], bool]] = {}  # path of a saved task -> node, inputs, if writable


class CpuTime(NamedTuple):
    """CPU seconds of a process when a task began and when it ended."""

    process: int
    start: float
    stop: float


class ProbeResult(NamedTuple):
    """Seconds from the first start to the last stop of a probe's tasks, and CPU seconds of their processes."""

    seconds: float
    cpu: float


def result_of(outcome: Outcome) -> ProbeResult:
    """Return the time and the CPU time of a graph whose tasks ran at the same time.

    The tasks gave a :class:`CpuTime` each; those of :func:`hosted` gave results of graphs that they ran themselves.
    """
    results = list(outcome.results.values())
    hosted_results = [one for one in results if isinstance(one, ProbeResult)]
    if hosted_results:
        return ProbeResult(max(one.seconds for one in hosted_results), sum(one.cpu for one in hosted_results))
    rows = outcome.trace.tasks
    seconds = (max(rows["stop"].to_pylist()) - min(rows["start"].to_pylist())) / 1e9
    return ProbeResult(seconds, cpu_seconds(one for one in results if isinstance(one, CpuTime)))


def cpu_seconds(times: Iterable[CpuTime]) -> float:
    """Add up the CPU time of some tasks; what tasks of one process took at the same time counts once.

    >>> cpu_seconds([CpuTime(1, 0.5, 2.0), CpuTime(1, 0.6, 2.5), CpuTime(2, 0.0, 1.0)])
    3.0
    """
    spans: dict[int, tuple[float, float]] = {}
    for process, start, stop in times:
        first, last = spans.get(process, (start, stop))
        spans[process] = min(first, start), max(last, stop)
    return sum(stop - start for start, stop in spans.values())


def prepare(paths: Sequence[str]) -> None:
    """Load a batch and run each of its tasks once: imports and first touches belong to no probe."""
    be_quiet()
    _batch.clear()
    for path in paths:
        saved = SavedInputs.load(path)
        _batch[path] = (*saved.task(), saved.writable)
    for node, inputs, writable in _batch.values():
        execute(*isolated(node, inputs, writable=writable))
    gc.collect()


def be_quiet() -> None:
    """Drop what this process and its children print: tasks run many times. Let tasks start processes of their own."""
    multiprocessing.current_process().daemon = False  # as on `serial`; only the start of children looks at it
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def run_batch(rounds: int) -> CpuTime:
    """Run the tasks of the batch one after the other, so many times."""
    start = _cpu()
    for _ in range(rounds):
        for node, inputs, writable in _batch.values():
            execute(*isolated(node, inputs, writable=writable))
    return CpuTime(os.getpid(), start, _cpu())


def count(rounds: int) -> CpuTime:
    """Count in pure Python, which shares nothing with other processes."""
    start = _cpu()
    for _ in range(rounds):
        n = 0
        for i in range(_COUNTED):
            n += i
    return CpuTime(os.getpid(), start, _cpu())


def hosted(backend: str, n_workers: int, blas_threads: int, rounds: int) -> ProbeResult:
    """Run the batch in each worker of a back end that is opened in this process, which can be killed.

    Parameters
    ----------
    backend : ``serial`` or ``threads``
    blas_threads : the back end's option
    """
    tasks: dict[Key, GraphNode] = {("batch", i): task(("batch", i), run_batch, rounds) for i in range(n_workers)}
    with registry.create(backend, workers=n_workers, blas_threads=blas_threads) as opened:
        return result_of(opened.run(graph_of("batch", tasks), listener=_drop))


def saved_input(path: str, key: Key) -> Any:
    """Return one input of a saved task: a value that the back end then moves to the worker of :func:`run_with`."""
    return SavedInputs.load(path).task()[1][key]


def run_with(path: str, keys: Sequence[Key], values: Sequence[Any], returns: bool) -> Any:
    """Run one task of the batch with some inputs that were moved here; give its result if ``returns``."""
    node, inputs, writable = _batch[path]
    moved = dict(zip(keys, values, strict=True))
    return execute(*isolated(node, {**inputs, **moved}, writable=writable)) if returns else None


def unused(value: Any) -> None:
    """Take a value and give nothing, so that the value is not unpickled in the program's own process."""


def _cpu() -> float:
    """CPU seconds of this process, all its threads, and the programs that it has waited for."""
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + below.ru_utime + below.ru_stime


def _drop(event: Event) -> None:
    """Drop what happens in a hosted run."""
