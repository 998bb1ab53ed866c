"""Why a speedup is not higher: from accounts made by hand to the sentence, and when no cause is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.experiments.comparison.reasons import Evidence, TuningKnob, reason
from pipeline.report.compare_reason_text import reason_text
from pipeline.trace.account import Account, Runs, StepTimes
from pipeline.trace.costs import StepCost, TaskCost
from pipeline.trace.critical_path import CriticalPath, PathSegment
from pipeline.trace.efficiency import Factors
from pipeline.trace.losses import CoreTime, Losses

PARSE = TuningKnob("steps.parse.batch", "batch", n_items=1000)


def lost(n_workers: int = 2, elapsed: float = 10.0, **seconds: float) -> Losses:
    """Losses whose useful time is what the others leave."""
    cells: dict[str, Any] = dict.fromkeys(
        ("inflation", "runtime", "transfer", "scheduling", "dependency", "unexplained"), 0.0
    )
    cells |= seconds
    useful = n_workers * elapsed - sum(cells.values())
    inflation = cells["inflation"]
    return Losses(
        n_workers=n_workers, elapsed=elapsed, useful=useful, inflation_cpu=0.0, inflation_wait=inflation, **cells
    )


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


def made(label: str = "dask", *, losses: Losses, **fields: Any) -> Account:
    """Return an account with one step ``parse`` of 1,000 tasks, with some fields replaced."""
    busy = losses.useful + losses.inflation
    path = CriticalPath((PathSegment("('parse', 0)", "parse", "0", "compute", 0, ns(losses.elapsed)),))
    base = Account(
        runs=Runs(label, label, losses.n_workers),
        n_workers=losses.n_workers,
        round=1,
        elapsed=losses.elapsed,
        core_time=CoreTime(ns(losses.elapsed), (), ()),
        losses=losses,
        every=(losses,) * 3,
        inflation=None,
        cpu_beside={"parent": 0.1, "workers": 0.1},
        factors=None,
        span=0.01,
        critical=path,
        steps=(StepCost("parse", 1000, busy, losses.useful, busy, 1000, 2_100_000_000),),
        tasks=(TaskCost("('parse', 0)", "parse", "0", 0.01, 0.01),),
        by_step={"parse": StepTimes(busy, losses.useful, losses.useful, losses.useful, n_segments=1000)},
        moved={"parse": 2_100_000_000},
        n_tasks=1000,
        n_segments=1000,
        ideal=losses.elapsed,
        measuring=1e-5,
        clock_error=0.0,
    )
    return replace(base, **fields)


def sentence(account: Account, speedup: float = 1.0, cpu: float = 1.0, **evidence: Any) -> str:
    return reason_text(reason(account, Evidence(speedup, cpu, **evidence)))


def test_threads_hold_the_gil_where_processes_were_faster() -> None:
    threads = made("threads", losses=lost(inflation=9.8), cpu_beside={"parent": 0.1})
    processes = made("processes", losses=lost(elapsed=5.3, inflation=0.3))
    text = sentence(threads, 1.04, 1.02, others=[processes])
    assert text == (
        "threads: 1.04x of 2 workers; user + sys = 1.02 x elapsed: `parse` holds the GIL or a lock like it "
        "(2 threads 1.02x, 2 processes 1.94x); use --backend processes"
    )


def test_without_processes_to_compare_threads_only_wait() -> None:
    threads = made("threads", losses=lost(inflation=9.8), cpu_beside={"parent": 0.1})
    text = sentence(threads, 1.04, 1.02)
    assert "holds the GIL" not in text
    assert text.endswith("pipeline explain --step parse")


def test_threads_that_keep_no_core_busy_do_not_wait_for_the_gil() -> None:
    threads = made("threads", losses=lost(inflation=9.8), cpu_beside={"parent": 0.1})
    text = sentence(threads, 0.8, 0.3)
    assert "a lock, a disk, or a core that something else uses; find out why: pipeline explain" in text
    assert "GIL" not in text
    assert "share" not in sentence(threads, 0.8, 0.3, n_cores=1)


@pytest.mark.parametrize("beside", [{"parent": 0.1}, {"parent": 0.1, "workers": 0.1}])
def test_tasks_that_wait_for_cores_used_by_others_are_told_so(beside: dict[str, float]) -> None:
    account = made("threads", losses=lost(inflation=9.8), cpu_beside=beside)
    text = sentence(account, 1.04, 1.02, starved=5.0, n_cores=2)
    assert "had no core for 5.00 s: something else uses this machine" in text
    assert "something else uses this machine" not in sentence(account, 1.04, 1.02, starved=4.8, n_cores=2)


def test_a_tenth_in_exactly_two_of_three_rounds_is_a_cause() -> None:
    tenth, none = lost(n_workers=1, elapsed=3.0, scheduling=0.3), lost(n_workers=1, elapsed=3.0)
    less = lost(n_workers=1, elapsed=3.0, scheduling=0.29)
    assert reason(made(losses=tenth, every=(tenth, none, tenth)), Evidence(1.0, 1.0)).cause == "scheduling"
    assert reason(made(losses=tenth, every=(tenth, none, less)), Evidence(1.0, 1.0)).cause == ""
    assert reason(made(losses=less, every=(tenth, less, tenth)), Evidence(1.0, 1.0)).cause == ""


def test_processes_as_slow_as_threads_do_not_prove_the_gil() -> None:
    threads = made("threads", losses=lost(inflation=9.8), cpu_beside={"parent": 0.1})
    processes = made("processes", losses=lost(inflation=9.0))
    assert "holds the GIL" not in sentence(threads, others=[processes])


def test_more_cpu_than_alone_on_all_back_ends_is_shared_memory() -> None:
    found = lost(inflation=8.0)
    times = {"parse": StepTimes(20.0, 12.0, 19.5, 12.0)}
    chunks = {"parse": TuningKnob("steps.x.chunks", "chunks")}
    one, other = (made(name, losses=found, by_step=times) for name in ("processes", "pool"))
    text = sentence(one, knobs=chunks, others=[other])
    assert (
        "1.62x the CPU time that it takes alone, and more on other back ends, too: the workers share memory bandwidth"
        in text
    )
    assert text.endswith("smaller chunks or a smaller dtype: steps.x.chunks")
    alone = sentence(one, knobs=chunks, others=[made("pool", losses=lost())])
    assert "memory" not in alone
    assert alone.endswith("find out why: pipeline explain --step parse")


def test_cpu_beside_the_tasks_is_their_threads_in_plain_workers() -> None:
    found = lost(inflation=8.0)
    processes = made("processes", losses=found, cpu_beside={"parent": 0.1, "workers": 7.0})
    text = sentence(processes, n_cores=2)
    assert text.endswith("more threads than cores; limit the threads inside steps.parse")
    dask = made("dask", losses=found, cpu_beside={"parent": 0.1, "scheduler": 0.5, "workers": 7.0})
    assert "hold the GIL" in sentence(dask, n_cores=2, knobs={"parse": PARSE})
    assert "more threads than cores" in sentence(dask, n_cores=2, others=[processes])


def test_tasks_that_are_mostly_off_their_core_get_more_workers() -> None:
    times = {"parse": StepTimes(20.0, 20.0, 0.2, 0.2)}
    account = made("threads", losses=lost(dependency=0.2), by_step=times)
    text = sentence(account, 1.98, 0.02)
    assert text.endswith("the tasks are on a core for 1% of their time; try --workers 8")
    assert "try --workers" not in sentence(account, 1.98, 1.9)  # threads that they start are busy meanwhile
    assert "try --workers" not in sentence(account, 1.98, 0.02, starved=9.0)  # they wait for a core


def test_unequal_workers_are_told_as_pieces_of_work_on_workers() -> None:
    factors = Factors(1.2, 2, 1.0, 0.6, 1.0, 1.0, 1.0)
    account = made("pool", losses=lost(dependency=7.0), factors=factors, n_segments=3)
    text = sentence(account, knobs={"parse": TuningKnob("steps.x.chunks", "chunks")})
    assert "busy for 60% of the busiest one's time: 3 pieces of work on 2 workers" in text
    assert text.endswith("more, smaller pieces: steps.x.chunks")


def test_more_workers_than_cores_wait_for_a_core() -> None:
    text = sentence(made("processes", losses=lost(n_workers=8, inflation=40.0)), n_cores=2)
    assert text.endswith("8 workers share 2 cores, so tasks of `parse` wait for one; cluster: {workers: 2}")


def test_overhead_is_told_beside_the_mean_task_and_a_batch() -> None:
    text = sentence(made("dask", losses=lost(scheduling=6.2)), 0.8, knobs={"parse": PARSE})
    assert text == (
        "dask: 0.80x of 2 workers; mean task 13.8 ms against 6.20 ms of waiting to be handed out a task measured here; "
        "steps.parse.batch: 5"
    )


def test_a_batch_is_at_most_a_share_for_each_worker() -> None:
    tiny = made("dask", losses=lost(runtime=19.999))
    assert sentence(tiny, knobs={"parse": PARSE}).endswith("steps.parse.batch: 500")


def test_a_batch_that_is_set_is_advised_to_double_at_least() -> None:
    found = lost(scheduling=2.2)
    busy = found.useful
    times = {"parse": StepTimes(busy, busy, busy, busy, n_segments=50)}
    text = sentence(made("dask", losses=found, by_step=times, n_segments=50), knobs={"parse": PARSE})
    assert text.endswith("steps.parse.batch: 40")


def test_transfer_tells_bytes_and_whose_they_are() -> None:
    found = made("pool", losses=lost(transfer=8.2), moved={"anomaly[A1B]": 2_100_000_000, "total": 100})
    assert sentence(found, 1.3) == (
        "pool: 1.30x of 2 workers; 41% of core-seconds move 2.1 GB, most of it of `anomaly`, through the parent; "
        "let steps.anomaly return less (a reduction, fewer columns)"
    )


def test_transfer_is_answered_by_a_back_end_that_moves_less() -> None:
    found = made("pool", losses=lost(transfer=8.2))
    threads = made("threads", losses=lost(elapsed=6.0))
    assert sentence(found, others=[threads]).endswith("use --backend threads")


def test_one_long_task_is_named() -> None:
    long = (TaskCost("('fit', 7)", "fit[t2m]", "0", 9.0, 9.0), TaskCost("('fit', 1)", "fit[t2m]", "1", 0.1, 0.1))
    text = sentence(made("processes", losses=lost(dependency=8.5), tasks=long))
    assert "one task of `fit[t2m]` (('fit', 7)) takes 9.00 s of 10.0 s elapsed" in text
    assert text.endswith("split it: steps.fit")
    behind = made("dask", losses=lost(scheduling=8.5), tasks=long)  # where others lie behind it, ready
    assert sentence(behind, knobs={"parse": PARSE}).endswith("split it: steps.fit")


def test_a_chain_is_told_with_the_most_that_workers_can_give() -> None:
    text = sentence(made("processes", losses=lost(dependency=9.5), span=10.0))
    assert "the critical path through `parse` computes 10.0 s of 10.0 s elapsed: at most 1.05x" in text


def test_a_lost_worker_is_the_reason_of_what_nobody_saw() -> None:
    assert "a worker was lost" in sentence(made(losses=lost(unexplained=5.0), gaps=True))


def test_no_cause_is_named_below_a_tenth() -> None:
    found = reason(made("processes", losses=lost(inflation=1.9, transfer=1.2)), Evidence(1.84, 2.0))
    assert found.cause == ""
    assert reason_text(found) == (
        "processes: 1.84x of 2 workers; no single cause: inflation 9% and transfer + serialization 6% are the "
        "largest losses; nothing to change for so many workers"
    )


@pytest.mark.parametrize(("n_large", "named"), [(1, False), (2, True), (3, True)])
def test_a_cause_must_be_large_in_two_of_three_rounds(n_large: int, named: bool) -> None:
    large, small = lost(scheduling=6.0), lost(scheduling=1.0)
    account = made(losses=large, every=(large,) * n_large + (small,) * (3 - n_large))
    assert bool(reason(account, Evidence(1.0, 1.0)).cause) == named


def test_negative_inflation_is_no_loss() -> None:
    found = reason(made(losses=lost(inflation=-5.0, transfer=4.0)), Evidence(1.5, 2.0))
    assert found.cause == "transfer"
    assert found.share == pytest.approx(0.2)


def test_every_class_of_losses_has_a_sentence_with_an_advice() -> None:
    for name in ("inflation", "runtime", "transfer", "scheduling", "dependency", "unexplained"):
        found = reason(made(losses=lost(**{name: 9.0})), Evidence(1.0, 1.0))
        assert found.cause == name
        assert len(reason_text(found).split("; ")) >= 3, reason_text(found)
