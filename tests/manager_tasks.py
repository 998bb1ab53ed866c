"""The tasks of test_manager.py and test_fleet.py, apart from them: a worker imports this alone."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pipeline.backends.events import Event, Note
from pipeline.backends.registry import create
from pipeline.graph.graph import Graph, Policy
from pipeline.graph.nodes import task


def mapped(function: Any, items: list[Any], **policy: Any) -> Graph:
    """A graph that calls a function with each item, one task a segment."""
    tasks = {("fit", i): task(("fit", i), function, item) for i, item in enumerate(items)}
    names = tuple(f"x={i}" for i in range(len(items)))
    policies = {"fit": Policy("fit", items=names, over="fit", batch=1, merge=False, **policy)}
    return Graph(tasks, tuple(tasks), dict.fromkeys(tasks, "fit"), policies)


def square_on_a_good_machine(item: tuple[int, str]) -> int:
    """On a bad machine: report and wait for ever. Elsewhere: wait for the file ``go``, and return the square."""
    x, folder = item
    if bad := os.environ.get("BAD_MACHINE"):
        Path(folder, f"{bad}-{x}").touch()
        threading.Event().wait()
    while not Path(folder, "go").exists():
        time.sleep(0.01)
    return x * x


def hold_once(folder: str) -> int:
    """The first time: write this process's id to ``held``, and wait for ever."""
    held = Path(folder, "held")
    if not held.exists():
        held.with_name("new").write_text(str(os.getpid()))
        held.with_name("new").rename(held)
        threading.Event().wait()
    return 7


def serve(listen: str, authkey_file: str, folder: str, n: int) -> None:
    """Run a graph on the workers that join; print what happens, and the results."""

    def report(event: Event) -> None:
        print(event.kind, event.message if isinstance(event, Note) else "", flush=True)

    with create("manager", listen=listen, authkey_file=authkey_file) as backend:
        outcome = backend.run(mapped(square_on_a_good_machine, [(x, folder) for x in range(n)]), listener=report)
        print("results", sorted(outcome.results.values()), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
