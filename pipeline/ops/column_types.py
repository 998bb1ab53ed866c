"""Types of columns: the dtype that a stored type becomes, and the conversion to it.

A source declares the dtypes of its columns while building; here the tasks convert to exactly these dtypes, or fail.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.errors import OpError

__all__ = [
    "TEXT",
    "arrow_type",
    "common_dtype",
    "converted",
    "declared_dtype",
    "empty_frame",
    "localized",
    "moments",
    "natural_dtype",
]

TEXT = pd.StringDtype(na_value=np.nan)


def declared_dtype(name: str, field: str) -> Any:
    """Return the pandas dtype of a type of the language; ``field`` is the key that names it.

    Raises
    ------
    OpError : if there is no such type

    >>> declared_dtype("timestamp[UTC]", "cast")
    datetime64[us, UTC]
    """
    named = {"string": TEXT, "timestamp": "datetime64[us]", "date": "datetime64[us]", "duration": "timedelta64[us]"}
    try:
        if name.startswith("timestamp[") and name.endswith("]"):
            return pd.DatetimeTZDtype("us", name[10:-1])
        return pd.api.types.pandas_dtype(named.get(name, name))
    except (TypeError, ValueError, KeyError) as error:
        known = "numpy's names, string, timestamp, timestamp[ZONE], date, duration"
        raise OpError(field, f"{name!r} is no type; types are {known}") from error


def natural_dtype(stored: pa.DataType, *, has_missing: bool, keep: bool = False) -> Any:
    """Return the pandas dtype that a stored type becomes by default.

    Parameters
    ----------
    has_missing : whole numbers with missing values become float64, booleans pandas' ``boolean``
    keep : whether decimals and dates keep their types
    """
    t = pa.types
    if t.is_dictionary(stored):
        return natural_dtype(stored.value_type, has_missing=has_missing, keep=keep)
    if t.is_decimal(stored) or t.is_date(stored):
        if keep:
            return pd.ArrowDtype(stored)
        return np.dtype("float64" if t.is_decimal(stored) else "datetime64[us]")
    if t.is_boolean(stored):
        return pd.BooleanDtype() if has_missing else np.dtype(bool)
    if t.is_integer(stored):
        return np.dtype("float64") if has_missing else np.dtype(stored.to_pandas_dtype())
    if t.is_floating(stored):
        return np.dtype(stored.to_pandas_dtype())
    if t.is_timestamp(stored):
        return pd.DatetimeTZDtype(stored.unit, stored.tz) if stored.tz else np.dtype(f"datetime64[{stored.unit}]")
    if t.is_duration(stored):
        return np.dtype(f"timedelta64[{stored.unit}]")
    if _is_text(stored):
        return TEXT
    return np.dtype("float64") if t.is_null(stored) else np.dtype(object)


def common_dtype(dtypes: Sequence[Any]) -> Any:
    """Return the dtype that holds the values of all of these; None if there is none."""
    distinct = list(dict.fromkeys(dtypes))
    if len(distinct) == 1:
        return distinct[0]
    plain = [dtype.categories.dtype if isinstance(dtype, pd.CategoricalDtype) else dtype for dtype in distinct]
    if plain != distinct:
        return common_dtype(plain)
    numbers = [dtype for dtype in distinct if pd.api.types.is_numeric_dtype(dtype) and dtype.kind != "b"]
    if len(numbers) < len(distinct) and len({dtype.kind for dtype in distinct}) > 1:
        return None
    if len({str(getattr(dtype, "tz", None)) for dtype in distinct}) > 1:
        return None
    common = pd.concat([pd.Series([], dtype=dtype) for dtype in distinct]).dtype
    return common if common.kind != "O" or all(isinstance(dtype, pd.StringDtype) for dtype in distinct) else None


def arrow_type(dtype: Any) -> pa.DataType:
    """Return the type as which a CSV column is parsed; times and durations are text, which pandas converts."""
    if isinstance(dtype, pd.BooleanDtype):
        return pa.bool_()
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        return pa.float32() if dtype == np.float16 else pa.from_numpy_dtype(dtype)
    return pa.string()


def converted(column: pa.ChunkedArray, dtype: Any) -> pd.Series[Any]:
    """Convert a column to the declared dtype.

    Raises
    ------
    ValueError : a value does not fit
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if isinstance(dtype, pd.ArrowDtype):
        return pd.Series(pd.array(column.cast(dtype.pyarrow_dtype), dtype=dtype))
    if isinstance(dtype, pd.StringDtype):
        return pd.Series(column.cast(pa.large_string()).to_pandas(), dtype=TEXT)
    if isinstance(dtype, pd.DatetimeTZDtype) or dtype.kind == "M":
        return _times(column, dtype)
    if dtype.kind == "m" and _is_text(column.type):
        return pd.to_timedelta(pd.Series(column.to_pandas(), dtype=object)).astype(dtype)
    if isinstance(dtype, pd.BooleanDtype):
        return pd.Series(column.cast(pa.bool_()).to_pandas(types_mapper={pa.bool_(): dtype}.get))
    if dtype.kind == "O":
        return pd.Series(column.to_pandas(), dtype=object)
    return _number(column, dtype)


