"""One variable of a netCDF, HDF5 or zarr file: what its record means by the CF conventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError
from pipeline.graph.calendars import calendar_name, decode_times
from pipeline.graph.importing import Deferred
from pipeline.ops.sources.array_records import ArrayRecord, RawVariable
from pipeline.outputs.files import read_errors

if TYPE_CHECKING:
    import xarray as xr
else:
    xr = Deferred("xarray")

__all__ = ["Decoder", "StoredArray", "decoded", "decoded_times", "has_times", "text_dtype", "text_of"]

Values = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class StoredArray:
    """The metadata of one stored variable, decoded.

    Parameters
    ----------
    group : path of its group in the file; empty for the outermost
    dtype : of the decoded values
    raw : kind of the dtype that is stored, before scaling and masking
    coords, attrs : its coordinates and attributes; equal ones of many files are the same objects
    times : units and calendar, if the values are decoded as times
    durations : whether they are decoded as durations
    grid : the stored chunks
    """

    path: str
    engine: str
    group: str
    variable: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    raw: str = ""
    coords: Mapping[str, xr.Variable] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    times: tuple[str, str] | None = None
    durations: bool = False
    grid: tuple[int, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inner(self) -> str:
        """The path of the variable in the file; empty where the file is one array."""
        return "/".join(filter(None, (self.group, self.variable)))


def has_times(attrs: Mapping[str, Any]) -> bool:
    """Return whether a variable with these attributes holds times."""
    return " since " in str(attrs.get("units", ""))


# ---------------------------------------------------------------------------------------------------------------------
# What it means
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Meaning:
    """What a variable is once decoded, whatever the lengths of its dims are."""

    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    attrs: Mapping[str, Any]
    durations: bool = False


class Decoder:
    """Decodes records of many files. What they have in common is decoded once, and is the same object in all of them.

    Parameters
    ----------
    times : whether numbers with units of time become times
    """

    def __init__(self, *, times: bool) -> None:
        self._times = times
        self._meanings: dict[Any, _Meaning] = {}
        self._coords: dict[Any, xr.Variable] = {}

    def arrays(
        self, records: Sequence[tuple[str, ArrayRecord]], options: Mapping[str, Mapping[str, Any]]
    ) -> list[StoredArray]:
        """Return what the records of files mean.

        Parameters
        ----------
        records : with the paths of the files
        options : of fsspec, by path

        Raises
        ------
        DataError : times or text that can't be decoded
        """
        if self._times:
            self._decode_labels([raw for _, record in records for raw in record.coordinates])
        return [self._array(path, record, options[path]) for path, record in records]

    def _array(self, path: str, record: ArrayRecord, options: Mapping[str, Any]) -> StoredArray:
        raw = record.variable
        with read_errors(path):
            is_plain = record.engine == "zarr-array"  # without attributes
            meaning = _Meaning(raw.dims, text_dtype(raw.dtype), {}) if is_plain else self._meaning(raw)
        attrs, dtype, how = meaning.attrs, meaning.dtype, None
        if record.ends is not None:
            how = (str(attrs["units"]), calendar_name(attrs))
            with read_errors(path):
                ends = decoded(raw.name, xr.Variable(("ends",), record.ends, raw.attrs)).values
            found_dtype = decoded_times(raw.name, ends, how, path).dtype
            if found_dtype.kind == "M":
                dtype, attrs = found_dtype, {k: v for k, v in attrs.items() if k not in ("units", "calendar")}
            else:
                how = None  # cells stay numbers: numpy computes with them, not with cftime's objects
        n = len(meaning.dims)  # characters of text are a dim more
        return StoredArray(
            path, record.engine, record.group, raw.name, meaning.dims, raw.shape[:n], dtype,
            raw=raw.dtype.kind,
            coords={each.name: self._coordinate(each, path) for each in record.coordinates},
            attrs=attrs,
            times=how,
            durations=meaning.durations,
            grid=record.chunks and record.chunks[:n],
            options=options,
        )  # fmt: skip

    def _meaning(self, raw: RawVariable) -> _Meaning:
        width = raw.shape[-1:]
        key = raw.attrs_text and (raw.name, raw.dims, raw.dtype, raw.attrs_text, width if raw.dtype == "S1" else ())
        if key and key in self._meanings:
            return self._meanings[key]
        # of one value, but for characters: how many there are along other dims means nothing
        shape = (1,) * (len(raw.dims) - 1) + (width if raw.dtype == "S1" else width and (1,))
        few = np.full(shape, "", object) if raw.dtype == object else np.zeros(shape, raw.dtype)
        attrs = raw.attrs
        x = decoded(raw.name, xr.Variable(raw.dims, few, attrs))
        dims = tuple(f"dim_{i}" if dim.startswith("phony_dim_") else dim for i, dim in enumerate(map(str, x.dims)))
        kind: np.dtype[Any] = x.dtype
        if kind.kind == "O" and raw.dtype.kind == "S":
            kind = np.dtype(f"U{max(width[0] if len(dims) < len(raw.dims) else raw.dtype.itemsize, 1)}")
        found = _Meaning(dims, text_dtype(kind), dict(x.attrs), _is_duration(attrs))
        if key:
            self._meanings[key] = found
        return found

    def _coordinate(self, raw: RawVariable, path: str) -> xr.Variable:
        key = raw.key
        if key is not None and key in self._coords:
            return self._coords[key]
        assert raw.values is not None
        with read_errors(path):
            x = decoded(raw.name, xr.Variable(raw.dims, raw.values, raw.attrs))
            found = _loaded(raw.name, x, raw, path, self._times)
        if key is not None:
            self._coords[key] = found
        return found

    def _decode_labels(self, several: Sequence[RawVariable]) -> None:
        """Decode times of several files that have the same units at once: one by one takes a millisecond a file.

        What can't be decoded so is left for :meth:`_coordinate`, which names the file.
        """
        alike: dict[Any, dict[Any, RawVariable]] = {}
        for raw in several:
            if raw.key is not None and len(raw.dims) == 1 and raw.dtype.kind in "iuf" and " since " in raw.attrs_text:
                alike.setdefault((raw.name, raw.dims, raw.dtype, raw.attrs_text), {})[raw.key] = raw
        for group in alike.values():
            attrs = next(iter(group.values())).attrs
            if len(group) > 1 and has_times(attrs) and not _is_duration(attrs):
                self._decode_alike(group, attrs)

    def _decode_alike(self, group: Mapping[Any, RawVariable], attrs: Mapping[str, Any]) -> None:
        first = next(iter(group.values()))
        stored = np.concatenate([raw.values for raw in group.values() if raw.values is not None])
        try:
            x = decoded(first.name, xr.Variable(first.dims, stored, attrs))
            if not _same_together(x.values):
                return
            joined = _loaded(first.name, x, first, "", times=True)
        except Exception:  # noqa: BLE001 - raised again for the file
            return
        if joined.dtype != "M8[ns]" and not (joined.dtype == object and calendar_name(attrs) not in _NUMPY):
            return  # files by themselves may have other types
        start = 0
        for key, raw in group.items():
            stop = start + raw.shape[0]
            self._coords[key] = xr.Variable(raw.dims, joined.values[start:stop], joined.attrs)
            start = stop


_NUMPY = ("standard", "proleptic_gregorian")


def _same_together(numbers: Values) -> bool:
    """Return whether numbers of time are decoded as each by itself: whole ones, or eighths that are small.

    Others are rounded at a resolution that depends on all of them. Eighths below 2**19 are exact at each resolution.
    """
    if numbers.dtype.kind != "f":
        return True
    if not np.isfinite(numbers).all():
        return False
    whole = bool((np.floor(numbers) == numbers).all())
    return whole or bool((np.floor(numbers * 8) == numbers * 8).all() and (np.abs(numbers) < 2**19).all())


def decoded(name: str, stored: xr.Variable) -> xr.Variable:
    """Return a variable, lazily, scaled and masked, its characters joined; times stay numbers."""
    durations = _is_duration(stored.attrs)
    x = xr.conventions.decode_cf_variable(name, stored, decode_times=False, decode_timedelta=durations)
    x.attrs.pop("coordinates", None)  # they are attached
    return x


def _is_duration(attrs: Mapping[str, Any]) -> bool:
    """Return whether values were written as durations: the units alone may be those of a plain number."""
    return str(attrs.get("dtype", "")).startswith("timedelta64")


def text_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in memory of values of a stored dtype: bytes become text that is as wide."""
    return np.dtype(f"U{max(dtype.itemsize, 1)}") if dtype.kind == "S" else dtype


