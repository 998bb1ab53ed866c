"""Tasks that run as one statement: the same bits as one by one, the same errors, and times that add up."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import graph_of, values_of
from strategies import SETTINGS

from pipeline.graph import collect
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import CONTEXT, Graph
from pipeline.graph.segments import Failure
from pipeline.worker import statement_chains
from pipeline.worker.run_segment import run_segment
from pipeline.worker.segment_result import SegmentResult


def table(n: int, seed: int, *, missing: bool) -> pa.Table:
    numbers = np.random.default_rng(seed)

    def some(*values: Any) -> list[Any]:
        known = (*values, None) if missing else values
        return [known[i] for i in numbers.integers(0, len(known), n)]

    return pa.table(
        {
            "k": pa.array(numbers.integers(0, 6, n), pa.int64()),
            "i": pa.array(some(-3, 0, 7, 2**40), pa.int64()),
            "n": pa.array(some(-3, 0, 7), pa.int16()),
            "d": pa.array(some(Decimal("1.25"), Decimal("-0.05"), Decimal("99999.99")), pa.decimal128(9, 2)),
            "f": pa.array(some(0.5, -0.0, float("nan"), 1e18), pa.float64()),
            "s": pa.array(some("a", "B", "", "zz"), pa.string()),
            "b": pa.array(some(True, False), pa.bool_()),
            "day": pa.array(some(0, 40, -1000), pa.int32()).cast(pa.date32()),
        }
    )


def write(folder: Path, name: str, tables: list[pa.Table], **options: Any) -> None:
    (folder / name).mkdir()
    for i, one in enumerate(tables):
        pq.write_table(one, folder / name / f"{i}.parquet", **options)


@contextmanager
def computed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements that are computed."""
    made: list[str] = []

    def compute(self: statement_chains.Relation, own: Any = statement_chains.Relation.computed) -> pa.Table:
        made.append(self.sql)
        return own(self)

    with monkeypatch.context() as patch:
        patch.setattr(statement_chains.Relation, "computed", compute)
        yield made


def results_of(graph: Graph) -> list[SegmentResult]:
    """What the segments give, each run once."""
    values: dict[Any, Any] = {CONTEXT: None}
    results = []
    for segment in fuse(graph, n_workers=100):
        result = run_segment(segment, {key: values[key] for key in segment.inputs})
        values |= result.outputs
        results.append(result)
        if result.failure is not None:
            break
    return results


def failures_of(graph: Graph) -> list[Failure]:
    """What fails in a run that keeps going."""
    values: dict[Any, Any] = {CONTEXT: None}
    failures: list[Failure] = []
    for segment in fuse(graph, n_workers=100, keep_going=True):
        left = segment.computable([key for key in segment.inputs if key not in values])
        result = run_segment(left, {key: values[key] for key in left.inputs})
        values |= result.outputs
        failures += result.failed
    return failures


def kept_of(graph: Graph, results: list[SegmentResult]) -> dict[str, Any]:
    values = {key: value for result in results for key, value in result.outputs.items()}
    return {
        name: collect.argument(graph.value_types[name], [values[key] for key in graph.value_types[name].keys])
        for name in graph.kept
    }


FILTERS = ("i > 0", "d <= 1.25 and n != 7", "s in ['a', 'zz'] or b", "day > date('1970-01-10')", "f > 0", "n == i")
JOINS = ("inner", "left", "semi", "anti")
AGGREGATES = (
    *("count()", "count(f)", "sum(i)", "sum(n * 2)", "sum(d)", "sum(d * (1 - d))", "mean(d)", "mean(n)", "min(s)"),
    *("max(f)", "min(day)", "any(b)", "all(b)", "max(d) - min(d)", "sum(i) / count()", "count(b)", "max(i + n)"),
)
KEYS = ("[]", "[k]", "[s, b]", "[day]", "{x: n + 1}", "{y: year(day), k: k}")


