"""From one type of columns to another: every value fits, or the run names one that does not.

A conversion never changes a value: 1.5 is no int64, 300 no uint8, ``maybe`` no bool, 2001-01-01 12:00 no date. What
rounds or cuts on purpose is an expression (``integer(x)``, ``floor_time(t, '1d')``). Only floats round: a decimal or a
text becomes the nearest float, a whole number the same number or none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.expressions.time_literals import parse_duration
from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import declared_type, family, is_text, type_name
from pipeline.graph.late_pandas import numbers_of
from pipeline.ops.elementwise.sql_choices import CHOICES
from pipeline.ops.elementwise.sql_types import Typed
from pipeline.ops.frames import text_casts
from pipeline.ops.whole_numbers import compare
from pipeline.worker.sql_engine import carrier, query, restored

__all__ = ["cast_column", "target_type"]

_NUMBERS = ("number", "true/false", "text")
_FROM = {
    "number": _NUMBERS,
    "true/false": _NUMBERS,
    "text": (*_NUMBERS, "date", "time", "zoned time", "duration", "time of day"),
    "date": ("text", "date", "time"),
    "time": ("text", "date", "time"),
    "zoned time": ("text", "date", "time", "zoned time"),
    "duration": ("text", "duration"),
    "time of day": ("text", "time of day"),
    "binary": ("text", "binary"),
    "list": ("text", "list"),
    "struct": ("text", "struct"),
}
"""What each family of types is made from."""

_CURES = {
    ("time", "zoned time"): "say which clock is meant: convert(t, 'UTC') and text(t) in an assign",
    ("date", "zoned time"): "say which clock is meant: convert(t, 'UTC') and slice(text(t), 0, 10) in an assign",
    ("time", "number"): "a number has no unit of time: date('1970-01-01') + x * duration('1s') in an assign",
    ("number", "time"): "take year(t), or number(t - date('1970-01-01')) in an assign",
    ("number", "date"): "take year(t), or number(t - date('1970-01-01')) in an assign",
    ("number", "duration"): "number(x) in an assign gives seconds",
    ("duration", "number"): "x * duration('1s') in an assign",
}

Values = np.ndarray[Any, Any]


def target_type(place: str, have: pa.DataType, kind: str) -> pa.DataType:
    """Return the type that ``kind`` names, for a column of the type ``have``.

    Raises
    ------
    OpError : no such type, or one whose values can't be made of these
    """
    target = declared_type(kind, place)
    _require(place, have, target, kind)
    return target


def _require(place: str, have: pa.DataType, target: pa.DataType, kind: str) -> None:
    given, want = family(have), family(target)
    if given not in _FROM[want]:
        cure = _CURES.get((want, given), "")
        raise OpError(place, f"{type_name(have)} does not become {kind}{'; ' if cure else ''}{cure}")
    if given == "text":
        return
    if want == "list":
        _require(place, have.value_type, target.value_type, kind)
    if want == "struct":
        names, known = [member.name for member in target], {member.name: member.type for member in have}
        if set(names) != set(known):
            raise OpError(place, f"{type_name(have)} does not become {kind}: their members have other names")
        for member in target:
            _require(place, known[member.name], member.type, kind)


def cast_column(name: str, column: pa.ChunkedArray, target: pa.DataType, kind: str) -> pa.ChunkedArray:
    """Return a column in another type; missing values stay missing.

    Parameters
    ----------
    name : of the column, for the message
    target : as :func:`target_type` gives it for the column's type
    kind : the name of the type in the language

    Raises
    ------
    DataError : naming the column and the first value that does not fit
    """
    try:
        return _converted(column, target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, OverflowError, DataError):
        start, stop = 0, len(column)
    while stop - start > 1:  # the first value that does not fit, by halves
        middle = (start + stop) // 2
        try:
            _converted(column.slice(start, middle - start), target)
            start = middle
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, OverflowError, DataError):
            stop = middle
    value = column[start]
    shown = repr(value.as_py()) if family(column.type) in ("number", "text", "true/false") else str(value)
    shown = str(value.as_py()) if pa.types.is_decimal(column.type) else shown
    hint = "; it is twice or never on that clock: localize(t, …) in an assign says what is meant"
    late = (
        family(column.type) in ("time", "date") and family(target) == "zoned time" and _has_unit(column[start], target)
    )
    raise DataError(f"column {name!r} got {shown[:60]}, which does not fit {kind}{hint if late else ''}")


def _has_unit(time: pa.Scalar, target: pa.DataType) -> bool:
    """Return whether a time is a whole number of the units of a type of times."""
    try:
        time.cast(pa.timestamp(target.unit))
    except pa.ArrowInvalid:
        return False
    return True


def _converted(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """The column in another type.

    Raises
    ------
    ValueError, DataError, OverflowError : a value does not fit
    """
    t = pa.types
    if column.type == target:
        return column
    if t.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if t.is_dictionary(target):
        return _converted(column, target.value_type).combine_chunks().dictionary_encode().cast(target)
    have, want = family(column.type), family(target)
    if is_text(column.type):
        if want == "text":
            return column.cast(target)
        if want == "duration":
            return _durations(column, target)
        made = _all_there(column, restored(text_casts.parsed(column, target), target))
        if t.is_floating(target):
            made = pc.if_else(pc.is_nan(_wide(made)), pa.scalar(None, target), made)
        return made
    if want == "text":
        made = CHOICES["text"](Typed("c0", column.type, True))
        return _run(column, made.sql).cast(target)
    if want in ("number", "true/false"):
        return _numbers(column, target)
    if want == "list":
        return pa.chunked_array([_lists(chunk, target) for chunk in column.chunks], type=target)
    if want == "struct":
        return pa.chunked_array([_structs(chunk, target) for chunk in column.chunks], type=target)
    if want == "date":
        return _same(column, column.cast(target, safe=False))
    if want == "zoned time" and have != "zoned time":
        plain = column.cast(pa.timestamp(target.unit))
        return pc.assume_timezone(plain, target.tz, ambiguous="raise", nonexistent="raise")
    return column.cast(target)


def _wide(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.float32()) if pa.types.is_float16(column.type) else column


def _run(column: pa.ChunkedArray, sql: str) -> pa.ChunkedArray:
    source = pa.table([column.cast(carrier(column.type)).combine_chunks()], names=["c0"])
    return query(f"select {sql} as e from t", {"t": source}).column(0)


def _all_there(column: pa.ChunkedArray, made: pa.ChunkedArray) -> pa.ChunkedArray:
    if made.null_count != column.null_count:
        raise ValueError("a value does not fit")
    return made


def _same(column: pa.ChunkedArray, made: pa.ChunkedArray) -> pa.ChunkedArray:
    """The result, if its values go back to what they were."""
    if not pc.all(pc.equal(made.cast(column.type), column), min_count=0).as_py():
        raise ValueError("a value does not fit")
    return made


def _numbers(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    t = pa.types
    have = column.type
    if t.is_decimal(have) and t.is_decimal(target):
        return column.cast(target)
    if t.is_decimal(target):
        made = f"try_cast(c0{'::integer' if t.is_boolean(have) else ''} as {_name(target)})"
        sql = f"case when {made}::double = c0::double then {made} end" if t.is_floating(have) else made
        return _all_there(column, restored(_run(column, sql), target))
    if t.is_decimal(have):
        if t.is_floating(target):
            sql = (
                "case when abs(c0) < 9007199254740992 or "
                f"try_cast(c0::double as decimal(38, {min(have.scale, 20)})) = c0 then c0::double end"
            )
            return _numbers(_all_there(column, _run(column, sql)), target)
        whole = _same(column, column.cast(pa.decimal128(38, 0), safe=False)) if have.scale else column
        return _all_there(column, restored(_run(whole, f"try_cast(c0 as {_name(target)})"), target))
    missing = column.null_count
    filled = pc.fill_null(column, pa.scalar(0, pa.int64()).cast(have)) if missing else column
    values = numbers_of(filled)
    values = values.astype(np.uint8) if values.dtype == bool else values
    found = _fitting(values, np.dtype(target.to_pandas_dtype()))
    mask = numbers_of(column.is_null()) if missing else None
    return pa.chunked_array([pa.array(found, target, mask=mask)])


def _name(kind: pa.DataType) -> str:
    return {"bool": "boolean"}.get(str(kind), str(kind).replace("decimal128", "decimal"))


def _fitting(values: Values, target: np.dtype[Any]) -> Values:
    with np.errstate(all="ignore"):
        cast = values.astype(target)
    if target.kind == "b":
        fits = (values == 0) | (values == 1)
    elif target.kind in "iu":
        info = np.iinfo(target)
        if values.dtype.kind == "f":
            fits = (values >= float(info.min)) & (values < float(info.max + 1)) & (np.trunc(values) == values)
        else:
            fits = ~np.less(values, info.min) & ~np.greater(values, info.max)
    else:
        fits = np.isfinite(cast) | ~np.isfinite(values)
        if values.dtype.kind in "iu":  # no whole number becomes another one
            fits = fits & compare("==", values, cast)
    if not np.all(fits):
        raise ValueError("a value does not fit")
    return cast


def _durations(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """Each distinct text is read once."""
    encoded = column.combine_chunks().dictionary_encode()
    counts = [text_casts.duration_ticks(text, target.unit, parse_duration) for text in encoded.dictionary.to_pylist()]
    return pa.chunked_array([pa.array(counts, pa.int64()).take(encoded.indices).cast(target)])


def _lists(chunk: pa.Array, target: pa.DataType) -> pa.Array:
    plain = chunk.cast(pa.list_(chunk.type.value_type)) if not pa.types.is_list(chunk.type) else chunk
    lengths = numbers_of(pc.fill_null(pc.list_value_length(plain), pa.scalar(0, pa.int32())))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    inner = _converted(pa.chunked_array([plain.flatten()]), target.value_type).combine_chunks()
    mask = chunk.is_null() if chunk.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets), inner, type=target, mask=mask)


def _structs(chunk: pa.Array, target: pa.DataType) -> pa.Array:
    members = [
        _converted(pa.chunked_array([pc.struct_field(chunk, [member.name])]), member.type).combine_chunks()
        for member in target
    ]
    mask = chunk.is_null() if chunk.null_count else None
    return pa.StructArray.from_arrays(members, fields=list(target), mask=mask)
