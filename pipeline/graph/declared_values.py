"""Values that come from outside as a declared type: each fits exactly, or is named.

No value is changed on the way: 1.5 is no int64, 300 no int8, 2**53 + 1 no float64, a time of day no date. Text becomes
numbers, truth values and times where all of it is one. Numbers do not become text, nor durations or times: they have no
unit. A float that is not a number is missing, and so are ``None``, ``pandas.NA`` and ``pandas.NaT``.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.graph.column_types import family, is_text

__all__ = ["Misfit", "fitted", "is_missing", "without_nan"]

_WHOLE = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE)
_EXACT = decimal.Context(prec=100)
_ARROW_ERRORS = (pa.ArrowException, ValueError, TypeError, OverflowError)


class Misfit(ValueError):
    """A value does not fit; ``position`` is its number, counted from 0."""

    def __init__(self, position: int, value: Any) -> None:
        super().__init__(position, value)
        self.position, self.value = position, value

    @property
    def shown(self) -> str:
        """The value as text, for a message."""
        text = str(self.value) if _is_pandas(self.value, "Timestamp", "Timedelta") else repr(self.value)
        return text if len(text) <= 60 else f"{text[:57]}..."


def fitted(values: Sequence[Any] | pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Return values as an array of a type.

    Parameters
    ----------
    values : Python objects, or Arrow values of any type

    Raises
    ------
    Misfit : with the first value that does not fit
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    if isinstance(values, pa.Array):
        found = _cast(values, kind)
        return found if found is not None else _each(values.to_pylist(), kind)
    if family(kind) in ("number", "true/false", "text", "binary"):
        try:
            array = pa.array(values, from_pandas=True)
        except (*_ARROW_ERRORS, UnicodeError):  # of several kinds, or of none that Arrow knows
            return _each(values, kind)
        plain = pa.types.is_null(array.type) or (
            family(array.type) in ("number", "true/false", "text", "binary") and not pa.types.is_decimal(array.type)
        )
        found = _cast(array, kind) if plain else None
        if found is not None:
            return found
    return _each(values, kind)


def _each(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Value by value, as Python objects that Arrow takes without changing them."""
    made = []
    for i, value in enumerate(values):
        try:
            made.append(_value(value, kind))
        except (ValueError, TypeError, OverflowError, ArithmeticError):
            raise Misfit(i, value) from None
    if pa.types.is_dictionary(kind):
        return pa.array(made, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(made, kind)


# ---------------------------------------------------------------------------------------------------------------------
# Arrow values: all at once
# ---------------------------------------------------------------------------------------------------------------------


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Return the array as a type; None if it must be done value by value, or a value does not fit."""
    if pa.types.is_dictionary(array.type) and array.type != kind:
        array = array.cast(array.type.value_type)
    if isinstance(array, pa.ExtensionArray):
        return None
    try:
        found = _cast_to(array, kind)
    except _ARROW_ERRORS:
        return None
    return None if found is None else without_nan(found)


def without_nan(array: pa.Array) -> pa.Array:
    """Return an array whose floats that are not a number are missing, those inside lists and structs, too.

    The same array, where there are none.
    """
    t, kind = pa.types, array.type
    if t.is_floating(kind):
        wrong = pc.is_nan(array.cast(pa.float32()) if _is_half(kind) else array)
        return pc.if_else(wrong, pa.scalar(None, kind), array) if pc.any(wrong).as_py() else array
    if t.is_list(kind):
        have = array.values
        values = without_nan(have)
        if values is have:
            return array
        offsets = pa.array(np.array(array.offsets))  # a copy: a mask goes with no slice
        return pa.ListArray.from_arrays(offsets, values, kind, mask=array.is_null())
    if t.is_struct(kind):
        members = [array.field(i) for i in range(kind.num_fields)]
        made = [without_nan(member) for member in members]
        if all(new is old for new, old in zip(made, members, strict=True)):
            return array
        return pa.StructArray.from_arrays(made, fields=list(kind), mask=array.is_null())
    return array


def _cast_to(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    t, have = pa.types, array.type
    if have == kind:
        return array
    if t.is_null(have):
        return pa.nulls(len(array), kind)
    if t.is_dictionary(kind):
        found = _cast_to(array, kind.value_type)
        return None if found is None else found.dictionary_encode().cast(kind)
    if is_text(have) or is_text(kind):
        return array.cast(kind) if is_text(have) and is_text(kind) else None
    families = family(have), family(kind)
    if families == ("number", "number") or families == ("true/false", "number"):
        return _as_number(array, kind)
    if families == ("number", "true/false"):
        fits = pc.all(pc.is_in(array, pa.array([0, 1], have)), skip_nulls=True).as_py() if not _is_half(have) else False
        return array.cast(kind) if fits is not False or array.null_count == len(array) else None
    if families == ("time", "zoned time"):
        return pc.assume_timezone(array.cast(pa.timestamp(kind.unit)), kind.tz)
    if families == ("time", "date"):
        days = array.cast(kind, safe=False)
        return days if days.cast(have).equals(array) else None
    if families == ("date", "time"):
        return array.cast(kind)
    if families[0] == families[1] and families[0] not in ("list", "struct"):
        return array.cast(kind)
    return None


def _as_number(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    t, have = pa.types, array.type
    if t.is_decimal(kind):
        return None if t.is_floating(have) else array.cast(kind)
    if _is_half(have):
        array = array.cast(pa.float32())
    if t.is_decimal(have) and t.is_floating(kind):
        return array.cast(pa.float64()).cast(kind, safe=False)
    if t.is_floating(have) and t.is_floating(kind):
        found = array.cast(kind, safe=False)
        checked = found.cast(pa.float64())
        lost = pc.and_(pc.is_inf(checked), pc.is_finite(array))
        return None if pc.any(lost).as_py() else found
    if t.is_boolean(have):
        array = array.cast(pa.int8())
    return array.cast(kind)


def _is_half(kind: pa.DataType) -> bool:
    return bool(pa.types.is_float16(kind))


# ---------------------------------------------------------------------------------------------------------------------
# One value
# ---------------------------------------------------------------------------------------------------------------------


def is_missing(value: Any) -> bool:
    """Return whether a Python object stands for a missing value."""
    if value is None or _is_pandas(value, "NaTType", "NAType"):
        return True
    if isinstance(value, float | np.floating | decimal.Decimal):
        return value != value
    return isinstance(value, np.datetime64 | np.timedelta64) and bool(np.isnat(value))


def _is_pandas(value: Any, *names: str) -> bool:
    kind = type(value)
    return kind.__name__ in names and kind.__module__.startswith("pandas.")


def _value(value: Any, kind: pa.DataType) -> Any:
    """Return a value as what Arrow takes for a type: times and days as counts of their unit.

    Raises
    ------
    ValueError, TypeError, OverflowError, ArithmeticError : it does not fit
    """
    t = pa.types
    if getattr(value, "shape", None) == () and not isinstance(value, np.datetime64 | np.timedelta64):
        value = value.item()
    if is_missing(value):
        return None
    if t.is_list(kind):
        return _elements(value, kind)
    if t.is_struct(kind):
        return _members(value, kind)
    if t.is_dictionary(kind):
        return _value(value, kind.value_type)
    if is_text(kind):
        if not isinstance(value, str):
            raise TypeError
        value.encode()
        return value
    if t.is_binary(kind):
        return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else _refuse()
    if isinstance(value, str):
        value = value.strip()
    if t.is_boolean(kind):
        return _truth(value)
    if family(kind) == "number":
        return _number(value, kind)
    return _moment(value, kind)


def _refuse() -> Any:
    raise ValueError


def _truth(value: Any) -> bool:
    if isinstance(value, str):
        return {"true": True, "false": False}[value.lower()] if value.lower() in ("true", "false") else _refuse()
    if isinstance(value, bool | int | float | decimal.Decimal) and value in (0, 1):
        return bool(value)
    raise ValueError


def _number(value: Any, kind: pa.DataType) -> Any:
    t = pa.types
    if isinstance(value, str):
        if not (_WHOLE if t.is_integer(kind) else _NUMBER).fullmatch(value):
            raise ValueError
        value = int(value) if _WHOLE.fullmatch(value) else decimal.Decimal(value)
    if not isinstance(value, bool | int | float | decimal.Decimal):
        raise TypeError
    if t.is_decimal(kind):
        return _decimal(value, kind)
    if t.is_floating(kind):
        made = float(value)
        if isinstance(value, int) and _narrow(made, kind) != value:
            raise ValueError
        if math.isinf(_narrow(made, kind)) and not (isinstance(value, float | decimal.Decimal) and _is_infinite(value)):
            raise ValueError
        return None if made != made else made
    whole = int(value)
    if whole != value:
        raise ValueError
    info = np.iinfo(kind.to_pandas_dtype())
    return whole if info.min <= whole <= info.max else _refuse()


def _is_infinite(value: float | decimal.Decimal) -> bool:
    return value in (math.inf, -math.inf)


def _narrow(value: float, kind: pa.DataType) -> float:
    with np.errstate(over="ignore"):
        return float(np.dtype(kind.to_pandas_dtype()).type(value))


def _decimal(value: bool | int | float | decimal.Decimal, kind: pa.DataType) -> decimal.Decimal:
    """A float stands for the shortest decimal that it is written as."""
    number = decimal.Decimal(repr(value)) if isinstance(value, float) else decimal.Decimal(value)
    made = number.quantize(decimal.Decimal(1).scaleb(-kind.scale), context=_EXACT)
    if made != number or len(made.as_tuple().digits) > kind.precision:
        raise ValueError
    return made


def _elements(value: Any, kind: pa.DataType) -> list[Any]:
    if not isinstance(value, list | tuple | np.ndarray | set | frozenset) and not _is_pandas(value, "Series"):
        raise TypeError
    return [_value(one, kind.value_type) for one in value]


def _members(value: Any, kind: pa.DataType) -> dict[str, Any]:
    """A member that is not there is missing; one that the type does not know is refused."""
    if not isinstance(value, Mapping):
        raise TypeError
    members = {member.name: member.type for member in kind}
    if not set(value) <= set(members):
        raise ValueError
    return {name: _value(value.get(name), member) for name, member in members.items()}


def _moment(value: Any, kind: pa.DataType) -> int:
    """Return a date, time, time of day or duration as a count of the type's unit."""
    import pandas as pd  # parses and converts times; nothing else here needs it

    what = family(kind)
    if what == "time of day":
        given = datetime.time.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(given, datetime.time) or given.tzinfo is not None:
            raise ValueError
        seconds = (given.hour * 60 + given.minute) * 60 + given.second
        return _exactly(seconds * 10**9 + given.microsecond * 1000, kind.unit)
    if what == "duration":
        if not isinstance(value, str | datetime.timedelta | np.timedelta64) or _is_plain_number(value):
            raise ValueError
        return int(pd.Timedelta(value).as_unit(kind.unit, round_ok=False).asm8.astype(np.int64))
    if isinstance(value, str):
        value = pd.to_datetime(value, format="ISO8601")
    elif not isinstance(value, datetime.date | np.datetime64):
        raise TypeError
    moment = pd.Timestamp(value)
    if what == "date":
        if moment.tz is not None or moment != moment.normalize():
            raise ValueError
        return int(moment.to_datetime64().astype("datetime64[D]").astype(np.int64))
    if what == "zoned time" and moment.tz is None:
        moment = moment.tz_localize(kind.tz)
    if (moment.tz is not None) != (what == "zoned time"):
        raise ValueError
    return int(moment.as_unit(kind.unit, round_ok=False).to_datetime64().astype(np.int64))


def _is_plain_number(value: Any) -> bool:
    return isinstance(value, str) and _NUMBER.fullmatch(value) is not None


def _exactly(nanoseconds: int, unit: str) -> int:
    count, rest = divmod(nanoseconds, {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit])
    return count if not rest else _refuse()
