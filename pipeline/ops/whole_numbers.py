"""Whole numbers: arithmetic, comparisons and casts of numpy arrays whose results are exact, or fail.

numpy computes whole numbers modulo 2**64 without a warning. Here a result of ``+ - *`` has the next width (8, 16, 32,
64 bits), and one of 64 bits is checked: by the smallest and largest operands first, and only where these could pass
64 bits by a second computation in floats. Wrapped results are exact modulo 2**64, so they differ from the floats either
by a rounding error, which is below 2**63, or by a multiple of 2**64.

One file, since arithmetic, casts and comparisons ask the same two questions: which width holds a value, and whether a
float beside it equals it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.errors import DataError

__all__ = [
    "WholeNumberError",
    "absolute",
    "arithmetic",
    "bounds",
    "cast",
    "choose",
    "common_dtype",
    "compare",
    "concatenated",
    "extreme",
    "is_in",
    "is_whole",
    "rounded",
    "truncated",
]

Array = np.ndarray[Any, Any]
Number = Any
"""An array or a numpy scalar of whole numbers, or an int."""

_RANGE = 1 << 64
_MANY = 1000
_TO_FLOAT = "write number(x) to compute with float64"

_UFUNCS: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "//": np.floor_divide,
    "%": np.mod,
    "**": np.power,
}
_EXACT: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}


class WholeNumberError(DataError):
    """A whole number that its type can't hold, or a division by zero.

    Parameters
    ----------
    place : the index of the first such value in the array
    """

    def __init__(self, message: str, place: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.place = place


def is_whole(value: Any) -> bool:
    """Return whether a value is a numpy array or scalar of whole numbers."""
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "iu"


def bounds(value: Number, *, exact: bool = False) -> tuple[int, int]:
    """Return ints between which all values lie; zeros for an empty array.

    Parameters
    ----------
    exact : whether they are the smallest and the largest value; else the lower one may be 0, which takes half the time
    """
    if isinstance(value, int):
        return value, value
    if not value.size:
        return 0, 0
    if not exact and value.dtype == np.int64 and value.size > _MANY and min(value.flat[:64]) >= 0:
        largest = int(value.view(np.uint64).max())
        if largest < _RANGE // 2:  # else one is negative
            return 0, largest
    return int(value.min()), int(value.max())


def common_dtype(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """Return the common dtype as numpy does, but int64 for int64 and uint64, for which numpy takes float64.

    >>> common_dtype(np.dtype("int64"), np.dtype("uint64")), common_dtype(np.dtype("int8"), np.dtype("uint8"))
    (dtype('int64'), dtype('int16'))
    """
    kind = np.result_type(*dtypes)
    whole = all(dtype.kind in "iub" for dtype in dtypes)
    return np.dtype(np.int64) if whole and kind.kind == "f" else kind


# ---------------------------------------------------------------------------------------------------------------------
# Arithmetic
# ---------------------------------------------------------------------------------------------------------------------


def arithmetic(op: str, a: Number, b: Number, *, checked: bool = True, missing: bool = False) -> Any:
    """Return ``a op b`` for ``+ - * // % **`` of whole numbers, at least one of them an array or a numpy scalar.

    ``+ - *`` have twice the width of the wider operand, at most 64 bits; they are unsigned if both operands are and the
    result can't be negative. ``//`` and ``%`` have the common dtype, ``**`` has 64 bits. An int counts as the dtype of
    the other operand if that holds it, else as 64 bits.

    Parameters
    ----------
    checked : false: only the dtype of the result matters
    missing : whether a division by zero gives NaN, in float64, instead of an error

    Raises
    ------
    WholeNumberError : a result passes 64 bits, a division by zero, or a negative power
    """
    kind = _result_dtype(op, _dtype_of(a, b), _dtype_of(b, a))
    if not checked:
        return _wrapped(op, a, b, kind)
    if op in ("//", "%"):
        return _divided(op, a, b, kind, missing)
    if op == "**" and bounds(b)[0] < 0:
        raise _error("**", a, b, np.less(b, 0), f"is no whole number; {_TO_FLOAT}")
    if _is_safe(op, a, b, kind):
        return _wrapped(op, a, b, kind)
    found = _wrapped(op, a, b, kind)
    approximate = _UFUNCS[op](_as_float(a), _as_float(b))
    lost = ~(np.abs(approximate - np.asarray(found, np.float64)) < _RANGE / 2)
    if lost.any():
        raise _error(op, a, b, lost, f"which {kind} can't hold; {_TO_FLOAT}")
    return found


def _dtype_of(value: Number, other: Number) -> np.dtype[Any]:
    if not isinstance(value, int) or _holds(other.dtype, value):
        kind: np.dtype[Any] = (other if isinstance(value, int) else value).dtype
        return kind
    return np.dtype(np.uint64 if value >= _RANGE // 2 else np.int64)


def _result_dtype(op: str, a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    unsigned = a.kind == b.kind == "u"
    if op == "**":
        return np.dtype(np.uint64 if a == np.uint64 else np.int64)
    if op in ("//", "%"):
        return common_dtype(a, b)
    size = min(2 * max(a.itemsize, b.itemsize), 8)
    return np.dtype(f"{'u' if unsigned and op != '-' else 'i'}{size}")


def _is_safe(op: str, a: Number, b: Number, kind: np.dtype[Any]) -> bool:
    """Return whether no result can pass the range of ``kind``: by the dtypes, else by the extreme values."""
    if op == "**":
        return _is_safe_power(bounds(a), bounds(b), kind)
    return _is_within(op, _limits(a), _limits(b), kind) or _is_within(op, bounds(a), bounds(b), kind)


def _limits(value: Number) -> tuple[int, int]:
    limits = None if isinstance(value, int) else np.iinfo(value.dtype)
    return bounds(value) if limits is None else (int(limits.min), int(limits.max))


def _is_within(op: str, a: tuple[int, int], b: tuple[int, int], kind: np.dtype[Any]) -> bool:
    limits, ends = np.iinfo(kind), [_EXACT[op](x, y) for x in a for y in b]
    return bool(limits.min <= min(ends) and max(ends) <= limits.max)


def _is_safe_power(a: tuple[int, int], b: tuple[int, int], kind: np.dtype[Any]) -> bool:
    largest = max(map(abs, a))
    return largest <= 1 or (b[1] <= 64 and largest ** b[1] <= np.iinfo(kind).max)


def _wrapped(op: str, a: Number, b: Number, kind: np.dtype[Any]) -> Any:
    """Return the results modulo 2**64."""
    a, b = _modulo(a, kind), _modulo(b, kind)
    if op == "**":  # a negative power is an error of numpy
        b = np.maximum(b, 0)
    return _UFUNCS[op](a, b, dtype=kind, casting="unsafe")


def _modulo(value: Number, kind: np.dtype[Any]) -> Any:
    return np.array(value % _RANGE, np.uint64).astype(kind)[()] if isinstance(value, int) else value


def _as_float(value: Number) -> Any:
    return float(value) if isinstance(value, int) else value.astype(np.float64)


def _divided(op: str, a: Number, b: Number, kind: np.dtype[Any], missing: bool) -> Any:
    (a_low, a_high), (b_low, b_high) = bounds(a), bounds(b, exact=True)
    limits = np.iinfo(kind)
    zero = np.equal(b, 0) if b_low <= 0 <= b_high else np.False_
    if zero.any() and np.broadcast(a, b).size:
        if not missing:
            raise _error(op, a, b, zero, "is not defined; divide by fill or where without zeros, or write number(x)")
        found = arithmetic(op, np.where(zero, 0, a), np.where(zero, 1, b))
        return np.where(zero, np.nan, cast(found, np.dtype(np.float64)))
    if limits.min <= min(a_low, b_low) and max(a_high, b_high) <= limits.max:
        if op == "//" and a_low == limits.min and b_low <= -1 <= b_high:
            lost = np.equal(a, limits.min) & np.equal(b, -1)
            if lost.any():
                raise _error(op, a, b, lost, f"which {kind} can't hold; write integer(x) for int64, or number(x)")
        return _wrapped(op, a, b, kind)
    exact = _UFUNCS[op](_as_ints(a), _as_ints(b))
    return cast(exact, kind)


def _as_ints(value: Number) -> Any:
    return value if isinstance(value, int) else np.asarray(value).astype(object)


def _error(op: str, a: Number, b: Number, lost: Any, why: str) -> WholeNumberError:
    """Return the error for the first position where ``lost`` is true."""
    shape = np.broadcast_shapes(*(np.shape(value) for value in (a, b, lost)))
    lost = np.broadcast_to(lost, shape)
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(lost)), shape))
    x, y = (int(np.broadcast_to(value, shape)[place]) for value in (a, b))
    shown = f"-({y})" if op == "-" and isinstance(a, int) and a == 0 else f"{x} {op} {y}"
    small = op != "**" or abs(x) <= 1 or y <= 256
    result = f" is {_EXACT[op](x, y)}," if why.startswith("which") and small else ""
    return WholeNumberError(f"{shown}{result} {why}", place)


def absolute(value: Any) -> Any:
    """Return the absolute values: signed numbers in the next width, unsigned ones as they are.

    Raises
    ------
    WholeNumberError : for the smallest number of int64
    """
    if value.dtype.kind == "u":
        return value
    kind = _result_dtype("*", value.dtype, value.dtype)
    if value.dtype.itemsize == 8 and bounds(value)[0] == np.iinfo(kind).min:
        raise _error("-", 0, value, np.equal(value, np.iinfo(kind).min), f"which {kind} can't hold; {_TO_FLOAT}")
    return np.abs(value, dtype=kind)


def rounded(value: Any, digits: int) -> Any:
    """Return the values rounded to ``10 ** -digits``, halves to even, in their dtype.

    Raises
    ------
    WholeNumberError : a rounded value passes the dtype
    """
    if digits >= 0:
        return value
    step = 10**-digits
    if digits < -18:  # beyond int64
        exact = [_round_half_even(int(x), step) for x in np.ravel(value)]
        return cast(np.array(exact, object).reshape(np.shape(value)), value.dtype)[()]
    wide = value.astype(np.uint64 if value.dtype == np.uint64 else np.int64)
    whole, rest = np.divmod(wide, wide.dtype.type(step))
    half = step // 2
    up = (rest > half) | ((rest == half) & (whole % 2 == 1))
    return cast(arithmetic("*", whole + up, step), value.dtype)[()]


def _round_half_even(x: int, step: int) -> int:
    whole, rest = divmod(x, step)
    return (whole + (2 * rest > step or (2 * rest == step and whole % 2 == 1))) * step


# ---------------------------------------------------------------------------------------------------------------------
# Casts and choices
# ---------------------------------------------------------------------------------------------------------------------


def cast(values: Any, dtype: np.dtype[Any], what: str = "") -> Any:
    """Return numbers in another dtype; a whole number stays the same number.

    Floats may be rounded to other floats, booleans become 1 and 0. ``values`` may be an array of ints of any size;
    ``what`` they are, for the message.

    Raises
    ------
    WholeNumberError : the first whole number that the dtype can't hold, or float that is no whole number
    """
    kinds = values.dtype.kind, dtype.kind
    if values.dtype == dtype or kinds == ("f", "f") or kinds[0] not in "iufO" or kinds[1] not in "iuf":
        return values.astype(dtype, copy=False)
    if kinds[0] == "f":
        return _from_floats(values, dtype, what)
    low, high = bounds(values)
    if kinds[1] == "f":
        limit = 2 ** (np.finfo(dtype).nmant + 1)
        with np.errstate(over="ignore"):
            found = values.astype(dtype)
        if -limit <= low and high <= limit:
            return found
        lost = ~_equals_float(values, found)
    else:
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return values.astype(dtype)
        lost, found = np.less(values, limits.min) | np.greater(values, limits.max), values
    if np.any(lost):
        raise _unfit(values, lost, dtype, what)
    return found


def _equals_float(values: Any, floats: Any) -> Any:
    if values.dtype.kind == "O":
        return np.equal(values, floats.astype(object)).astype(bool)
    return compare("==", values, floats)


def _from_floats(values: Any, dtype: np.dtype[Any], what: str) -> Any:
    limits = np.iinfo(dtype)
    lost = ~((values >= float(limits.min)) & (values < float(limits.max + 1)) & (np.trunc(values) == values))
    if np.any(lost):
        raise _unfit(values, lost, dtype, what)
    return values.astype(dtype)


def _unfit(values: Any, lost: Any, dtype: np.dtype[Any], what: str) -> WholeNumberError:
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(lost)), np.shape(lost)))
    value = np.asarray(values)[place]
    shown = value if isinstance(value, int) else value.item()
    cure = "number(x) rounds it" if dtype.kind == "f" else _TO_FLOAT
    return WholeNumberError(f"{what}{shown!r} is a value that {dtype} can't hold; {cure}", place)


def concatenated(several: Sequence[Array]) -> Array:
    """Return arrays one after the other in their common dtype, as :func:`common_dtype`, all numbers unchanged.

    Raises
    ------
    WholeNumberError : a whole number that the common dtype can't hold
    """
    kind = common_dtype(*(each.dtype for each in several))
    return np.concatenate([cast(each, kind) for each in several])


def truncated(values: Array) -> Array:
    """Return finite floats rounded towards zero as int64.

    Raises
    ------
    WholeNumberError : a value passes int64
    """
    return np.asarray(cast(np.trunc(values), np.dtype(np.int64)))


def choose(condition: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where the condition is true and else ``b``, numbers in their common dtype, unchanged.

    Raises
    ------
    WholeNumberError : a chosen whole number that the common dtype can't hold
    """
    kind = _chosen_dtype(a, b)
    values = [_cast_chosen(value, kind, chosen) for value, chosen in ((a, condition), (b, np.logical_not(condition)))]
    return np.where(condition, *values)


