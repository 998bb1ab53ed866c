"""What a function of the user's may do in a task: the same on every back end, or refused with the cure."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.backends.base import Backend
from pipeline.backends.events import Event, OutputLine
from pipeline.backends.registry import create
from pipeline.builder.build import build, shipped_modules
from pipeline.config.loader import loads
from pipeline.errors import PipelineError, TaskDataError, TaskError
from pipeline.graph.collect import collect
from pipeline.report.failures import failure_lines
from pipeline.worker.process_setup import install_modules

MODULE = """
import asyncio, io, multiprocessing, os, sys
from pathlib import Path

def helper(x):
    return x + 1

def beside():
    return (Path(__file__).parent / "data.txt").read_text()

async def awaited(x):
    await asyncio.sleep(0)
    return helper(x)

def closes(n):
    print("closed", n)
    sys.stdout.close()
    sys.stderr.close()
    print("after", n)
    return n

def replaces(n):
    sys.stdout = io.StringIO()
    print("hidden")
    sys.stdout.close()
    return n

def wraps(n):
    sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8")
    print("wrapped", n)
    return n

def with_dask():
    import dask
    return dask.compute(*[dask.delayed(helper)(i) for i in range(3)])

def with_client():
    from distributed import worker_client
    with worker_client() as client:
        return client.gather(client.map(helper, range(3)))

