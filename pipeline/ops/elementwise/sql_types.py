"""Values of expressions as SQL: constants, conversions between types that keep every value, kinds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import Months
from pipeline.config.expressions.tree import constant_kind
from pipeline.graph.column_types import family

__all__ = [
    "NUMERIC",
    "UNITS",
    "Typed",
    "as_type",
    "clean",
    "decimal_of",
    "digits",
    "finer",
    "from_ticks",
    "kind",
    "let",
    "literal",
    "null",
    "numeric",
    "quoted",
    "renamed",
    "settled",
    "sql_name",
    "ticks",
    "ticks_of",
    "time_of_text",
    "true_only",
    "unit_of",
    "zone_name",
]

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
NUMERIC = frozenset({"number", "true/false"})
_EPOCH = datetime(1970, 1, 1)
_INLINE = 160


@dataclass(frozen=True)
class Typed:
    """SQL for a value of each row.

    Parameters
    ----------
    sql : safe to stand in any place of a larger expression; it gives the carrier of the type
    type : of the schema
    nullable : whether it may be missing
    constant : the value in a tuple, if it is the same in all rows and known; then it takes the type of its neighbour
    bound : whether such a value came from another step
    nan : whether the SQL may give NaN, which means missing; :func:`clean` makes it NULL
    loose : whether NULL means false; :func:`true_only` makes it false
    """

    sql: str
    type: pa.DataType
    nullable: bool
    constant: tuple[Any, ...] = ()
    bound: bool = False
    nan: bool = False
    loose: bool = False


def settled(value: Typed) -> Typed:
    """Return the value without NaN, and true or false where it is a condition."""
    if value.loose:
        return Typed(true_only(value), value.type, nullable=False)
    return Typed(clean(value), value.type, value.nullable or value.nan)


def clean(value: Typed) -> str:
    """Return SQL that is NULL where the value is missing."""
    if not value.nan:
        return value.sql
    cleaned = f"nullif({{}}, 'nan'::{sql_name(value.type)})"
    # DuckDB reads it as a case of two copies: nested, they would double with each level
    return let(cleaned.format, value.sql, inline=0) if "nullif(" in value.sql else cleaned.format(value.sql)


def true_only(value: Typed) -> str:
    """Return SQL of a truth value in which missing is false."""
    return f"coalesce({value.sql}, false)" if value.nullable else value.sql


def let(body: Callable[..., str], *values: str, inline: int = _INLINE) -> str:
    """Return ``body(*values)``; a long value is computed once and named, so that nested expressions stay short."""
    if all(len(value) <= inline for value in values) or any("(select " in value for value in values):
        return body(*values)
    fields = ", ".join(f"'{chr(97 + i)}': {value}" for i, value in enumerate(values))
    return f"list_transform([{{{fields}}}], lambda v: {body(*(f'v.{chr(97 + i)}' for i in range(len(values))))})[1]"


# ---------------------------------------------------------------------------------------------------------------------
# Types and kinds
# ---------------------------------------------------------------------------------------------------------------------

_NAMES = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.uint8(): "utinyint",
    pa.uint16(): "usmallint",
    pa.uint32(): "uinteger",
    pa.uint64(): "ubigint",
    pa.float16(): "float",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
    pa.timestamp("s"): "timestamp_s",
    pa.timestamp("ms"): "timestamp_ms",
    pa.timestamp("us"): "timestamp",
    pa.timestamp("ns"): "timestamp_ns",
    pa.time64("ns"): "time_ns",
}


def sql_name(kind: pa.DataType) -> str:
    """Return the name in SQL of the carrier of a type."""
    t = pa.types
    if t.is_timestamp(kind):
        return _NAMES[pa.timestamp(kind.unit)]
    if kind in _NAMES:
        return _NAMES[kind]
    if t.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    if t.is_duration(kind):
        return "bigint"
    if t.is_time(kind):
        return "time"
    return {"text": "varchar", "binary": "blob"}[family(kind)]


def kind(value: Typed) -> str:
    """Return the kind of a value, as messages name it; days are times."""
    if pa.types.is_interval(value.type):
        return "months"
    found = family(value.type)
    return "time" if found == "date" else found


def numeric(value: Typed) -> np.dtype[Any]:
    """Return numpy's type of a number that is no decimal, of truth values int64."""
    if pa.types.is_boolean(value.type):
        return np.dtype(np.int64)
    found: np.dtype[Any] = np.dtype(value.type.to_pandas_dtype())
    return found


def finer(*units: str) -> str:
    """Return the finest of some units of time."""
    return max(units, key=lambda unit: UNITS[unit])


