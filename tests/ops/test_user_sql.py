"""op: sql: a SELECT over its inputs gives the same everywhere, and reaches nothing else."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import frame_of, graph_of, partitions_of, table_of, values_of
from strategies import SETTINGS

from pipeline.builder.plan import plan
from pipeline.config.loader import loads
from pipeline.errors import ConfigError, DataError, OpError
from pipeline.ops.frames import sql_query
from pipeline.ops.frames.sql_query import sql
from pipeline.worker import user_sql

SECRET = pa.table({"s": [42]})  # a Python variable: no table
ROWS: dict[str, Any] = {
    "k": pa.array([3, 1, None, 2**53 + 1], pa.int64()),
    "v": [0.5, None, 2.0, 1.5],
    "name": ["a", "b", None, "a"],
    "l": pa.array([[1, 2], [], None, [3]]),
    "t": pa.array([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)] * 4, pa.timestamp("us", "Europe/Paris")),
    "d": pa.array([dt.timedelta(days=1, microseconds=2)] * 4, pa.duration("us")),
    "q": pa.array([Decimal("1.10")] * 4, pa.decimal128(12, 2)),
    "c": pa.array(["x", "y", None, "x"]).dictionary_encode().cast(pa.dictionary(pa.int32(), pa.string())),
    "h": pa.array([0.5, None, 1.5, 2.5], pa.float16()),
    "day": pa.array([dt.date(2020, 2, 29)] * 4),
}
ALONE = duckdb.connect()  # as reference
OTHER = {"k": [1, 3, 7], "w w": ["one", "three", "seven"]}


@pytest.fixture(autouse=True)
def _described_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child process takes half a second; one test runs it."""
    monkeypatch.setattr(sql_query, "describe", user_sql._description)


def made(query: str, n: int = 2, **more: Any) -> Any:
    inputs = {"o": frame_of(ROWS, n, "o"), **{name: frame_of(rows, 2, name) for name, rows in more.items()}}
    return sql(*inputs.values(), names=list(inputs), query=query)


REFUSED = [
    *("select * from read_csv('/etc/passwd')", "select * from '/etc/passwd'", "from read_text('/etc/passwd')"),
    *("select * from glob('/etc/*')", "select * from o join read_blob('/etc/passwd') on true"),
    *("select (select content from read_text('/etc/passwd')) from o", "from o, lateral (from read_text(o.name))"),
    *("select getenv('HOME') from o", "select current_setting('temp_directory') from o", "from duckdb_settings()"),
    *(
        "select * from pg_catalog.pg_settings",
        "from pg_settings",
        "from information_schema.tables",
        "from sqlite_master",
    ),
    *("with a as (from pg_settings), pg_settings as (select 1) from a", "with pg_class as (from o) from pg_class"),
    *("with a as (from b), b as (from o) from a", "from duckdb_secrets()", "from query('select 1')"),
    *("from query_table('o')", "from json_execute_serialized_sql('x')", "select json_serialize_sql('select 1') from o"),
    *("attach '/tmp/x.db'", "copy o to '/tmp/x.csv'", "copy (from o) to '/tmp/x.csv'", "export database '/tmp/e'"),
    *("pragma database_list", "set threads = 4", "reset threads", "install httpfs", "load json", "use memory"),
    *("create table x as from o", "insert into o from o", "delete from o", "update o set k = 1", "drop table o"),
    *("create macro f(x) as x", "create secret s (type s3)", "call pragma_version()", "checkpoint", "vacuum", "begin"),
    *("prepare p as from o", "execute p", "explain from o", "describe from o", "show tables", "summarize o"),
    *("from o; from o", "from o; drop table o", "", ";", "-- nothing", "with i as (delete from o returning *) from i"),
    *("from SECRET", "from secret", "from ROWS", "from rows", "select * from o at (version => 1)"),
    *("select random() from o", "select now() from o", "select today() from o", "select current_date from o"),
    *("select current_timestamp from o", "select uuid() from o", "select age(t) from o", "select rowid from o"),
    *("select current_user from o", "select version() from o", "select nextval('s') from o", "select $1 from o"),
    *("from o using sample 2", "from o tablesample 10%", "select sum(v) over (order by random()) from o"),
    *("select list_transform(l, x -> x + random()) from o", "select system.main.version() from o"),
    *("select count(*) filter (where random() < 0.5) from o", "from o order by now()", "select sleep_ms(9) from o"),
    *("select write_log('x') from o", "select getvariable('x') from o", "select columns(c -> c = getenv('x')) from o"),
    *("from test_all_types()", "from arrow_scan(1, 2, 3)", "values (getenv('HOME'))", "from range(3), glob('/*')"),
]


