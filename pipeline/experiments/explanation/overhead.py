"""Measure what a task costs beside its own work: many empty tasks through a back end."""

from __future__ import annotations

from pathlib import Path

from pipeline.experiments.comparison.child_process import measured
from pipeline.experiments.explanation.diagnosis import Overhead
from pipeline.experiments.explanation.probe_backend import graph_of
from pipeline.experiments.explanation.probe_tasks import unused
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, task

__all__ = ["overhead"]

_TASKS = {"dask": 200}  # of other back ends a thousand, since their tasks take less
_MANY = 1000


def overhead(backend: str, n_workers: int, *, folder: Path, deadline: float) -> Overhead | None:
    """Return the elapsed seconds of an empty task among many, on a back end that is started and warmed for it.

    Parameters
    ----------
    folder : an empty folder for the files of the run
    deadline : on the clock of ``perf_counter``

    Returns
    -------
    Overhead or None : None if the run failed, or did not end before the deadline
    """
    n = _TASKS.get(backend, _MANY)
    tasks: dict[Key, GraphNode] = {("empty", i): task(("empty", i), unused, None) for i in range(n)}
    graph_of("empty", tasks).save(folder / "graph")
    child = measured(
        graph=folder / "graph",
        backend=backend,
        workers=n_workers,
        options={"dashboard": False} if backend == "dask" else {},
        storage={},
        outputs=folder / "outputs",
        folder=folder,
        deadline=deadline,
    )
    return None if child.report.failure else Overhead(backend, n_workers, child.report.elapsed / n)