def _cast_chosen(value: Any, kind: np.dtype[Any], chosen: Any) -> Any:
    typed = _typed(value)
    try:
        return cast(typed, kind)
    except WholeNumberError:  # it may be for a value that is not chosen
        return cast(np.where(chosen, typed, np.zeros((), typed.dtype)), kind)


def _chosen_dtype(a: Any, b: Any) -> np.dtype[Any]:
    """Return the common dtype of arrays, numpy scalars and constants; a constant counts as in :func:`arithmetic`."""
    plain = [_dtype_of(x, y) if type(x) is int and is_whole(y) else getattr(x, "dtype", x) for x, y in ((a, b), (b, a))]
    if not any(isinstance(each, np.dtype) for each in plain):
        plain = [_typed(each).dtype for each in plain]
    kind: np.dtype[Any] = np.result_type(*plain)
    whole = all(each.kind in "iub" if isinstance(each, np.dtype) else isinstance(each, int) for each in plain)
    return np.dtype(np.int64) if whole and kind.kind in "fO" else kind


def _typed(value: Any) -> Any:
    fits = type(value) is not int or -_RANGE // 2 <= value < _RANGE
    return np.asarray(value) if fits else np.asarray(value, dtype=object)


def extreme(op: str, a: Any, b: Any) -> Any:
    """Return the smaller (``<=``) or larger (``>=``) of two numbers in their common dtype, unchanged; NaN stays NaN.

    Raises
    ------
    WholeNumberError : a result that the common dtype can't hold
    """
    if not is_whole(a) and not is_whole(b):
        return (np.minimum if op == "<=" else np.maximum)(a, b)
    kind = _chosen_dtype(a, b)
    for values, constant in ((a, b), (b, a)):
        if type(constant) is int:
            limits = np.iinfo(values.dtype)
            if constant > limits.max if op == "<=" else constant < limits.min:
                return values  # in its dtype, which need not hold the constant
    if all(x.dtype == kind if is_whole(x) else type(x) is int and _holds(kind, x) for x in (a, b)):
        return (np.minimum if op == "<=" else np.maximum)(a, b)
    first = (compare(op, a, b) | _is_nan(a)) & ~_is_nan(b)
    return choose(first, a, b)


