"""A made-up frame with a time column, any length of it at once.

Each cell is made of one 64-bit word of a counter-based generator (Philox), which can begin anywhere: a partition draws
its own rows and no others, and where partitions end changes no value. A column's generator is keyed by the seed and the
column's name, so that other columns change none either.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import parse_duration, parse_time
from pipeline.errors import OpError
from pipeline.graph.column_types import declared_type, is_integer, is_text, schema_of
from pipeline.ops.collections import Frame
from pipeline.ops.sources.file_columns import frame_of

__all__ = ["COLUMNS", "timeseries"]

COLUMNS: Mapping[str, str] = {"name": "string", "id": "int64", "x": "float64", "y": "float64"}
"""The defaults of a time series."""

_NAMES = (
    *("Ada", "Boris", "Clara", "Dora", "Emil", "Frida", "Goran", "Hanna", "Igor", "Jana", "Karl", "Lena", "Mirko"),
    *("Nora", "Otto", "Paula", "Quirin", "Rosa", "Sven", "Tilda", "Udo", "Vera", "Wanda", "Xaver", "Yara", "Zeno"),
)
_INTEGERS = 1000  # whole numbers are below this, and within their type
_ROWS = 1_000_000  # of a partition at most, by default
_MICROSECOND = timedelta(microseconds=1)
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
    kinds = {time: pa.timestamp("us", _zone(first)), **{name: _type(name, kind) for name, kind in types.items()}}
    schema = schema_of(kinds, nullable=False)
    k = max(-(-n // _ROWS), 1) if partitions is None else partitions
    edges = [n * i // k for i in range(k + 1)]
    origin = datetime(1970, 1, 1, tzinfo=None if first.tzinfo is None else UTC)
    micro = ((first - origin) // _MICROSECOND, step // _MICROSECOND)
    tasks = [(_rows, rows, micro, seed, schema) for rows in itertools.pairwise(edges)]
    width = sum(8 if is_text(kind) else max(kind.bit_width // 8, 1) for kind in kinds.values())
    lengths = tuple(stop - start for start, stop in itertools.pairwise(edges))
    return frame_of("timeseries", tasks, schema, float(n * width), lengths)


def _time(key: str, text: str) -> datetime:
    short = re.fullmatch(r"(\d{4})(-\d\d)?", text.strip())
    try:
        return parse_time(f"{short[1]}{short[2] or '-01'}-01" if short else text)
    except ExpressionError:
        raise OpError(key, f"got {text!r}, which is no time: 2024-01-31, or 2024-01-31T12:00") from None


def _zone(time: datetime) -> str | None:
    """The zone of a time as a column has it: UTC, or an offset such as +01:00."""
    if time.tzinfo is None:
        return None
    offset = time.isoformat()[-6:]
    return "UTC" if offset == "+00:00" else offset


def _step(freq: str) -> timedelta:
    try:
        step = parse_duration(freq)
    except ExpressionError as error:
        raise OpError("freq", f"got {freq!r}; write a fixed duration: 1s, 10min, 1h, 1d") from error
    if step < _MICROSECOND:
        raise OpError("freq", f"got {freq!r}; a step is a whole number of microseconds, 1 or more")
    return step


def _type(name: str, kind: str) -> pa.DataType:
    found = declared_type(kind, f"columns.{name}")
    if is_text(found) or is_integer(found) or pa.types.is_floating(found) or pa.types.is_boolean(found):
        return found
    raise OpError(f"columns.{name}", f"nothing is drawn of the type {kind}; floats, integers, bool and string are")


def _rows(rows: tuple[int, int], times: tuple[int, int], seed: int, schema: pa.Schema) -> pa.Table:
    """Rows from one number up to another; ``times``: the first and the step, in microseconds."""
    start, stop = rows
    time, *others = schema
    columns = [pa.array(np.arange(start, stop) * times[1] + times[0]).cast(pa.timestamp("us")).cast(time.type)]
    columns += [_drawn(_words(seed, field.name, start, stop), field.type) for field in others]
    return pa.Table.from_arrays(columns, schema=schema)


def _words(seed: int, name: str, start: int, stop: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The 64-bit words number ``start`` to ``stop`` of a column."""
    key = int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:16], "little")
    generator = np.random.Philox(key=key).advance(start // _WORDS)
    skipped = start % _WORDS
    return generator.random_raw(stop - start + skipped)[skipped:]


def _drawn(words: np.ndarray[Any, np.dtype[np.uint64]], kind: pa.DataType) -> pa.Array:
    if is_text(kind):
        return pa.array(_NAMES, kind).take(pa.array(words % len(_NAMES)))
    if pa.types.is_boolean(kind):
        return pa.array(words >> 63 == 1)
    dtype = np.dtype(kind.to_pandas_dtype())
    if pa.types.is_floating(kind):
        # of a half or single as many bits as it has: rounding up would give 1
        bits = np.finfo(dtype).nmant + 1
        return pa.array(((words >> (64 - bits)) * 2.0 ** (1 - bits) - 1).astype(dtype))
    return pa.array((words % min(_INTEGERS, int(np.iinfo(dtype).max) + 1)).astype(dtype))
