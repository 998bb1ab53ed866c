"""Times and durations of different units: numpy takes the finer unit, and wraps around where it can't hold a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.errors import DataError

__all__ = ["are_times", "comparable", "in_one_unit", "shifted"]

_MOST = int(np.iinfo(np.int64).max)
_NANOSECONDS = {"W": 604_800 * 10**9, "D": 86_400 * 10**9, "h": 3_600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6,
                "us": 10**3, "ns": 1}  # fmt: skip


def are_times(*values: Any) -> bool:
    """Return whether these are times or durations as numpy has them."""
    return all(isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "mM" for value in values)


def comparable(a: Any, b: Any) -> tuple[Any, Any]:
    """Return two values in the finer of their units; what that can't hold is its largest or smallest value."""
    if a.dtype == b.dtype or a.dtype.kind != b.dtype.kind:
        return a, b
    finer = np.promote_types(a.dtype, b.dtype)
    return _in(finer, a)[0], _in(finer, b)[0]


def in_one_unit(a: Any, b: Any) -> tuple[Any, Any]:
    """Return two values in the finer of their units.

    Raises
    ------
    DataError : it can't hold one of them
    """
    if a.dtype.kind == b.dtype.kind:
        finer = np.promote_types(a.dtype, b.dtype)
    else:  # a time and a duration
        finer = np.promote_types(*(np.dtype(f"m8[{np.datetime_data(value.dtype)[0]}]") for value in (a, b)))
    found = []
    for value in (a, b):
        unit = np.dtype(f"{value.dtype.kind}8[{np.datetime_data(finer)[0]}]")
        converted, outside = _in(unit, value)
        if outside.any():
            raise _too_far(np.asarray(value)[outside].flat[0], unit)
        found.append(converted)
    return found[0], found[1]


def shifted(function: Callable[..., Any], a: Any, b: Any) -> Any:
    """Return the sum or the difference (``np.add``, ``np.subtract``) of times or durations.

    Raises
    ------
    DataError : the unit can't hold it
    """
    a, b = in_one_unit(a, b)
    found = function(a, b)
    x, y, sums = (np.asarray(value).view(np.int64) for value in (a, b, found))
    wraps = (x ^ sums) & ((y if function is np.add else x) ^ (sums if function is np.add else y)) < 0
    wraps &= ~(np.isnat(a) | np.isnat(b))
    if wraps.any():
        pair = [np.broadcast_to(value, np.shape(wraps))[wraps].flat[0] for value in (a, b)]
        raise _too_far(f"{pair[0]} {'+' if function is np.add else '-'} {pair[1]}", found.dtype)
    return found


def _in(dtype: np.dtype[Any], value: Any) -> tuple[Any, Any]:
    """Return a value in another unit, cut off at its limits, and where it was cut off."""
    (step, _), (own, count) = np.datetime_data(dtype), np.datetime_data(value.dtype)
    if own not in _NANOSECONDS or step not in _NANOSECONDS or count != 1:
        return value.astype(dtype), np.zeros(np.shape(value), bool)
    factor, missing = _NANOSECONDS[own] // _NANOSECONDS[step], np.isnat(value)
    numbers = np.asarray(value).view(np.int64)
    above, below = numbers > _MOST // factor, (numbers < -(_MOST // factor)) & ~missing
    cut = np.where(above, _MOST, np.where(below, -_MOST, np.where(above | below | missing, 0, numbers) * factor))
    cut = np.where(missing, np.iinfo(np.int64).min, cut).astype(np.int64).view(dtype)
    return (cut if isinstance(value, np.ndarray) else cut[()]), above | below


def _too_far(what: Any, dtype: np.dtype[Any]) -> DataError:
    unit = np.datetime_data(dtype)[0]
    years = " (the years 1678 to 2262)" if unit == "ns" and dtype.kind == "M" else ""
    return DataError(f"{what} is further away than 64 bits of {unit} can hold{years}")