def unit_of(kind: pa.DataType) -> str:
    """Return the unit of a time or duration; days have seconds."""
    return "s" if pa.types.is_date(kind) else str(kind.unit)


# ---------------------------------------------------------------------------------------------------------------------
# Constants
# ---------------------------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """Return a text as SQL."""
    if "\0" in text:
        return "(" + " || chr(0) || ".join(quoted(part) for part in text.split("\0")) + ")"
    return "'" + text.replace("'", "''") + "'"


def null(kind: pa.DataType) -> Typed:
    """Return a missing value of a type."""
    try:
        return Typed(f"null::{sql_name(kind)}", kind, nullable=True)
    except KeyError:  # lists and structs
        return Typed("null", kind, nullable=True)


def literal(value: Any, *, bound: bool = False) -> Typed:
    """Return a constant: a Python scalar, or a numpy time or duration.

    Raises
    ------
    ExpressionError : an expression cannot hold such a value
    """
    if isinstance(value, tuple):
        return Typed("", pa.null(), False, (value,), bound)
    if isinstance(value, np.datetime64 | np.timedelta64):
        make = pa.timestamp if isinstance(value, np.datetime64) else pa.duration
        unit = np.datetime_data(value.dtype)[0]
        found = make(unit if unit in UNITS else "us")
        if np.isnat(value):
            return null(found)
        return Typed(from_ticks(str(value.astype(np.int64)), found), found, False, (value,), bound)
    constant_kind(value)
    if isinstance(value, bool):
        return Typed(str(value).lower(), pa.bool_(), False, (value,), bound)
    if isinstance(value, int):
        found = pa.uint64() if value >= 2**63 else pa.int64()
        name = sql_name(found) if -(2**63) <= value < 2**64 else "hugeint"
        return Typed(f"'{value}'::{name}", found, False, (value,), bound)
    if isinstance(value, float):
        sql = "null::double" if math.isnan(value) else f"'{value!r}'::double"
        return Typed(sql, pa.float64(), math.isnan(value), (value,), bound)
    if isinstance(value, str):
        return Typed(quoted(value), pa.string(), False, (value,), bound)
    if isinstance(value, Months):
        return Typed("", pa.month_day_nano_interval(), False, (value,), bound)
    if isinstance(value, timedelta):
        found = pa.duration("us")
    else:
        if not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        found = pa.timestamp("us", None if value.tzinfo is None else zone_name(value.tzinfo, value))
    count = ticks_of(value, "us")
    assert count is not None, "Python's times have microseconds"
    return Typed(from_ticks(str(count), found), found, False, (value,), bound)


def zone_name(zone: tzinfo, when: datetime) -> str:
    """Return Arrow's name of a zone."""
    if name := getattr(zone, "key", ""):
        return str(name)
    minutes = int((zone.utcoffset(when) or timedelta(0)).total_seconds()) // 60
    return "UTC" if not minutes else f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def ticks_of(value: Any, unit: str) -> int | None:
    """Return a time since 1970 or a duration as a whole number of a unit; None if it has a fraction of one."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        have, number = np.datetime_data(value.dtype)[0], int(value.astype(np.int64))
        whole, rest = divmod(number * UNITS[unit], UNITS[have])
        return whole if not rest else None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        value = (
            value
            - (_EPOCH if value.tzinfo is None else _EPOCH.replace(tzinfo=value.tzinfo))
            - (timedelta(0) if value.tzinfo is None else value.utcoffset() or timedelta(0))
        )
    micro = (value.days * 86_400 + value.seconds) * 10**6 + value.microseconds
    whole, rest = divmod(micro * UNITS[unit], 10**6)
    return whole if not rest else None


def decimal_of(value: bool | int | float) -> Decimal | None:
    """Return a constant as it is written in decimals; None if it is not finite or has more than 38 digits."""
    found = Decimal(repr(value)) if isinstance(value, float) else Decimal(int(value))
    return found if found.is_finite() and sum(digits(found)) <= 38 else None


def digits(value: Decimal) -> tuple[int, int]:
    """Return how many digits a decimal needs before and after the point."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), "it is finite"
    if not value:  # its one digit is none
        return 0, max(-exponent, 0)
    return max(len(value.as_tuple().digits) + exponent, 0), max(-exponent, 0)


# ---------------------------------------------------------------------------------------------------------------------
# Conversions that keep every value
# ---------------------------------------------------------------------------------------------------------------------


