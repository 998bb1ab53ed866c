"""Column types: what a stored type becomes in a frame, and how a column gets there.

Everything a source declares while the graph is built is held to here in the task: a column comes out with the dtype
that was declared for it, or not at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.errors import ConfigError

__all__ = ["TEXT", "arrow_type", "converted", "declared_dtype", "empty_frame", "natural_dtype"]

TEXT = pd.StringDtype(na_value=np.nan)


def declared_dtype(name: str) -> Any:
    """The pandas dtype of a type of the language.

    Raises
    ------
    ConfigError : if there is no such type

    >>> declared_dtype("timestamp[UTC]")
    datetime64[us, UTC]
    """
    named = {"string": TEXT, "timestamp": "datetime64[us]", "date": "datetime64[us]", "duration": "timedelta64[us]"}
    if name == "category":
        raise ConfigError("cast: the type 'category' is not built yet; use string")
    try:
        if name.startswith("timestamp[") and name.endswith("]"):
            return pd.DatetimeTZDtype("us", name[10:-1])
        return pd.api.types.pandas_dtype(named.get(name, name))
    except (TypeError, ValueError, KeyError) as error:
        known = "numpy's names, string, timestamp, timestamp[ZONE], date, duration"
        raise ConfigError(f"cast: {name!r} is no type; types are {known}") from error


def natural_dtype(stored: pa.DataType, *, has_missing: bool, keep: bool = False) -> Any:
    """The pandas dtype that a stored type becomes when nothing is said.

    Parameters
    ----------
    has_missing : whole numbers with missing values become float64, booleans pandas' ``boolean``
    keep : decimals and dates stay what they are
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


def arrow_type(dtype: Any) -> pa.DataType:
    """What a CSV column is parsed as on its way to ``dtype``: times and durations stay text, which pandas reads."""
    if isinstance(dtype, pd.BooleanDtype):
        return pa.bool_()
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        return pa.float32() if dtype == np.float16 else pa.from_numpy_dtype(dtype)
    return pa.string()


def converted(column: pa.ChunkedArray, dtype: Any) -> pd.Series[Any]:
    """The column with the dtype that was declared.

    Raises
    ------
    ValueError : if a value does not fit
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
        cure = "boolean true and false only" if dtype.kind == "b" else "float64"
        raise ValueError(f"has {column.null_count} missing values, which {dtype} has not; it needs cast: {cure}")
    if dtype.kind in "biu" and pa.types.is_floating(column.type):
        return pd.Series(column.cast(pa.from_numpy_dtype(dtype), safe=True).to_pandas())
    if dtype.kind == "f" and pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_decimal(column.type) and dtype.kind == "f":
        column = column.cast(pa.float64())
    target = pa.float32() if dtype == np.float16 else pa.from_numpy_dtype(dtype)
    return pd.Series(column.cast(target, safe=dtype.kind != "f").to_pandas(), dtype=dtype)


def _times(column: pa.ChunkedArray, dtype: Any) -> pd.Series[Any]:
    """Times, of text in ISO 8601 or of stored times.

    What has no zone is taken to be of the zone of ``dtype``; what has one cannot become naive, since it is not said
    which clock is meant.
    """
    if _is_text(column.type):
        times: pd.Series[Any] = pd.Series(column.to_pandas(), dtype=object)
        if times.isna().all():
            return pd.Series(pd.NaT, index=times.index).astype(dtype)
        times = pd.to_datetime(times, format="ISO8601")
    else:
        stored = column.type
        whole = stored if pa.types.is_timestamp(stored) else pa.timestamp("us")
        times = pd.Series(column.cast(whole).to_pandas())
    zoned = isinstance(dtype, pd.DatetimeTZDtype)
    if times.dt.tz is not None and not zoned:
        raise ValueError(f"has times with a zone ({times.dt.tz}); it needs cast: timestamp[{times.dt.tz}]")
    if zoned:
        times = times.dt.tz_localize(dtype.tz) if times.dt.tz is None else times.dt.tz_convert(dtype.tz)
    result: pd.Series[Any] = times.astype(dtype)
    return result


def empty_frame(dtypes: dict[str, Any]) -> pd.DataFrame:
    """A frame of no rows with these columns."""
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()}, columns=list(dtypes))


def _is_text(stored: pa.DataType) -> bool:
    return bool(pa.types.is_string(stored) or pa.types.is_large_string(stored) or pa.types.is_string_view(stored))
