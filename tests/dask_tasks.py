"""Graphs for the tests of Dask, and their tasks: a worker imports this alone, and none of the tests."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.importing import resolve
from pipeline.graph.nodes import listed, ref, task
from pipeline.graph.segments import Dropped


def graph(tasks: dict[Key, Any], *wanted: Key, **policies: Policy) -> Graph:
    """A Graph in which the first part of a key is its step."""
    steps = {str(key[0]) for key in tasks}
    named = {step: policies.get(step, Policy(step)) for step in sorted(steps)}
    return Graph(tasks=tasks, wanted=wanted, owners={key: str(key[0]) for key in tasks}, policies=named)


def one(function: Callable[..., Any], *args: Any, **policy: Any) -> Graph:
    """A Graph of one item, called ``x=7``, of the step ``fit``."""
    key = ("fit", 0)
    return graph({key: task(key, function, *args)}, key, fit=Policy("fit", over="fit", items=("x=7",), **policy))


def mapped(function: Callable[..., Any], n: int, *args: Any, **policy: Any) -> Graph:
    """``n`` items of the step ``fit`` and their sum."""
    tasks: dict[Key, Any] = {("fit", i): task(("fit", i), function, i, *args) for i in range(n)}
    total = ("total",)
    tasks[total] = task(total, sum, listed(ref(key) for key in list(tasks)))
    items = tuple(f"x={i}" for i in range(n))
    return graph(tasks, total, fit=Policy("fit", over="fit", items=items, **policy))


def fail(*_: Any) -> None:
    raise ValueError("too high")


def fail_at_three(i: int) -> int:
    if i == 3:
        raise ValueError("not three")
    return i


def leave(*_: Any) -> None:
    sys.exit(3)


class OnlyHere:
    """A value that no other process can unpickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return only_in, (os.getpid(),)


def only_in(pid: int) -> OnlyHere:
    if os.getpid() != pid:
        raise MemoryError("too large for here")
    return OnlyHere()


def only_here(_: int, folder: str, value: Any = None) -> Any:
    """Return as soon as two processes are at it: a value that only they can read, or ``value``."""
    Path(folder, str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(Path(folder).iterdir())) < 2:
        assert time.monotonic() < deadline, "one process does it all"
        time.sleep(0.005)
    return OnlyHere() if value is None else value


def count(values: list[Any]) -> int:
    return len(values)


def give_a_lock() -> Any:
    return threading.Lock()


def note(path: str, value: int) -> int:
    """Append a line to a file, which tells how often a task ran."""
    with open(path, "a") as file:
        file.write("x\n")
    return value


def fail_until_third(path: str) -> int:
    note(path, 0)
    if len(Path(path).read_text()) < 6:
        raise ValueError("again")
    return 1


def die_once(i: int, path: str) -> int:
    """End the worker, the first time that item 3 runs."""
    if i == 3:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)
    return i


def die_at_three(i: int) -> int:
    if i == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return i


def wait_for_ever(*_: Any) -> None:
    threading.Event().wait()


def drop_at_three(i: int) -> Any:
    return Dropped("ValueError: not three") if i == 3 else i


def count_kept(values: list[Any]) -> int:
    return sum(not isinstance(value, Dropped) for value in values)


def call(text: str, *args: Any) -> Any:
    return resolve(text)(*args)


def staging_of(context: Any) -> str:
    return str(context.staging)


def say_and_wait(i: int) -> None:
    print("waiting", flush=True)
    wait_for_ever()


def load(i: int) -> bytes:
    return bytes(10_000)


def wait_for(value: Any, path: str) -> int:
    """Wait until a file is there."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return len(value)


def held(path: Path) -> Graph:
    """Four ``load``, two ``hold`` of all of them that wait for a file, their ``total``."""
    tasks: dict[Key, Any] = {("load", i): task(("load", i), load, i) for i in range(4)}
    loads = list(tasks)
    for i in range(2):
        tasks["hold", i] = task(("hold", i), wait_for, listed(map(ref, loads)), str(path))
    tasks["total", 0] = task(("total", 0), sum, listed(ref(("hold", i)) for i in range(2)))
    return graph(tasks, ("total", 0), **{name: Policy(name, merge=False) for name in ("load", "hold", "total")})


# ---------------------------------------------------------------------------------------------------------------------
# On a scheduler
# ---------------------------------------------------------------------------------------------------------------------


def left_on(dask_scheduler: Any) -> tuple[list[str], list[str]]:
    """The tasks of a scheduler, and our plugins for its workers."""
    return list(dask_scheduler.tasks), [p for p in dask_scheduler.worker_plugins if p.startswith("pipeline")]


def page_on(dask_scheduler: Any) -> tuple[bool, int]:
    """Whether the plugin of the page is there, and the number of its applications on the HTTP server."""
    found = [app for app in dask_scheduler.http_application.applications if "_Page" in str(app.wildcard_router.rules)]
    return "pipeline-page" in dask_scheduler.plugins, len(found)


def note_pid(folder: str) -> int:
    """Have a place of a limit, and note the process."""
    Path(folder, "holds-0").touch()
    Path(folder, "pid").write_text(str(os.getpid()))
    Path(folder, "holds-0").unlink()
    return 1


def kill_noted(folder: str) -> int:
    """Have a place of the same limit; the first time, end the process that was noted, and with it its result."""
    Path(folder, "holds-1").touch()
    if not Path(folder, "killed").exists():
        Path(folder, "killed").touch()
        os.kill(int(Path(folder, "pid").read_text()), signal.SIGKILL)
    deadline = time.monotonic() + 1  # for long enough that a task without a place would run beside it
    while time.monotonic() < deadline:
        assert not Path(folder, "holds-0").exists(), "two tasks have a place"
        time.sleep(0.002)
    Path(folder, "holds-1").unlink()
    return 2


def die_with(x: int, folder: str) -> int:
    """The first time, end the worker that made ``x`` and its own."""
    if not Path(folder, "killed").exists():
        Path(folder, "killed").touch()
        made_by = int(Path(folder, "pid").read_text())
        for pid in {made_by, os.getpid()} - {os.getpid()}:
            os.kill(pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return x + 1
