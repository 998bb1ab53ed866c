"""The 22 files of configs/tpch, against DuckDB alone over the same tables, on one partition and on sixteen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from bench.tpch_queries import QUERIES, TABLES
from pipeline.runs.run import Run

FILES = Path(__file__).parent.parent / "configs" / "tpch"
SCALE = 0.1
FRACTION = 0.0001 / SCALE
"""Of query 11, as its text has it."""
FEW = ("q03", "q11", "q18", "q21")
"""Joins of both ways, a value of one step in another, and groups of all orders."""


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``1`` and ``16`` with the tables in so many files each."""
    folder = tmp_path_factory.mktemp("tpch")
    for n in (1, 16):
        command = [Path(sys.executable).parent / "tpchgen-cli", "parquet", "-s", str(SCALE), f"--parts={n}"]
        subprocess.run([*command, f"--output-dir={folder / str(n)}"], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def answers(tables: Path) -> dict[str, pa.Table]:
    with duckdb.connect() as connection:
        for table in TABLES:
            connection.execute(f"create view {table} as from read_parquet('{tables}/1/{table}/*.parquet')")
        return {
            name: connection.sql(sql, params={"fraction": FRACTION} if "$fraction" in sql else None).to_arrow_table()
            for name, sql in QUERIES.items()
        }


def ran(name: str, data: Path, folder: Path, backend: str) -> Run:
    params = {"root": str(data)} | ({"fraction": FRACTION} if name == "q11" else {})
    loaded = pipeline.load(FILES / f"{name}.yaml", params=params)
    return loaded.run(backend=backend, workers=2, out=folder / "out", runs=folder / "runs")


def written(run: Run, name: str) -> pa.Table:
    return pq.read_table(run.root / run.outputs[name].path)


def rows_of(table: pa.Table) -> list[list[Any]]:
    return [list(row.values()) for row in table.to_pylist()]


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("n", [1, 16])
def test_a_query_gives_what_duckdb_alone_gives(
    name: str, n: int, tables: Path, answers: dict[str, pa.Table], tmp_path: Path
) -> None:
    found, answer = written(ran(name, tables / str(n), tmp_path, "threads"), name), answers[name]
    assert found.column_names == answer.column_names
    assert found.num_rows == answer.num_rows > 0
    for got, wanted in zip(rows_of(found), rows_of(answer), strict=True):
        for one, other in zip(got, wanted, strict=True):
            if isinstance(other, float):
                assert float(one) == pytest.approx(other, rel=1e-12)
            else:
                assert one == other


@pytest.mark.parametrize("name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in QUERIES])
def test_every_back_end_gives_the_same_bits(name: str, tables: Path, tmp_path: Path) -> None:
    first, *others = (
        written(ran(name, tables / "16", tmp_path / backend, backend), name)
        for backend in ("serial", "threads", "processes", "dask")
    )
    assert all(other.equals(first) for other in others)
    assert first.num_rows


IMPORTS = """
import contextlib, io, sys
from pathlib import Path
from pipeline import cli
for path in sorted(Path(sys.argv[1]).glob("q*.yaml")):
    for command in (["check"], ["run", "--backend", "serial"]):
        with contextlib.redirect_stdout(io.StringIO()):
            assert cli.main([command[0], str(path), "--set", f"root={sys.argv[2]}", *command[1:]]) == 0
        assert not {"pandas", "xarray", "dask.dataframe"} & set(sys.modules), f"{command[0]} {path.name}"
"""


def test_no_query_imports_pandas(tables: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", IMPORTS, FILES, tables / "1"], check=True, cwd=tmp_path)


def test_the_files_are_short() -> None:
    files = sorted(FILES.glob("q*.yaml"))
    assert [file.stem for file in files] == sorted(QUERIES)
    assert all(len(file.read_text().splitlines()) <= 20 for file in files)
