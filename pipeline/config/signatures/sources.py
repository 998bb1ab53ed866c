"""Ops that read or generate data."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.config.signatures.base import Chunks, Dtype, Function, Names, Path, Signature, Type

__all__ = [
    "HASHES",
    "Arange",
    "ArrayFromCall",
    "Files",
    "FrameFromCall",
    "FromNetcdf",
    "FromNpy",
    "FromZarr",
    "Ones",
    "Paths",
    "Random",
    "Source",
    "Timeseries",
    "Zeros",
]

Count = Annotated[int, Field(ge=0)]
Paths = Path | Annotated[list[Path], Field(min_length=1)]
HASHES: Any = Field(
    False, description="true: also compare outputs of earlier runs with their hashes, which reads them twice"
)


class Source(Signature):
    """An op without inputs."""

    family: ClassVar[str] = "sources"
    inputs: ClassVar = {}


class Files(Source):
    """The files that match a pattern, as items sorted by name.

    An item is the absolute path of a file, as text. Its key is the path relative to the folder before the first
    wildcard, without the suffix. The pattern is matched before the run, so the number of items is known.

    Errors: no file matches (exit 3); two files have the same key.
    """

    op: ClassVar[str] = "files"
    gives: ClassVar[str] = "items"
    home: ClassVar[str] = "sources.paths:files"

    path: Paths = Field(description="pattern with * and **, or a list of them")
    hashes: bool = HASHES


class StoredVariable(Source):
    """An op that reads one variable of files with names, coordinates and attributes."""

    gives: ClassVar[str] = "array"

    path: Paths = Field(description="file, pattern with *, or a list")
    variable: str | None = Field(None, description="name of the variable; may be omitted if there is only one")
    group: str = Field("", description="path of the group that holds it: model/daily; default: the outermost")
    chunks: Chunks | None = Field(None, description="size along each dim; default: multiples of the stored ones")
    along: str | None = Field(
        None, description="several files: the dim along which they are joined, needed if it has no labels"
    )
    overlap: Literal["first", "last"] | None = Field(
        None, description="labels that several files have: whose values count, in the order of path; default: an error"
    )
    attrs: Literal["first", "drop"] | None = Field(
        None,
        description="units and coordinates that differ between files: those of the first, or none; default: an error",
    )
    decode_times: bool = Field(True, description="false: times stay numbers, with their units and calendar")
    hashes: bool = HASHES


class FromNetcdf(StoredVariable):
    """One variable of netCDF or HDF5 files as an array, with its dims, coordinates, dtype and attributes.

    Several files (a pattern or a list) are joined along the dim whose labels differ, in the order of these labels,
    which ``check`` shows. Each file is unpacked and its times are decoded by itself; values marked as missing become
    NaN, bytes become text. Units, calendar, standard_name, positive, grid_mapping, kind of dtype and the other
    coordinates must be equal; other attributes are kept where they are. Unnamed dims are ``dim_0``, ``dim_1``, …

    Errors: no such file, group or variable; files that differ, have labels in common, or none to join by (exit 3).
    """

    op: ClassVar[str] = "from_netcdf"
    home: ClassVar[str] = "sources.array_files:from_netcdf"
    distributions: ClassVar = ("cftime", "h5netcdf", "h5py", "numpy", "xarray")


class FromZarr(StoredVariable):
    """One variable of a zarr store, or a plain zarr array, as an array.

    Dims, coordinates, dtype and attributes are those of the store; unnamed dims become ``dim_0``, ``dim_1``, …
    Several stores (a pattern or a list) are joined as the files of ``from_netcdf``.

    Errors: no such store, group or variable; stores that do not fit each other (exit 3).
    """

    op: ClassVar[str] = "from_zarr"
    home: ClassVar[str] = "sources.array_files:from_zarr"
    distributions: ClassVar = ("cftime", "numcodecs", "numpy", "xarray", "zarr")

    path: Paths = Field(description="folder or URL of the store, pattern with *, or a list")
    chunks: Chunks | None = Field(None, description="size along each dim; default: the stored ones")
    missing: Literal["allow", "warn", "error"] = Field(
        "allow", description="chunks that are not stored, which are read as the fill value: warn counts them"
    )


class FromNpy(Source):
    """The array in npy files; each chunk of a local file reads only its part of it.

    Several files (a pattern or a list) are joined in the order of their names, which ``check`` shows, along the dim in
    which their sizes differ; if all are equal, along the first dim that ``chunks`` names, else the first dim. No
    coordinates.

    Errors: no such file; a file with Python objects, or with another shape or dtype than the others (exit 3).
    """

    op: ClassVar[str] = "from_npy"
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "sources.array_files:from_npy"
    distributions: ClassVar = ("numpy",)

    path: Paths = Field(description="file, pattern with *, or a list")
    dims: Names | None = Field(None, description="names of the dims, in order; default: dim_0, dim_1, …")
    chunks: Chunks | None = Field(None, description="size along each dim; default: auto")
    along: str | None = Field(None, description="several files: the dim along which they are joined")
    hashes: bool = HASHES


class ArrayFromCall(Source):
    """An array whose chunks a function of yours returns; it is called in the tasks.

    For each chunk it gets the position along each dim as a keyword (``time=slice(0, 10), y=slice(0, 5)``), and
    ``args``; it returns a numpy array of that shape. With ``columns`` instead of ``shape`` the result is a frame.

    Errors: another shape, or values that the dtype cannot hold, fail the task.
    """

    op: ClassVar[str] = "from_call"
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "sources.from_call:array_from_call"
    distributions: ClassVar = ("numpy",)

    function: Function = Field(description='"module:function"')
    shape: dict[str, Count] = Field(description="dim: size; or columns: {name: type} of a frame", min_length=1)
    dtype: Dtype = Field(description="of the array")
    chunks: Chunks | None = Field(None, description="size along each dim; default: auto")
    args: dict[str, Any] | None = Field(None, description="further keyword arguments of the function")

    def function_gets(self) -> tuple[int, tuple[str, ...]]:
        return 0, tuple(self.shape)


class FrameFromCall(Source):
    """A frame whose partitions a function of yours returns; it is called in the tasks.

    For each partition it gets ``partition`` (its number), ``n_partitions`` and ``args``; it returns a pandas.DataFrame
    or a list of maps. With ``shape`` instead of ``columns`` the result is an array.

    Errors: a missing column, or values that the type of a column cannot hold, fail the task.
    """

    op: ClassVar[str] = "from_call"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources.from_call:frame_from_call"
    distributions: ClassVar = ("pyarrow",)

    function: Function = Field(description='"module:function"')
    columns: dict[str, Type] = Field(description="column: type", min_length=1)
    partitions: Annotated[int, Field(ge=1, le=1_000_000)] = Field(1, description="number of partitions")
    args: dict[str, Any] | None = Field(None, description="further keyword arguments of the function")

    def function_gets(self) -> tuple[int, tuple[str, ...]]:
        return 0, ("partition", "n_partitions")


class Timeseries(Source):
    """A frame of random values at regular times; the same seed gives the same rows, in any number of partitions.

    The first column holds the times. Floats are uniform in [-1, 1), whole numbers in [0, 1000), texts are one of 26
    names.

    Errors: an invalid time; a ``freq`` that is not a fixed duration; a type of which no random values can be drawn.
    """

    op: ClassVar[str] = "timeseries"
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "sources.timeseries:timeseries"
    distributions: ClassVar = ("numpy", "pyarrow")

    start: str = Field(description="first time")
    end: str = Field(description="end of the times, excluded")
    freq: str = Field("1s", description="interval between rows: 10s, 1h, 1D", min_length=1)
    columns: dict[str, Type] | None = Field(None, description="column: type; default: name, id, x, y")
    partitions: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="number of partitions, of about equal length; default: at most a million rows each"
    )
    time: str = Field("timestamp", description="name of the column of times", min_length=1)


class Random(Source):
    """An array of random numbers; the same seed, step instance and chunks give the same numbers on every back end.

    ``normal`` and ``uniform`` give floats, ``integers`` whole numbers.
    """

    op: ClassVar[str] = "random"
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "sources.generated:random"
    distributions: ClassVar = ("numpy",)

    shape: dict[str, Count] = Field(description="dim: size", min_length=1)
    chunks: Chunks | None = Field(None, description="dim: size of a chunk; default: auto")
    distribution: Literal["normal", "uniform", "integers"] = Field("normal", description="distribution to draw from")
    loc: float = Field(0.0, description="normal: mean")
    scale: float = Field(1.0, description="normal: standard deviation", ge=0)
    low: float = Field(0, description="uniform, integers: lower end, included")
    high: float = Field(1, description="uniform, integers: upper end, excluded")
    dtype: Dtype | None = Field(None, description="of the array; default: float64, for integers int64")


class Arange(Source):
    """Evenly spaced numbers from ``start`` to ``stop``, which is excluded; one dim, without coordinates."""

    op: ClassVar[str] = "arange"
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "sources.generated:arange"
    distributions: ClassVar = ("numpy",)

    start: int | float = Field(0, description="first number")
    stop: int | float = Field(description="end of the numbers, excluded")
    step: int | float = Field(1, description="difference between numbers")
    chunks: Chunks | Annotated[int, Field(ge=1)] | None = Field(None, description="size of a chunk; default: auto")
    dim: str = Field("dim_0", description="name of the dim")
    dtype: Dtype | None = Field(
        None, description="of the array; default: int64, or float64 if start, stop or step is a float"
    )


class _Constant(Source):
    gives: ClassVar[str] = "array"
    distributions: ClassVar = ("numpy",)

    shape: dict[str, Count] = Field(description="dim: size")
    chunks: Chunks | None = Field(None, description="dim: size of a chunk; default: auto")
    dtype: Dtype = Field("float64", description="of the array")


class Zeros(_Constant):
    """An array of zeros with named dims, without coordinates. Errors: a chunk size for an unknown dim."""

    op: ClassVar[str] = "zeros"
    home: ClassVar[str] = "sources.generated:zeros"


class Ones(_Constant):
    """An array of ones with named dims, without coordinates. Errors: a chunk size for an unknown dim."""

    op: ClassVar[str] = "ones"
    home: ClassVar[str] = "sources.generated:ones"