def _holds(kind: np.dtype[Any], number: int) -> bool:
    return kind.kind in "iu" and bool(np.iinfo(kind).min <= number <= np.iinfo(kind).max)


def _is_nan(value: Any) -> Any:
    return np.isnan(value) if _is_float(value) else np.False_


# ---------------------------------------------------------------------------------------------------------------------
# Comparisons
# ---------------------------------------------------------------------------------------------------------------------

_COMPARISONS: dict[str, Callable[..., Any]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
_SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def compare(op: str, a: Any, b: Any) -> Any:
    """Return ``a op b`` for numbers; whole numbers of 64 bits are compared with floats exactly, not as floats."""
    if _is_float(a) and (is_whole(b) or type(b) is int):
        return compare(_SWAPPED[op], b, a)
    if type(a) is int and _is_float(b) and _rounded_beside(a, b):
        return _compare_exactly(op, _typed(a), np.asarray(b, np.float64))
    if is_whole(a) and _is_float(b) and a.dtype.itemsize == 8:
        low, high = bounds(a)
        if low < -(2**53) or high > 2**53:
            return _compare_exactly(op, a, np.asarray(b, np.float64))
    return _COMPARISONS[op](a, b)


def _rounded_beside(constant: int, floats: Any) -> bool:
    """Return whether numpy would compare a constant with these floats as another number."""
    with np.errstate(over="ignore"):
        near = np.asarray(constant, getattr(floats, "dtype", np.float64)).item()
    return bool(near != constant)


def is_in(values: Array, constants: Any) -> Array:
    """Return which numbers are among some constants; a float constant counts as one of the dtype of float values."""
    if values.dtype.kind not in "iu":
        exact = [c for c in constants if type(c) is not int or not _is_float(values) or not _rounded_beside(c, values)]
        return np.isin(values, np.array(exact, np.result_type(values, *exact)))
    limits = np.iinfo(values.dtype)
    exact = [int(c) for c in constants if limits.min <= c <= limits.max and c == int(c)]
    return np.isin(values, np.array(exact, values.dtype))


def _is_float(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f")


def _compare_exactly(op: str, a: Any, b: Array) -> Any:
    limits = np.iinfo(a.dtype)
    below, above = b < float(limits.min), b >= float(limits.max + 1)
    inside = ~(below | above | np.isnan(b))
    edge = np.ceil(b) if op in ("<", ">=") else np.floor(b)
    near = np.where(inside, edge, 0).astype(a.dtype)
    if op in ("==", "!="):
        equal = inside & (edge == b) & np.equal(a, near)
        return equal if op == "==" else ~equal
    return np.where(inside, _COMPARISONS[op](a, near), above if op in ("<", "<=") else below)
