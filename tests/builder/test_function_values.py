"""Functions of scripts and notebooks, lambdas, partials and inner functions: what identifies them, and on back ends."""

from __future__ import annotations

import functools
import itertools
import linecache
import logging
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from schedulers import scheduler, worker

import pipeline
from pipeline.builder import function_values
from pipeline.builder.function_code import function_code
from pipeline.errors import ConfigError

_cells = itertools.count()

CELL = """
WINDOW = 3

class Point:
    scale = 2
    def __init__(self, x):
        self.x = x * self.scale

def helper(x):
    return x * WINDOW

def smooth(x, n=2):
    point = Point(helper(x) + n)
    return point.x

def made(k):
    def inner(x):
        return x + k
    return inner
"""


def cell(source: str = CELL, *, in_memory: bool = True, **values: Any) -> dict[str, Any]:
    """Run the source of a cell as a notebook does, and return its globals."""
    name = f"/tmp/ipykernel_1/{next(_cells)}.py"
    if in_memory:
        linecache.cache[name] = len(source), None, source.splitlines(True), name
    space: dict[str, Any] = {"__name__": "__main__", **values}
    exec(compile(source, name, "exec"), space)
    return space


def code(source: str = CELL, name: str = "smooth", **options: Any) -> str:
    found = function_code(cell(source, **options)[name])
    assert not found.unknown
    assert found.digest
    return found.digest


# ---------------------------------------------------------------------------------------------------------------------
# What identifies them
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [True, False], ids=["cell", "script"])
def test_moving_a_function_does_not_change_it(in_memory: bool) -> None:
    moved = "\n\n# a comment\nOTHER = 1\n" + CELL.replace("    return point.x", "    # why\n\n    return point.x")
    reordered = "def other(): ...\n" + CELL[CELL.index("class Point") :] + "\nWINDOW = 3\n"
    assert code(in_memory=in_memory) == code(moved, in_memory=in_memory) == code(reordered, in_memory=in_memory)


@pytest.mark.parametrize("in_memory", [True, False], ids=["cell", "script"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return point.x", "return point.x + 1"),
        ("n=2", "n=3"),
        ("WINDOW = 3", "WINDOW = 4"),
        ("WINDOW = 3", "WINDOW = 3.0"),
        ("return x * WINDOW", "return x + WINDOW"),
        ("scale = 2", "scale = 3"),
        ("self.x = x * self.scale", "self.x = x"),
    ],
)
def test_whatever_a_function_reads_changes_it(old: str, new: str, in_memory: bool) -> None:
    assert old in CELL
    assert code(in_memory=in_memory) != code(CELL.replace(old, new), in_memory=in_memory)


def test_closures_partials_and_lambdas_differ_by_their_values() -> None:
    made = cell()["made"]
    found = [
        *(function_code(made(k)).digest for k in (1, 2, 1)),
        *(function_code(functools.partial(made, k)).digest for k in (1, 2, 1)),
        *(function_code(one).digest for one in (lambda x: x, lambda x: x + 1, lambda x: x)),
    ]
    for first, second, third in (found[:3], found[3:6], found[6:]):
        assert first == third
        assert first != second
    assert None not in found


def test_a_cached_function_is_known_by_what_it_wraps() -> None:
    source = "import functools\n@functools.lru_cache\ndef slow(x): return x * 2\ndef f(x): return slow(x)\n"
    assert code(source, "f") == code(source, "f")
    assert code(source, "f") != code(source.replace("x * 2", "x * 3"), "f")


def test_the_parts_are_named() -> None:
    found = function_code(cell()["smooth"])
    assert set(found.parts) == {"smooth", "helper", "WINDOW", "Point"}
    source = "import numpy as np\nfrom textwrap import dedent\nlog = __import__('logging').getLogger('a')\n"
    found = function_code(cell(source + "def f(x): log.info(x); return np.mean(dedent(x))\n")["f"])
    assert set(found.parts) == {"f", "log", "np", "dedent"}
    assert {"numpy", "textwrap"} <= set(found.modules)
    assert not found.unknown


