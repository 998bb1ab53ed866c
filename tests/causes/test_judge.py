"""Causes from Traces made by hand: the guilty step beside innocent ones, for every kind of cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from traces import chained, row, trace

from pipeline.experiments.comparison.causes import KINDS, Cause, RunFacts, guilty
from pipeline.experiments.comparison.judge import causes
from pipeline.report.compare_reason_text import cause_text
from pipeline.trace.losses import serial_times
from pipeline.trace.measured_schedule import MeasuredSchedule
from pipeline.trace.shape import Shape
from pipeline.trace.trace import Record

SLOW = 1.0
"""Seconds of a task in the serial run, where nothing else is said."""


def shape(needs: Mapping[str, Sequence[str]]) -> Shape:
    """Return the shape of tasks whose steps are the parts of their keys before the first ``-``."""
    owners = {key: key.partition("-")[0] for key in needs}
    steps = {step: step for step in owners.values()}
    return Shape({k: tuple(v) for k, v in needs.items()}, owners, steps, dict.fromkeys(steps, "value"), ())


def judged(
    rows: Sequence[Record],
    *,
    needs: Mapping[str, Sequence[str]] | None = None,
    serial: Sequence[Record] | None = None,
    elapsed: float = 0.0,
    n_workers: int = 2,
    **facts: Any,
) -> Cause:
    """Return the cause of one run; by default each task takes ``SLOW`` seconds serially, and needs nothing."""
    ended = max(r.sent for r in rows) / 1e9
    numbered = [r._replace(segment=i) for i, r in enumerate(rows)]
    found = trace(numbered, elapsed=elapsed or ended, n_workers=n_workers)
    alone = (
        chained(dict.fromkeys((r.key for r in rows), SLOW)) if serial is None
        else trace(serial, elapsed=sum(r.stop - r.start for r in serial) / 1e9, n_workers=1, backend="serial")
    )  # fmt: skip
    graph = shape({r.key: () for r in rows} | dict(needs or {}))
    schedule = MeasuredSchedule.of(found, graph, serial_times([alone]))
    return guilty([causes(schedule, RunFacts(**{"n_cores": n_workers, **facts}))], 0)


def side_by_side(step: str, n: int, seconds: float, *, since: float = 0.0, **fields: Any) -> list[Record]:
    """Return n tasks on each of two workers, one after the other; ``fields`` may be functions of the position."""
    return [
        row(
            f"{step}-{w * n + i}", since + i * seconds, since + (i + 1) * seconds, worker=f"w{w}",
            ready=since + i * seconds, **fields,
        )
        for w in range(2)
        for i in range(n)
    ]  # fmt: skip


def said(cause: Cause) -> tuple[str, str]:
    return cause.kind, cause.step


def test_work_that_is_divided_well_has_no_cause() -> None:
    assert judged(side_by_side("fit", 3, SLOW)).kind == "none"


def test_a_limit_that_keeps_workers_idle_is_the_cause() -> None:
    rows = [row(f"ask-{i}", i, i + 1, worker=f"w{i % 2}", segment=i, granted=i, limit="api") for i in range(6)]
    needs = {r.key: () for r in rows}
    graph = replace(shape(needs), uses={"ask": ("api",)}, limits={"api": 1})
    alone = serial_times([chained(dict.fromkeys(needs, SLOW))])
    schedule = MeasuredSchedule.of(trace(rows, elapsed=6, n_workers=2), graph, alone)
    assert (schedule.replayed, schedule.without(unlimited=["api"])) == (6, 3)
    found = guilty([causes(schedule, RunFacts(n_cores=2))], 0)
    assert said(found) == ("limit", "ask")
    assert (found.numbers, found.after) == ({"name": "api", "n": 1}, 3)
    assert cause_text(found) == "`ask` waits for the limit `api: 1`"


def test_threads_that_look_for_the_gil_again_and_again_wait_for_it() -> None:
    rows = side_by_side("hold", 3, 2 * SLOW, cpu=SLOW, switches=200)
    rows += side_by_side("inno", 2, SLOW, since=6.0)
    found = judged(rows, in_threads=True)
    assert said(found) == ("gil", "hold")
    assert found.gain == pytest.approx(3 / 8, abs=0.01)


def test_the_holder_of_the_gil_is_guilty_not_its_victim() -> None:
    """The holder is not slowed down by the victim, which takes three times as long beside it, and not elsewhere."""
    holder = [row(f"hold-{i}", 2.0 * i, 2.0 * (i + 1), worker="w0", ready=2.0 * i) for i in range(3)]
    victims = [
        row(f"victim-{i}", 3.0 * i, 3.0 * (i + 1), worker="w1", cpu=1.0, switches=200, ready=3.0 * i) for i in range(2)
    ]
    alone = [row(f"victim-{2 + i}", 6.0 + i, 7.0 + i, worker=f"w{i % 2}", ready=6.0 + i) for i in range(3)]
    serial = [*chained({f"hold-{i}": 2.0 for i in range(3)} | {f"victim-{i}": 1.0 for i in range(5)}).tasks.to_pylist()]
    found = judged([*holder, *victims, *alone], serial=[Record(**r) for r in serial], in_threads=True)
    assert said(found) == ("gil", "hold")
    assert found.numbers["victims"] == ("victim",)


def test_who_waits_for_the_gil_to_begin_a_task_has_no_tiny_tasks() -> None:
    """Each thread waits 0.8 s for the GIL before a task that takes 1.2 s instead of 1: most of that is beside them."""
    rows = [
        row(f"hold-{4 * w + i}", 2 * i + 0.8, 2 * i + 2, worker=f"w{w}", ready=2 * i, received=2 * i + 0.8, cpu=1.0,
            switches=30)
        for w in range(2)
        for i in range(4)
    ]  # fmt: skip
    found = judged(rows, in_threads=True)
    assert said(found) == ("gil", "hold")
    assert found.gain == pytest.approx(0.5, abs=0.01)
    assert said(judged(rows, in_threads=False)) == ("tiny tasks", "hold")


def test_threads_that_sleep_until_they_are_woken_wait_for_a_lock() -> None:
    rows = side_by_side("guarded", 3, 2 * SLOW, cpu=SLOW, switches=2)
    assert said(judged(rows, in_threads=True)) == ("lock", "guarded")


def test_processes_that_wait_for_each_other_share_a_lock() -> None:
    rows = side_by_side("guarded", 3, 2 * SLOW, cpu=SLOW, switches=2) + side_by_side("inno", 2, SLOW, since=6.0)
    assert said(judged(rows)) == ("lock", "guarded")


def test_processes_that_write_to_a_disk_wait_for_it() -> None:
    serial = [row(f"written-{i}", i, i + 1.0, cpu=0.1, disk=10**8) for i in range(6)]
    rows = side_by_side("written", 3, 2 * SLOW, cpu=0.1, disk=10**8, switches=50)
    assert said(judged(rows, serial=serial)) == ("disk", "written")


def test_one_task_that_does_nothing_for_long_was_stopped() -> None:
    rows = side_by_side("parsed", 4, SLOW)
    late = rows[3]._replace(
        stop=rows[3].stop + 3 * 10**9, packed=rows[3].packed + 3 * 10**9, sent=rows[3].sent + 3 * 10**9
    )
    found = judged([*rows[:3], late, *rows[4:]])
    assert said(found) == ("stopped worker", "parsed")
    assert found.numbers["key"] == "parsed-3"


@pytest.mark.parametrize("in_threads", [True, False])
def test_tasks_with_threads_of_their_own_hold_no_lock(in_threads: bool) -> None:
    serial = [row(f"many-{i}", i, i + 1.0, cpu=0.1, cpu_beside=1.9) for i in range(6)]
    rows = side_by_side("many", 3, 2 * SLOW, cpu=0.1, cpu_beside=1.9, switches=3)
    found = judged(rows, serial=serial, in_threads=in_threads)
    assert said(found) == ("own threads", "many")
    assert found.after == pytest.approx(6.0)  # the cores are busy: nothing to win


def test_threads_that_only_this_run_gave_to_tasks_hold_no_lock() -> None:
    """BLAS with four threads a process, where the serial run had one."""
    serial = [row(f"many-{i}", i, i + 1.0) for i in range(6)]
    rows = side_by_side("many", 3, 4 * SLOW, cpu=1.0, cpu_beside=3.0, delay=2.8)
    found = judged(rows, serial=serial)
    assert said(found) == ("own threads", "many")
    assert found.numbers["cores"] == pytest.approx(4.0)


def test_a_program_that_a_task_waits_for_is_no_lock_and_no_waiting() -> None:
    serial = [row(f"run-{i}", i, i + 1.0, cpu=0.01, cpu_beside=0.99) for i in range(6)]
    rows = side_by_side("run", 3, SLOW, cpu=0.01, cpu_beside=0.99, switches=300)
    assert judged(rows, serial=serial, in_threads=True).kind == "none"


def test_more_cpu_time_side_by_side_is_shared_memory() -> None:
    rows = side_by_side("streamed", 3, 2 * SLOW) + side_by_side("inno", 2, SLOW, since=6.0)
    assert said(judged(rows)) == ("memory", "streamed")
    faulting = side_by_side("filled", 3, 2 * SLOW, faults=1_000_000)
    assert said(judged(faulting)) == ("page faults", "filled")


def test_time_without_a_core_is_of_other_programs() -> None:
    rows = side_by_side("fit", 3, 2 * SLOW, cpu=SLOW, delay=SLOW)
    assert said(judged(rows)) == ("machine", "")
    assert said(judged(rows, n_cores=1)) == ("few cores", "fit")


def test_on_a_busy_machine_the_cause_of_the_file_comes_first() -> None:
    rows = side_by_side("hold", 3, 3 * SLOW, cpu=SLOW, delay=SLOW, switches=200)
    assert said(judged(rows, in_threads=True)) == ("gil", "hold")


def test_tiny_tasks_beside_a_long_innocent_are_guilty() -> None:
    """200 tasks of a millisecond cost 9 ms each to hand out; the innocents take most of the seconds of tasks."""
    small = [
        row(f"small-{i}", 0.01 * i + 0.009, 0.01 * (i + 1), worker="w0", received=0.01 * i, ready=0.0,
            loaded=0.01 * i, opened=0.01 * i + 0.009)
        for i in range(200)
    ]  # fmt: skip
    inno = [row("inno-0", 0.0, 0.6, worker="w1"), row("inno-1", 0.6, 1.2, worker="w1", ready=0.6)]
    serial = [row(f"small-{i}", 0.001 * i, 0.001 * (i + 1)) for i in range(200)]
    serial += [row("inno-0", 0.2, 0.8), row("inno-1", 0.8, 1.4)]
    found = judged([*small, *inno], serial=serial)
    assert said(found) == ("tiny tasks", "small")
    assert found.numbers["together"] in (90, 91)  # ten times the overhead


def test_moving_is_blamed_on_the_step_whose_values_move() -> None:
    made = [
        row(f"made-{i}", 2.0 * (i // 2), 2.0 * (i // 2) + 1, worker=f"w{i % 2}", packed=2.0 * (i // 2) + 2,
            sent=2.0 * (i // 2) + 2, bytes_out=10**8, bytes_sent=10**8, ready=2.0 * (i // 2))
        for i in range(4)
    ]  # fmt: skip
    used = [
        row(f"used-{i}", 6.0, 7.0, worker=f"w{i}", received=4.0, loaded=6.0, opened=6.0, ready=4.0, bytes_in=4 * 10**8)
        for i in range(2)
    ]
    needs = {f"used-{i}": [f"made-{k}" for k in range(4)] for i in range(2)}
    found = judged([*made, *used], needs=needs)
    assert said(found) == ("transfer", "made")
    assert found.numbers["seconds"] == pytest.approx(8.0)


def test_one_long_task_is_split_and_equal_ones_are_too_few() -> None:
    short = [row(f"fit-{i}", i, i + 1.0, worker="w0", ready=i) for i in range(4)]
    long = row("fit-9", 0.0, 8.0, worker="w1")
    serial = [row(f"fit-{i}", i, i + 1.0) for i in range(4)] + [row("fit-9", 4.0, 12.0)]
    assert said(judged([*short, long], serial=serial)) == ("long task", "fit")
    three = [row(f"fit-{i}", float(i // 2), i // 2 + 1.0, worker=f"w{i % 2}") for i in range(3)]
    assert said(judged(three)) == ("few tasks", "fit")


def test_a_chain_is_named_whole_beside_innocents_with_more_seconds() -> None:
    links = {f"link{k}": 1.0 for k in range(7)}
    rows = [row(name, k, k + 1.0, worker="w0", ready=float(k)) for k, name in enumerate(links)]
    rows += [row(f"inno-{i}", 0.5 * i, 0.5 * (i + 1), worker="w1") for i in range(8)]
    serial = chained(links | {f"inno-{i}": 0.5 for i in range(8)})
    needs = {f"link{k}": [f"link{k - 1}"] for k in range(1, 7)}
    found = judged(rows, needs=needs, serial=[Record(**r) for r in serial.tasks.to_pylist()])
    assert found.kind == "chain"
    assert found.steps == tuple(links)


def test_a_long_task_beside_a_longer_chain_is_innocent() -> None:
    rows = [row(f"link{k}", k, k + 1.0, worker="w0", ready=float(k)) for k in range(7)]
    rows += [row("inno-0", 0.0, 4.0, worker="w1")]
    serial = chained({f"link{k}": 1.0 for k in range(7)} | {"inno-0": 4.0})
    needs = {f"link{k}": [f"link{k - 1}"] for k in range(1, 7)}
    found = judged(rows, needs=needs, serial=[Record(**r) for r in serial.tasks.to_pylist()])
    assert found.kind == "chain"
    assert "inno" not in found.steps


def test_a_last_step_alone_is_a_long_task() -> None:
    rows = [*side_by_side("fit", 3, SLOW), row("end", 3.0, 6.0, worker="w0", ready=3.0)]
    serial = chained({f"fit-{i}": 1.0 for i in range(6)} | {"end": 3.0})
    found = judged(
        rows, needs={"end": [f"fit-{i}" for i in range(6)]}, serial=[Record(**r) for r in serial.tasks.to_pylist()]
    )
    assert said(found) == ("long task", "end")


def test_tasks_off_their_core_are_waiting_unless_they_hold_a_lock() -> None:
    serial = [row(f"asked-{i}", i, i + 1.0, cpu=0.0) for i in range(16)]
    found = judged(side_by_side("asked", 8, SLOW, cpu=0.0, switches=1), serial=serial)
    assert said(found) == ("waiting", "asked")
    assert found.numbers["n"] == 8
    locked = judged(side_by_side("asked", 8, 2 * SLOW, cpu=0.0, switches=1), serial=serial)
    assert said(locked) == ("lock", "asked")


def test_a_first_call_in_each_process_that_loads_is_named() -> None:
    rows = [
        row(f"parsed-{4 * w + i}", 3.0 + i if i else 0.0, 4.0 + i, worker=f"w{w}", ready=0.0)
        for w in range(2) for i in range(4)
    ]  # fmt: skip
    serial = chained({"parsed-0": 4.0} | {f"parsed-{i}": 1.0 for i in range(1, 8)})
    found = judged(rows, serial=[Record(**r) for r in serial.tasks.to_pylist()])
    assert said(found) == ("first calls", "parsed")


def test_who_waits_behind_the_first_import_shares_no_lock() -> None:
    """Tasks sleep for a second. The first imports for 0.7 s; that of the other thread waits for it, and longer."""
    first = (1.7, 2.8)
    rows = [
        row(f"asked-{6 * w + i}", first[w] + i - 1 if i else 0.0, first[w] + i, cpu=0.7 if not (w or i) else 0.0,
            worker=f"w{w}", ready=0.0)
        for w in range(2) for i in range(6)
    ]  # fmt: skip
    serial = [row(f"asked-{i}", i + 0.7 if i else 0.0, i + 1.7, cpu=0.0 if i else 0.7) for i in range(12)]
    assert said(judged(rows, serial=serial, in_threads=True)) == ("waiting", "asked")


def test_waiting_for_a_core_is_no_part_of_loading() -> None:
    """On a busy machine the serial run's first call loads for 0.5 s and has no core for 0.8 s more."""
    rows = [
        row(f"asked-{6 * w + i}", 1.6 + i - 1 if i else 0.0, 1.6 + i, cpu=0.0, worker=f"w{w}", ready=0.0)
        for w in range(2) for i in range(6)
    ]  # fmt: skip
    serial = [
        row(f"asked-{i}", i + 1.3 if i else 0.0, i + 2.3, cpu=0.0, delay=0.0 if i else 0.8) for i in range(12)
    ]  # fmt: skip
    assert said(judged(rows, serial=serial, in_threads=True)) == ("waiting", "asked")


def test_outputs_that_take_long_to_verify_are_named() -> None:
    assert said(judged(side_by_side("fit", 3, SLOW), elapsed=5.0)) == ("outputs", "")


def test_a_lost_worker_is_named() -> None:
    assert judged(side_by_side("fit", 3, SLOW), gaps=True).kind == "lost worker"


def test_a_cause_must_be_large_in_two_of_three_rounds() -> None:
    gil, none = [Cause("gil", ("hold",), 0.4)], [Cause("gil", ("hold",), 0.05)]
    assert guilty([gil, none, gil], 0).kind == "gil"
    assert guilty([gil, none, none], 0).kind == "none"
    assert guilty([none, gil, gil], 0).kind == "none"


def test_kinds_are_those_that_have_a_sentence_and_an_answer() -> None:
    from pipeline.experiments.comparison.advice import _ANSWERS
    from pipeline.report.compare_reason_text import _CAUSES

    assert set(_ANSWERS) == set(KINDS)
    assert set(_CAUSES) == set(KINDS) - {"none"}