@pytest.mark.parametrize("query", REFUSED)
def test_what_reaches_beyond_the_inputs_is_refused(query: str) -> None:
    with pytest.raises(OpError, match="query"):
        made(query)
    with pytest.raises((DataError, KeyError)):  # a task refuses it, too
        user_sql.run_query(query, {"o": pa.table(ROWS)}, pa.schema([("x", pa.int64())]))


def test_the_connection_itself_is_closed_to_the_outside(tmp_path: Path) -> None:
    """Also without a look at the statement."""
    connection = user_sql._connection()
    (tmp_path / "x.csv").write_text("a\n1\n")
    for statement in (
        f"select * from read_csv('{tmp_path}/x.csv')",
        f"copy (select 1) to '{tmp_path}/y.csv'",
        f"attach '{tmp_path}/x.db'",
        "install httpfs",
        "set threads = 4",
        "set enable_external_access = true",
        "set lock_configuration = false",
        "set python_enable_replacements = true",
        "select * from SECRET",
        "select getenv('HOME')",
    ):
        with pytest.raises(duckdb.Error):
            connection.sql(statement).fetchall()
    assert not (tmp_path / "y.csv").exists()


GIVES: list[tuple[str, str, list[tuple[Any, ...]]]] = [
    ("select k, v * 2 as w from o where v > 1", "", [(None, 4.0), (2**53 + 1, 3.0)]),
    ('select K as "Ä b" from o where name = \'a\'', "", [(3,), (2**53 + 1,)]),
    ("select name, sum(k) as s, count(*) as n from o group by name order by name nulls last", "order",
     [("a", 2**53 + 4, 2), ("b", 1, 1), (None, None, 1)]),
    ("select distinct name from o order by name desc nulls last", "order", [("b",), ("a",), (None,)]),
    ("select max(q) as q, sum(q) as s from o", r"has max\(\)", [(Decimal("1.10"), Decimal("4.40"))]),
    ("select row_number() over (order by k nulls last) as r from o", "window", [(2,), (1,), (4,), (3,)]),
    ("select k from o limit 1", "limit", [(3,)]),
    ("select d, t from o where k = 1", "",
     [(dt.timedelta(days=1, microseconds=2), dt.datetime(2020, 1, 1, tzinfo=dt.UTC))]),
    ("select c, h, day from o where k = 3", "", [("x", 0.5, dt.date(2020, 2, 29))]),
    ("select unnest(l) as x from o", r"has unnest\(\)", [(1,), (2,), (3,)]),
    ("select v / 0 as z, 'nan'::double as n from o where k = 3", "", [(float("inf"), None)]),
]  # fmt: skip


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(("query", "whole", "want"), GIVES, ids=[query[:40] for query, *_ in GIVES])
def test_a_query_gives_its_rows_however_they_lie(query: str, whole: str, want: list[Any], n: int) -> None:
    frame = made(query, n)
    rows = list(zip(*table_of(frame).to_pydict().values(), strict=True))
    assert sorted(rows, key=repr) == sorted(want, key=repr)
    assert len(frame.keys) == (1 if whole else n)
    assert frame.ordered is (whole == "order")
    if frame.ordered:
        assert rows == want


def test_two_tables_are_joined_in_one_task() -> None:
    frame = made('select o.k, "w w" from o join c using (k) order by k', c=OTHER)
    assert len(frame.keys) == 1
    assert table_of(frame).to_pydict() == {"k": [1, 3], "w w": ["one", "three"]}


@SETTINGS
@given(
    st.lists(st.tuples(st.integers(-9, 9), st.one_of(st.none(), st.integers(-(2**60), 2**60))), max_size=8),
    st.integers(1, 4),
    st.sampled_from(["select k + 1 as a, x from t where k > 0", "select k, sum(x) as s from t group by k",
                     "select distinct k from t", "select case when x is null then k end as y from t"]),
)  # fmt: skip
def test_a_query_gives_what_duckdb_gives_for_all_rows(rows: list[Any], n: int, query: str) -> None:
    table = pa.table({"k": pa.array([k for k, _ in rows], pa.int64()), "x": pa.array([x for _, x in rows], pa.int64())})
    ALONE.register("t", table)
    want = ALONE.sql(query).fetchall()
    try:
        got = table_of(_patched(table, n, query)).to_pydict()
    except DataError:  # a sum beyond 64 bits
        assert any(abs(value) >= 2**63 for row in want for value in row if value is not None)
        return
    assert sorted(zip(*got.values(), strict=True), key=repr) == sorted(want, key=repr)


def _patched(table: pa.Table, n: int, query: str) -> Any:
    return sql(frame_of(table, n), names=["t"], query=query)


