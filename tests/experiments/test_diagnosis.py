"""From measurements to causes, and from causes to what to change: numbers made by hand, with known answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.experiments.comparison.tuning_knobs import TuningKnob
from pipeline.experiments.explanation.diagnosis import Overhead, Structure, diagnose, diagnose_structure
from pipeline.experiments.explanation.explained import Explained
from pipeline.experiments.explanation.measurements import MovingCost, ProbeTimes, StepMeasurements
from pipeline.experiments.explanation.recommendations import Model, changes, two_digits
from pipeline.experiments.explanation.structure import segment_seconds, structure
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import Graph, Policy
from pipeline.graph.nodes import ref, task
from pipeline.report.explain_cause_text import ExplanationReport, bound_text, cause_text, what_to_change, why_change
from pipeline.report.explanation_text import explanation_text
from pipeline.trace.shape import Shape

TASK = 0.1  # seconds of a task by one worker, in all of these


def probe_times(n, ratio, *, cpu=TASK, repeats=(1.0, 1.02)):
    """``n`` workers that get ``ratio`` times as much done as one, at ``cpu`` seconds a task."""
    seconds = TASK * n / ratio
    return ProbeTimes(n, 1, tuple(seconds * r for r in repeats), tuple(cpu * n for _ in repeats))


def measurements(threads=1.9, processes=1.9, *, n=2, cores=2, cpu=TASK, control=1.95, repeats=(1.0, 1.02), **given):
    """A step; CPU time a task is the same wherever it runs, unless a whole ProbeTimes is given."""

    def made(ratio, workers):
        return ratio if isinstance(ratio, ProbeTimes) else probe_times(workers, ratio, cpu=cpu, repeats=repeats)

    counting = probe_times(1, 1.0)
    return StepMeasurements(
        "step",
        n,
        cores,
        made(1.0, 1),
        made(threads, n),
        made(processes, n),
        counting=given.pop("counting", counting),
        counting_processes=probe_times(n, control),
        **given,
    )


def kinds(r, **given):
    return [cause.kind for cause in diagnose(r, **given)]


def test_what_scales_has_no_cause():
    assert kinds(measurements()) == ["none"]
    assert "2 threads 1.90x, 2 processes 1.90x" in cause_text(diagnose(measurements())[0])


def test_a_step_that_scales_on_a_busy_machine_is_told_with_both():
    (cause,) = diagnose(measurements(threads=1.59, processes=1.49, control=1.55))
    assert cause.kind == "none"
    assert cause_text(cause).endswith("2 processes that only count get 1.55x")


def test_threads_that_do_not_scale_beside_processes_hold_the_gil():
    (cause,) = diagnose(measurements(threads=1.0))
    assert (cause.kind, cause_text(cause)) == (
        "gil",
        "holds the GIL, or a lock like it: 2 threads 1.00x, 2 processes 1.90x",
    )


def test_threads_that_scale_in_part_hold_the_gil_in_part():
    (cause,) = diagnose(measurements(threads=1.45))
    assert cause.kind == "gil"
    assert ", for a part of its time" in cause_text(cause)


def test_the_gil_is_told_on_many_cores_as_well():
    assert kinds(measurements(threads=1.1, processes=15.0, n=16, cores=16, control=15.5)) == ["gil"]
    assert kinds(measurements(threads=12.0, processes=14.0, n=16, cores=16, control=15.5)) == ["none"]


def test_more_cpu_time_in_all_workers_is_shared_memory_bandwidth():
    r = measurements(threads=probe_times(2, 1.1, cpu=1.8 * TASK), processes=probe_times(2, 1.05, cpu=1.9 * TASK))
    (cause,) = diagnose(r)
    assert cause.kind == "bandwidth"
    assert "1.90x the CPU time" in cause_text(cause)


def test_what_scales_nowhere_at_the_same_cpu_time_is_unclear():
    (cause,) = diagnose(measurements(threads=1.05, processes=1.1))
    assert cause.kind == "unclear"
    assert "a lock, a disk" in cause_text(cause)


def test_busy_threads_slower_than_processes_are_not_the_gil():
    threads = probe_times(2, 1.2, cpu=1.7 * TASK)  # on the cores all the time
    assert kinds(measurements(threads=threads, processes=1.6)) == ["bandwidth"]


def test_workers_that_wait_alone_and_together_are_waiting():
    many = probe_times(8, 7.6, cpu=0.001)
    (cause,) = diagnose(measurements(threads=1.97, processes=1.95, cpu=0.001, many=many))
    assert cause.kind == "waiting"
    assert "uses a core for 1% of its time" in cause_text(cause)
    assert "8 threads 7.60x" in cause_text(cause)


def test_waiting_needs_no_free_core_to_be_told():
    assert kinds(measurements(threads=1.97, processes=1.95, cpu=0.001, control=1.0)) == ["waiting"]


def test_waiting_under_a_lock_of_the_process_is_the_gils_doing():
    assert kinds(measurements(threads=1.0, processes=1.97, cpu=0.001)) == ["gil"]


def test_waiting_for_something_that_gives_no_more_is_unclear():
    (cause,) = diagnose(measurements(threads=1.0, processes=1.0, cpu=0.001))
    assert cause.kind == "unclear"
    assert "is at its limit" in cause_text(cause)


def test_a_worker_that_computes_on_a_busy_machine_is_not_waiting():
    counting = probe_times(1, 1.0, cpu=0.4 * TASK)  # who only counts gets no more of a core
    assert kinds(measurements(threads=1.95, processes=1.95, cpu=0.4 * TASK, counting=counting)) == ["none"]
    assert kinds(measurements(threads=1.95, processes=1.95, cpu=0.4 * TASK)) == ["waiting"]


def test_nothing_is_diagnosed_if_counting_does_not_scale():
    (cause,) = diagnose(measurements(threads=1.0, processes=1.1, control=1.2))
    assert cause.kind == "unclear"
    assert "2 processes that only count get 1.20x" in cause_text(cause)


def test_what_the_step_got_counts_if_the_control_was_disturbed():
    assert kinds(measurements(threads=1.0, processes=1.9, control=1.1)) == ["gil"]


@pytest.mark.parametrize("noisy", ["threads", "processes", "one"])
def test_repeats_that_differ_by_more_than_a_quarter_are_unclear(noisy):
    r = measurements(threads=1.0)
    r = replace(r, **{noisy: replace(getattr(r, noisy), seconds=(0.1, 0.13))})
    (cause,) = diagnose(r)
    assert cause.kind == "unclear"
    assert "30%" in cause_text(cause)


def test_a_third_repeat_that_agrees_with_the_first_is_enough():
    assert kinds(measurements(threads=1.0, repeats=(1.0, 1.5, 1.1))) == ["gil"]


# ---- threads below the workers


def test_blas_threads_that_slow_all_workers_are_oversubscription():
    blas = ProbeTimes(1, 1, (TASK / 1.8,), (TASK,))
    both = probe_times(2, 1.1, cpu=1.9 * TASK)
    (cause,) = diagnose(measurements(blas=blas, blas_processes=both))
    assert cause.kind == "oversubscription"
    assert cause_text(cause) == ("has more threads than cores: BLAS on 2 threads: 1 worker 1.80x, 2 workers 1.10x; "
                          "BLAS on 1 thread: 2 workers 1.90x")  # fmt: skip


def test_one_worker_with_all_cores_for_blas_may_be_as_fast():
    blas = ProbeTimes(1, 1, (TASK / 1.8,), (TASK,))
    (cause,) = diagnose(measurements(blas=blas, blas_processes=probe_times(2, 1.85)))
    assert cause.kind == "oversubscription"
    assert cause_text(cause).startswith("uses the cores by itself")


def test_blas_that_starts_no_threads_is_no_cause():
    assert kinds(measurements(blas=ProbeTimes(1, 1, (TASK,), (TASK,)))) == ["none"]


def test_threads_that_a_step_starts_are_oversubscription():
    (cause,) = diagnose(measurements(threads=1.0, processes=1.0, cpu=1.9 * TASK))
    assert cause.kind == "oversubscription"
    assert "1 worker keeps 1.9 cores busy" in cause_text(cause)


# ---- moving


def test_moving_that_takes_as_long_as_the_task_is_transfer():
    (cause,) = diagnose(measurements(moved=MovingCost(0.15, 40e6)))
    assert cause.kind == "transfer"
    assert cause_text(cause) == (
        "moves 40.0 MB a task, which takes 150% of its time (150 ms for 100 ms): 2 processes 1.90x, with moving 0.78x; "
        "2 threads 1.90x"
    )


def test_the_gil_comes_before_a_transfer_that_processes_afford():
    assert kinds(measurements(threads=1.0, moved=MovingCost(0.035, 40e6))) == ["gil", "transfer"]


@pytest.mark.parametrize("moved", [None, MovingCost(0.02, 40e6), MovingCost(0.5, 100.0)])
def test_little_time_and_little_messages_are_no_transfer(moved):
    assert kinds(measurements(moved=moved)) == ["none"]


# ---- tiny tasks


def test_tasks_shorter_than_ten_times_their_overhead_are_tiny():
    overhead = Overhead("dask", 2, 0.0025)  # 5 ms of two workers
    assert kinds(measurements(), overhead=overhead, segment=0.051) == ["none"]
    assert kinds(measurements(), overhead=overhead, segment=0.049) == ["tiny"]


def test_tiny_is_the_main_cause_only_where_it_costs_much():
    overhead = Overhead("dask", 2, 0.0025)
    assert kinds(measurements(threads=1.0), overhead=overhead, segment=0.04) == ["gil", "tiny"]
    assert kinds(measurements(threads=1.0), overhead=overhead, segment=0.004) == ["tiny", "gil"]


def test_an_unclear_step_keeps_what_is_clear_of_it():
    found = kinds(measurements(threads=1.0, processes=1.0, control=1.0, moved=MovingCost(0.5, 1e8)))
    assert found == ["transfer", "unclear"]


# ---------------------------------------------------------------------------------------------------------------------
# The graph
# ---------------------------------------------------------------------------------------------------------------------


def graph_of(needs, n=None):
    """A Graph of steps ``name -> needed names``, each of one task, or with ``n`` of independent ones."""
    tasks = {}
    for name, needed in needs.items():
        for i in range((n or {}).get(name, 1)):
            tasks[name, i] = task((name, i), max, *[ref((other, 0)) for other in needed], 0)
    policies = {name: Policy(name, merge=False) for name in needs}
    return Graph(tasks, tuple(tasks), {key: key[0] for key in tasks}, policies)


def shaped(needs, seconds, *, n=None, workers=2):
    """The Structure of it; seconds by step, or by task as text."""
    graph = graph_of(needs, n)
    times = {str(key): seconds.get(str(key), seconds.get(key[0], 0.0)) for key in graph.tasks}
    segments = fuse(graph, n_workers=workers)
    return graph, times, segments, structure(graph, Shape.of(graph), segments, times, workers)


def test_independent_tasks_have_no_bound():
    *_, s = shaped({"a": ()}, {"a": 1.0}, n={"a": 8})
    assert (s.work, s.span, s.schedule, s.n_path) == (8.0, 1.0, 4.0, 1)
    assert diagnose_structure(s) is None


def test_a_chain_is_a_bound_with_its_steps_and_what_it_allows():
    names = [f"s{i}" for i in range(6)]
    needs = {name: names[i - 1 : i] if i else [] for i, name in enumerate(names)}
    *_, s = shaped(needs, dict.fromkeys(names, 1.0))
    bound = diagnose_structure(s)
    assert bound.cause.kind == "chain"
    assert set(bound.steps) == set(names)
    assert bound_text(bound) == (
        "`s0`, `s1`, `s2` and 3 more steps are a chain: 6 tasks that need each other take 6.00 s of 6.00 s: at most "
        "1.00x on any number of workers"
    )


def test_a_chain_beside_enough_other_work_is_no_bound():
    *_, s = shaped({"a": (), "b": ("a",), "c": ()}, {"a": 1.0, "b": 1.0, "c": 1.0}, n={"c": 2})
    assert diagnose_structure(s) is None


def test_one_long_task_among_short_ones_is_told_with_the_median():
    *_, s = shaped({"a": ()}, {"a": 0.1, "('a', 5)": 4.0}, n={"a": 8})
    bound = diagnose_structure(s)
    assert (bound.steps, bound.cause.kind) == (("a",), "long task")
    assert s.longest_task == "('a', 5)"
    assert "4.00 s of 4.70 s, where the median takes 100 ms" in bound_text(bound)


def test_no_work_has_no_bound():
    *_, s = shaped({"a": ()}, {"a": 0.0})
    assert diagnose_structure(s) is None


def test_a_segment_counts_with_all_that_is_handed_over_at_once():
    graph, times, _, _ = shaped({"a": ()}, {"a": 0.5}, n={"a": 6})
    policies = {"a": Policy("a", batch=3, over="a")}
    batched = replace(graph, policies=policies)
    assert segment_seconds(fuse(batched, n_workers=2), batched, times) == {"a": pytest.approx(1.5)}


# ---------------------------------------------------------------------------------------------------------------------
# What to change
# ---------------------------------------------------------------------------------------------------------------------


def model_of(r, *, needs=None, n=None, seconds=None, overheads=None, knobs=None):
    graph, times, segments, s = shaped(needs or {"step": ()}, seconds or {"step": TASK}, n=n or {"step": 40})
    owner = {str(key): key[0] for key in graph.tasks}
    found = {"step": r} if r is not None else {}
    return Model(segments, times, owner, s, found, overheads or {}, knobs or {})


def changed(model, r, **given):
    return changes(model, {"step": diagnose(r, **given)})


def test_the_gil_asks_for_processes_with_the_gain_of_their_ratio():
    r = measurements(threads=1.0)
    (change,) = changed(model_of(r), r)
    assert what_to_change(change) == "Use `--backend processes`, not threads"
    assert (change.before, change.after) == (pytest.approx(4.0, rel=0.06), pytest.approx(4.0 / 1.9, rel=0.06))
    assert change.saves == change.before - change.after


def test_waiting_asks_for_more_threads_than_cores():
    r = measurements(threads=1.97, processes=1.95, cpu=0.001, many=probe_times(8, 8.0, cpu=0.001))
    (change,) = changed(model_of(r), r)
    assert what_to_change(change) == "Use `--backend threads --workers 8`"
    assert "threads_per_worker: 8" in why_change(change)
    assert change.after == pytest.approx(0.5)


def test_own_threads_ask_for_none_and_blas_threads_for_one_each():
    own = measurements(threads=1.0, processes=1.0, cpu=1.9 * TASK)
    (change,) = changed(model_of(own), own)
    assert what_to_change(change) == "Start no threads in `step`, or use fewer workers"
    blas = measurements(
        blas=ProbeTimes(1, 1, (TASK / 1.8,), (TASK,)), blas_processes=probe_times(2, 1.1, cpu=1.9 * TASK)
    )
    (change,) = changed(model_of(blas), blas)
    assert what_to_change(change) == "Give BLAS 1 thread a worker"
    assert (change.before, change.after) == (pytest.approx(4.0 / 1.13, rel=0.06), pytest.approx(4.0 / 1.95, rel=0.06))
    both = measurements(blas=ProbeTimes(1, 1, (TASK / 1.8,), (TASK,)), blas_processes=probe_times(2, 1.85))
    (change,) = changed(model_of(both), both)
    assert what_to_change(change).startswith("Use 1 worker with all cores for BLAS, or")


def test_memory_bandwidth_asks_for_half_the_bytes():
    grown = probe_times(2, 1.05, cpu=1.9 * TASK)
    r = measurements(threads=grown, processes=grown)
    (change,) = changed(model_of(r), r)
    assert what_to_change(change).startswith("Use half the bytes in `step`: float32")
    assert why_change(change) == "more workers don't help"
    assert change.after < 0.6 * change.before


def test_transfer_asks_for_threads_first_and_for_less_to_move():
    r = measurements(moved=MovingCost(0.15, 40e6))
    first, second = changed(model_of(r), r)
    assert (what_to_change(first), second.by_hand) == ("Use `--backend threads`", True)
    assert first.before == pytest.approx(4.0 / 1.9 + 3.0, rel=0.06)
    assert first.after == pytest.approx(4.0 / 1.9, rel=0.06)


def test_tiny_tasks_ask_for_a_batch_of_ten_times_their_overhead():
    r = measurements()
    overheads = {"dask": Overhead("dask", 2, 0.005), "processes": Overhead("processes", 2, 0.0001)}
    model = model_of(r, n={"step": 400}, seconds={"step": 0.001}, overheads=overheads,
                     knobs={"step": TuningKnob("steps.step.batch", "batch")})  # fmt: skip
    found = changed(model, r, overhead=model.overhead("processes"), segment=0.001)
    assert {what_to_change(change) for change in found} == {"Set `steps.step.batch: 100`", "Use `--backend processes`"}
    assert all(change.after < 0.2 * change.before for change in found)


def test_a_long_task_asks_to_be_split():
    times = {"step": 0.1, "('step', 5)": 4.0}
    model = model_of(measurements(), n={"step": 8}, seconds=times)
    bound = diagnose_structure(model.structure)
    (change,) = changes(model, {"step": (bound.cause,)})
    assert "Split the long task" in what_to_change(change)
    assert change.before == pytest.approx(4.3, abs=0.2)
    assert change.after == pytest.approx(4.7 / 1.95, abs=0.2)


def test_a_chain_asks_for_pieces_and_promises_nothing():
    names = {"step": (), "b": ("step",), "c": ("b",)}
    model = model_of(None, needs=names, n={"step": 1}, seconds=dict.fromkeys(names, 1.0))
    bound = diagnose_structure(model.structure)
    (change,) = changes(model, {"step": (bound.cause,), "b": (bound.cause,)})
    assert (change.before, change.after, change.saves) == (None, None, 0.0)


def test_no_change_is_told_of_that_saves_next_to_nothing():
    r = measurements(threads=1.55, processes=1.95)
    model = model_of(
        r, needs={"step": (), "other": ()}, n={"step": 2, "other": 40}, seconds={"step": 0.1, "other": 1.0}
    )
    assert changed(model, r) == ()


def test_a_prediction_is_bounded_by_the_schedule_of_the_graph():
    r = measurements()
    model = model_of(r, n={"step": 3}, seconds={"step": 1.0})
    assert model.elapsed("threads") == 2.0  # three tasks of one second on two workers


def test_a_setting_comes_before_a_change_of_code_that_saves_more():
    r = measurements(threads=1.0, moved=MovingCost(0.05, 40e6))
    first, second = changed(model_of(r), r)
    assert (first.by_hand, second.by_hand) == (False, True)
    assert first.saves < second.saves


# ---------------------------------------------------------------------------------------------------------------------
# The explanation and its text
# ---------------------------------------------------------------------------------------------------------------------


def explanation(r, **given):
    model = model_of(r, **given)
    causes = diagnose(r)
    bound = diagnose_structure(model.structure)
    step = Explained("step", 40, 4.0, 0.93, ((bound.cause,) if bound else ()) + causes, r)
    return ExplanationReport(
        "made", "0123456789abcdef", 40, 40, 2, 2, 60.0, 12.0, model.structure, bound, (step,),
        {"send": "has effects outside (pure: false)", **dict.fromkeys("ab", "takes under 2% of the time")},
        changes(model, {"step": step.causes}), {"threads": 4.0, "processes": 2.1},
    )  # fmt: skip


def test_the_verdict_names_step_cause_change_and_prediction():
    verdict = explanation(measurements(threads=1.0)).verdict
    assert verdict == (
        "Use `--backend processes`, not threads. `step` (93% of 4.00 s) holds the GIL, or a lock like it: 2 threads "
        "1.00x, 2 processes 1.90x. Predicted: 2.05 s instead of 3.90 s on 2 workers."
    )


def test_the_text_fits_80_columns_and_begins_with_what_to_do():
    result = explanation(measurements(threads=1.0, moved=MovingCost(0.2, 4e7), blas=ProbeTimes(1, 1, (0.05,), (0.1,))))
    text = explanation_text(result)
    assert max(map(len, text.split("\n"))) <= 80
    assert " ".join(text.split()).startswith(f"{result.advice.do}. `step` (93% of 4.00 s) ")
    for said in (
        "93%",
        "1.00x",
        "1.90x",
        "200%",
        "not probed: a, b: takes under",
        "pure: false",
        "what to change",
        "->",
    ):
        assert said in text


def test_a_notebook_shows_the_verdict_a_row_a_step_and_the_changes():
    result = explanation(measurements(threads=1.0))
    shown = result._repr_html_()
    assert f"<b>{result.verdict}</b>" in shown
    assert shown.count("<tr>") == 5
    assert "not probed: has effects outside (pure: false)" in shown
    assert shown.count("<li>") == len(result.changes) > 0


def test_where_nothing_is_wrong_nothing_is_to_be_changed():
    assert explanation(measurements()).verdict == (
        "Change nothing. `step` (93% of 4.00 s) scales: 2 threads 1.90x, 2 processes 1.90x."
    )


def test_an_explanation_is_plain_for_json():
    import json

    told = json.loads(json.dumps(explanation(measurements(threads=1.0)).to_dict(), allow_nan=False))
    assert told["steps"][0]["cause"] == "gil"
    assert told["steps"][0]["readings"]["threads"]["ratio"] == pytest.approx(1.0)
    assert told["changes"][0]["what"] == "Use `--backend processes`, not threads"
    assert told["verdict"].startswith("Use `--backend processes`")


def test_steps_are_found_by_name_and_missing_ones_say_why():
    result = explanation(measurements())
    assert result["step"].cause.kind == "none"
    with pytest.raises(KeyError, match="effects outside"):
        result["send"]
    with pytest.raises(KeyError, match="no such step"):
        result["nobody"]


def test_large_numbers_are_rounded():
    assert [two_digits(n) for n in (7, 123, 1234)] == [7, 120, 1200]


def test_a_structure_without_work_divides_by_nothing():
    empty = Structure(2, 0.0, 0.0, 0.0, 0.0, "", "", 0, 0.0, (), 0)
    assert (empty.most, empty.speedup) == (1.0, 1.0)
