"""A made-up frame with a time column, any length of it at once.

Each cell is made of one 64-bit word of a counter-based generator (Philox), which can begin anywhere: a partition draws
its own rows and no others, and where partitions end changes no value. A column's generator is keyed by the seed and the
column's name, so that other columns change none either.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import OpError
from pipeline.ops.collections import Frame
from pipeline.ops.column_types import TEXT, declared_dtype
from pipeline.ops.sources.parquet import frame_of

__all__ = ["COLUMNS", "timeseries"]

COLUMNS: Mapping[str, str] = {"name": "string", "id": "int64", "x": "float64", "y": "float64"}
"""What a time series has where nothing is said."""

_NAMES = (
    *("Ada", "Boris", "Clara", "Dora", "Emil", "Frida", "Goran", "Hanna", "Igor", "Jana", "Karl", "Lena", "Mirko"),
    *("Nora", "Otto", "Paula", "Quirin", "Rosa", "Sven", "Tilda", "Udo", "Vera", "Wanda", "Xaver", "Yara", "Zeno"),
)
_INTEGERS = 1000  # whole numbers are below this, and within their type
_ROWS = 1_000_000  # of a partition at most, where nothing is said
_WORDS = 4  # that the generator makes at once


def timeseries(
    *,
    start: str,
    end: str,
    freq: str = "1s",
    columns: Mapping[str, str] | None = None,
    partitions: int | None = None,
    time: str = "timestamp",
    seed: int = 0,
) -> Frame:
    """Rows at regular times from ``start`` up to, not including, ``end``; the same ones however they are divided.

    Parameters
    ----------
    freq : the time from one row to the next, a fixed one: ``1h``, ``10s``
    columns : name -> type: floats are uniform in [-1, 1), whole numbers in [0, 1000) as far as the type goes, booleans
        even, texts one of 26 names
    partitions : of about equal length; None: of at most a million rows
    time : name of the column of times, which is the first

    Raises
    ------
    OpError : times that are none, a step that is not fixed, or a type that nothing is drawn of
    """
    first, last, step = _time("start", start), _time("end", end), _step(freq)
    if (first.tzinfo is None) != (last.tzinfo is None):
        raise OpError("end", "start and end have a time zone both, or none of them")
    n = max(-(-(last - first) // step), 0)
    types = dict(COLUMNS if columns is None else columns)
    if time in types:
        raise OpError("time", f"{time!r} is one of the columns, too; name the times otherwise")
    zone = pd.DatetimeTZDtype("us", str(first.tz)) if first.tzinfo is not None else np.dtype("datetime64[us]")
    dtypes: dict[str, Any] = {time: zone, **{name: _dtype(name, kind) for name, kind in types.items()}}
    k = max(-(-n // _ROWS), 1) if partitions is None else partitions
    edges = [n * i // k for i in range(k + 1)]
    origin = first.tz_convert("UTC").tz_localize(None) if first.tzinfo is not None else first
    unit = pd.Timedelta(microseconds=1)
    micro = (int((origin.as_unit("us") - pd.Timestamp(0).as_unit("us")) // unit), int(step // unit))
    tasks = [(_rows, rows, micro, seed, dtypes) for rows in itertools.pairwise(edges)]
    width = sum(np.dtype(t).itemsize if isinstance(t, np.dtype) else 8 for t in dtypes.values())
    return frame_of("timeseries", tasks, dtypes, float(n * width))


def _time(key: str, text: str) -> pd.Timestamp:
    try:
        found = pd.to_datetime([text])[0]
    except ValueError:
        found = None
    if not isinstance(found, pd.Timestamp):
        raise OpError(key, f"got {text!r}, which is no time: 2024-01-31, or 2024-01-31T12:00")
    return found


def _step(freq: str) -> pd.Timedelta:
    try:
        step = pd.Timedelta(freq if freq[:1].isdigit() else f"1{freq}")
    except ValueError as error:
        raise OpError("freq", f"got {freq!r}; write a fixed duration: 1s, 10min, 1h, 1D") from error
    if not step > pd.Timedelta(0) or step != step.floor("us"):
        raise OpError("freq", f"got {freq!r}; a step is a whole number of microseconds, 1 or more")
    return step


def _dtype(name: str, kind: str) -> Any:
    dtype = declared_dtype(kind, f"columns.{name}")
    if isinstance(dtype, pd.StringDtype) or (isinstance(dtype, np.dtype) and dtype.kind in "biuf"):
        return dtype
    raise OpError(f"columns.{name}", f"nothing is drawn of the type {kind}; floats, integers, bool and string are")


def _rows(rows: tuple[int, int], times: tuple[int, int], seed: int, dtypes: Mapping[str, Any]) -> pd.DataFrame:
    """Rows from one number up to another; ``times``: the first and the step, in microseconds."""
    start, stop = rows
    (time, zone), *others = dtypes.items()
    stamps = pd.Series(np.arange(start, stop) * times[1] + times[0]).astype("datetime64[us]")
    if isinstance(zone, pd.DatetimeTZDtype):
        stamps = stamps.dt.tz_localize("UTC").dt.tz_convert(zone.tz)
    made: dict[str, Any] = {time: stamps.astype(zone)}
    for name, dtype in others:
        made[name] = pd.Series(_drawn(_words(seed, name, start, stop), dtype), dtype=dtype)
    return pd.DataFrame(made, index=pd.RangeIndex(stop - start))


def _words(seed: int, name: str, start: int, stop: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The 64-bit words number ``start`` to ``stop`` of a column."""
    key = int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:16], "little")
    generator = np.random.Philox(key=key).advance(start // _WORDS)
    skipped = start % _WORDS
    return generator.random_raw(stop - start + skipped)[skipped:]


def _drawn(words: np.ndarray[Any, np.dtype[np.uint64]], dtype: Any) -> Any:
    if dtype == TEXT:
        return np.array(_NAMES, dtype=object)[words % len(_NAMES)]
    if dtype.kind == "b":
        return words >> 63 == 1
    if dtype.kind == "f":
        # of a half or single as many bits as it has: rounding up would give 1
        bits = np.finfo(dtype).nmant + 1
        return ((words >> (64 - bits)) * 2.0 ** (1 - bits) - 1).astype(dtype)
    return (words % min(_INTEGERS, int(np.iinfo(dtype).max) + 1)).astype(dtype)
