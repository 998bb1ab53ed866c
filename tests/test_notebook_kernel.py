"""Pipelines in the kernel of a notebook: progress, values, functions of cells, interrupts; all in one kernel."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import until
from kernels import Kernel, kernel

ROOT = Path(__file__).parents[1]
FIRST = """
import pathlib, time
import pipeline

def twice(x):
    print("twice", x)
    return 2 * x

def endless(x):
    pathlib.Path(f"running-{x}").touch()
    while True:
        time.sleep(0.01)

p = pipeline.Pipeline("cells")
p.step("y", call=twice, over={"x": range(6)})
p.step("total", call=sum, input="y")
p.keep("total")
p.run(backend="processes", workers=2)  # starts what lasts as long as the kernel
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernel")


@pytest.fixture(scope="module")
def notebook(folder: Path) -> Iterator[Kernel]:
    with kernel(folder) as found:
        found.run(FIRST)
        yield found


@pytest.fixture(scope="module")
def started(notebook: Kernel) -> None:
    """Start what other back ends keep as long as the kernel lives: the server that forks their workers."""
    notebook.run("p.run(backend='process-per-task', workers=1)")


# ---------------------------------------------------------------------------------------------------------------------
# Progress
# ---------------------------------------------------------------------------------------------------------------------


def test_a_run_is_one_table_that_is_redrawn(notebook: Kernel) -> None:
    shown = notebook.run("r = p.run(backend='threads', workers=2)")
    assert shown.n_updates >= 1
    lines = shown.display.splitlines()
    assert [line.split()[0] for line in lines] == ["y", "total", "8"]
    assert lines[-1] == "8 of 8 tasks"
    assert "6/6" in lines[0]
    assert sorted(shown.printed.splitlines()) == [f"y[x={x}]: twice {x}" for x in range(6)]


def test_progress_is_not_shown_where_it_is_not_wanted(notebook: Kernel) -> None:
    shown = notebook.run("r = p.run(backend='serial', progress=False)")
    assert not shown.displays
    assert "twice 5" in shown.printed
    shown = notebook.run("events = []\nr = p.run(backend='serial', listener=events.append)\nlen(events)")
    assert not shown.displays
    assert int(shown.text) > 8


def test_a_value_that_is_shown_soon_comes_without_progress(notebook: Kernel) -> None:
    notebook.run("from pipeline.report import notebook as display\ndisplay._SOON = 1e9")
    shown = notebook.run("p.show('total')")
    assert not shown.displays
    assert shown.text == "30"
    notebook.run("display._SOON = 0.0")
    shown = notebook.run("p.show('total')")
    assert shown.display == "8 of 8 tasks"
    assert shown.n_updates >= 1


def test_lines_of_long_commands_are_one_display(notebook: Kernel) -> None:
    shown = notebook.run("""
from pipeline.report.notebook import lines_display
with lines_display(None) as tell:
    for i in range(20):
        tell(f"round {i}")
""")
    assert shown.display.splitlines() == [f"round {i}" for i in range(8, 20)]
    assert shown.n_updates >= 1


@pytest.mark.slow
def test_comparing_and_explaining_show_their_progress(notebook: Kernel, started: None) -> None:
    shown = notebook.run("c = p.compare(backends=['threads'], repeat=1, try_seconds=0)\nc")
    assert "cells: graph" in shown.display
    assert "<table" in shown.result["text/html"]
    shown = notebook.run("e = p.explain(budget=20)\ne")
    assert len(shown.displays) == 1
    assert "cells" in shown.text


# ---------------------------------------------------------------------------------------------------------------------
# Values and cells
# ---------------------------------------------------------------------------------------------------------------------


def test_values_are_shown_as_their_libraries_show_them(notebook: Kernel) -> None:
    notebook.run("""
q = pipeline.Pipeline("values")
q.step("x", op="arange", stop=4, chunks=2, dim="i")
q.step("frame", op="to_frame", input="x")
""")
    assert "xarray.DataArray" in notebook.run("q.show('x')").result["text/html"]
    assert "<table" in notebook.run("q.show('frame')").result["text/html"]
    assert notebook.run("q.show('x[i=1:3]', progress=False).values.tolist()").text == "[1, 2]"
    assert notebook.run("r = q.copy().run(backend='serial', keep=['x'])\nint(r['x'].sum())").text == "6"


def test_a_cell_that_runs_again_replaces_what_it_added(notebook: Kernel) -> None:
    cell = """
def shifted(x, by=BY):
    return x + by
s.step("a", call=shifted, args={"x": 1})
s.step("b", expr="a * 2")
s.expect("b > 0")
s.output("b", to="npy", path="b")
s.build().fingerprint
"""
    notebook.run("s = pipeline.Pipeline('again')")
    first = notebook.run(cell.replace("BY", "1")).text
    again = notebook.run(f"# a comment\n\n{cell.replace('BY', '1')}").text
    other = notebook.run(cell.replace("BY", "2")).text
    assert first == again != other
    assert notebook.run("int(s.show('b')), s.steps, len(s.config.checks)").text == "(6, ('a', 'b'), 1)"
    shown = notebook.ended(notebook.start("s.step('c', expr='a')\ns.step('c', expr='b')"))
    assert "'c' is here a second time; first at In[" in shown.error


