"""What a task costs beside itself, measured here: many empty tasks through a back end."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any

from pipeline.experiments.explanation.diagnosis import Overhead
from pipeline.experiments.explanation.probe_processes import ProbeProcesses, serve, silent
from pipeline.graph.graph import Graph, GraphNode, Key, Policy, task

__all__ = ["overhead"]

_TASKS = {"dask": 200}  # of others a thousand, since theirs are shorter
_MANY = 1000


def overhead(backend: str, n_workers: int, *, deadline: float) -> Overhead:
    """Elapsed seconds of an empty task among many, on a back end that is started for it in a process of its own.

    Raises
    ------
    Late, Failed : if it could not be measured, or not before the deadline (on the clock of ``perf_counter``)
    """
    with ProbeProcesses(1, _serve) as team:
        (seconds,) = team.ask(("measure", (backend, n_workers)), deadline=deadline)
    return Overhead(backend, n_workers, seconds)


def _serve(connection: Connection) -> None:
    silent()
    serve(connection, {"measure": _measure})


def _measure(backend: str, n_workers: int) -> float:
    from pipeline.backends import registry

    n = _TASKS.get(backend, _MANY)
    tasks: dict[Key, GraphNode] = {("empty", i): task(("empty", i), _nothing) for i in range(n)}
    owners = dict.fromkeys(tasks, "empty")
    graph = Graph(tasks, tuple(tasks), owners, {"empty": Policy("empty", merge=False)}, name="empty")
    options: dict[str, Any] = {"dashboard": False} if backend == "dask" else {}
    with registry.create(backend, workers=n_workers, **options) as opened:
        opened.run(graph)  # what is done for the first time is no overhead of a task
        return min(opened.run(graph).trace.elapsed for _ in range(2)) / n


def _nothing() -> None:
    """A task of no work."""