@SETTINGS
@given(st.data())
def test_the_bits_are_those_of_the_tasks_one_by_one(data: st.DataObject) -> None:
    draw = data.draw
    missing = draw(st.booleans())
    sizes = draw(st.lists(st.integers(0, 30), min_size=2, max_size=3))
    seed = draw(st.integers(0, 10**6))
    steps = ["rows: {op: read_parquet, path: rows}"]
    name = "rows"
    for i, where in enumerate(draw(st.lists(st.sampled_from(FILTERS), max_size=2))):
        steps.append(f'f{i}: {{op: filter, input: {name}, where: "{where}"}}')
        name = f"f{i}"
    if draw(st.booleans()):
        how, on = draw(st.sampled_from(JOINS)), draw(st.sampled_from(["k", "s", "[k, day]"]))
        columns = "[k, s, day, more]" if how in ("semi", "anti") else f"[{on.strip('[]')}, more]"
        steps.append("side: {op: read_parquet, path: side}")
        steps.append(f"side2: {{op: select, input: side, columns: {columns}}}")
        steps.append(f"m: {{op: merge, left: {name}, right: side2, on: {on}, how: {how}}}")
        name = "m"
    made = draw(st.sampled_from(["", "d * 2 - i", "i + n", "integer(d)"]))
    if made:
        steps.append(f'a: {{op: assign, input: {name}, columns: {{v: "{made}"}}}}')
        name = "a"
    wanted = [*draw(st.lists(st.sampled_from(AGGREGATES), min_size=1, max_size=4)), *(["sum(v)"] if made else [])]
    agg = ", ".join(f'a{i}: "{text}"' for i, text in enumerate(wanted))
    steps.append(f"g: {{op: groupby, input: {name}, by: {draw(st.sampled_from(KEYS))}, agg: {{{agg}}}}}")
    text = "steps:\n" + "\n".join(f"  {step}" for step in steps)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, "rows", [table(n, seed + i, missing=missing) for i, n in enumerate(sizes)], row_group_size=7)
        write(root, "side", [table(9, seed + 50, missing=missing).rename_columns({"n": "more"})])
        graph = graph_of(text, root)
        expected: Any
        try:
            expected = values_of(text, root)["g"]
        except Exception as error:  # noqa: BLE001 - a decimal that the type can't hold
            expected = str(error)
        for _ in range(2):  # one by one, which the process learns from; as statements
            results = results_of(graph)
            failure = results[-1].failure
            if isinstance(expected, str):
                assert failure is not None
                assert failure.cause == expected
            else:
                assert failure is None
                assert kept_of(graph, results)["g"].equals(expected), text


SUM = """
    steps:
      rows: {op: read_parquet, path: rows}
      few: {op: filter, input: rows, where: "i > 0"}
      sums: {op: groupby, input: few, by: k, agg: {total: sum(i), n: count()}}
"""


def rows_in(folder: Path, *, n_files: int = 4, **options: Any) -> None:
    write(folder, "rows", [table(50, i, missing=True) for i in range(n_files)], **options)


def test_all_partitions_but_the_first_are_statements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_in(tmp_path)
    graph = graph_of(SUM, tmp_path)
    monkeypatch.setattr(statement_chains, "_proportions", {})
    with computed(monkeypatch) as made:
        results = results_of(graph)
    assert len(made) == 3
    assert kept_of(graph, results)["sums"].equals(values_of(SUM, tmp_path)["sums"])


def test_of_many_rows_a_part_tells_how_to_split_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "rows", [table(200_000, i, missing=True) for i in range(2)], row_group_size=50_000)
    monkeypatch.setattr(statement_chains, "_proportions", {})
    with computed(monkeypatch) as made:
        results = results_of(graph_of(SUM, tmp_path))
    assert len(made) == 2
    assert kept_of(graph_of(SUM, tmp_path), results)["sums"].equals(values_of(SUM, tmp_path)["sums"])
    (parts,) = statement_chains._proportions.values()
    assert len(parts) == 3
    assert min(parts) > 0


def test_a_part_that_can_not_be_read_leaves_the_others_statements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "rows", [table(200_000, i, missing=True) for i in range(3)], row_group_size=50_000)
    broken = tmp_path / "rows" / "0.parquet"
    start = pq.ParquetFile(broken).metadata.row_group(2).column(1).dictionary_page_offset
    content = broken.read_bytes()
    broken.write_bytes(content[:start] + bytes(40) + content[start + 40 :])
    graph = graph_of(SUM, tmp_path)
    monkeypatch.setattr(statement_chains, "_proportions", {})
    with computed(monkeypatch) as made:
        failures = failures_of(graph)
    assert [failure.step for failure in failures] == ["rows"]
    assert len(made) == 2


