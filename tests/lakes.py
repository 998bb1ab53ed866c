"""Small tables in the formats that are no plain files of rows: databases, Delta, Iceberg."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pyarrow as pa

__all__ = ["write_database", "write_delta", "write_iceberg"]


def write_database(path: Path, name: str, rows: list[tuple[int, float]]) -> None:
    """A SQLite file with a table of the columns ``id`` and ``amount``."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(f"create table {name} (id integer primary key, amount real)")
        connection.executemany(f"insert into {name} values (?, ?)", rows)
    connection.close()


def write_delta(folder: Path, *versions: pa.Table) -> None:
    """A Delta table to which each table was added as a version."""
    from deltalake import write_deltalake

    for version in versions:
        write_deltalake(str(folder), version, mode="append")


def write_iceberg(folder: Path, table: pa.Table) -> None:
    """An Iceberg table in a folder, of one snapshot."""
    from pyiceberg.catalog.memory import InMemoryCatalog

    catalog = InMemoryCatalog("c", warehouse=f"file://{folder.parent}")
    catalog.create_namespace("n")
    made = catalog.create_table("n.t", schema=table.schema, location=f"file://{folder}")
    made.append(table)
    catalog.close()
