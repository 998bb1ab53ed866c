"""What tasks print, log and warn of: by line, with step and item, on every back end; shown, kept, capped, masked."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from pipeline.backends.events import Event, OutputLine, TasksDone
from pipeline.backends.registry import create
from pipeline.builder.build import build
from pipeline.cli import main
from pipeline.config.loader import load
from pipeline.graph.graph import Graph, Policy
from pipeline.graph.nodes import task
from pipeline.graph.segments import Segment, SegmentTask
from pipeline.report.progress import EventLines, JsonLines, LiveTable, PlainLines
from pipeline.report.progress_lines import MOST_LINES
from pipeline.runs.folders import TASK_LOG, TaskLog
from pipeline.runs.run import run
from pipeline.worker import output_capture
from pipeline.worker.output_buffer import Line
from pipeline.worker.output_capture import capturing
from pipeline.worker.run_segment import Hooks, run_segment

pytestmark = pytest.mark.filterwarnings("ignore:careful")

BACKENDS = ("serial", "threads", "pool", "processes", "dask")

LOUD = """
import logging, os, sys, time, warnings
from pathlib import Path
logger = logging.getLogger("loud")
logger.handlers[:] = [logging.StreamHandler()]
logger.setLevel(logging.INFO)

def speak(x):
    print("x is", x)
    print("half", end=" ")
    logger.info("logged %s", x)
    print("a line")
    warnings.warn(f"careful {x}")
    print("without an end", x, end="")
    return x

def fail(x):
    print("before it fails")
    raise ValueError("no")

def wait(folder):
    print("begun")
    while not Path(folder, "heard").exists():
        time.sleep(0.01)
    print("ended")

def many(n):
    for i in range(n):
        print("line", i)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("loud.py").write_text(LOUD)
    return tmp_path


def written(step: str, **more: Any) -> str:
    """A file of one step, in JSON, which is YAML."""
    text = json.dumps({"version": 1, "modules": ["./loud.py"], "steps": {"f": json.loads(step)}, **more})
    Path("a.yaml").write_text(text)
    return "a.yaml"


@pytest.fixture(scope="module", params=[*BACKENDS, pytest.param("process-per-task", marks=pytest.mark.slow)])
def opened(request: pytest.FixtureRequest) -> Iterator[Any]:
    with create(request.param, workers=2, **({"dashboard": False} if request.param == "dask" else {})) as backend:
        yield backend


@pytest.fixture
def backend(opened: Any) -> Iterator[Any]:
    """An open back end, with all its threads and processes after a task that failed, too."""
    yield opened
    one = Graph({("a",): task(("a",), abs, 1)}, (("a",),), {("a",): "a"}, {"a": Policy("a")})
    assert opened.run(one).results == {("a",): 1}


def heard(backend: Any, graph: Graph, listener: Any = None) -> list[OutputLine]:
    events: list[Event] = []
    backend.run(graph, listener=listener or events.append)
    return [event for event in events if isinstance(event, OutputLine)]


# ---------------------------------------------------------------------------------------------------------------------
# On every back end
# ---------------------------------------------------------------------------------------------------------------------


def test_lines_come_whole_with_step_and_item_and_stream(backend: Any, here: Path) -> None:
    graph = build(load(written('{"call": "loud:speak", "over": {"x": [1, 2, 3]}}')))
    events = heard(backend, graph)
    for x in (1, 2, 3):
        said = [event for event in events if event.item == f"x={x}"]
        out = [event.message for event in said if event.stream == "stdout"]
        assert out == [f"x is {x}", "half a line", f"without an end {x}"]
        err = [event.message for event in said if event.stream == "stderr"]
        assert f"logged {x}" in err
        if backend.capabilities.isolates_tasks:  # in this process pytest takes the warnings
            assert any(line.endswith(f"UserWarning: careful {x}") for line in err)
    assert {event.step for event in events} == {"f"}
    assert all(event.worker and event.when > 1e9 for event in events)


def test_output_of_a_failed_task_is_emitted(backend: Any, here: Path) -> None:
    graph = build(load(written('{"call": "loud:fail", "args": {"x": 1}}')))
    events: list[Event] = []
    with pytest.raises(Exception, match="ValueError: no"):
        backend.run(graph, listener=events.append)
    assert [event.message for event in events if isinstance(event, OutputLine)] == ["before it fails"]


def test_a_line_is_emitted_before_its_task_ends(backend: Any, here: Path) -> None:
    if backend.name == "pool":  # it has no way to say anything before the result
        Path("heard").touch()
    graph = build(load(written(json.dumps({"call": "loud:wait", "args": {"folder": str(here)}}))))
    lines: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, OutputLine):
            lines.append(event.message)
            Path("heard").touch()

    backend.run(graph, listener=listen)
    assert lines == ["begun", "ended"]