def _number(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> pd.Series[Any]:
    if dtype.kind in "biu" and column.null_count:
        cure = "string" if dtype.kind == "b" else "float64"
        raise ValueError(f"has {column.null_count} missing values, which {dtype} can't hold; it needs cast: {cure}")
    if dtype.kind in "biu" and pa.types.is_floating(column.type):
        return pd.Series(column.cast(pa.from_numpy_dtype(dtype), safe=True).to_pandas())
    if dtype.kind == "f" and pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_decimal(column.type) and dtype.kind == "f":
        column = column.cast(pa.float64())
    target = pa.float32() if dtype == np.float16 else pa.from_numpy_dtype(dtype)
    return pd.Series(column.cast(target, safe=dtype.kind != "f").to_pandas(), dtype=dtype)


def _times(column: pa.ChunkedArray, dtype: Any) -> pd.Series[Any]:
    """Convert text in ISO 8601, or stored times, to times.

    Naive times are taken to be in the zone of ``dtype``. Zoned times are not made naive: the file must say in which
    zone.
    """
    if _is_text(column.type):
        times: pd.Series[Any] = pd.Series(column.to_pandas(), dtype=object)
        if times.isna().all():
            return pd.Series(pd.NaT, index=times.index).astype(dtype)
        times = moments(times)
    else:
        stored = column.type
        whole = stored if pa.types.is_timestamp(stored) else pa.timestamp("us")
        times = pd.Series(column.cast(whole).to_pandas())
    zoned = isinstance(dtype, pd.DatetimeTZDtype)
    if times.dt.tz is not None and not zoned:
        raise ValueError(f"has times with a zone ({times.dt.tz}); it needs cast: timestamp[{times.dt.tz}]")
    if zoned:
        times = localized(times, dtype.tz) if times.dt.tz is None else times.dt.tz_convert(dtype.tz)
    result: pd.Series[Any] = times.astype(dtype)
    return result


def moments(texts: pd.Series[Any]) -> pd.Series[Any]:
    """Parse times in ISO 8601; they are in UTC if their offsets differ.

    Raises
    ------
    ValueError : a text is not a time, or only some have an offset
    """
    try:
        times = pd.to_datetime(texts, format="ISO8601")
    except ValueError:
        times = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
        wrong = texts[times.isna() & texts.notna()]
        if len(wrong):
            raise ValueError(f"{wrong.iloc[0]!r} is no time as ISO 8601 writes it: 2020-01-31T12:00:00") from None
        if not texts.dropna().str.contains(r"(?:Z|[+-]\d\d:?(?:\d\d)?)$").all():
            raise ValueError("has times with a zone and times without one") from None
    return times


def localized(times: pd.Series[Any], zone: Any) -> pd.Series[Any]:
    """Localize naive times in a zone.

    Raises
    ------
    ValueError : a time exists twice or never in that zone
    """
    try:
        found_times: pd.Series[Any] = times.dt.tz_localize(zone)
    except ValueError as error:
        found = re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", str(error))
        at = found[0] if found else "a time"
        raise ValueError(
            f"{at} is twice or never on the clock of {zone}; make it timestamp, and in an assign say what is meant: "
            f"localize(t, '{zone}', ambiguous=True, nonexistent='shift_forward')"
        ) from error
    return found_times


def empty_frame(dtypes: dict[str, Any]) -> pd.DataFrame:
    """Return a frame without rows with these columns."""
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()}, columns=list(dtypes))


def _is_text(stored: pa.DataType) -> bool:
    return bool(pa.types.is_string(stored) or pa.types.is_large_string(stored) or pa.types.is_string_view(stored))
