"""What is advised about a cause, what is recommended first, and their sentences; numbers made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.experiments.comparison.advice import (
    Advice,
    MeasuredCase,
    Reason,
    Recommendation,
    Situation,
    Tried,
    advise,
    recommended,
    start_up_first,
)
from pipeline.experiments.comparison.causes import Cause
from pipeline.experiments.comparison.result import Case, Comparison, Row
from pipeline.experiments.comparison.trial import changed, with_trial
from pipeline.experiments.comparison.tuning_knobs import TuningKnob
from pipeline.graph.graph import Graph, Policy
from pipeline.report.compare_reason_text import reason_text, recommendation_text
from pipeline.report.verdicts import ComparisonReport
from pipeline.trace.statistics import Interval

BATCH = {"small": TuningKnob("steps.small.batch", "batch", n_items=3000)}
TINY = Cause("tiny tasks", ("small",), 0.6, 0.7, {"n": 3000, "overhead": 1e-3, "mean": 1e-5, "together": 1400})
GIL = Cause("gil", ("hold",), 0.4, 1.2, {"growth": 1.9, "victims": ("hold",), "in_threads": True})
TRANSFER = Cause("transfer", ("made",), 0.5, 1.1, {"seconds": 2.0, "nbytes": 1e9})


def case(backend: str, elapsed: float, *, start_up: float = 0.5) -> MeasuredCase:
    workers = 1 if backend == "serial" else 2
    return MeasuredCase(backend, backend, workers, elapsed, elapsed + start_up, start_up, backend == "processes")


def at(own: str, *cases: MeasuredCase, **fields: Any) -> Situation:
    return Situation(next(c for c in cases if c.backend == own), cases, **fields)


def reason(cause: Cause, situation: Situation) -> Reason:
    own = situation.case
    return Reason(
        own.label, own.backend, own.n_workers, own.elapsed, situation.speedup, cause, advise(cause, situation)
    )


def test_a_back_end_is_advised_only_where_it_was_faster() -> None:
    threads, processes = case("threads", 1.2), case("processes", 2.2)
    assert advise(GIL, at("threads", threads, processes)).kind == "none"  # 1.2 s is what could be hoped for
    assert advise(replace(GIL, after=0.6), at("threads", threads, processes)).kind == "release the GIL"
    moved = advise(TRANSFER, at("processes", threads, processes))
    assert (moved.kind, moved.backend, moved.after, moved.measured) == ("backend", "threads", 1.2, True)


def test_nobody_is_told_to_change_the_code_of_a_step_that_runs_none_of_theirs() -> None:
    cases = case("threads", 1.2), case("processes", 2.2)
    changes = {"gil": "release the GIL", "lock": "hold the lock for less", "first calls": "load once"}
    for kind, change in (changes | {"memory": "less memory"}).items():
        cause = replace(GIL, kind=kind, after=0.6)
        assert advise(cause, at("threads", *cases)).kind == change
        assert advise(cause, at("threads", *cases, ours=frozenset({"hold"}))).kind == "none"


def test_the_gil_asks_for_processes_where_none_were_measured() -> None:
    found = advise(GIL, at("threads", case("serial", 2.0), case("threads", 2.1)))
    assert (found.kind, found.backend, found.is_setting) == ("backend", "processes", True)


def test_nothing_is_advised_that_saves_less_than_a_twentieth() -> None:
    assert advise(replace(TRANSFER, after=0.96), at("processes", case("processes", 1.0))).kind == "none"
    assert advise(replace(TRANSFER, after=0.94), at("processes", case("processes", 1.0))).kind == "return less"


def test_a_batch_puts_enough_items_together_and_serves_all_workers() -> None:
    situation = at("processes", case("processes", 2.3), knobs=BATCH)
    found = advise(TINY, situation)
    assert (found.kind, found.n) == ("batch", 1400)
    most = advise(replace(TINY, numbers={**TINY.numbers, "together": 9000}), situation)
    assert most.n == 1500


def test_few_pieces_of_many_items_ask_for_a_smaller_batch() -> None:
    few = Cause("few tasks", ("small",), 0.3, 1.0, {"n": 3, "seconds": 1.0})
    found = advise(few, at("processes", case("processes", 2.0), knobs=BATCH))
    assert (found.kind, found.n) == ("smaller batch", 375)
    assert advise(few, at("processes", case("processes", 2.0))).kind == "split"


def test_waiting_asks_for_threads_unless_they_hold_the_gil() -> None:
    waiting = Cause("waiting", ("asked",), 0.6, 0.5, {"n": 8, "on_core": 0.01})
    cases = (case("threads", 2.0), case("processes", 2.0))
    assert advise(waiting, at("processes", *cases)).backend == "threads"
    assert advise(waiting, at("processes", *cases, held=frozenset({"threads"}))).backend == "processes"


def test_the_start_of_workers_counts_where_it_takes_most() -> None:
    cases = (case("serial", 0.2, start_up=0.1), case("processes", 0.1, start_up=2.0))
    found = start_up_first(Cause("none"), at("processes", *cases))
    assert found.kind == "start-up"
    assert advise(found, at("processes", *cases)).backend == "serial"
    longer = (case("serial", 2.0, start_up=0.1), case("processes", 1.0, start_up=2.0))
    assert start_up_first(Cause("none"), at("processes", *longer)).kind == "none"


def reasons() -> list[Reason]:
    cases = (case("serial", 2.4), case("threads", 2.2), case("processes", 2.3))
    tiny = reason(TINY, at("processes", *cases, knobs=BATCH, speedup=1.04))
    return [reason(replace(GIL, after=2.0), at("threads", *cases, speedup=1.09)), tiny]


def test_what_saves_most_is_recommended_compared_with_the_fastest() -> None:
    first, second = recommended(reasons(), 2.2)
    assert first.advice == Advice("batch", "small", BATCH["small"], n=1400, after=0.7)
    assert second.advice.kind == "release the GIL"
    assert recommended(reasons(), 0.72) == []


def test_what_is_there_for_comparison_is_not_recommended_beside_others() -> None:
    quicker = replace(reasons()[0], label="manager", backend="manager[listen=127.0.0.1:0]")
    assert recommended([quicker, *reasons()], 2.2) == recommended(reasons(), 2.2)
    assert recommended([quicker], 2.2)[0].reason is quicker


def test_a_setting_comes_before_work_by_hand_that_saves_little_more() -> None:
    by_hand = replace(reasons()[0], advice=Advice("release the GIL", "hold", after=0.6))
    assert recommended([by_hand, reasons()[1]], 2.2)[0].advice.kind == "batch"
    assert (
        recommended([replace(by_hand, advice=Advice("split", "hold", after=0.1)), reasons()[1]], 2.2)[0].advice.n == 0
    )


def test_the_sentences_name_step_evidence_change_and_gain() -> None:
    gil, tiny = (reason_text(one) for one in reasons())
    assert gil.do == "Release the GIL in `steps.hold` (use numpy on whole arrays, or compiled code)"
    assert gil.rest == (
        "`hold` holds the GIL: its tasks take 1.90x as long as alone. Predicted: 2.00 s instead of 2.20 s."
    )
    assert tiny.do == "Set `steps.small.batch: 1400`"
    assert str(tiny).endswith("takes 1.00 ms. Predicted: 700 ms instead of 2.30 s.")


def compared(recommendations: tuple[Recommendation, ...]) -> ComparisonReport:
    """Return a comparison of three cases with recommendations."""
    rows = [
        Row(name, name, 1 if name == "serial" else 2, name == "serial", 3, Interval(s, s, s, 3, 0.75),
            None if name == "serial" else Interval(2.4 / s, 2.4 / s, 2.4 / s, 3, 0.75))
        for name, s in (("serial", 2.4), ("threads", 2.2), ("processes", 2.3))
    ]  # fmt: skip
    return ComparisonReport.of(
        Comparison("x", "0", 1, "runs", tuple(rows), causes={r.label: r for r in reasons()},
                   recommendations=recommendations)
    )  # fmt: skip


def test_what_was_tried_is_told_with_its_time_in_text_and_json() -> None:
    first = recommended(reasons(), 2.2)[0]
    report = compared((replace(first, tried=Tried(0.69, 3.4, "equal")),))
    assert report.recommended == report.advice
    assert report.advice.do == "Set `steps.small.batch: 1400`, and use `--backend processes`"
    assert report.advice.why.endswith("Tried: 690 ms instead of 2.20 s, 3.40x as fast as serial, results equal")
    assert report.to_dict()["recommendation"]["text"] == str(report.recommended)
    assert report.to_dict()["advice"] == {"do": report.advice.do, "why": report.advice.why}
    assert report.to_dict()["recommendation"]["tried"]["elapsed"] == 0.69


@pytest.mark.parametrize(("start_up", "sooner"), [(1.0, False), (2.0, True)])
def test_the_start_of_workers_is_told_beside_a_change(start_up: float, sooner: bool) -> None:
    """With its change processes take 0.7 s and their start; serial takes 2.4 s and starts at once."""
    report = compared((recommended(reasons(), 2.2)[0],))
    serial, _, processes = (replace(row, start_up=0.0, commit=0.0) for row in report.rows)
    rows = serial, replace(processes, start_up=start_up)
    found = [str(one) for one in replace(report, rows=rows).warnings]
    expected = "For a single run use `--backend serial`. With start-up and commit it takes 2.40 s as the file is, and "
    assert found == ([f"{expected}processes 2.70 s after this change."] if sooner else [])


def test_on_a_busy_machine_nobody_is_told_to_rewrite_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Comparison, "disturbed", 0.3)
    by_hand, setting = (replace(reasons()[0], advice=Advice(kind, "hold", after=0.6)) for kind in ("split", "batch"))
    assert compared(tuple(recommended([by_hand], 2.2))).advice.do == "Measure again when the machine does nothing else"
    assert compared(tuple(recommended([setting], 2.2))).advice.do.startswith("Set `")


def test_what_was_tried_in_vain_is_told_and_the_next_is_recommended() -> None:
    first, second = recommended(reasons(), 2.2)
    report = compared((replace(first, tried=Tried(2.3, 1.04, "equal")), second))
    assert report.recommendation == second
    assert [str(one) for one in report.warnings] == [
        "Don't set `steps.small.batch: 1400`. It was tried: 2.30 s instead of 2.20 s, 1.04x as fast as serial, "  # noqa: ISC004
        "results equal."
    ]


def test_a_prediction_that_was_not_tried_says_so() -> None:
    first = recommended(reasons(), 2.2)[0]
    text = recommendation_text(replace(first, not_tried="not tried"))
    assert str(text).endswith("Predicted: 700 ms instead of 2.20 s (not tried).")


@pytest.mark.parametrize(("most", "is_tried"), [(60.0, True), (0.0, False), (1.0, False)])
def test_a_setting_is_tried_where_a_round_is_short_enough(most: float, is_tried: bool) -> None:
    measured: list[Case] = []

    def extra(one: Case, graph: Graph) -> tuple[str, list[Any]]:
        measured.append(one)
        return "it broke", []

    from test_compare import measurement

    given = replace(
        compared(tuple(recommended(reasons(), 2.2))),
        measurements=tuple(measurement("processes", i, 2.3) for i in (0, 1)),
    )
    graph = Graph(tasks={}, wanted=(), owners={}, policies={"small": Policy("small", over="items")})
    found = with_trial(given, graph, extra, most).recommendations[0]
    assert measured == ([Case("processes", 2)] if is_tried else [])
    assert (found.tried is not None, bool(found.not_tried)) == (is_tried, not is_tried)
    assert found.helps is (False if is_tried else None)


def test_a_batch_is_set_on_every_instance_of_its_step() -> None:
    policies = {f"small[{i}]": Policy("small", over="items") for i in range(2)} | {"other": Policy("other", over="x")}
    graph = Graph(tasks={}, wanted=(), owners={}, policies=policies)
    found = changed(graph, Advice("batch", "small", BATCH["small"], n=7))
    assert [policy.batch for policy in found.policies.values()] == [7, 7, None]
    assert changed(graph, Advice("backend", backend="threads")) is graph
