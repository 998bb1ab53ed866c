"""``read_sql``: SQLite, and a real PostgreSQL: exact types, ranges, nothing but reading."""

from __future__ import annotations

import datetime
import glob
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from named_ops import sources
from serially import partitions_of, table_of, values_of

from pipeline.errors import ConfigError, DataError, OpError

BIG = 2**53 + 1


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """A SQLite file."""
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute('create table orders (id integer primary key, "Name of" text, x real, n integer, none text)')
        rows = [(i, f"n{i}" if i % 3 else None, i / 4, BIG if i == 7 else i, None) for i in range(1, 11)]
        connection.executemany("insert into orders values (?, ?, ?, ?, ?)", rows)
    connection.close()
    return f"sqlite:{tmp_path}/shop.db"


def test_sqlite_tables_and_queries(shop: str) -> None:
    frame = sources.read_sql(uri=shop, table="orders", cast={"none": "string"})
    assert {field.name: field.type for field in frame.schema} == {
        "id": pa.int64(),
        "Name of": pa.string(),
        "x": pa.float64(),
        "n": pa.int64(),
        "none": pa.string(),
    }
    got = table_of(frame).to_pydict()
    assert (got["n"][6], got["Name of"][:3], got["x"][1]) == (BIG, ["n1", "n2", None], 0.5)
    query = "select n, count(*) as many from orders -- of each\ngroup by 1 order by 1;"
    assert table_of(sources.read_sql(uri=shop, query=query)).to_pydict()["many"] == [1] * 10
    less = sources.read_sql(uri=shop, table="orders", columns=["x", "Name of"], needed={"Name of"})
    assert less.columns == ["Name of"]


@pytest.mark.parametrize("n", [1, 3, 10, 100])
def test_ranges_of_a_column_are_partitions(shop: str, n: int) -> None:
    frame = sources.read_sql(uri=shop, table="orders", partition_by="id", npartitions=n)
    assert len(frame.keys) == min(n, 10)
    parts = [part["id"].to_pylist() for part in partitions_of(frame)]
    assert [i for part in parts for i in part] == list(range(1, 11))
    with sqlite3.connect(shop.removeprefix("sqlite:")) as connection:
        connection.execute("insert into orders(id) values (-5), (99)")
    connection.close()
    assert sorted(table_of(frame)["id"].to_pylist()) == [-5, *range(1, 11), 99]
    empty = sources.read_sql(uri=shop, query="select * from orders where id > 500", partition_by="id", npartitions=n)
    assert (table_of(empty).num_rows, len(empty.keys)) == (0, 1)


def test_values_of_another_type_in_sqlite_name_the_cure(shop: str) -> None:
    with sqlite3.connect(shop.removeprefix("sqlite:")) as connection:
        connection.execute("create table loose (v)")
        connection.executemany("insert into loose values (?)", [(1,)] * 1500 + [("x",)])
    connection.close()
    with pytest.raises(
        DataError, match=r"shop\.db: column 'v' has a value that is string.*int64 by the first rows: cast"
    ):
        table_of(sources.read_sql(uri=shop, table="loose"))
    got = table_of(sources.read_sql(uri=shop, table="loose", cast={"v": "string"}))
    assert got["v"].to_pylist()[-2:] == ["1", "x"]


