"""Queries of TPC-H by DuckDB and by polars, each alone in one process.

``python -m bench.tpch_alone duckdb q01 FOLDER 2`` runs one with two threads, and prints the most memory that it took.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from bench.tpch_queries import QUERIES, TABLES

__all__ = ["main", "peak_memory", "rows"]


def rows(engine: str, name: str, data: Path, threads: int) -> dict[str, list[Any]]:
    """Return the columns of the result of a query.

    Parameters
    ----------
    engine : ``duckdb`` or ``polars``
    threads : polars takes the number of its first query in a process
    """
    return _duckdb(name, data, threads) if engine == "duckdb" else _polars(name, data, threads)


def peak_memory() -> int:
    """Return the most bytes of memory that this process has had (Linux: ``VmHWM``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one query twice and print the most bytes of memory that the process had."""
    engine, name, data, threads = sys.argv[1:] if argv is None else argv
    for _ in range(2):
        rows(engine, name, Path(data), int(threads))
    print(peak_memory())
    return 0


def _duckdb(name: str, data: Path, threads: int) -> dict[str, list[Any]]:
    import duckdb

    with duckdb.connect(config={"threads": threads}) as connection:
        for table in TABLES:
            connection.execute(f"create view {table} as from read_parquet('{data / table}/*.parquet')")
        result = connection.sql(QUERIES[name]).to_arrow_table()
    return {name: result.column(name).to_pylist() for name in result.column_names}


def _polars(name: str, data: Path, threads: int) -> dict[str, list[Any]]:
    os.environ.setdefault("POLARS_MAX_THREADS", str(threads))
    import polars as pl

    def table(name: str) -> Any:
        read = pl.scan_parquet(data / name / "*.parquet")
        return read.with_columns(pl.selectors.decimal().cast(pl.Float64))  # its products of decimals lose digits

    columns: dict[str, list[Any]] = globals()[f"_polars_{name}"](pl.col, table).collect().to_dict(as_series=False)
    return columns


# ---------------------------------------------------------------------------------------------------------------------
# The queries, for polars
# ---------------------------------------------------------------------------------------------------------------------


def _revenue(col: Any) -> Any:
    return (col("l_extendedprice") * (1 - col("l_discount"))).sum().alias("revenue")


def _polars_q01(col: Any, table: Any) -> Any:
    price = col("l_extendedprice") * (1 - col("l_discount"))
    return (
        table("lineitem")
        .filter(col("l_shipdate") <= date(1998, 9, 2))
        .group_by("l_returnflag", "l_linestatus")
        .agg(
            col("l_quantity").sum().alias("sum_qty"),
            col("l_extendedprice").sum().alias("sum_base_price"),
            price.sum().alias("sum_disc_price"),
            (price * (1 + col("l_tax"))).sum().alias("sum_charge"),
            col("l_quantity").mean().alias("avg_qty"),
            col("l_extendedprice").mean().alias("avg_price"),
            col("l_discount").mean().alias("avg_disc"),
            col("l_tax").len().alias("count_order"),
        )
    )


def _polars_q03(col: Any, table: Any) -> Any:
    customers = table("customer").filter(col("c_mktsegment") == "BUILDING")
    orders = table("orders").filter(col("o_orderdate") < date(1995, 3, 15))
    lines = table("lineitem").filter(col("l_shipdate") > date(1995, 3, 15))
    joined = customers.join(orders, left_on="c_custkey", right_on="o_custkey")
    joined = joined.join(lines, left_on="o_orderkey", right_on="l_orderkey")
    grouped = joined.group_by("o_orderkey", "o_orderdate", "o_shippriority").agg(_revenue(col))
    top = grouped.sort("revenue", "o_orderdate", descending=[True, False]).head(10)
    return top.select("o_orderkey", "revenue", "o_orderdate", "o_shippriority")


def _polars_q05(col: Any, table: Any) -> Any:
    nations = table("nation").join(
        table("region").filter(col("r_name") == "ASIA"), left_on="n_regionkey", right_on="r_regionkey"
    )
    orders = table("orders").filter(col("o_orderdate").is_between(date(1994, 1, 1), date(1994, 12, 31)))
    joined = nations.join(table("customer"), left_on="n_nationkey", right_on="c_nationkey")
    joined = joined.join(orders, left_on="c_custkey", right_on="o_custkey")
    joined = joined.join(table("lineitem"), left_on="o_orderkey", right_on="l_orderkey")
    keys = {"left_on": ["l_suppkey", "n_nationkey"], "right_on": ["s_suppkey", "s_nationkey"]}
    return joined.join(table("supplier"), **keys).group_by("n_name").agg(_revenue(col))


def _polars_q06(col: Any, table: Any) -> Any:
    lines = table("lineitem").filter(
        col("l_shipdate").is_between(date(1994, 1, 1), date(1994, 12, 31))
        & (col("l_discount").cast(float).is_between(0.05, 0.07))
        & (col("l_quantity") < 24)
    )
    return lines.select((col("l_extendedprice") * col("l_discount")).sum().alias("revenue"))


def _polars_q09(col: Any, table: Any) -> Any:
    parts = table("part").filter(col("p_name").str.contains("green", literal=True))
    joined = parts.join(table("partsupp"), left_on="p_partkey", right_on="ps_partkey")
    keys = {"left_on": ["p_partkey", "ps_suppkey"], "right_on": ["l_partkey", "l_suppkey"]}
    joined = joined.join(table("lineitem"), **keys)
    joined = joined.join(table("supplier"), left_on="ps_suppkey", right_on="s_suppkey")
    joined = joined.join(table("orders"), left_on="l_orderkey", right_on="o_orderkey")
    joined = joined.join(table("nation"), left_on="s_nationkey", right_on="n_nationkey")
    amount = col("l_extendedprice") * (1 - col("l_discount")) - col("ps_supplycost") * col("l_quantity")
    grouped = joined.group_by(col("n_name"), col("o_orderdate").dt.year().alias("o_year"))
    return grouped.agg(amount.sum().alias("sum_profit"))


def _polars_q18(col: Any, table: Any) -> Any:
    sums = table("lineitem").group_by("l_orderkey").agg(col("l_quantity").sum().alias("quantity"))
    joined = table("orders").join(sums.filter(col("quantity") > 300), left_on="o_orderkey", right_on="l_orderkey")
    joined = joined.join(table("customer"), left_on="o_custkey", right_on="c_custkey")
    top = joined.sort("o_totalprice", "o_orderdate", descending=[True, False]).head(100)
    return top.select("c_name", "o_custkey", "o_orderkey", "o_orderdate", "o_totalprice", "quantity")


def _polars_q21(col: Any, table: Any) -> Any:
    orders = table("orders").filter(col("o_orderstatus") == "F").select("o_orderkey")
    lines = table("lineitem").join(orders, left_on="l_orderkey", right_on="o_orderkey", how="semi")
    late = lines.filter(col("l_receiptdate") > col("l_commitdate"))
    several = lines.group_by("l_orderkey").agg(col("l_suppkey").n_unique().alias("all")).filter(col("all") > 1)
    alone = late.group_by("l_orderkey").agg(col("l_suppkey").n_unique().alias("late")).filter(col("late") == 1)
    nations = table("nation").filter(col("n_name") == "SAUDI ARABIA")
    suppliers = table("supplier").join(nations, left_on="s_nationkey", right_on="n_nationkey", how="semi")
    kept = late.join(several, on="l_orderkey", how="semi").join(alone, on="l_orderkey", how="semi")
    named = kept.join(suppliers, left_on="l_suppkey", right_on="s_suppkey")
    waits = named.group_by("s_name").agg(col("l_orderkey").len().alias("numwait"))
    return waits.sort("numwait", "s_name", descending=[True, False]).head(100)


if __name__ == "__main__":
    sys.exit(main())
