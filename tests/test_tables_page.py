"""docs/tables.md: its steps are run, each block after those above it."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from lakes import write_database, write_delta, write_iceberg
from pages import blocks
from pyarrow import orc
from serially import graph_of, values_of
from workbooks import write_workbook

PAGE = Path(__file__).parents[1] / "docs" / "tables.md"


def fill(folder: Path) -> None:
    """The files that the page names."""
    prices = pa.table({"id": [1, 2], "price": pa.array([Decimal(9), Decimal(11)], pa.decimal128(9, 2))})
    for year in (2023, 2024):
        (folder / f"orders/year={year}").mkdir(parents=True)
        pq.write_table(prices, folder / f"orders/year={year}/x.parquet")
        more = prices if year == 2023 else prices.append_column("note", pa.array(["a", "b"]))
        pq.write_table(more, folder / f"{year}.parquet")
        feather.write_feather(prices, f"{folder}/{year}.feather")
    orc.write_table(prices, f"{folder}/old.orc")
    write_database(folder / "shop.db", "sales", [(i, i * 30.0) for i in range(1, 9)])
    write_delta(folder / "events", prices, prices)
    write_iceberg(folder / "trips", prices)


def fill_texts(folder: Path) -> None:
    """The texts and the workbook that the page names."""
    for name, text in (
        ("sales.csv", "id,price,day\n7,1.25,2001-02-03\n,3,2001-02-04\n"),
        ("more.csv", "day,id,price,shop\n2001-02-05,9,1,Ulm\n"),
        ("marks.csv", "who,mark\n-,3\nNA,-\n"),
        ("german.csv", "Umsätze\nDatum;Preis\n# Müll\n31.12.2001;1.234,5\nSumme\n"),
        ("ragged.csv", "1,2,3\n4,5\n6,7,8,9\n"),
        ("log.jsonl", '{"at": "2001-02-03T10:00:00Z", "who": {"name": "Ada"}, "extra": [1]}\n{"extra": "x"}\n'),
    ):
        (folder / name).write_bytes(text.encode("latin-1"))
    months = {"Jan": [["Report"], ["day", "n"], [datetime.date(2001, 1, 1), 2]]}
    write_workbook(folder / "book.xlsx", months | {"Feb": [*months["Jan"][:2], [datetime.date(2001, 2, 1), 3]]})


@pytest.mark.filterwarnings("ignore:.*strict. false")
def test_the_steps_of_the_page(tmp_path: Path) -> None:
    fill(tmp_path)
    fill_texts(tmp_path)
    steps = "".join(f"  {line}\n" for block in blocks(PAGE) for line in block.text.splitlines())
    names = [line.strip().partition(":")[0] for line in steps.splitlines() if line[2] != " "]
    text = f"keep: [{', '.join(names)}]\nsteps:\n{steps}"
    got = values_of(text, tmp_path)
    numbers = {
        "orders": 4,
        "fast": 4,
        "old": 2,
        "grown": 4,
        "recent": 1,
        "sales": 8,
        "large": 5,
        "events": 4,
        "before": 2,
        "trips": 2,
    }
    assert {name: len(got[name]) for name in numbers} == numbers
    assert got["grown"]["note"].tolist()[2:] == ["a", "b"]
    assert len(graph_of(text, tmp_path).value_types["sales"].keys) == 4
    alone = graph_of("steps:\n" + steps.replace("year]}", "year], split: files}"), tmp_path)
    assert len(alone.value_types["recent"].keys) == 1
    assert got["plain"].id.tolist() == [7, pd.NA]
    assert str(got["typed"].price[0]) == "1.25"
    assert got["marked"].who.tolist() == ["-", "NA"]
    assert got["marked"].mark.tolist() == [3, pd.NA]
    assert got["all"].shop.tolist() == [pd.NA, pd.NA, "Ulm"]
    assert got["all"]["from"].tolist() == [str(tmp_path / name) for name in ("sales.csv", "sales.csv", "more.csv")]
    assert got["german"].to_dict("list") == {"Datum": [pd.Timestamp(2001, 12, 31)], "Preis": [1234.5]}
    assert got["ragged"].c.tolist() == [3, pd.NA]
    assert got["log"].extra.tolist() == ["[1]", "x"]
    assert got["book"].month.tolist() == ["Jan", "Feb"]
