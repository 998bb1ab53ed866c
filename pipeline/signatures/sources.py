"""Ops that read or make data; they take no input."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.signatures.base import Chunks, Dtype, Names, Path, Signature, Type

__all__ = ["Arange", "Files", "FromNetcdf", "FromZarr", "Random", "ReadCsv", "ReadParquet"]

Count = Annotated[int, Field(ge=0)]
Paths = Path | Annotated[list[Path], Field(min_length=1)]
Cast = Literal["none"] | dict[str, Type]


class Source(Signature):
    """An op without inputs."""

    group: ClassVar[str] = "sources"
    inputs: ClassVar = {}


class Files(Source):
    """The files that match a pattern, as items in the order of their names.

    An item is the absolute path of a file, as text; its key is the path below the pattern's fixed folder, without the
    suffix. The pattern is matched while the file is checked, so the number of items is known before the run.

    Errors: no file matches (exit 3); two files have the same key.
    """

    op: ClassVar[str] = "files"
    gives: ClassVar[str] = "items"
    home: ClassVar[str] = "sources:files"

    path: Paths = Field(description="pattern with * and **, or a list of them")


class FromNetcdf(Source):
    """One variable of netCDF-4 files as an array, with its dims, coordinates, dtype and attributes.

    Several files (a pattern or a list) are joined along the dim in which their coordinates differ, in its order.
    Values marked as missing become NaN.

    Errors: no such file or variable, other dims or dtype in one of the files (exit 3).
    """

    op: ClassVar[str] = "from_netcdf"
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "sources:from_netcdf"

    path: Paths = Field(description="file, pattern with *, or a list")
    variable: str | None = Field(None, description="name of the variable; may be left out where there is only one")
    chunks: Chunks | None = Field(None, description="size along each dim; default: multiples of the stored ones")


class FromZarr(Source):
    """One variable of a zarr store, or a plain zarr array, as an array.

    Dims, coordinates, dtype and attributes are the store's; without names the dims are ``dim_0``, ``dim_1``, …

    Errors: no such store or variable (exit 3).
    """

    op: ClassVar[str] = "from_zarr"
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "sources:from_zarr"

    path: Path = Field(description="folder or URL of the store")
    variable: str | None = Field(None, description="name of the variable; may be left out where there is only one")
    chunks: Chunks | None = Field(None, description="size along each dim; default: as it is stored")


class ReadParquet(Source):
    """Parquet files as a frame.

    Decimals become float64 and dates timestamps unless ``cast`` says otherwise; text is ``string``.
    Only the columns that are used are read.

    Errors: no such file, other columns in one of the files (exit 3); no such column.
    """

    op: ClassVar[str] = "read_parquet"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources:read_parquet"

    path: Paths = Field(description="file, folder, pattern with *, or a list")
    columns: Names | None = Field(None, description="columns to read, in this order; default: all")
    cast: Cast | None = Field(None, description="column: type; or none, which keeps decimals and dates as they are")
    split: Literal["files", "row_groups"] = Field("files", description="what becomes a partition")


class ReadCsv(Source):
    """CSV files as a frame; the types are taken from the first rows, or from ``cast``.

    Errors: no such file (exit 3); a value that is not of its column's type fails its task, naming file and column.
    """

    op: ClassVar[str] = "read_csv"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources:read_csv"

    path: Paths = Field(description="file, pattern with *, or a list")
    columns: Names | None = Field(None, description="columns to read, in this order; default: all")
    sep: str = Field(",", description="what separates the columns", min_length=1)
    cast: dict[str, Type] | None = Field(None, description="column: type")
    na_values: list[str] | None = Field(None, description="texts that mean missing, besides the usual ones")
    blocksize: Annotated[int, Field(ge=1)] | None = Field(None, description="bytes a partition; default: 64 MiB")


class Random(Source):
    """An array of random numbers, the same for the same seed, step, copy and chunks on every back end.

    Shape, dims and chunks are as given; ``normal`` and ``uniform`` give floats, ``integers`` whole numbers.
    """

    op: ClassVar[str] = "random"
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "sources:random"

    shape: dict[str, Count] = Field(description="dim: size", min_length=1)
    chunks: Chunks | None = Field(None, description="dim: size of a chunk; default: auto")
    distribution: Literal["normal", "uniform", "integers"] = Field("normal", description="what to draw from")
    loc: float = Field(0.0, description="normal: mean")
    scale: float = Field(1.0, description="normal: standard deviation", ge=0)
    low: float = Field(0, description="uniform, integers: lowest")
    high: float = Field(1, description="uniform, integers: all numbers are below")
    dtype: Dtype | None = Field(None, description="default: float64, integers int64")


class Arange(Source):
    """Evenly spaced numbers from ``start`` up to, not including, ``stop``; one dim, without coordinates."""

    op: ClassVar[str] = "arange"
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "sources:arange"

    start: int | float = Field(0, description="first number")
    stop: int | float = Field(description="all numbers are below")
    step: int | float = Field(1, description="from one number to the next")
    chunks: Chunks | Annotated[int, Field(ge=1)] | None = Field(None, description="size of a chunk; default: auto")
    dim: str = Field("dim_0", description="name of the dim")
    dtype: Dtype | None = Field(None, description="default: int64, or float64 if one of the numbers is a float")