def test_a_function_of_a_cell_may_use_what_other_cells_made(notebook: Kernel) -> None:
    notebook.run("import dataclasses\n@dataclasses.dataclass\nclass Point:\n    x: int\nSCALE = 3")
    notebook.run("def make(x):\n    return Point(x * SCALE)\ndef size(points):\n    return sum(p.x for p in points)")
    notebook.run("""
t = pipeline.Pipeline("points")
t.step("points", call=make, over={"x": [1, 2]})
t.step("size", call=size, input="points")
r = t.run(backend="processes", workers=1, keep=["points", "size"])
""")
    assert notebook.run("r['size'], list(r['points'].values())[0] == Point(3)").text == "(9, True)"
    assert notebook.run("SCALE = 4\nt.show('size', progress=False)").text == "12"


def test_an_error_shows_the_cell_and_the_line_of_the_task(notebook: Kernel) -> None:
    notebook.run("def inverse(x):\n    return 1 / x  # the line\nu = pipeline.Pipeline('u')\nu.step('y', call=inverse, "
                 "over={'x': [1, 0]})")  # fmt: skip
    shown = notebook.ended(notebook.start("u.run(backend='processes', workers=1)"))
    assert shown.error.startswith("TaskError: y[x=0]: ZeroDivisionError: division by zero (In[")
    lines = shown.traceback.splitlines()
    assert lines[1].strip() == "u.run(backend='processes', workers=1)"
    assert "    return 1 / x  # the line" in lines
    assert len(lines) <= 12
    shown = notebook.ended(notebook.start("u.show('z')"))
    assert shown.traceback.splitlines()[-1] == "ConfigError: no step is named 'z'; steps: y"


# ---------------------------------------------------------------------------------------------------------------------
# The notebook of the documentation
# ---------------------------------------------------------------------------------------------------------------------


def test_the_notebook_of_the_documentation_runs(notebook: Kernel, folder: Path) -> None:
    shutil.copytree(ROOT / "configs", folder / "here" / "configs")
    shutil.copytree(ROOT / "data" / "climate", folder / "here" / "data" / "climate")
    (folder / "here" / "docs").mkdir()
    notebook.run(f"import os\nfirst = p\nos.chdir({str(folder / 'here' / 'docs')!r})")
    try:
        cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            if cell["cell_type"] == "code":
                shown = notebook.run("".join(cell["source"]))
                kept = [one["data"] for one in cell["outputs"] if one["output_type"] == "execute_result"]
                assert [set(data) for data in kept] == [set(shown.result)]
                if not shown.text.startswith(("<Run", "<Plan")):  # with times, and numbers of tasks
                    assert kept[0]["text/plain"] in (shown.text, shown.text.splitlines(keepends=True))
    finally:
        notebook.run(f"os.chdir({str(folder)!r})\np = first")


# ---------------------------------------------------------------------------------------------------------------------
# Interrupts
# ---------------------------------------------------------------------------------------------------------------------

ENDLESS = """
e = pipeline.Pipeline("endless")
e.step("y", call=endless, over={"x": [1, 2, 3]})
e.output("y", to="pickle", path="out/${key}.pkl")
"""


def interrupted(notebook: Kernel, folder: Path, call: str, *, times: int = 1) -> None:
    """Interrupt a cell when one of its tasks runs: nothing is left of it, and the kernel runs the next cell."""
    notebook.run(ENDLESS)
    threads = "import threading\nsorted(t.name for t in threading.enumerate() if not t.name.startswith('Dask-Offload'))"
    before = notebook.children(), notebook.run(threads).text
    cell = notebook.start(call)
    assert until(lambda: any(folder.glob("running-*")))
    for _ in range(times):
        notebook.interrupt()
    shown = notebook.ended(cell)
    assert shown.traceback == "KeyboardInterrupt: all that was started has ended; nothing was committed"
    for file in folder.glob("running-*"):
        file.unlink()
    assert until(lambda: (notebook.children(), notebook.run(threads).text) == before)
    assert not list(folder.glob("running-*"))
    assert not [path for path in folder.rglob(".*") if "staging" in path.name]
    assert not (folder / "out").exists()
    assert notebook.run("p.show('total', progress=False)").text == "30"


@pytest.mark.parametrize("backend", ["serial", "threads", "processes"])
def test_an_interrupt_leaves_nothing_running(notebook: Kernel, folder: Path, backend: str) -> None:
    interrupted(notebook, folder, f"e.run(backend={backend!r}, workers=2)")


def test_two_interrupts_do_no_more_than_one(notebook: Kernel, folder: Path) -> None:
    interrupted(notebook, folder, "e.show('y')", times=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        *("e.run(backend='pool')", "e.run(backend='process-per-task')", "e.run(backend='manager')"),
        *("e.run(backend='dask')", "e.compare(backends=['threads'])", "e.explain()"),
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_leaves_nothing_anywhere(
    notebook: Kernel, started: None, folder: Path, call: str, times: int
) -> None:
    interrupted(notebook, folder, call.replace("')", "', workers=2)") if "run" in call else call, times=times)