def test_lines_beyond_the_limit_are_counted(backend: Any, here: Path) -> None:
    graph = build(load(written('{"call": "loud:many", "args": {"n": 12000}}')))
    lines = [event.message for event in heard(backend, graph)]
    assert lines[:2] == ["line 0", "line 1"]
    assert lines[-2:] == ["line 9999", "… 2,000 more lines of this task are left out"]
    assert len(lines) == 10_001


def test_without_a_listener_lines_are_printed(backend: Any, here: Path, capsys: Any) -> None:
    backend.run(build(load(written('{"call": "loud:speak", "over": {"x": [7]}}'))))
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["f[x=7]: x is 7", "f[x=7]: half a line", "f[x=7]: without an end 7"]
    assert "f[x=7]: logged 7" in captured.err


# ---------------------------------------------------------------------------------------------------------------------
# In this process
# ---------------------------------------------------------------------------------------------------------------------


def said(function: Any, *args: Any) -> list[Line]:
    """The lines of one task."""
    segment = Segment(0, "s", (SegmentTask("a", task("a", function, *args), "s", "x=1"),), (), ())
    with capturing():
        return run_segment(segment, {}).lines


def texts(function: Any, *args: Any) -> list[str]:
    return [line.text for line in said(function, *args)]


def draw_a_bar() -> None:
    for i in range(3):
        sys.stderr.write(f"\r{i + 1} of 3")
    sys.stderr.write("\n")


def test_a_progress_bar_is_the_line_that_it_ends_as() -> None:
    assert texts(draw_a_bar) == ["3 of 3"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [("a\r\nb", ["a", "b"]), ("\n\na", ["", "", "a"]), ("a\tb", ["a       b"]), ("x" * 20_000, ["x" * 10_000 + "…"])],
)
def test_ends_of_lines_and_tabs_are_as_on_a_terminal(text: str, lines: list[str]) -> None:
    assert texts(print, text) == lines


def _print_all(n: int) -> None:
    for i in range(n):
        print(i)


def _write_all_at_once(n: int) -> None:
    sys.stdout.write("".join(f"{i}\n" for i in range(n)))


def _draw_for_long(n: int) -> None:
    for i in range(n):
        sys.stderr.write(f"\r{i}")


@pytest.mark.parametrize("function", [_print_all, _write_all_at_once])
def test_each_of_many_lines_is_emitted_or_counted(function: Callable[[int], None]) -> None:
    lines = texts(function, 100_000)
    assert lines[:2] == ["0", "1"]
    assert lines[-2:] == ["9999", "… 90,000 more lines of this task are left out"]
    assert len(lines) == 10_001


def test_a_bar_that_never_ends_its_line_is_one_line() -> None:
    assert texts(_draw_for_long, 100_000) == ["99999"]


def _write_text_and_bytes() -> None:
    sys.stdout.write("text, ")
    for byte in "été\n".encode():
        sys.stdout.buffer.write(bytes([byte]))
    sys.stdout.buffer.writelines([b"\xff\x00", bytearray(b"\nh"), memoryview(b"alf\xc3")])
    sys.stdout.buffer.flush()


def test_bytes_are_lines_with_escapes_where_they_are_no_text() -> None:
    assert texts(_write_text_and_bytes) == ["text, été", "\\xff\x00", "half\\xc3"]


