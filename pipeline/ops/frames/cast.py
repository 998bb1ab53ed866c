"""From one type of columns to another: every value fits, or the run says which one does not.

A conversion never changes a value: 1.5 is no int64, 300 no uint8, ``maybe`` no bool. What rounds or cuts on purpose is
an expression (``integer(x)``, ``floor_time(t, '1d')``). Text is made by the expressions' ``text``, so that both mean
the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.expressions.expression import parse
from pipeline.errors import DataError, OpError
from pipeline.ops.column_types import TEXT, declared_dtype, localized, moments
from pipeline.ops.elementwise.targets import evaluate_columns
from pipeline.ops.whole_numbers import compare

__all__ = ["cast_column", "family", "target_dtype"]

_AS_TEXT = parse("text(x)", "columns")

_FROM = {
    "number": ("number", "bool", "text", "object"),
    "bool": ("number", "bool", "text", "object"),
    "text": ("number", "bool", "text", "time", "zoned time", "duration", "object"),
    "time": ("text", "time", "object"),
    "zoned time": ("text", "time", "zoned time", "object"),
    "duration": ("text", "duration", "object"),
}
"""What each family of types is made from."""

_CURES = {
    ("time", "zoned time"): "say which clock is meant: convert(t, 'UTC') and text(t) in an assign",
    ("time", "number"): "a number has no unit of time: date('1970-01-01') + x * duration('1s') in an assign",
    ("number", "time"): "take year(t), or number(t - date('1970-01-01')) in an assign",
    ("number", "duration"): "number(x) in an assign gives seconds",
    ("duration", "number"): "x * duration('1s') in an assign",
}


def family(dtype: Any) -> str:
    """``number``, ``bool``, ``text``, ``time``, ``zoned time``, ``duration`` or ``object``: what a dtype holds."""
    if isinstance(dtype, pd.CategoricalDtype):
        return family(dtype.categories.dtype)
    if isinstance(dtype, pd.DatetimeTZDtype) or (isinstance(dtype, pd.ArrowDtype) and "tz=" in str(dtype)):
        return "zoned time"
    if isinstance(dtype, pd.StringDtype):
        return "text"
    kinds = {**dict.fromkeys("iufc", "number"), "b": "bool", "M": "time", "m": "duration", "U": "text"}
    return kinds.get(dtype.kind, "object")


def target_dtype(place: str, dtype: Any, kind: str) -> Any:
    """The dtype of a column of ``dtype`` once it is of the type ``kind``.

    Raises
    ------
    OpError : no such type, or one whose values can't be made of these
    """
    target = declared_dtype(kind, place)
    have, want = family(dtype), family(target)
    if have not in _FROM[want]:
        cure = _CURES.get((want, have), "")
        raise OpError(place, f"{dtype} does not become {kind}{'; ' if cure else ''}{cure}")
    if target.kind == "c" and have == "text":
        raise OpError(place, f"{dtype} does not become {kind}; make it float64 first")
    return target


def cast_column(name: str, column: pd.Series[Any], target: Any, kind: str) -> pd.Series[Any]:
    """The column in the dtype ``target``, which ``kind`` names; its index counts the rows.

    Raises
    ------
    DataError : naming the column and the first value that does not fit, or how many are missing where none may be
    """
    column = column.reset_index(drop=True)
    if column.dtype == target:
        if kind == "date" and not _are_days(column):
            raise _misfit(name, column[column.notna()], target, kind)
        return column
    missing = column.isna().to_numpy(dtype=bool)
    if missing.any() and target.kind in "biu":
        raise DataError(
            f"column {name!r} has {int(missing.sum()):,} missing values among {len(column):,}; {kind} has no missing "
            "value: use fillna or dropna before, or float64"
        )
    present = column[~missing] if missing.any() else column
    try:
        values = _converted(present, target, kind)
    except (ValueError, TypeError, OverflowError):
        raise _misfit(name, present, target, kind) from None
    if not missing.any():
        return pd.Series(values, index=column.index)
    whole: pd.Series[Any] = pd.Series(None, index=column.index, dtype=target)
    whole[~missing] = values
    return whole


def _misfit(name: str, present: pd.Series[Any], target: Any, kind: str) -> DataError:
    """The error that names the first value that does not fit, which is found by halves."""
    start, stop = 0, len(present)
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            _converted(present.iloc[start:middle], target, kind)
            start = middle
        except (ValueError, TypeError, OverflowError):
            stop = middle
    value = present.iloc[start : start + 1].tolist()[0]
    shown = str(value) if isinstance(value, pd.Timestamp | pd.Timedelta) else repr(value)
    return DataError(f"column {name!r} got {shown[:60]}, which does not fit {kind}")


def _converted(present: pd.Series[Any], target: Any, kind: str) -> Any:
    """Values, none of them missing, as ``target``.

    Raises
    ------
    ValueError, TypeError, OverflowError : if one does not fit
    """
    if isinstance(present.dtype, pd.CategoricalDtype):
        present = present.astype(present.dtype.categories.dtype)
    if present.dtype.kind == "O" and family(present.dtype) == "object":
        present = pd.Series(present.tolist())  # of one kind after all?
    have, want = family(present.dtype), family(target)
    if not len(present):
        return pd.Series([], dtype=target).array
    if have not in (*_FROM[want], want):
        raise ValueError(f"{have} does not become {want}")
    if want == "text":
        return _texts(present)
    if want in ("number", "bool"):
        return _numbers(_parsed(present, want) if have == "text" else _plain(present), target)
    if want == "duration":
        return pd.to_timedelta(present.astype(object) if have == "text" else present).astype(target).array
    times = _times(present.reset_index(drop=True), target)
    if kind == "date" and not _are_days(times):
        raise ValueError("has a time of day")
    return times.array


def _plain(column: pd.Series[Any]) -> np.ndarray[Any, Any]:
    """Numbers, none missing, as numpy holds them."""
    if isinstance(column.dtype, pd.ArrowDtype) and "decimal" in str(column.dtype):
        return column.to_numpy(dtype=np.float64)
    dtype: Any = column.dtype
    return column.to_numpy(dtype=getattr(dtype, "numpy_dtype", dtype))


def _parsed(texts: pd.Series[Any], want: str) -> np.ndarray[Any, Any]:
    """Numbers from text; ``true`` and ``false``, in any case, where those are wanted."""
    lower = texts.astype(TEXT).str.strip().str.lower()
    if want == "bool" and lower.isin(["true", "false"]).all():
        return (lower == "true").to_numpy(dtype=bool)
    if lower.isin(["true", "false", ""]).any():
        raise ValueError("no number")
    return np.asarray(pd.to_numeric(texts.astype(object)))


def _numbers(values: np.ndarray[Any, Any], target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if values.dtype.kind == "c" and target.kind != "c":
        if values.imag.any():
            raise ValueError("has an imaginary part")
        values = values.real
    with np.errstate(all="ignore"):
        cast = values.astype(target)
    if target.kind == "b":
        fits = (values == 0) | (values == 1)
    elif target.kind in "iu":
        info = np.iinfo(target)
        fits = (values >= info.min) & (values <= info.max) & (cast == values)
    else:
        fits = np.isfinite(cast) | ~np.isfinite(values)
        if values.dtype.kind in "iu" and target.kind == "f":  # no whole number becomes another one
            fits = fits & compare("==", values, cast)
    if not fits.all():
        raise ValueError("does not fit")
    return cast


def _texts(present: pd.Series[Any]) -> Any:
    if family(present.dtype) in ("number", "bool"):
        present = pd.Series(_plain(present))  # a nullable 1 is written 1, not 1.0
    return evaluate_columns(_AS_TEXT, pd.DataFrame({"x": present.reset_index(drop=True)})).astype(TEXT).array


def _times(present: pd.Series[Any], target: Any) -> pd.Series[Any]:
    """Times of a zone for a type with a zone: those without one are taken to be of it."""
    if family(present.dtype) in ("text", "object"):
        present = moments(present.astype(object))
    if isinstance(present.dtype, pd.ArrowDtype):
        present = pd.Series(pd.DatetimeIndex(present))
    zoned = isinstance(target, pd.DatetimeTZDtype)
    if (present.dt.tz is not None) and not zoned:
        raise ValueError("has a zone")
    if zoned:
        present = localized(present, target.tz) if present.dt.tz is None else present.dt.tz_convert(target.tz)
    return present.astype(target)


def _are_days(times: pd.Series[Any]) -> bool:
    return bool((times == times.dt.normalize())[times.notna()].all())
