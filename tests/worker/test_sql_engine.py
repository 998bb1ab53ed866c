"""The engine of statements: a connection a thread, columns in and out, entry of tables, interrupts, forks."""

from __future__ import annotations

import datetime as dt
import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import DataError
from pipeline.worker import sql_engine
from pipeline.worker.sql_engine import entered, numbered, query, restored

BERLIN = pa.timestamp("ns", "Europe/Berlin")
ALL_TYPES = {
    "bool": pa.array([True, None, False]),
    **{f"i{n}": pa.array([-1, None, 2 ** (n - 1) - 1], getattr(pa, f"int{n}")()) for n in (8, 16, 32, 64)},
    **{f"u{n}": pa.array([0, None, 2**n - 1], getattr(pa, f"uint{n}")()) for n in (8, 16, 32, 64)},
    "f16": pa.array([1.5, None, -2.0], pa.float16()),
    "f32": pa.array([1.5, None, -2.0], pa.float32()),
    "f64": pa.array([0.1, None, -1e300], pa.float64()),
    "dec": pa.array([Decimal("1.23"), None, Decimal("-99999999999999999999999999.99")], pa.decimal128(38, 2)),
    "text": pa.array(["a", None, "ä\0b'\""]),
    "cat": pa.array(["x", None, "x"]).dictionary_encode(),
    "date": pa.array([dt.date(1, 1, 1), None, dt.date(9999, 12, 31)]),
    "time": pa.array([dt.time(0), None, dt.time(23, 59, 59, 999999)], pa.time64("us")),
    "time32": pa.array([0, None, 86399], pa.time32("s")),
    **{f"t_{unit}": pa.array([-1, None, 10**9 + 1], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")},
    "zoned": pa.array([-1, None, 10**18 + 1], BERLIN),
    **{f"d_{unit}": pa.array([-1, None, 10**9 + 1], pa.duration(unit)) for unit in ("s", "ms", "us", "ns")},
    "binary": pa.array([b"\0\xff", None, b""]),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int8())),
    "struct": pa.array(
        [{"a": 1, "t": 5}, None, {"a": None, "t": None}],
        pa.struct([pa.field("a", pa.uint64()), pa.field("t", pa.duration("ms"))]),
    ),
}


@pytest.mark.parametrize("name", ALL_TYPES)
def test_a_column_of_any_type_comes_back_as_it_was(name: str) -> None:
    column = pa.chunked_array([ALL_TYPES[name]])
    table = pa.table({"before": pa.array([1, 2, 3]), name: column})
    (result,) = query("select c1 as x from t", {"t": numbered(table, [name])}).columns
    back = restored(result, column.type)
    assert back.type == column.type
    assert back.to_pylist() == column.to_pylist()


def test_names_that_differ_in_case_only_are_two_columns() -> None:
    table = pa.table({"a": [1], "A": [2], "select": [3]})
    assert query("select c0, c1, c2 from t", {"t": numbered(table)}).to_pylist() == [{"c0": 1, "c1": 2, "c2": 3}]


def test_a_sum_beyond_64_bits_fails_and_never_wraps() -> None:
    t = {"t": numbered(pa.table({"x": [2**63 - 1, 1]}))}
    total = query("select sum(c0) as s from t", t).column(0)
    assert total.to_pylist() == [Decimal(2**63)]
    with pytest.raises(DataError):
        restored(total, pa.int64())
    with pytest.raises(DataError, match="Overflow"):
        query("select c0 + 1::bigint as s from t", t)


def test_one_statement_for_many_tables_reads_each_of_them() -> None:
    for n in range(5):
        rows = numbered(pa.table({"x": list(range(n))}, schema=pa.schema([("x", pa.int64())])))
        assert query("select count(*) as n, sum(c0)::bigint as s from t", {"t": rows}).to_pylist() == [
            {"n": n, "s": sum(range(n)) if n else None}
        ]
    text = numbered(pa.table({"x": ["a"]}))
    assert query("select c0 from t", {"t": text}).to_pylist() == [{"c0": "a"}]


@pytest.mark.parametrize("n", [10, 200_000])
def test_a_table_is_freed_after_its_statement(n: int) -> None:
    values = np.arange(n)
    alive = weakref.ref(values)
    table = pa.table({"x": values})
    del values
    assert query("select sum(c0)::bigint as s from t", {"t": numbered(table)}).to_pylist() == [{"s": n * (n - 1) // 2}]
    del table
    gc.collect()
    assert alive() is None


def test_more_statements_than_are_kept_run() -> None:
    t = {"t": numbered(pa.table({"x": [1]}))}
    for i in [*range(450), 0, 449]:
        assert query(f"select c0 + {i} as y from t", t).column(0).to_pylist() == [1 + i]
    assert len(sql_engine._local.engine.kept) <= 200


def test_a_statement_that_can_not_be_planned_leaves_nothing() -> None:
    t = {"t": numbered(pa.table({"x": [1]}))}
    query("select c0 from t", t)
    connection = sql_engine._local.engine.connection
    views = "select count(*) from duckdb_views() where not internal"
    before = connection.sql(views).fetchall()
    with pytest.raises(DataError, match="Overflow"):
        query(f"select c0 + ({2**63 - 1}::bigint + 1::bigint) as y from t", t)
    assert connection.sql(views).fetchall() == before


def test_eight_threads_with_a_connection_each_agree() -> None:
    table = numbered(pa.table({"k": np.arange(5000) % 7, "x": np.random.default_rng(1).random(5000)}))
    statement = "select c0, sum(c1) as s from t group by c0 order by c0"
    expected = query(statement, {"t": table})
    connections = set()

    def ask(_: int) -> bool:
        same = query(statement, {"t": table}).equals(expected)
        connections.add(id(sql_engine._local.engine.connection))
        return same

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(800)))
    assert len(connections) > 1