def _speak_in_threads(n_threads: int, n_lines: int) -> None:
    def speak(name: int) -> None:
        barrier.wait()
        for i in range(n_lines):
            sys.stdout.write(f"{name} {i}\n")

    barrier = threading.Barrier(n_threads)
    threads = [threading.Thread(target=speak, args=(name,)) for name in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_output_of_threads_of_the_only_task_is_captured() -> None:
    output_capture.install(one_task=True)
    try:
        lines = texts(_speak_in_threads, 4, 500)
    finally:
        output_capture.uninstall()
    assert sorted(lines) == sorted(f"{name} {i}" for name in range(4) for i in range(500))
    for name in range(4):
        assert [line for line in lines if line.startswith(f"{name} ")] == [f"{name} {i}" for i in range(500)]


def test_a_thread_that_prints_during_emit_is_captured(capsys: Any) -> None:
    def listen(lines: Sequence[Line]) -> None:
        heard.extend(line.text for line in lines)
        if "first" in heard and "second" not in heard and not threads:
            threads.append(threading.Thread(target=print, args=("second",)))
            threads[0].start()

    def speak() -> None:
        print("first")
        threads[0].join()

    heard: list[str] = []
    threads: list[threading.Thread] = []
    segment = Segment(0, "s", (SegmentTask("a", task("a", speak), "s"),), (), ())
    output_capture.install(one_task=True)
    try:
        run_segment(segment, {}, Hooks(emit=listen))
    finally:
        output_capture.uninstall()
    assert heard == ["first", "second"]
    assert capsys.readouterr().out == ""


def _fork_and_speak(say: Callable[[str], None]) -> None:
    print("half", end="")
    child = os.fork()
    if not child:
        say("from below")
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    print(" a line")


def test_output_of_a_forked_process_goes_to_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "out", "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert texts(_fork_and_speak, print) == ["half a line"]
        monkeypatch.undo()
    assert (tmp_path / "out").read_text() == "from below\n"


def test_writing_no_text_is_refused_as_by_a_stream() -> None:
    segment = Segment(0, "s", (SegmentTask("a", task("a", _write_bytes), "s"),), (), ())
    with capturing():
        failure = run_segment(segment, {}).failure
    assert failure is not None
    assert failure.cause.startswith("TypeError")


def _write_bytes() -> None:
    sys.stdout.write(b"bytes")  # type: ignore[arg-type]


def test_the_streams_are_put_back_and_others_pass(capsys: Any) -> None:
    before = sys.stdout, sys.stderr
    with capturing():
        assert sys.stdout is not before[0]
        assert sys.stdout.encoding == before[0].encoding
        print("not a task's")
        with capturing():
            pass
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "not a task's\n"


def test_a_stream_that_somebody_else_put_there_stays() -> None:
    other, before = io.StringIO(), sys.stdout
    with capturing():
        sys.stdout = other
    try:
        assert sys.stdout is other
    finally:
        sys.stdout = before


def test_an_existing_logging_handler_is_captured_and_put_back() -> None:
    logger, handler = logging.getLogger("of-a-test"), logging.StreamHandler(sys.stderr)
    stream = handler.stream
    logger.addHandler(handler)
    logger.propagate = False
    try:
        assert texts(logger.warning, "watch out") == ["watch out"]
        assert handler.stream is stream
    finally:
        logger.removeHandler(handler)


def test_tasks_in_threads_of_one_process_are_kept_apart() -> None:
    found: dict[str, list[Line]] = {}
    barrier = threading.Barrier(2)

    def work(name: str) -> None:
        segment = Segment(0, name, (SegmentTask("a", task("a", _speak_together, barrier, name), name),), (), ())
        found[name] = run_segment(segment, {}).lines

    with capturing():
        threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name, lines in found.items():
        assert {line.step for line in lines} == {name}
        assert [line.text for line in lines] == [f"{name} {i}" for i in range(50)]


def _speak_together(barrier: threading.Barrier, name: str) -> None:
    for i in range(50):
        barrier.wait()
        print(name, end=" ")
        print(i)


def test_output_is_captured_after_a_task_has_run_a_graph(here: Path) -> None:
    inner = build(load(written('{"call": "loud:speak", "over": {"x": [1]}}')))

    def run_inside() -> None:
        with create("serial") as backend:
            backend.run(inner, listener=lambda event: None)
        print("after it")

    assert texts(run_inside) == ["after it"]


def test_what_the_listener_raises_is_not_the_tasks_failure() -> None:
    def refuse(lines: Any) -> None:
        raise BrokenPipeError

    segment = Segment(0, "s", (SegmentTask("a", task("a", print, "hello"), "s"),), (), ())
    with capturing(), pytest.raises(BrokenPipeError):
        run_segment(segment, {}, Hooks(emit=refuse))


def test_output_of_the_listener_is_not_captured(capsys: Any) -> None:
    segment = Segment(0, "s", (SegmentTask("a", task("a", print, "hello"), "s"),), (), ())
    with capturing():
        run_segment(segment, {}, Hooks(emit=lambda lines: print(f"<{lines[0].text}>")))
    assert capsys.readouterr().out == "<hello>\n"


def test_waiting_lines_are_emitted_together() -> None:
    batches: list[list[str]] = []
    segment = Segment(0, "s", (SegmentTask("a", task("a", _print_all, 5), "s"),), (), ())
    with capturing():
        run_segment(segment, {}, Hooks(emit=lambda lines: batches.append([line.text for line in lines]), hold=60.0))
    assert batches == [["0", "1", "2", "3", "4"]]


def test_a_silent_task_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_capture.OutputBuffer, "write", None)
    monkeypatch.setattr(output_capture.OutputBuffer, "end_task", None)
    assert said(abs, 1) == []


# ---------------------------------------------------------------------------------------------------------------------
# Shown
# ---------------------------------------------------------------------------------------------------------------------


