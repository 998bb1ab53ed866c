"""CSV files of tests, and their columns as read_csv gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serially import table_of

from pipeline.ops.sources.csv import read_csv

__all__ = ["csv_file", "read"]


def csv_file(folder: Path, text: str | bytes, name: str = "x.csv") -> str:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder / name)


def read(path: str, **options: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = table_of(read_csv(path=path, **options)).to_pydict()
    return found
