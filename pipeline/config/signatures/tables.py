"""Ops that read tables: files, databases, lakes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import ByteSize, Names, Path, Type
from pipeline.config.signatures.sources import HASHES, Paths, Source

__all__ = [
    "ReadCsv",
    "ReadDelta",
    "ReadExcel",
    "ReadFeather",
    "ReadIceberg",
    "ReadJson",
    "ReadOrc",
    "ReadParquet",
    "ReadSql",
]

FileColumns = Literal["union"] | Names
"""Columns of several files: these, in this order, or all that any file has."""
_COLUMNS = "columns to read, in this order; union: all that any file has; default: all, which each must have"
_SOURCE_FILE = "name of a column with the path of the file of each row"


class ReadParquet(Source):
    """Parquet files as a frame.

    Columns have the types that are stored: whole numbers with missing values, decimals, dates, categories, lists.
    ``key=value`` folders are columns. Only columns that later steps use are read.

    Errors: no such file, a file with other columns (exit 3); no such column.
    """

    op: ClassVar[str] = "read_parquet"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources.parquet:read_parquet"
    distributions: ClassVar = ("pyarrow",)

    path: Paths = Field(description="file, folder, pattern with *, or a list")
    columns: FileColumns | None = Field(None, description=_COLUMNS)
    cast: dict[str, Type] | None = Field(None, description="column: type")
    split: Literal["auto", "files", "row_groups"] = Field(
        "auto", description="what becomes a partition; auto: a file, of large ones some row groups"
    )
    hashes: bool = HASHES


class TableFiles(Source):
    """An op that reads files of whole tables, each of which is a partition."""

    gives: ClassVar[str] = "frame"
    distributions: ClassVar = ("pyarrow",)

    path: Paths = Field(description="file, folder, pattern with *, or a list")
    columns: FileColumns | None = Field(None, description=_COLUMNS)
    cast: dict[str, Type] | None = Field(None, description="column: type")
    hashes: bool = HASHES


class ReadFeather(TableFiles):
    """Feather files, or files and streams of Arrow IPC, as a frame; a partition a file.

    Columns have the types that are stored. ``key=value`` folders are columns. Only columns that later steps use are
    read.

    Errors: no such file, a file with other columns (exit 3); no such column.
    """

    op: ClassVar[str] = "read_feather"
    home: ClassVar[str] = "sources.arrow_files:read_feather"


class ReadOrc(TableFiles):
    """ORC files as a frame; a partition a file.

    Columns have the types that are stored. ``key=value`` folders are columns. Only columns that later steps use are
    read.

    Errors: no such file, a file with other columns (exit 3); no such column.
    """

    op: ClassVar[str] = "read_orc"
    home: ClassVar[str] = "sources.arrow_files:read_orc"


class ReadSql(Source):
    """A table or the result of a query of SQLite or PostgreSQL as a frame; only columns that later steps use are read.

    The types are those of the result: ``numeric(12, 2)`` is a decimal. SQLite's are those of the first 1,000 rows.
    With ``partition_by`` each partition reads a range of whole numbers by a query of its own. A SQLite file is
    read again when it has changed, a database of a server in each run.

    Errors: the database does not answer or refuses the query (exit 3); no such column; a value of another type.
    """

    op: ClassVar[str] = "read_sql"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources.databases:read_sql"
    distributions: ClassVar = ("adbc-driver-manager", "adbc-driver-postgresql", "adbc-driver-sqlite", "pyarrow")
    extra: ClassVar[str] = "sql"

    uri: str = Field(description='"sqlite:shop.db", or "postgresql://user:${secret:PASSWORD}@host/database"')
    table: str | None = Field(
        None, description="name of a table or view, schema.table if needed; or query", min_length=1
    )
    query: str | None = Field(None, description="one SELECT", min_length=1)
    columns: Names | None = Field(None, description="columns to read, in this order; default: all")
    cast: dict[str, Type] | None = Field(None, description="column: type")
    partition_by: str | None = Field(
        None, description="column of whole numbers by which rows are divided", min_length=1
    )
    npartitions: Annotated[int, Field(ge=1, le=100_000)] = Field(1, description="number of ranges of partition_by")

    def read_files(self) -> dict[str, tuple[str, ...]]:
        kind, _, path = self.uri.partition(":")
        path = path.removeprefix("//") if path.startswith("///") else path
        return {"uri": (path, f"{path}-wal")} if kind == "sqlite" else {}

    def unrepeatable(self) -> str:
        return "" if self.uri.startswith("sqlite:") else "what a database server holds has no version"


class LakeTable(Source):
    """An op that reads one version of a table of many files; a partition a file."""

    gives: ClassVar[str] = "frame"

    columns: Names | None = Field(None, description="columns to read, in this order; default: all")
    cast: dict[str, Type] | None = Field(None, description="column: type")


class ReadDelta(LakeTable):
    """A version of a Delta table in a local folder as a frame; a partition a file.

    Rows that deletion vectors mark are left out. Files of which the values of partition columns tell that a later
    ``filter`` drops all rows are not read, and only columns that later steps use.

    Errors: no such table or version, a table with features that can't be read, such as column mapping (exit 3); no such
    column.
    """

    op: ClassVar[str] = "read_delta"
    home: ClassVar[str] = "sources.lake_tables:read_delta"
    distributions: ClassVar = ("deltalake", "pyarrow")
    extra: ClassVar[str] = "delta"

    path: Path = Field(description="folder of the table")
    version: Annotated[int, Field(ge=0)] | None = Field(None, description="number of the version; default: the newest")


class ReadIceberg(LakeTable):
    """A snapshot of an Iceberg table as a frame; a partition a file, deletions applied.

    Errors: no such table or snapshot (exit 3); no such column.
    """

    op: ClassVar[str] = "read_iceberg"
    home: ClassVar[str] = "sources.lake_tables:read_iceberg"
    distributions: ClassVar = ("pyarrow", "pyiceberg")
    extra: ClassVar[str] = "iceberg"

    path: Path = Field(description="metadata file, x.metadata.json, or local folder of the table: its newest metadata")
    snapshot: int | None = Field(None, description="id of the snapshot; default: the current one")


class ReadCsv(Source):
    """CSV files as a frame; types are those that the first 1,000 rows of all files show, or that ``cast`` names.

    Whole numbers with missing values stay whole numbers. Among texts an empty field is missing, an empty text in quotes
    is not; in other columns ``NA``, ``null``, ``NaN``, … are missing too.

    Errors: no such file, other columns than the first file has, a row of another length (exit 3); a later value that
    does not have the type of its column fails the task, with file, line and column.
    """

    op: ClassVar[str] = "read_csv"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources.csv:read_csv"
    distributions: ClassVar = ("pyarrow",)

    path: Paths = Field(description="file, pattern with *, or a list; compressed by .gz .bz2 .xz .zst .zip")
    columns: FileColumns | None = Field(None, description=_COLUMNS)
    header: bool = Field(True, description="false: the first line is a row; needs names")
    names: Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="names of the columns, instead of those of the header"
    )
    sep: str = Field(",", description="separator of columns", min_length=1)
    quote: str = Field('"', description="character around texts; empty: none", max_length=1)
    escape: str = Field("", description="character before one that is meant as it is", max_length=1)
    comment: str = Field("", description="character at the start of lines that are left out", max_length=1)
    encoding: str = Field("utf-8", description="of the text: latin-1, cp1252, utf-16, shift_jis, …", min_length=1)
    skip_rows: int = Field(0, description="lines to leave out before the header", ge=0)
    skip_footer: int = Field(0, description="lines to leave out at the end", ge=0)
    decimal: str = Field(".", description="decimal point", min_length=1)
    thousands: str = Field("", description="character between groups of three digits", max_length=1)
    na_values: list[str] | dict[str, list[str]] | None = Field(
        None, description="texts that mean missing, in addition to the usual ones; or column: texts"
    )
    cast: dict[str, Type] | None = Field(None, description="column: type")
    date_format: str | list[str] | dict[str, str] | dict[str, list[str]] | None = Field(
        None, description="of dates and times that cast names: %d.%m.%Y; several are tried in order; or column: format"
    )
    strict: bool = Field(
        True, description="false: rows that are too short are filled, those too long left out, with a warning"
    )
    source_file: str | None = Field(None, description=_SOURCE_FILE, min_length=1)
    blocksize: ByteSize | None = Field(None, description="bytes per partition, or a text like 20MB; default: 64 MiB")
    hashes: bool = HASHES


class ReadExcel(Source):
    """Sheets of Excel workbooks as a frame, a partition each; rows without any value are left out.

    Columns have the types of all of their cells: numbers that are whole in all rows are int64, cells of several kinds
    text, dates timestamps. Cells with an error (``#N/A``) are missing, which ``check`` notes.

    Errors: no such file or sheet, other columns than the first sheet has (exit 3); a value that does not fit ``cast``.
    """

    op: ClassVar[str] = "read_excel"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources.excel:read_excel"
    distributions: ClassVar = ("fastexcel", "pyarrow")
    extra: ClassVar[str] = "excel"

    path: Paths = Field(description="file (.xlsx .xlsm .xlsb .xls .ods), pattern with *, or a list")
    sheet: str | int | Annotated[list[str | int], Field(min_length=1)] = Field(
        1, description="name, number from 1 on, pattern with *, or a list"
    )
    columns: FileColumns | None = Field(None, description=_COLUMNS)
    cast: dict[str, Type] | None = Field(None, description="column: type")
    header: bool = Field(True, description="false: the first row is no header; needs names")
    names: Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="names of the columns, instead of those of the header"
    )
    skip_rows: int = Field(0, description="rows to leave out before the header", ge=0)
    source_file: str | None = Field(None, description=_SOURCE_FILE, min_length=1)
    source_sheet: str | None = Field(None, description="name of a column with the sheet of each row", min_length=1)
    hashes: bool = HASHES


class ReadJson(Source):
    """JSON files as a frame: one object per line, or one list of objects; keys that an object lacks are missing values.

    Columns and types are those that the first 1,000 rows of all files show, or that ``cast`` names; objects are
    structs, lists are lists. Times are read as text unless ``cast`` makes them times.

    Errors: no such file, invalid JSON, values of several kinds in a column (exit 3); a later value that does not have
    the type of its column, or a new key, fails the task, with file, line and column.
    """

    op: ClassVar[str] = "read_json"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources.json:read_json"
    distributions: ClassVar = ("pyarrow",)

    path: Paths = Field(description="file, pattern with *, or a list; compressed by .gz .bz2 .xz .zst .zip")
    columns: FileColumns | None = Field(None, description=_COLUMNS)
    cast: dict[str, Type] | None = Field(None, description="column: type; string: whatever it is, as JSON")
    source_file: str | None = Field(None, description=_SOURCE_FILE, min_length=1)
    blocksize: ByteSize | None = Field(
        None,
        description="bytes per partition, or a text like 20MB; default: 64 MiB; a list of objects is one partition",
    )
    hashes: bool = HASHES