@pytest.mark.parametrize(("query", "message"), [
    ("select nosuch from o", 'Referenced column "nosuch" not found'),
    ("select sum(name) from o", "No function matches"),
    ("selec k from o", "the query has an error: syntax error"),
    ("select time '10:00'::timetz as x from o", "column 'x' is TIME WITH TIME ZONE, which a frame can't hold"),
])  # fmt: skip
def test_an_error_of_a_query_is_told_while_building(query: str, message: str) -> None:
    with pytest.raises(OpError, match=message):
        made(query)


def test_names_that_are_one_in_sql_and_inputs_that_are_not_read() -> None:
    with pytest.raises(OpError, match=r"inputs\.t: 'a' and 'A' are one name in SQL; rename one of them before"):
        sql(frame_of({"a": [1], "A": [2]}), names=["t"], query="select * from t")
    with pytest.raises(OpError, match=r"inputs\.c: the query does not read it"):
        made("select k from o", c=OTHER)
    with pytest.raises(OpError, match="a name of a table is letters"):
        sql(frame_of({"a": [1]}), names=["t t"], query='select * from "t t"')


def test_values_that_fail_a_query_name_it_in_the_run() -> None:
    with pytest.raises(DataError, match="Could not convert string 'a' to INT64"):
        table_of(made("select name::bigint as n from o"))
    with pytest.raises(DataError, match="interval of months"):
        table_of(made("select interval 1 month as m from o"))
    large = frame_of({"x": [2**62] * 3})
    said = "column 's': 13835058055282163712 is a value that int64 can't hold; write it as s::double"
    with pytest.raises(DataError, match=said):
        table_of(sql(large, names=["t"], query="select sum(x) as s from t"))
    query = "select s::double as f, s::decimal(38, 0) as d from (select sum(x) as s from t)"
    assert table_of(sql(large, names=["t"], query=query)).to_pylist() == [{"f": 3 * 2.0**62, "d": Decimal(3 * 2**62)}]
    assert [part.num_rows for part in partitions_of(made("select k from o where k = 3", 4))] == [1, 0, 0, 0]


def test_a_file_asks_in_sql_and_check_says_what_is_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_query, "describe", user_sql.describe)  # in a child process
    (tmp_path / "rows.csv").write_text("k,v\n1,0.5\n2,1.5\n2,2.5\n")
    text = """
    params: {least: 1}
    steps:
      o: {op: read_csv, path: rows.csv}
      c: {op: select, input: o, columns: [k]}
      some: {op: sql, inputs: {o: o}, query: "select k, v from o where v > ${least}"}
      all: {op: sql, inputs: {o: some, c: c}, query: "select o.k, count(*) as n from o join c using (k) group by 1"}
    keep: [some]
    """
    got = values_of(text, tmp_path)
    assert got["some"].to_dict("list") == {"k": [2, 2], "v": [1.5, 2.5]}
    assert got["all"].to_dict("list") == {"k": [2], "n": [4]}
    config = loads("version: 1\n" + text.replace("\n    ", "\n"), name="test", root=tmp_path)
    notes = {row.step: row.notes for row in plan(config, graph_of(text, tmp_path)).rows}
    assert notes["some"] == ()
    assert notes["all"] == ("one task gets all rows: the query reads more than one table, or a subquery",)


@pytest.mark.parametrize(("step", "message"), [
    ("{op: sql, inputs: o, query: from o}", r"inputs: got 'o'; write a map: \{name: step\}"),
    ("{op: sql, inputs: [o], query: from o}", "write a map"),
    ("{op: sql, inputs: {}, query: from o}", "write a map"),
    ("{op: sql, inputs: {o: oo}, query: from o}", r"inputs\.o: no step is named 'oo'; did you mean 'o'"),
    ("{op: sql, query: from o}", "op 'sql' needs inputs"),
    ("{op: select, input: {o: o}, columns: a}", "write the name of a step"),
    ("{op: sql, inputs: {o: o}, query: 'from o; from o'}", "query: the query has 2 statements"),
])  # fmt: skip
def test_a_fault_of_the_file_is_told_at_its_key(step: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    with pytest.raises(ConfigError, match=message):
        graph_of(f"steps:\n  o: {{op: read_csv, path: rows.csv}}\n  x: {step}\n", tmp_path)


def test_building_makes_no_connection_in_the_process(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    (tmp_path / "f.yaml").write_text(
        "version: 1\nsteps:\n  o: {op: read_csv, path: rows.csv}\n"
        '  x: {op: sql, inputs: {o: o}, query: "select a + 1 as b from o"}\n'
    )
    code = (
        "import sys, pipeline\n"
        "plan = pipeline.load('f.yaml').check()\n"
        "from pipeline.worker.engine_connections import has_connection\n"
        "print([row.shape for row in plan.rows], has_connection(), 'duckdb' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['a int64', 'b int64'] False False"