def output(text: str, item: str = "x=1", step: str = "f") -> OutputLine:
    return OutputLine(step, item=item, message=text, worker="w-0", stream="stdout", when=0.0)


def test_plain_lines_show_the_first_hundred_lines_of_a_step() -> None:
    file = io.StringIO()
    with PlainLines(file, beat=None, clock=lambda: 0.0) as listener:
        for i in range(MOST_LINES + 3):
            listener(output(f"line {i}", item=f"x={i}"))
        listener(output("", step="g", item=""))
    lines = [line[12:] for line in file.getvalue().splitlines()]
    assert lines[0] == "f[x=0]: line 0"
    assert lines[MOST_LINES - 1] == "f[x=99]: line 99"
    assert lines[MOST_LINES:] == [
        "f: further lines are kept in tasks.log in the run folder",
        "g: ",
        "f: 3 more lines are kept in tasks.log in the run folder",
    ]


def test_what_moves_a_terminals_text_is_shown_as_in_python() -> None:
    file = io.StringIO()
    with EventLines(file) as listener:
        listener(output("\x1b[2Jgone"))
        listener(TasksDone("f"))
    assert file.getvalue() == "f[x=1]: \\x1b[2Jgone\n"


def test_json_has_an_event_a_line() -> None:
    file = io.StringIO()
    with JsonLines(file) as listener:
        listener(output("hello"))
    assert json.loads(file.getvalue()) == {
        "event": "output", "step": "f", "item": "x=1", "worker": "w-0", "stream": "stdout", "when": 0.0, "line": "hello"
    }  # fmt: skip


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_live_table_stays_below_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    file = _Terminal()
    with LiveTable(file) as table:
        for i in range(3):
            table(output(f"line {i} [bold]"))
    shown = file.getvalue()
    assert [shown.index(f"f[x=1]: line {i} [bold]") for i in range(3)] == sorted(
        shown.index(f"f[x=1]: line {i} [bold]") for i in range(3)
    )


# ---------------------------------------------------------------------------------------------------------------------
# Kept
# ---------------------------------------------------------------------------------------------------------------------


def test_the_run_folder_keeps_the_lines(here: Path) -> None:
    result = run(load(written('{"call": "loud:speak", "over": {"x": [1, 2]}}')), backend="threads", listener=print_none)
    head, *rows = (result.folder / TASK_LOG).read_text().splitlines()
    assert head.split("\t") == ["time", "worker", "step", "item", "stream", "line"]
    cells = [row.split("\t") for row in rows]
    assert ["f", "x=2", "stdout", "half a line"] in [row[2:] for row in cells]
    assert all(row[0].endswith("Z") and row[1].startswith("threads-") for row in cells)


def print_none(event: Event) -> None:
    pass


def test_a_letter_that_the_terminal_lacks_ends_no_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("loud.py").write_text("def f():\n    print('\\u00e9t\\u00e9')\n")
    written('{"call": "loud:f"}', outputs={"f": {"to": "json", "path": "f.json"}})
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", file)
    code = main(["run", "a.yaml", "--backend", "serial"])
    file.flush()
    assert b"f: \\xe9t\\xe9" in file.buffer.getvalue()  # type: ignore[attr-defined]
    assert code == 0


def test_a_silent_run_leaves_no_file(here: Path) -> None:
    Path("loud.py").write_text("def f():\n    return 1\n")
    result = run(load(written('{"call": "loud:f"}')), backend="serial")
    assert not (result.folder / TASK_LOG).exists()


def test_the_file_has_an_end(tmp_path: Path) -> None:
    with TaskLog(tmp_path / TASK_LOG, most=100) as log:
        listener = log.beside(print_none)
        for i in range(10):
            listener(output(f"{i}\tand\x1b"))
    _, *rows, last = (tmp_path / TASK_LOG).read_text().splitlines()
    assert rows[0].endswith("\t0\\tand\\x1b")
    assert len(rows) == 2
    assert last.endswith("… 8 more lines are left out")


@pytest.mark.parametrize("form", [PlainLines, JsonLines])
def test_a_secret_is_masked_where_it_is_shown_and_kept(
    here: Path, monkeypatch: pytest.MonkeyPatch, form: Callable[[IO[str]], PlainLines | JsonLines]
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    Path("loud.py").write_text("def tell(token):\n    print('with', token)\n")
    step = json.dumps({"call": "loud:tell", "args": {"token": "${secret:TOKEN}"}})
    file = io.StringIO()
    with form(file) as listener:
        result = run(load(written(step)), backend="threads", workers=1, listener=listener)
    kept = (result.folder / TASK_LOG).read_text()
    assert "with ***" in file.getvalue()
    assert "with ***" in kept
    assert "hunter2" not in file.getvalue() + kept
