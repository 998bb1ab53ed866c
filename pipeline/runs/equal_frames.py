"""Whether two frames have the same columns and rows: tables of Arrow, or frames of pandas among a user's values.

What is no float must be equal; rows are paired by it first, so that floats may differ by a tolerance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.graph.column_types import common_type, is_text, type_name
from pipeline.graph.late_pandas import numbers_of, python_value

__all__ = ["Column", "Pairs", "columns_of", "paired", "relative_difference", "same_type"]

_LARGEST_GROUP = 2_000  # rows that differ in floats only, and are matched one by one

Floats = np.ndarray[Any, np.dtype[np.float64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Column:
    """One column: ``values`` are a ``pyarrow.ChunkedArray`` or a ``pandas.Series``; ``type`` is for messages."""

    name: str
    type: str
    values: Any

    @property
    def is_float(self) -> bool:
        return bool(
            pa.types.is_floating(self.values.type)
            if isinstance(self.values, pa.ChunkedArray)
            else getattr(self.values.dtype, "kind", "") == "f"
        )

    def floats(self) -> Floats:
        """Its floats, NaN where one is missing."""
        if isinstance(self.values, pa.ChunkedArray):
            wide = self.values.cast(pa.float32()) if pa.types.is_float16(self.values.type) else self.values
            return numbers_of(pc.fill_null(wide.cast(pa.float64()), float("nan")))
        return np.asarray(self.values.to_numpy(dtype=np.float64, na_value=np.nan))

    def value(self, row: int) -> Any:
        found = self.values[row] if isinstance(self.values, pa.ChunkedArray) else self.values.iloc[row]
        return python_value(found) if isinstance(found, pa.Scalar) else found


def columns_of(frame: Any) -> list[Column]:
    """Return the columns of a ``pyarrow.Table`` or a ``pandas.DataFrame``."""
    if isinstance(frame, pa.Table):
        return [
            Column(field.name, type_name(field.type), column)
            for field, column in zip(frame.schema, frame.columns, strict=True)
        ]
    return [Column(str(name), str(frame.dtypes.iloc[i]), frame.iloc[:, i]) for i, name in enumerate(frame.columns)]


def same_type(a: Column, b: Column) -> bool:
    """Return whether two columns hold the same; the unit of a time is only how it is stored."""
    if isinstance(a.values, pa.ChunkedArray):
        one, other, t = a.values.type, b.values.type, pa.types
        if t.is_timestamp(one) and t.is_timestamp(other):
            return bool(one.tz == other.tz)
        return bool(one == other or (is_text(one) and is_text(other)))
    one, other = a.values.dtype, b.values.dtype
    if all(getattr(dtype, "kind", "") == "M" for dtype in (one, other)):
        return getattr(one, "tz", None) == getattr(other, "tz", None)
    return bool(one == other or all(_is_pandas_text(dtype) for dtype in (one, other)))


def _is_pandas_text(dtype: Any) -> bool:
    import pandas as pd  # is loaded, since it has the column

    return bool(pd.api.types.is_string_dtype(dtype) or pd.api.types.is_object_dtype(dtype))


# ---------------------------------------------------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """The rows of two frames in an order in which they match as far as they do.

    Parameters
    ----------
    a, b : positions of the rows
    differs : of a column that is no float and the first pair that differs in it; None if all are equal
    floats : positions of the columns with floats
    x, y : their values in the order of ``a`` and ``b``, a column each
    """

    a: Numbers
    b: Numbers
    differs: tuple[int, int] | None
    floats: Sequence[int]
    x: Floats
    y: Floats


def paired(a: Sequence[Column], b: Sequence[Column], n_rows: int, *, rtol: float, ordered: bool) -> Pairs:
    """Pair the rows of two frames with the same columns and as many rows.

    Parameters
    ----------
    rtol : largest relative difference of two floats that are still the same
    ordered : whether row ``i`` belongs to row ``i``
    """
    exact = [i for i, column in enumerate(a) if not column.is_float]
    floats = [i for i, column in enumerate(a) if column.is_float]
    codes = [_codes(a[i], b[i]) for i in exact]
    x, y = (np.stack([f[i].floats() for i in floats] or [np.zeros(n_rows)], axis=1) for f in (a, b))
    order_a, order_b = np.arange(n_rows), np.arange(n_rows)
    if not ordered:
        order_a = np.lexsort([*x.T[::-1], *(code[0] for code in reversed(codes))])
        order_b = np.lexsort([*y.T[::-1], *(code[1] for code in reversed(codes))])
    x, y = x[order_a], y[order_b]
    for i, (left, right) in zip(exact, codes, strict=True):
        wrong = left[order_a] != right[order_b]
        if wrong.any():
            return Pairs(order_a, order_b, (i, int(np.argmax(wrong))), floats, x, y)
    if not ordered and relative_difference(x, y).max(initial=0) > rtol:
        order = _matched([code[0][order_a] for code in codes], x, y)
        order_b, y = order_b[order], y[order]
    return Pairs(order_a, order_b, None, floats, x, y)


def relative_difference(reference: Any, other: Any) -> np.ndarray[Any, Any]:
    """Return elementwise ``|a - b| / max(|a|, |b|)``; 0 where both are equal or missing, inf where only one is finite.

    >>> relative_difference(np.array([1.0, 0.0, np.nan]), np.array([2.0, 0.0, 1.0]))
    array([0.5, 0. , inf])
    """
    a, b = np.asarray(reference), np.asarray(other)
    wide = np.result_type(a.dtype, b.dtype, np.float64)
    same = (a == b) | ((a != a) & (b != b))
    with np.errstate(all="ignore"):
        x, y = a.astype(wide), b.astype(wide)
        found = np.abs(x / 2 - y / 2) / (np.maximum(np.abs(x), np.abs(y)) / 2)  # halves: no overflow
    return np.where(same, 0.0, np.where(np.isfinite(found), found, np.inf))


def _codes(a: Column, b: Column) -> tuple[Numbers, Numbers]:
    """Return integers that are equal where the values of the two columns are equal, in one order for both."""
    codes = _arrow_codes(a.values, b.values) if isinstance(a.values, pa.ChunkedArray) else _pandas_codes(a, b)
    return codes[: len(a.values)], codes[len(a.values) :]


def _arrow_codes(a: pa.ChunkedArray, b: pa.ChunkedArray) -> Numbers:
    plain = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in (a, b)]
    kind = common_type([column.type for column in plain])
    chunks = [chunk for column in plain for chunk in column.cast(kind).chunks]
    both = pa.chunked_array(chunks, kind).combine_chunks()
    if pa.types.is_nested(kind):
        both = pa.array([repr(value) for value in both.to_pylist()], pa.large_string())
    return np.asarray(numbers_of(both.dictionary_encode(null_encoding="encode").indices), np.int64)


def _pandas_codes(a: Column, b: Column) -> Numbers:
    import pandas as pd  # is loaded, since it has the columns

    both: Any = pd.concat([a.values.astype(object), b.values.astype(object)], ignore_index=True)
    factorize: Callable[[Any], Any] = pd.factorize
    try:
        codes, _ = factorize(both)
    except TypeError:  # lists and the like
        codes, _ = factorize(both.map(repr))
    return np.asarray(codes, np.int64)


def _matched(codes: Sequence[Numbers], x: Floats, y: Floats) -> Numbers:
    """Return an order of the rows of ``y`` in which they match those of ``x``, within groups of equal ``codes``.

    Sorting would pair the wrong rows if a first float column differs in its last bits, and a second one decides.
    """
    order = np.arange(len(x))
    starts = np.ones(len(x), bool)
    starts[1:] = np.logical_or.reduce([code[1:] != code[:-1] for code in codes]) if codes else False
    edges = [*np.flatnonzero(starts), len(x)]
    for start, stop in itertools.pairwise(edges):
        if 1 < stop - start <= _LARGEST_GROUP:
            free = list(range(start, stop))
            for row in range(start, stop):
                worst = relative_difference(x[[row]], y[free]).max(axis=1)
                best = int(np.argmin(worst))
                order[row] = free.pop(best)
    return order