@pytest.mark.parametrize(("keys", "error", "said"), [
    ({"table": "order"}, DataError, r"shop\.db: .*no such table: order"),
    ({"query": "select nope from orders"}, DataError, r"shop\.db: .*no such column: nope"),
    ({"query": "delete from orders"}, OpError, "query: is one SELECT"),
    ({"query": "with x as (select 1 as a) delete from orders"}, DataError, r"shop\.db: "),
    ({"query": "select 1 as a; drop table orders"}, DataError, r"shop\.db: "),
    ({"table": "orders", "query": "select 1"}, OpError, "table: write either the table or the query"),
    ({}, OpError, "query: write either the table or the query"),
    ({"table": "orders", "columns": ["nam"]}, OpError, "'nam' is no column of orders"),
    ({"table": "orders", "npartitions": 3}, OpError, "partition_by: 3 partitions need the column"),
    ({"table": "orders", "partition_by": "x"}, OpError, "partition_by: 'x' does not hold whole numbers"),
    ({"table": "orders", "uri": "mysql://x"}, OpError, "uri: begins with sqlite: and a path, or with postgresql:"),
    ({"table": "orders", "uri": "sqlite:/nowhere/x.db"}, DataError, "/nowhere/x.db: no such file"),
])  # fmt: skip
def test_what_can_not_be_read_is_refused(shop: str, keys: dict[str, Any], error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        sources.read_sql(**{"uri": shop, **keys})
    assert table_of(sources.read_sql(uri=shop, table="orders")).num_rows == 10


def test_a_missing_driver_names_what_to_install(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adbc_driver_sqlite.dbapi", None)
    with pytest.raises(OpError, match=r"read_sql needs adbc_driver_sqlite.*: pip install 'pipeline\[sql\]'"):
        sources.read_sql(uri=shop, table="orders")


def test_a_step_reads_a_database_beside_the_file(shop: str, tmp_path: Path) -> None:
    text = """
    steps:
      o: {op: read_sql, uri: "sqlite:shop.db", table: orders, partition_by: id, npartitions: 2}
      f: {op: filter, input: o, where: "id > 4 and n < 8"}
    """
    assert values_of(text, tmp_path)["f"].id.tolist() == [5, 6]


# ---------------------------------------------------------------------------------------------------------------------
# PostgreSQL
# ---------------------------------------------------------------------------------------------------------------------


def as_another_user(command: list[str]) -> None:
    """Run a command as a user that is not root, which PostgreSQL refuses."""
    if os.getuid() == 0:
        command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


def programs() -> str | None:
    found = shutil.which("initdb")
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    return os.path.dirname(found) if found else next(iter(places), None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URI of a PostgreSQL server of its own, reached over a socket in its folder."""
    bin_folder = programs()
    if bin_folder is None:
        pytest.skip("PostgreSQL is not installed")
    place = tempfile.mkdtemp(prefix="pg-", dir="/tmp")
    if os.getuid() == 0:
        shutil.chown(place, "nobody")
    try:
        init = ["-U", "me", "--auth=trust", "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C"]
        as_another_user([f"{bin_folder}/initdb", "-D", f"{place}/data", *init])
        options = f"-k {place} -h '' -c fsync=off -c shared_buffers=16MB"
        as_another_user(
            [f"{bin_folder}/pg_ctl", "-D", f"{place}/data", "-w", "-l", f"{place}/log", "-o", options, "start"]
        )
        try:
            yield f"postgresql://me:secret-word@/postgres?host={place}"
        finally:
            as_another_user([f"{bin_folder}/pg_ctl", "-D", f"{place}/data", "-m", "immediate", "-w", "stop"])
    finally:
        shutil.rmtree(place, ignore_errors=True)


def execute(uri: str, *statements: str) -> None:
    import adbc_driver_postgresql.dbapi as dbapi

    with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_postgresql_gives_its_types_and_only_reads(server: str, tmp_path: Path) -> None:
    columns = (
        "id int, big bigint, s text, price numeric(12, 2), any_digits numeric, f real, day date, at timestamp, "
        "zoned timestamptz, clock time, ok boolean, bytes bytea, list int[], j jsonb, u uuid, gap interval"
    )
    u = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    values = (
        f"7, {BIG}, 'ü', 1.25, 3.5, 1.5, '2024-02-29', '2020-01-01 12:00:00.000001', '2020-01-01 12:00+02', '10:00', "
        f"true, 'ab', array[1, null], '{{\"a\": 1}}', '{u}', '1 day'"
    )
    lines = [f"insert into s.t values ({values})", "insert into s.t(big) values (null)"]
    execute(server, "create schema s", f"create table s.t ({columns})", *lines)
    with pytest.raises(
        DataError, match=r"column 'any_digits' is numeric of any number of digits.*cast: \{any_digits: "
    ):
        sources.read_sql(uri=server, table="s.t")
    frame = sources.read_sql(uri=server, table="s.t", cast={"any_digits": "decimal(5, 3)"})
    assert [field.type for field in frame.schema] == [
        *(pa.int32(), pa.int64(), pa.string(), pa.decimal128(12, 2), pa.decimal128(5, 3), pa.float32(), pa.date32()),
        *(pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.time64("us"), pa.bool_(), pa.binary()),
        *(pa.list_(pa.int32()), pa.string(), pa.string(), pa.string()),
    ]
    first, second = table_of(frame).to_pylist()
    assert (first["big"], first["price"], first["any_digits"]) == (BIG, Decimal("1.25"), Decimal("3.5"))
    assert (first["day"], first["u"], first["list"]) == (datetime.date(2024, 2, 29), u, [1, None])
    assert set(second.values()) == {None}
    execute(server, "create function s.f() returns int language sql as 'delete from s.t returning 1'")
    with pytest.raises(DataError, match=r"^postgresql:///postgres: .*cannot execute DELETE in a read-only transaction"):
        table_of(sources.read_sql(uri=server, query="select s.f() as x"))
    assert table_of(frame).num_rows == 2
    with pytest.raises(DataError, match="has 2 columns 'a'; name them"):
        sources.read_sql(uri=server, query="select 1 as a, 2 as a")


def test_postgresql_in_ranges_by_a_file_with_a_secret(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(
        server, "create table n as select case when i <> 5 then i end as id, i % 7 as k from generate_series(1, 1000) i"
    )
    monkeypatch.setenv("PG_PASSWORD", "secret-word")
    uri = server.replace("secret-word", "${secret:PG_PASSWORD}")
    text = f"""
    steps:
      n: {{op: read_sql, uri: "{uri}", query: "select * from n where k < 5", partition_by: id, npartitions: 4}}
      f: {{op: filter, input: n, where: k == 4}}
    """
    got = values_of(text, tmp_path)["f"]
    assert len(got) == sum(i % 7 == 4 for i in range(1, 1001))
    parts = partitions_of(sources.read_sql(uri=server, table="n", partition_by="id", npartitions=4))
    assert [part.num_rows for part in parts] == [250] * 4
    assert parts[0]["id"].null_count == 1
    with pytest.raises((DataError, ConfigError)) as caught:
        values_of(text.replace("from n", "from missing"), tmp_path)
    assert "secret-word" not in str(caught.value)