def test_settings_are_the_same_everywhere_and_locked() -> None:
    names = ("threads", "memory_limit", "preserve_insertion_order", "TimeZone", "python_enable_replacements")
    asked = ", ".join(f"current_setting('{name}') as {name}" for name in names)
    (row,) = query(f"select {asked}", {}).to_pylist()
    assert row == dict(zip(names, (1, row["memory_limit"], True, "UTC", False), strict=True))
    with pytest.raises(Exception, match="locked"):
        sql_engine._local.engine.connection.execute("set threads = 4")


def test_an_interrupt_is_one_and_the_connection_stays_usable() -> None:
    slow = "select sum(a.c0 * b.c0 % 7)::bigint as s from t a, t b, t c"
    t = {"t": numbered(pa.table({"x": np.arange(20_000)}))}
    query("select 1 as a", {})
    timer = threading.Timer(0.3, sql_engine._local.engine.connection.interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        query(slow, t)
    assert query("select 1 as a", {}).to_pylist() == [{"a": 1}]


STOPPED = """
import os, signal, threading
import numpy as np
import pyarrow as pa
from pipeline.graph.nodes import task
from pipeline.graph.segments import Segment, SegmentTask
from pipeline.worker import sql_engine
from pipeline.worker.run_segment import run_segment

class Stopped(KeyboardInterrupt):
    pass

def stop(number, frame):
    raise Stopped

def slow(t):
    return sql_engine.query("select sum(a.c0 * b.c0 % 7)::bigint as s from t a, t b, t c", {"t": t})

signal.signal(signal.SIGINT, stop)
t = sql_engine.numbered(pa.table({"x": np.arange(20_000)}))
sql_engine.make_ready()
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
tasks = (SegmentTask(("slow",), task(("slow",), slow, t), "slow"),)
try:
    print(run_segment(Segment(number=0, step="slow", tasks=tasks, inputs=(), outputs=(("slow",),)), {}).failure)
except KeyboardInterrupt as error:
    print("stopped")
"""


def test_ctrl_c_while_a_statement_runs_ends_the_run_and_fails_no_task() -> None:
    said = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=120)
    assert said.stdout == "stopped\n", said.stderr


FORKED = """
import os, sys
import pyarrow as pa
from pipeline.worker import sql_engine
if sys.argv[1] == "before":
    sql_engine.query("select 1 as a", {})
child = os.fork()
if not child:
    found = sql_engine.query("select sum(c0)::bigint as s from t", {"t": sql_engine.numbered(pa.table({"x": [1, 2]}))})
    assert found.to_pylist() == [{"s": 3}]
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
from pipeline.worker.engine_connections import has_connection
assert has_connection() == (sys.argv[1] == "before")
"""


@pytest.mark.parametrize("when", ["after", "before"])
def test_a_forked_child_makes_a_connection_of_its_own(when: str) -> None:
    subprocess.run([sys.executable, "-c", FORKED, when], check=True, timeout=120)


# -- entry ------------------------------------------------------------------------------------------------------------


def test_nan_is_missing_at_entry() -> None:
    schema = pa.schema([("x", pa.float64()), ("h", pa.float16())])
    table = entered(pa.table({"x": [1.0, float("nan")], "h": pa.array([float("nan"), 1.0], pa.float16())}), schema)
    assert table.to_pylist() == [{"x": 1.0, "h": None}, {"x": None, "h": 1.0}]
    assert table.schema == schema


def test_nan_inside_lists_and_structs_is_missing_at_entry() -> None:
    nan = float("nan")
    lists = pa.array([[9.0], [nan, 1.0], None, [], [2.0]])
    structs = pa.array([None, {"f": nan, "n": 1}, None, {"f": 1.0, "n": 2}, {"f": None, "n": 3}])
    deep = pa.array([[], [{"x": [nan, 1.0]}], [None], None, [{"x": None}, {"x": [nan]}]])
    whole = pa.table({"l": lists, "s": structs, "d": deep})
    for table in (whole, whole.slice(1, 3), pa.concat_tables([whole.slice(0, 2), whole.slice(2)])):
        got = entered(table, table.schema)
        got.validate(full=True)
        assert got.schema == table.schema
        assert repr(got.to_pylist()) == repr(table.to_pylist()).replace("nan", "None")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (
            pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]),
            "UTF8",
        ),
        (pa.array([90_000_000_000], pa.int64()).view(pa.time64("us")), "time"),
        (pa.array([2**63 - 1], pa.int64()).view(pa.timestamp("us")), "time outside of the years"),
        (pa.array([-(2**63)], pa.int64()).view(pa.timestamp("us")), "time outside of the years"),
    ],
)
def test_what_would_break_the_engine_is_refused_at_entry(column: pa.Array, said: str) -> None:
    with pytest.raises(DataError, match=f"column 'x': .*{said}"):
        entered(pa.table([column], names=["x"]), pa.schema([("x", column.type)]))
    assert query("select 1 as a", {}).to_pylist() == [{"a": 1}]


def test_a_value_that_does_not_fit_the_schema_is_refused() -> None:
    with pytest.raises(DataError, match="column 'x'"):
        entered(pa.table({"x": [300]}), pa.schema([("x", pa.uint8())]))
