"""Values from worker to worker: ``transport: auto`` compared with pickles through pipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from bench import values
from bench.pairs import Aim, Row, Sizes, ratios, take_turns
from pipeline.backends import registry
from pipeline.backends.base import Backend
from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.nodes import ref, task

__all__ = ["transport"]

_BYTES = (64_000, 1_000_000, 16_000_000)  # of a value
_IN_ALL = 64_000_000  # bytes of the values of a run
_MOST = 64  # values of a run


def transport(sizes: Sizes) -> Iterator[Row]:
    """Time runs in which each of some arrays, tables and frames is needed by two tasks."""
    some = [nbytes for nbytes in _BYTES if nbytes <= 16 * sizes.n_rows]
    for name in ("processes", "pool"):
        with ExitStack() as stack:
            opened = {
                way: stack.enter_context(registry.create(name, workers=sizes.n_workers, transport=way))
                for way in ("auto", "pickle")
            }
            for nbytes in some or [6_400]:
                yield _compared(opened, f"{nbytes / 1e3:,.0f} KB arrays", name, values.array, nbytes, sizes)
            if some:
                yield _compared(opened, "16 MB Arrow", name, values.table, some[-1], sizes)
                yield _compared(opened, "16 MB frames", name, values.frame, some[-1], sizes)


def _compared(
    opened: dict[str, Backend], what: str, name: str, make: Callable[..., Any], nbytes: int, sizes: Sizes
) -> Row:
    graph = _graph(make, nbytes, max(4, min(_MOST, _IN_ALL // nbytes)))

    def run(backend: Backend) -> Callable[[], Any]:
        results = backend.run(graph).results
        return lambda: list(results.values())

    contenders = {way: partial(run, backend) for way, backend in opened.items()}
    taken = take_turns(contenders, sizes.pairs, warm_up=sizes.warm_up)
    return ratios(f"{what}, {name}", taken["auto"], taken["pickle"], Aim(1.05, by="low"))


def _graph(make: Callable[..., Any], nbytes: int, n: int) -> Graph:
    """Return a graph of ``n`` values and as many tasks that need two of them each."""
    tasks: dict[Key, Any] = {("made", i): task(("made", i), make, nbytes, i) for i in range(n)}
    for i in range(n):
        tasks["used", i] = task(("used", i), values.use, ref(("made", i)), ref(("made", (i + 1) % n)))
    owners: dict[Key, str] = {key: str(key[0]) for key in tasks}
    policies = {name: Policy(name) for name in ("made", "used")}
    return Graph(tasks, tuple(("used", i) for i in range(n)), owners, policies)