@pytest.mark.parametrize("agg", ["sum(f)", "std(i, 1)", "median(i)", "first(i)", "nunique(i)", "list(i)"])
def test_what_depends_on_the_order_of_rows_is_no_statement(
    agg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_in(tmp_path)
    graph = graph_of(SUM.replace("sum(i)", f"'{agg}'"), tmp_path)
    with computed(monkeypatch) as made:
        results_of(graph)
        results_of(graph)
    assert not made


@pytest.mark.parametrize("where", ["i + 1 > 0", "minimum(i, n) > 0"])
def test_a_filter_that_may_fail_is_no_part_of_a_statement(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_in(tmp_path)
    graph = graph_of(SUM.replace("i > 0", where), tmp_path)
    with computed(monkeypatch) as made:
        results_of(graph)
        results_of(graph)
    assert not made


def test_a_value_that_is_needed_twice_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_in(tmp_path)
    text = SUM + "      twice: {op: groupby, input: few, by: s, agg: {n: count()}}\n"
    graph = graph_of(text, tmp_path)
    with computed(monkeypatch) as made:
        results_of(graph)
        results = results_of(graph)
    assert not made
    assert {name: len(value) for name, value in kept_of(graph, results).items()} == {
        name: len(value) for name, value in values_of(text, tmp_path).items()
    }


def test_the_step_that_fails_is_named(tmp_path: Path) -> None:
    rows_in(tmp_path)
    text = SUM.replace("sum(i)", '"sum(i * 4611686018427387904)"')
    graph = graph_of(text, tmp_path)
    for _ in range(2):
        failure = results_of(graph)[-1].failure
        assert failure is not None
        assert failure.step == "sums"
        assert "agg.total: 'i * 4611686018427387904'" in failure.cause


def test_a_failure_after_others_were_statements_names_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "rows", [pa.table({"k": [1, 2], "i": [1, 2]})] * 3 + [pa.table({"k": [1, 2], "i": [1, 2**62]})])
    graph = graph_of(SUM.replace("sum(i)", '"sum(i * 4)"'), tmp_path)
    with computed(monkeypatch) as made:
        failure = results_of(graph)[-1].failure
    assert len(made) >= 2
    assert failure is not None
    assert failure.step == "sums"
    assert (
        "agg.total: 'i * 4': 4611686018427387904 * 4 is 18446744073709551616, which int64 can't hold" in failure.cause
    )


@pytest.mark.parametrize(
    ("made", "agg"),
    [
        ("i * 4", "count(v)"),
        ("missing(i * 4)", "any(v)"),
        ("where(missing(i * 4), 0, 1)", "sum(v)"),
        ("fill(i * 4, 0)", "count(v)"),
        ("integer(s) > 0 and s == 'q'", "any(v)"),
    ],
)
def test_an_expression_is_computed_whatever_the_statistics_of_the_file_tell_of_it(
    made: str, agg: str, tmp_path: Path
) -> None:
    good = pa.table({"k": [1, 2], "i": pa.array([1, 2], pa.int64()), "s": ["1", "2"]})
    some = pa.table({"k": [1, 2], "i": pa.array([1, None], pa.int64()), "s": ["1", None]})
    bad = pa.table({"k": [1, 2], "i": pa.array([1, 2**62], pa.int64()), "s": ["1", "x"]})
    write(tmp_path, "rows", [good, some, good, bad])
    text = f"""
        steps:
          rows: {{op: read_parquet, path: rows}}
          a: {{op: assign, input: rows, columns: {{v: "{made}"}}}}
          g: {{op: groupby, input: a, by: k, agg: {{n: {agg}}}}}
    """
    failure = results_of(graph_of(text, tmp_path))[-1].failure
    assert failure is not None
    assert failure.step == "a"


def test_a_statement_that_reads_other_rows_than_the_footer_says_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_in(tmp_path)
    text = SUM.replace("input: few", "input: rows")
    graph = graph_of(text, tmp_path)
    results_of(graph)

    def short(self: statement_chains.Relation) -> pa.Table:
        assert self.check is not None
        return self.check(pa.table({"k0": [1], "s0": [1], "s1": [1], "n_rows": pa.array([49], pa.int64())}))

    monkeypatch.setattr(statement_chains.Relation, "computed", short)
    results = results_of(graph)  # the statement is given up, and the tasks run one by one
    assert kept_of(graph, results)["sums"].equals(values_of(text, tmp_path)["sums"])


def test_a_statement_that_failed_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_in(tmp_path)
    graph = graph_of(SUM, tmp_path)
    results_of(graph)
    tried = []

    def fails(self: statement_chains.Relation) -> pa.Table:
        tried.append(self.sql)
        raise MemoryError

    monkeypatch.setattr(statement_chains.Relation, "computed", fails)
    assert kept_of(graph, results_of(graph))["sums"].equals(values_of(SUM, tmp_path)["sums"])
    assert len(tried) == 1


def test_a_run_that_keeps_going_learns_nothing_from_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_in(tmp_path)
    graph = graph_of(SUM, tmp_path)
    monkeypatch.setattr(statement_chains, "_proportions", {})
    for path in (tmp_path / "rows").iterdir():
        content = path.read_bytes()
        path.write_bytes(content[:4] + bytes(400) + content[404:])  # its footer is whole
    failures = failures_of(graph)
    assert [failure.step for failure in failures] == ["rows"] * 4
    assert not statement_chains._proportions


def test_times_of_the_tasks_add_up_to_that_of_the_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_in(tmp_path)
    graph = graph_of(SUM, tmp_path)
    monkeypatch.setattr(statement_chains, "_proportions", {})
    _, second, *_ = [result for result in results_of(graph) if len(result.timings) == 3]
    assert [timing.step for timing in second.timings] == ["rows", "few", "sums"]
    first, middle, last = second.timings
    assert first.start < first.stop == middle.start < middle.stop == last.start < last.stop
    (parts,) = statement_chains._proportions.values()
    assert sum(parts) == pytest.approx(1)
    assert (first.stop - first.start) / (last.stop - first.start) == pytest.approx(parts[0], abs=1e-6)
    assert [timing.bytes_out for timing in second.timings[:2]] == [0, 0]  # these tables were not made
    assert last.bytes_out > 0