def with_processes(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(helper, [1, 2])

def generator():
    yield 1

async def async_generator():
    yield 1

def opened():
    return open(os.devnull, "w")

def long_message(n):
    raise ValueError("x" * 50_000 + f" of {n}")
"""
OPTIONS: dict[str, dict[str, Any]] = {
    "pool": {"start_method": "forkserver"},
    "processes": {"start_method": "forkserver"},
    "process-per-task": {"start_method": "forkserver"},
    "dask": {"dashboard": False},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("users")
    (folder / "users_own.py").write_text(MODULE)
    (folder / "data.txt").write_text("beside it")
    return folder


@pytest.fixture(
    scope="module",
    params=["serial", "threads", "pool", "processes", "dask", pytest.param("process-per-task", marks=pytest.mark.slow)],
)
def opened(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with create(request.param, workers=2, **OPTIONS.get(request.param, {})) as opened:
        yield opened


@pytest.fixture
def backend(opened: Backend, folder: Path) -> Iterator[Backend]:
    """An open back end, which must be fit for the next graph whatever the test did."""
    yield opened
    assert run(opened, folder, '  s: {call: "users_own:helper", args: {x: 1}}') == {"s": 2}


def run(backend: Backend, folder: Path, steps: str, events: list[Event] | None = None) -> dict[str, Any]:
    text = f"version: 1\nmodules: [./users_own.py]\nsteps:\n{steps}"
    graph = build(loads(text, name="users", root=folder))
    heard: list[Event] = []
    results = backend.run(graph, listener=(heard if events is None else events).append).results
    return {name: collect(graph.value_types[name], results) for name in graph.kept}


def test_what_a_function_may_do(backend: Backend, folder: Path) -> None:
    steps = """
  beside: {call: "users_own:beside"}
  awaited: {call: "users_own:awaited", over: {x: [1, 2]}}
  closes: {call: "users_own:closes", over: {n: [1, 2]}, batch: 2}
  with_dask: {call: "users_own:with_dask"}
"""
    if backend.name == "dask":
        steps += '  with_client: {call: "users_own:with_client"}\n'
    events: list[Event] = []
    streams = sys.stdout, sys.stderr
    values = run(backend, folder, steps, events)
    for name in ("replaces", "wraps"):  # one by one: threads share the stream that a task replaces
        values |= run(backend, folder, f'  {name}: {{call: "users_own:{name}", over: {{n: [1, 2]}}, batch: 2}}', events)
    assert (sys.stdout, sys.stderr) == streams
    assert not sys.stdout.closed
    both = {"n=1": 1, "n=2": 2}
    assert values.pop("with_client", [1, 2, 3]) == [1, 2, 3]
    assert values == {
        "beside": "beside it",
        "awaited": {"x=1": 2, "x=2": 3},
        "closes": both,
        "replaces": both,
        "wraps": both,
        "with_dask": (1, 2, 3),
    }
    lines = sorted(event.message for event in events if isinstance(event, OutputLine))
    assert lines == ["after 1", "after 2", "closed 1", "closed 2", "wrapped 1", "wrapped 2"]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_of_a_task_work_or_are_refused(backend: Backend, folder: Path, method: str) -> None:
    step = f'  s: {{call: "users_own:with_processes", args: {{method: {method}}}}}\n'
    if backend.name in ("serial", "threads", "processes", "process-per-task"):
        assert run(backend, folder, step) == {"s": [2, 3]}
    else:
        with pytest.raises(TaskError, match="back end can't start processes; --backend processes, threads"):
            run(backend, folder, step)


@pytest.mark.parametrize("name", ["generator", "async_generator"])
def test_a_generator_is_refused_by_name(backend: Backend, folder: Path, name: str) -> None:
    with pytest.raises(TaskDataError, match=f"users_own:{name} gives a.* generator.*return"):
        run(backend, folder, f'  s: {{call: "users_own:{name}"}}\n')


def test_an_open_file_is_refused_by_name(backend: Backend, folder: Path) -> None:
    with pytest.raises(TaskDataError, match=r"users_own:opened gives an open file.*return its path"):
        run(backend, folder, '  s: {call: "users_own:opened"}\n')


def test_a_long_message_keeps_step_and_item(backend: Backend, folder: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        run(backend, folder, '  s: {call: "users_own:long_message", over: {n: [7]}}\n')
    error = caught.value
    assert isinstance(error, TaskError)
    assert (error.step, error.item) == ("s", "n=7")
    assert error.cause.startswith("ValueError: " + "x" * 50_000 + " of 7")  # whole, as in failure.json
    (line,) = failure_lines(error)
    assert len(line) < 2_500
    assert "s[n=7]: ValueError: xxx" in line
    assert "of 7 (users_own.py:" in line


@pytest.mark.parametrize("writes", [True, False])
def test_a_changed_or_absent_module_is_taken_as_it_was_sent(
    writes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", not writes)
    package = tmp_path / "moved_package"
    package.mkdir()
    (package / "__init__.py").write_text("from pathlib import Path\nplace = Path(__file__).parent\n")
    (package / "below").mkdir()
    (package / "below" / "__init__.py").write_text("number = 3\n")
    (package / "inner.py").write_text("from moved_package import place\ntext = (place / 'data.txt').read_text()\n")
    (package / "data.txt").write_text("in the package")
    (package / ".hidden").write_text("")
    modules, left_out = shipped_modules((str(package),))
    names = ("__init__.py", "below/__init__.py", "data.txt", "inner.py")
    assert sorted(modules) == [f"moved_package/{name}" for name in names]
    assert not left_out
    try:
        install_modules(modules)
        import moved_package.below  # type: ignore[import-not-found]
        import moved_package.inner  # type: ignore[import-not-found]

        assert (moved_package.place, moved_package.inner.text) == (package, "in the package")
        assert sys.dont_write_bytecode is not writes  # what the process does with other modules is left alone
        assert not list(package.rglob("__pycache__"))
        shutil.rmtree(package)
        install_modules({**modules, "other.py": b""})
        import moved_package.inner

        assert moved_package.place != package
        assert moved_package.inner.text == "in the package"
        assert not [finder for finder in sys.meta_path if getattr(finder, "pipeline_package", "") == package.name]
    finally:
        install_modules({"no_modules_of_a_test.py": b""})


HALF_LOADED = """
import threading, time

seen = []

def look():
    import loads_slowly
    seen.append(hasattr(loads_slowly, "late"))

other = threading.Thread(target=look)
other.start()
time.sleep(0.3)  # whatever the other thread gets by then, it must not be half of the module
late = True
"""


def test_no_thread_sees_half_of_a_module_that_loads(tmp_path: Path) -> None:
    (tmp_path / "loads_slowly.py").write_text(HALF_LOADED)
    modules, _ = shipped_modules((str(tmp_path / "loads_slowly.py"),))
    try:
        install_modules(modules)
        import loads_slowly  # type: ignore[import-not-found]

        loads_slowly.other.join()
        assert loads_slowly.seen == [True]
    finally:
        install_modules({"no_modules_of_a_test.py": b""})


def test_large_data_files_of_a_package_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.builder.build._MOST_DATA", 100)
    (tmp_path / "p").mkdir()
    for name, size in (("__init__.py", 1000), ("a.bin", 60), ("b.bin", 60)):
        (tmp_path / "p" / name).write_bytes(b"#" * size)
    modules, left_out = shipped_modules((str(tmp_path / "p"),))
    assert sorted(modules) == ["p/__init__.py", "p/a.bin"]
    assert left_out == ("p/b.bin",)