def as_type(value: Typed, target: pa.DataType, *, exact: bool = False) -> str:
    """Return the SQL of a value in another type of its kind that is as wide.

    Parameters
    ----------
    exact : fail where a whole number becomes another float; else it is rounded

    Raises
    ------
    ExpressionError : a constant that the type can't hold
    """
    if value.constant:
        return _constant(value.constant[0], target, exact=exact)
    have = value.type
    t = pa.types
    if have == target:
        return value.sql
    if t.is_timestamp(target):
        carried = value.sql if t.is_timestamp(have) and have.unit == target.unit else f"{value.sql}::{sql_name(target)}"
        return carried if not t.is_date(have) or target.unit == "us" else f"{value.sql}::timestamp::{sql_name(target)}"
    if t.is_duration(target):
        return ticks(value, target.unit)
    if sql_name(have) == sql_name(target):
        return value.sql
    if exact and t.is_floating(target) and t.is_integer(have) and have.bit_width == 64:
        name = sql_name(target)
        said = f"' is a value that {target} can''t hold; number(x) rounds it'"
        return let(
            lambda x: f"(case when {x}::{name}::hugeint = {x} then {x}::{name} else error({x}::varchar || {said}) end)",
            value.sql,
        )
    return f"({value.sql})::{sql_name(target)}"


def _constant(value: Any, target: pa.DataType, *, exact: bool) -> str:
    t = pa.types
    if t.is_date(target) or t.is_timestamp(target) or t.is_duration(target):
        count = ticks_of(value, unit_of(target))
        assert count is not None, "the unit of the result is as fine"
        return from_ticks(str(count), target)
    if isinstance(value, str):
        return quoted(value)
    if t.is_boolean(target):
        return str(bool(value)).lower()
    if t.is_decimal(target):
        return f"'{decimal_of(value)}'::{sql_name(target)}"
    if t.is_integer(target):
        return f"'{int(value)}'::{sql_name(target) if -(2**63) <= value < 2**64 else 'hugeint'}"
    if isinstance(value, float) and math.isnan(value):
        return f"null::{sql_name(target)}"
    with np.errstate(over="ignore"):
        number = float(np.dtype(target.to_pandas_dtype()).type(value))
    if exact and type(value) is int and number != value:
        raise ExpressionError(f"{value} is a value that {target} can't hold; number(x) rounds it")
    return f"'{number!r}'::{sql_name(target)}"


def ticks(value: Typed, unit: str, *, wide: bool = False) -> str:
    """Return a time since 1970 or a duration as a whole number of a unit that is as fine.

    Parameters
    ----------
    wide : in 128 bits, which hold every time in every unit; else it fails beyond 64 bits
    """
    t = pa.types
    if value.constant:
        count = ticks_of(value.constant[0], unit)
        assert count is not None, "the unit is as fine"
        return f"'{count}'::{'hugeint' if wide else 'bigint'}"
    factor = UNITS[unit] // UNITS[unit_of(value.type)]
    if t.is_duration(value.type):
        sql = value.sql
    elif t.is_date(value.type):
        sql, factor = f"({value.sql} - date '1970-01-01')", 86_400 * UNITS[unit]
    elif value.type.unit == "ns":
        sql = f"epoch_ns({value.sql})"
    else:
        micro = value.sql if value.type.unit == "us" else f"{value.sql}::timestamp"
        sql, factor = f"epoch_us({micro})", max(UNITS[unit] // 10**6, 1)
        if UNITS[unit] < 10**6:
            sql = f"({sql} // {10**6 // UNITS[unit]})"
    sql = f"{sql}::hugeint" if wide else sql
    return sql if factor == 1 else f"({sql} * {factor})"


def from_ticks(sql: str, target: pa.DataType) -> str:
    """Return the time or duration of a whole number of its unit; of days from whole seconds."""
    t = pa.types
    if t.is_duration(target):
        return f"({sql})::bigint"
    if t.is_date(target):
        return f"(date '1970-01-01' + (({sql}) // 86400)::integer)"
    if target.unit == "ns":
        return f"make_timestamp_ns(({sql})::bigint)"
    # a constant may be a number of 32 bits
    micro = f"make_timestamp((({sql})::bigint * {10**6 // UNITS[target.unit]})::bigint)"
    return micro if target.unit == "us" else f"{micro}::{sql_name(target)}"


def time_of_text(text: str, formats: str) -> str:
    """Return the time of a text in the first format that fits, else NULL; DuckDB's words for times fit none."""
    words = "('epoch', 'infinity', '-infinity')"
    return let(
        lambda x: (
            f"(case when lower(trim({x}, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13))) not in {words} "
            f"then try_strptime({x}, {formats}) end)"
        ),
        text,
    )


def renamed(value: Typed, kind: pa.DataType) -> Typed:
    """Return the same SQL as another type with the same carrier."""
    return replace(value, type=kind, constant=())
