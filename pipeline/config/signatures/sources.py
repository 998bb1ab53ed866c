"""Ops that read or make data; they take no input."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import Chunks, Dtype, Function, Names, Path, Signature, Type

__all__ = [
    "Arange",
    "ArrayFromCall",
    "Files",
    "FrameFromCall",
    "FromNetcdf",
    "FromNpy",
    "FromZarr",
    "Ones",
    "Random",
    "ReadCsv",
    "ReadJson",
    "ReadParquet",
    "Timeseries",
    "Zeros",
]

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
    home: ClassVar[str] = "sources.paths:files"

    path: Paths = Field(description="pattern with * and **, or a list of them")


class FromNetcdf(Source):
    """One variable of netCDF-4 files as an array, with its dims, coordinates, dtype and attributes.

    Several files (a pattern or a list) are joined along the dim in which their coordinates differ, in its order.
    Values marked as missing become NaN.

    Errors: no such file or variable, other dims or dtype in one of the files (exit 3).
    """

    op: ClassVar[str] = "from_netcdf"
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "sources.array_files:from_netcdf"

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
    home: ClassVar[str] = "sources.array_files:from_zarr"

    path: Path = Field(description="folder or URL of the store")
    variable: str | None = Field(None, description="name of the variable; may be left out where there is only one")
    chunks: Chunks | None = Field(None, description="size along each dim; default: as it is stored")


class FromNpy(Source):
    """The array of npy files; a local file is mapped, so that a chunk reads its own part only.

    Several files (a pattern or a list) are joined, in the order of their names, along the dim in which their sizes
    differ, else the first that ``chunks`` names, else the first. No coordinates.

    Errors: no such file, Python objects in it, another shape or dtype in one of the files (exit 3).
    """

    op: ClassVar[str] = "from_npy"
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "sources.array_files:from_npy"

    path: Paths = Field(description="file, pattern with *, or a list")
    dims: Names | None = Field(None, description="names of the dims, in order; default: dim_0, dim_1, …")
    chunks: Chunks | None = Field(None, description="size along each dim; default: auto")


class ReadParquet(Source):
    """Parquet files as a frame.

    Decimals become float64 and dates timestamps unless ``cast`` says otherwise; text is ``string``.
    Only the columns that are used are read.

    Errors: no such file, other columns in one of the files (exit 3); no such column.
    """

    op: ClassVar[str] = "read_parquet"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources.parquet:read_parquet"

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
    home: ClassVar[str] = "sources.csv:read_csv"

    path: Paths = Field(description="file, pattern with *, or a list")
    columns: Names | None = Field(None, description="columns to read, in this order; default: all")
    sep: str = Field(",", description="what separates the columns", min_length=1)
    decimal: str = Field(".", description="what stands before the decimals of numbers", min_length=1)
    cast: dict[str, Type] | None = Field(None, description="column: type")
    na_values: list[str] | None = Field(None, description="texts that mean missing, besides the usual ones")
    blocksize: Annotated[int, Field(ge=1)] | None = Field(None, description="bytes a partition; default: 64 MiB")


class ReadJson(Source):
    """JSON files as a frame: objects one a line, or one list of objects; what an object lacks is missing.

    Columns and types are taken from the first rows, or from ``cast``; times are text unless it says otherwise.

    Errors: no such file, no JSON, lists or maps in a column (exit 3); a value that is not of its column's type fails
    its task, naming file and column.
    """

    op: ClassVar[str] = "read_json"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources.json:read_json"

    path: Paths = Field(description="file, pattern with *, or a list")
    columns: Names | None = Field(None, description="columns to read, in this order; default: all")
    cast: dict[str, Type] | None = Field(None, description="column: type")
    blocksize: Annotated[int, Field(ge=1)] | None = Field(
        None, description="bytes of lines a partition; default: 64 MiB; a list is one partition"
    )


class ArrayFromCall(Source):
    """An array whose chunks a function of the user's gives, called in the tasks.

    For each chunk it gets the chunk's place, a keyword a dim (``time=slice(0, 10), y=slice(0, 5)``), and ``args``; it
    returns a numpy array of that shape. With ``columns`` instead of ``shape`` the result is a frame.

    Errors: another shape, or values that the dtype doesn't hold, fail the task.
    """

    op: ClassVar[str] = "from_call"
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "sources.from_call:array_from_call"

    function: Function = Field(description='"module:function"')
    shape: dict[str, Count] = Field(description="dim: size; or columns: {name: type} of a frame", min_length=1)
    dtype: Dtype = Field(description="of the array")
    chunks: Chunks | None = Field(None, description="size along each dim; default: auto")
    args: dict[str, Any] | None = Field(None, description="further keyword arguments of the function")


class FrameFromCall(Source):
    """A frame whose partitions a function of the user's gives, called in the tasks.

    For each partition it gets ``partition``, its number, ``n_partitions``, and ``args``; it returns a pandas.DataFrame
    or a list of maps. With ``shape`` instead of ``columns`` the result is an array.

    Errors: a column is lacking, or has values that its type doesn't hold (fails the task).
    """

    op: ClassVar[str] = "from_call"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources.from_call:frame_from_call"

    function: Function = Field(description='"module:function"')
    columns: dict[str, Type] = Field(description="column: type", min_length=1)
    partitions: Annotated[int, Field(ge=1, le=1_000_000)] = Field(1, description="how many times it is called")
    args: dict[str, Any] | None = Field(None, description="further keyword arguments of the function")


class Timeseries(Source):
    """A made-up frame with rows at regular times, the same for the same seed, however it is divided.

    The first column has the times. Floats are uniform in [-1, 1), whole numbers in [0, 1000), texts one of 26 names.

    Errors: a time that is none, a step that is not fixed, a type that nothing is drawn of.
    """

    op: ClassVar[str] = "timeseries"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources.timeseries:timeseries"

    start: str = Field(description="first time")
    end: str = Field(description="all times are before")
    freq: str = Field("1s", description="from one row to the next: 10s, 1h, 1D", min_length=1)
    columns: dict[str, Type] | None = Field(None, description="column: type; default: name, id, x, y")
    partitions: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="of about equal length; default: of at most a million rows"
    )
    time: str = Field("timestamp", description="name of the column of times", min_length=1)


class Random(Source):
    """An array of random numbers, the same for the same seed, step, copy and chunks on every back end.

    Shape, dims and chunks are as given; ``normal`` and ``uniform`` give floats, ``integers`` whole numbers.
    """

    op: ClassVar[str] = "random"
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "sources.generated:random"

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
    home: ClassVar[str] = "sources.generated:arange"

    start: int | float = Field(0, description="first number")
    stop: int | float = Field(description="all numbers are below")
    step: int | float = Field(1, description="from one number to the next")
    chunks: Chunks | Annotated[int, Field(ge=1)] | None = Field(None, description="size of a chunk; default: auto")
    dim: str = Field("dim_0", description="name of the dim")
    dtype: Dtype | None = Field(None, description="default: int64, or float64 if one of the numbers is a float")


class _Filled(Source):
    gives: ClassVar[str] = "array"

    shape: dict[str, Count] = Field(description="dim: size")
    chunks: Chunks | None = Field(None, description="dim: size of a chunk; default: auto")
    dtype: Dtype = Field("float64", description="of the array")


class Zeros(_Filled):
    """An array of zeros with named dims, without coordinates. Errors: a chunk for a dim that is none."""

    op: ClassVar[str] = "zeros"
    home: ClassVar[str] = "sources.generated:zeros"


class Ones(_Filled):
    """An array of ones with named dims, without coordinates. Errors: a chunk for a dim that is none."""

    op: ClassVar[str] = "ones"
    home: ClassVar[str] = "sources.generated:ones"
