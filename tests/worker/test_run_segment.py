"""Running a segment: results, measurements, failures."""

from __future__ import annotations

import operator
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from pipeline.errors import ConfigError, TaskError, TaskTimeout
from pipeline.graph.importing import resolve
from pipeline.graph.nodes import constant, listed, ref, task
from pipeline.graph.segments import Dropped, Failure, Group, Segment, SegmentTask
from pipeline.worker.process_setup import install_modules, limit_threads
from pipeline.worker.run_segment import Hooks, begin_item, run_segment
from pipeline.worker.segment_result import SegmentResult
from pipeline.worker.tracebacks import describe


def segment(*tasks: SegmentTask, outputs: tuple[Any, ...], inputs: tuple[Any, ...] = ()) -> Segment:
    return Segment(0, "s", tasks, inputs, outputs)


def inner(key: Any, function: Any, *args: Any, **fields: Any) -> SegmentTask:
    return SegmentTask(key, task(key, function, *args), "s", **fields)


def fail(error: BaseException) -> Any:
    raise error


def test_tasks_run_in_order_and_outputs_come_back() -> None:
    chain = segment(
        SegmentTask("two", constant("two", 2), "s"),
        inner("a", operator.add, ref("x"), ref("two")),
        inner("b", operator.mul, ref("a"), 10),
        inputs=("x",),
        outputs=("b",),
    )
    completion = run_segment(chain, {"x": 1})
    assert completion.outputs == {"b": 30}
    assert [m.key for m in completion.timings] == ["a", "b"]


def test_times_follow_each_other_and_sizes_are_told() -> None:
    completion = run_segment(segment(inner("a", bytes, 1000), inner("b", len, ref("a")), outputs=("b",)), {})
    first, second = completion.timings
    assert first.start <= first.stop <= second.start <= second.stop
    assert first.bytes_out >= 1000
    assert first.memory > 0


def test_values_are_freed_where_the_segment_says() -> None:
    seen: list[set[str]] = []
    chain = segment(
        inner("a", int, 1),
        inner("b", operator.neg, ref("a"), frees=("a", "x")),
        inner("c", operator.neg, ref("b"), frees=("b",)),
        inputs=("x",),
        outputs=("c",),
    )
    given = {"x": object()}
    assert run_segment(chain, given, Hooks(on_start=lambda i: seen.append({i.key}))).outputs == {"c": 1}
    assert seen == [{"a"}, {"b"}, {"c"}]
    assert "x" in given  # what the caller holds is the caller's


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit("bad"), GeneratorExit("bad"), MemoryError("bad")])
def test_a_failure_of_a_task_is_returned_as_text(error: BaseException) -> None:
    completion = run_segment(segment(inner("a", fail, error, item="x=1"), outputs=("a",)), {})
    failure = completion.failure
    assert failure is not None
    assert failure.cause.startswith(f"{type(error).__name__}: bad (test_run_segment.py:")
    assert failure.cause.endswith(", in fail)")
    assert isinstance(failure.error(), TaskError)
    assert str(failure.error()).startswith("s[x=1]: ")
    assert completion.outputs == {}
    assert len(completion.timings) == 1


def test_ctrl_c_passes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        run_segment(segment(inner("a", fail, KeyboardInterrupt()), outputs=("a",)), {})


def test_a_task_that_took_too_long_is_a_timeout() -> None:
    completion = run_segment(segment(inner("a", sum, range(1000), timeout=1e-9), outputs=("a",)), {})
    assert completion.failure is not None
    assert isinstance(completion.failure.error(), TaskTimeout)
    assert "timeout of 1e-09 s" in completion.failure.cause


def test_each_item_of_a_task_has_a_time_limit_of_its_own() -> None:
    def items(fails: bool) -> Group:
        for key in "01":
            begin_item(key)
        return Group([("0", 1 / (not fails)), ("1", 2)])

    begun: list[str] = []
    of_items = segment(inner("a", items, False, timeout=1e-9), outputs=("a",))
    completion = run_segment(of_items, {}, Hooks(on_start=lambda task: begun.append(task.name)))
    assert completion.failure is None
    assert begun == ["a", "a", "a"]  # a clock that a back end has started begins anew with each
    failed = run_segment(segment(inner("a", items, True), outputs=("a",)), {}).failure
    assert failed is not None
    assert failed.cause.startswith("item 1: ZeroDivisionError")


def test_a_dropped_item_is_reported_where_it_arose() -> None:
    passing = segment(
        inner("a", Dropped, "no good", item="x=1"),
        inner("b", operator.itemgetter(0), listed([ref("a")]), item="x=1"),
        outputs=("b",),
    )
    completion = run_segment(passing, {})
    assert completion.outputs == {"b": Dropped("no good")}
    assert completion.dropped == [("s", "x=1", "no good")]


def test_a_completion_survives_pickling() -> None:
    completion = run_segment(segment(inner("a", fail, ValueError("bad")), outputs=("a",)), {})
    again: SegmentResult = cloudpickle.loads(cloudpickle.dumps(completion))
    assert again == completion


def test_the_place_of_a_failure_is_in_the_users_code() -> None:
    import json

    with pytest.raises(ValueError) as caught:
        json.loads("{")
    assert "test_run_segment.py:" in describe(caught.value)


def test_an_exception_without_a_message_is_described() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe(Mute()) == "Mute: (its message can't be made)"
    assert describe(KeyError()) == "KeyError"


def test_a_failure_names_step_task_and_item() -> None:
    error = Failure("fit[t2m]", "('fit', 3)", "alpha=1", "ValueError: bad").error()
    assert str(error) == "fit[t2m,alpha=1]: ValueError: bad"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("json", "module:function"),
        ("no_such_module_here:f", "module 'no_such_module_here' was not found.*modules"),
        ("json:no_such", "'json' has no 'no_such'"),
        ("json:decoder", "is not a function, but module"),
    ],
)
def test_a_function_that_cannot_be_found_says_why(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(text)


def test_functions_and_methods_are_found_by_name() -> None:
    import json

    assert resolve("json:dumps") is json.dumps
    assert resolve("json:JSONDecoder.decode") is json.JSONDecoder.decode


def test_shipped_modules_replace_those_of_an_earlier_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    install_modules({"nothing_for_tests.py": b""})
    before = list(sys.path)  # with the one folder that is replaced
    try:
        for answer in (1, 2):
            files = {"shipped_pkg/__init__.py": b"", "shipped_pkg/inner.py": f"def f(): return {answer}".encode()}
            install_modules(files)
            install_modules(files)
            assert resolve("shipped_pkg.inner:f")() == answer
            assert len(sys.path) == len(before)
    finally:
        install_modules({"nothing_for_tests.py": b""})
        sys.path[:] = before


def test_a_shipped_file_cannot_leave_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigError, match="outside"):
        install_modules({"../evil.py": b""})


def test_limits_of_threads_are_looked_at_after_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy  # noqa: F401 - loads BLAS
    import pyarrow as pa
    import threadpoolctl

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    arrow, io = pa.cpu_count(), pa.io_thread_count()
    limits = threadpoolctl.threadpool_limits()
    try:
        found = limit_threads(1)
    finally:
        limits.restore_original_limits()
        pa.set_cpu_count(arrow)
        pa.set_io_thread_count(io)
    assert found["arrow"] == 1
    assert set(found.values()) == {1}