def _loaded(name: str, coordinate: xr.Variable, stored: RawVariable, path: str, times: bool) -> xr.Variable:
    """Return a coordinate in memory: times as times, bytes as text."""
    values, attrs = coordinate.values, dict(coordinate.attrs)
    if times and has_times(stored.attrs):
        values = decoded_times(name, values, (str(attrs.pop("units")), calendar_name(attrs)), path)
        attrs.pop("calendar", None)
    elif values.dtype.kind == "S":
        values = text_of(name, values, path)
    return xr.Variable(coordinate.dims, values, attrs)


def decoded_times(name: str, values: Values, how: tuple[str, str], path: str) -> Values:
    """Return the times that numbers mean.

    Raises
    ------
    DataError : units or a calendar that there are not
    """
    units, calendar = how
    try:
        return decode_times(values, units, calendar)
    except (ValueError, OverflowError) as error:
        hint = "; to read numbers: decode_times: false"
        raise DataError(f"{path}: {name!r} has the units {units!r} ({calendar}): {error}{hint}") from error


def text_of(name: str, values: Values, path: str) -> Values:
    """Return bytes as text.

    Raises
    ------
    DataError : they are not UTF-8
    """
    try:
        return np.strings.decode(values, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {name!r} holds bytes that are no text in UTF-8 ({error})") from error