def test_arrays_objects_and_recursion_have_a_digest() -> None:
    source = """
        class Model:
            def __init__(self, a): self.a, self.log = a, logger
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        def f(x): return even(x), model.a, table, {"a", "b", "c"}
        model = Model(array)
    """

    def digest(array: Any) -> str:
        values = {"logger": logging.getLogger("x"), "array": array, "table": {"a": [1, {2}]}}
        return code(textwrap.dedent(source), "f", **values)

    assert digest(np.arange(3)) == digest(np.arange(3))
    assert digest(np.arange(3)) != digest(np.arange(4))


def test_what_has_no_digest_is_named() -> None:
    found = function_code(cell("def f(x): return lock\n", lock=threading.Lock())["f"])
    assert found.digest is None
    assert found.unknown == "lock is a lock, which can't be described: cannot pickle '_thread.lock' object"


def test_the_graph_of_equal_functions_is_the_same() -> None:
    def fingerprint(source: str) -> str:
        p = pipeline.Pipeline("p")
        p.step("y", call=cell(source)["smooth"], args={"x": 1})
        return p.build().fingerprint

    assert fingerprint(CELL) == fingerprint("# moved\n" + CELL) != fingerprint(CELL.replace("n=2", "n=3"))


@pytest.mark.slow
def test_sessions_agree_on_the_digest(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        CELL
        + textwrap.dedent("""
        def f(x):
            return x in {"a", "b", "c"}, smooth(x), made(3)
        from pipeline.builder.function_code import function_code
        print(function_code(f).digest)
    """)
    )
    found = {
        subprocess.run([sys.executable, script], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
    assert len(found.pop()) > 20


# ---------------------------------------------------------------------------------------------------------------------
# On back ends
# ---------------------------------------------------------------------------------------------------------------------


def built(space: dict[str, Any]) -> pipeline.Pipeline:
    p = pipeline.Pipeline("given")
    p.step("y", call=space["smooth"], over={"x": [1, 2]})
    p.step("more", call=functools.partial(space["smooth"], n=10), args={"x": 1})
    p.step("least", call=lambda y: min(y), input="y")
    a = p.step("a", op="arange", stop=4, chunks=2, dim="i")
    p.step("b", op="map_blocks", input=a, function=space["made"](3), dtype="int64")
    p.step("c", op="map_blocks", input=a, function=space["made"](4), dtype="int64")
    p.step("point", call=space["Point"], args={"x": 4})
    p.keep("y", "more", "b", "c", "point", "least")
    return p


def values(p: pipeline.Pipeline, folder: Path, space: dict[str, Any], backend: str, **options: Any) -> None:
    r = p.run(backend=backend, out=folder, runs=folder / "runs", **options)
    assert r["y"] == {"x=1": 10, "x=2": 16}
    assert (r["more"], r["least"]) == (26, 10)
    assert (r["b"].values.tolist(), r["c"].values.tolist()) == ([3, 4, 5, 6], [4, 5, 6, 7])
    assert type(r["point"]) is space["Point"]
    assert r["point"].x == 8


@pytest.mark.parametrize(
    "backend",
    [
        *("serial", "threads"),
        *(
            pytest.param(name, marks=pytest.mark.slow)  # processes are in test_notebook_kernel.py
            for name in (
                "processes",
                "pool[start_method=spawn]",
                "pool[start_method=fork]",
                "process-per-task",
                "manager",
                "dask",
            )
        ),
    ],
)
def test_they_run_on_every_back_end(backend: str, tmp_path: Path) -> None:
    space = cell()
    values(built(space), tmp_path, space, backend, workers=2)


@pytest.mark.slow
def test_they_run_on_a_scheduler_elsewhere(tmp_path: Path) -> None:
    space = cell()
    with scheduler() as found, worker(found):
        values(built(space), tmp_path, space, "dask", cluster=found.address)
        changed = cell(CELL.replace("n=2", "n=3"))
        r = built(changed).run(cluster=found.address, out=tmp_path, runs=tmp_path / "runs")
        assert r["y"] == {"x=1": 12, "x=2": 18}


def test_a_function_is_sent_as_it_is_when_the_run_begins(tmp_path: Path) -> None:
    space = cell()
    p = pipeline.Pipeline("p", root=tmp_path)
    p.step("y", call=space["helper"], args={"x": 2})
    assert p.show("y") == 6
    space["WINDOW"] = 5
    assert p.show("y") == 10
    q = pipeline.Pipeline("p", root=tmp_path)
    q.step("y", call=cell("def helper(x): return -x\n")["helper"], args={"x": 2})
    assert (q.show("y"), p.show("y"), q.show("y")) == (-2, 10, -2)


def test_modules_that_a_function_uses_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_helpers.py").write_text("def twice(x): return 2 * x\nclass Model:\n    a = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import own_helpers

    p = pipeline.Pipeline("p")
    p.step("y", call=cell("def f(x): return h.twice(x)\n", h=own_helpers)["f"], args={"x": 2})
    p.step("z", call=cell("def g(x): return x + model.a\n", model=own_helpers.Model())["g"], args={"x": 2})
    graph = p.build()
    assert "own_helpers.py" in graph.modules
    monkeypatch.undo()
    del sys.modules["own_helpers"]
    assert (p.show("y"), p.show("z")) == (4, 9)


def test_arguments_of_a_function_are_checked() -> None:
    p = pipeline.Pipeline("p")
    p.step("y", call=cell()["smooth"], args={"y": 1})
    with pytest.raises(ConfigError, match="__main__:smooth takes no argument 'y'; it takes x, n"):
        p.check(data=False)


def message_of(check: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        check()
    return str(raised.value)


def test_what_can_not_be_sent_is_named_with_its_line() -> None:
    p = pipeline.Pipeline("p")
    p.step("y", call=cell("def f(): return lock, WINDOW\n", lock=threading.Lock(), WINDOW=1)["f"])
    message = message_of(p.check)
    assert "test_function_values.py:" in message
    assert "steps.y.call: __main__:f can't be sent to workers, because of the global 'lock': cannot pickle" in message
    assert message.endswith("Make that inside of the function")


def test_what_is_too_large_to_be_sent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function_values, "MOST_BYTES", 10_000)
    p = pipeline.Pipeline("p")
    p.step("y", call=cell("def f(): return table, WINDOW\n", table=np.zeros(2000), WINDOW=1)["f"])
    message = message_of(p.check)
    assert "__main__:f with all that it reads is 16.6 kB, 16.1 kB of it the global 'table'; every worker" in message
    assert "at most 10.0 kB: make a step of that, and pass it as input" in message


def test_a_file_can_not_name_them() -> None:
    message = message_of(lambda: pipeline.load('version: 1\nsteps: {y: {call: "__main__:f"}}\n'))
    assert "got '__main__:f'; a function of a script or a notebook can be given in Python only, as an object" in message


def test_a_copy_has_them_too() -> None:
    p = built(cell()).add("z", call=cell("def smooth(x): return x\n")["smooth"], args={"x": 1})
    assert p.config.steps["z"].function == "__main__:smooth_3"
    assert p.show("z") == 1


@pytest.mark.slow
def test_a_traceback_shows_the_line_of_a_cell(tmp_path: Path) -> None:
    p = pipeline.Pipeline("p")
    p.step("y", call=cell("def f(x):\n    return 1 / x  # the line\n")["f"], args={"x": 0})
    with pytest.raises(pipeline.TaskError) as raised:
        p.run(backend="processes", workers=1, out=tmp_path, runs=tmp_path / "runs")
    assert "return 1 / x  # the line" in raised.value.traceback
