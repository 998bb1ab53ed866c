"""The values of a column as text for CSV and JSON, and such text as values again.

==================  =======================================  ==========================================
type                in CSV                                   in JSON
==================  =======================================  ==========================================
whole numbers       all digits                               all digits
floats              the shortest text that reads back        the same; inf as null
decimals            all digits of their scale                text with these
true/false          ``True`` ``False``                       ``true`` ``false``
text, category      as it is; quoted where CSV needs it      a string
date, time of day   ``2001-02-03`` ``04:05:06.5``            text with these
timestamp           ``2001-02-03T04:05:06+01:00``            text with these
duration            ``-26:30:00.5`` (hours, minutes, …)      text with these
binary              base64                                   text with this
list, struct        JSON                                     arrays, objects
missing             nothing (``na_rep``); ``""`` is no text  ``null``
==================  =======================================  ==========================================
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.graph.column_types import is_text
from pipeline.graph.late_pandas import numbers_of

__all__ = ["csv_field", "csv_rows", "from_json", "from_text", "json_rows", "plain_texts"]

_SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, pa.large_string())


_NONE = pa.scalar(None, pa.large_string())


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The values in one array, categories as their text."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


# ---------------------------------------------------------------------------------------------------------------------
# As text
# ---------------------------------------------------------------------------------------------------------------------


def plain_texts(column: pa.ChunkedArray | pa.Array, *, time_format: str | None = None) -> pa.Array:
    """Return the text of each value, or missing, as in the table above for CSV, without quotes.

    Parameters
    ----------
    time_format : of Python's ``strftime``, for dates and timestamps; default: ISO 8601
    """
    array, t = _one(column), pa.types
    kind = array.type
    if is_text(kind):
        return array.cast(pa.large_string())
    if t.is_boolean(kind):
        return pc.if_else(array, _text("True"), _text("False"))
    if t.is_floating(kind):
        return _float_texts(array)
    if t.is_decimal(kind):
        return _each(array, lambda value: format(value, "f"))
    if t.is_date(kind) or t.is_timestamp(kind):
        return _iso(array) if time_format is None else _formatted(array, time_format)
    if t.is_duration(kind):
        return _clock_texts(array)
    if t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind):
        return _each(array, lambda value: base64.b64encode(value).decode())
    if t.is_list(kind) or t.is_large_list(kind) or t.is_struct(kind):
        texts = _json_values(array)
        return pc.if_else(array.is_valid(), texts, _NONE)
    texts = array.cast(pa.string()).cast(pa.large_string())
    return _without_zeros(texts) if t.is_time(kind) else texts


def _each(array: pa.Array, made: Callable[[Any], Any], kind: pa.DataType = _NONE.type) -> pa.Array:
    return pa.array((None if value is None else made(value) for value in array.to_pylist()), kind)


def _float_texts(array: pa.Array) -> pa.Array:
    if pa.types.is_float16(array.type):
        return _numpy_texts(array)
    texts = array.cast(pa.large_string())
    texts = pc.replace_substring_regex(texts, r"^(-?[0-9]+)$", r"\1.0")
    long = pc.fill_null(pc.match_substring(texts, "e"), False)
    if not pc.any(long).as_py():
        return texts
    return pc.replace_with_mask(texts, long, _numpy_texts(array.filter(long)))  # 123456789012.0, not 1.23456789012e+11


def _numpy_texts(array: pa.Array) -> pa.Array:
    values = numbers_of(pc.fill_null(array, pa.scalar(0, array.type)))
    pairs = zip(values, array.is_null().to_pylist(), strict=True)
    return pa.array([None if missing else str(value) for value, missing in pairs], pa.large_string())


def _without_zeros(texts: pa.Array) -> pa.Array:
    """Times without a fraction of a second that is zero."""
    return pc.replace_substring_regex(texts, r"\.0+($|[+-])", r"\1")


def _iso(array: pa.Array) -> pa.Array:
    if pa.types.is_date(array.type):
        return array.cast(pa.date32()).cast(pa.string()).cast(pa.large_string())
    zoned = array.type.tz is not None
    if not zoned:
        texts = pc.replace_substring(array.cast(pa.string()), " ", "T")
    else:
        texts = pc.replace_substring_regex(pc.strftime(array, "%Y-%m-%dT%H:%M:%S%z"), r"([+-]\d\d)(\d\d)$", r"\1:\2")
    return _without_zeros(texts).cast(pa.large_string())


def _formatted(array: pa.Array, time_format: str) -> pa.Array:
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
    return _each(array, lambda value: value.strftime(time_format))


def _clock_texts(array: pa.Array) -> pa.Array:
    per_second = _SECONDS[array.type.unit]
    digits = len(str(per_second)) - 1

    def text(value: int) -> str:
        seconds, rest = divmod(abs(value), per_second)
        fraction = f".{rest:0{digits}d}" if rest else ""
        sign = "-" if value < 0 else ""
        return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}"

    return _each(array.cast(pa.int64()), text)


# ---------------------------------------------------------------------------------------------------------------------
# Rows of CSV
# ---------------------------------------------------------------------------------------------------------------------


def csv_field(text: str, options: Mapping[str, Any]) -> str:
    """Return a name as a field of the header."""
    return str(_quoted(pa.array([text], pa.large_string()), options, numeric=False)[0].as_py())


def csv_rows(table: pa.Table, options: Mapping[str, Any]) -> memoryview:
    """Return rows as CSV in lines that end in LF, encoded.

    Parameters
    ----------
    options : as of the format csv; those left out have their defaults
    """
    if not table.num_rows:
        return memoryview(b"")
    columns = [_csv_column(column, options) for column in table.columns]
    absent = str(options.get("na_rep", ""))
    if len(columns) == 1 and not absent:
        absent = '""'  # an empty line is no row
    lines = pc.binary_join_element_wise(
        *columns, _text(options.get("sep", ",")), null_handling="replace", null_replacement=absent
    )
    return _joined_lines(lines)


def _csv_column(column: pa.ChunkedArray, options: Mapping[str, Any]) -> pa.Array:
    kind = column.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    form = options.get("float_format")
    if pa.types.is_floating(kind) and form:
        texts = _each(_one(column), lambda value: form % value)
    else:
        texts = plain_texts(column, time_format=options.get("date_format"))
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        mark = options.get("decimal", ".")
        texts = texts if mark == "." else pc.replace_substring(texts, ".", mark)
    return _quoted(texts, options, numeric=numeric or pa.types.is_boolean(kind))


def _quoted(texts: pa.Array, options: Mapping[str, Any], *, numeric: bool) -> pa.Array:
    """The texts in quotes where a reader would take them for something else: also empty ones, which are not missing."""
    separator, absent = options.get("sep", ","), str(options.get("na_rep", ""))
    quoting = options.get("quoting", 0)
    if quoting == 1 or (quoting == 2 and not numeric):
        needs = texts.is_valid()
    elif numeric:
        needs = pc.match_substring(texts, separator)
    else:
        pattern = f'["\\n\\r{re.escape(separator)}]|^{re.escape(absent)}$|^$'
        needs = pc.match_substring_regex(texts, pattern)
    needs = pc.fill_null(needs, False)
    if not pc.any(needs).as_py():
        return texts
    inner = pc.replace_substring(texts.filter(needs), '"', '""')
    quote = _text('"')
    return pc.replace_with_mask(texts, needs, pc.binary_join_element_wise(quote, inner, quote, _text("")))


def _joined_lines(lines: pa.Array) -> memoryview:
    """The texts one after the other, each with a line end: they lie in memory as the file has them."""
    ended = pc.binary_join_element_wise(lines, _text(""), _text("\n"))
    ended = ended.cast(pa.large_string())
    _, offsets, data = ended.buffers()
    ends = np.frombuffer(offsets, np.int64)[ended.offset : ended.offset + len(ended) + 1]
    return memoryview(data)[ends[0] : ends[-1]] if len(ended) else memoryview(b"")


# ---------------------------------------------------------------------------------------------------------------------
# Rows of JSON
# ---------------------------------------------------------------------------------------------------------------------


def json_rows(table: pa.Table) -> pa.Array:
    """Return each row as a JSON object on one line."""
    columns = [_one(column) for column in table.columns]
    return _json_objects(columns, table.column_names, table.num_rows)


def _json_objects(columns: Sequence[pa.Array], names: Sequence[str], n_rows: int) -> pa.Array:
    if not columns:
        return pa.array(["{}"] * n_rows, pa.large_string())
    pieces: list[Any] = []
    for i, (name, column) in enumerate(zip(names, columns, strict=True)):
        label = f"{', ' if i else '{'}{json.dumps(name, ensure_ascii=False)}: "
        pieces += [_text(label), _json_values(column)]
    end, nothing = _text("}"), _text("")
    return pc.binary_join_element_wise(*pieces, end, nothing)


def _json_values(array: pa.Array) -> pa.Array:
    """The JSON of each value; none is missing: ``null``."""
    array, t = _one(array), pa.types
    kind = array.type
    if t.is_boolean(kind):
        texts = pc.if_else(array, _text("true"), _text("false"))
    elif t.is_integer(kind):
        texts = plain_texts(array)
    elif t.is_floating(kind):
        texts = plain_texts(array)
        odd = pc.fill_null(pc.match_substring_regex(texts, "inf|nan"), False)
        texts = pc.if_else(odd, _NONE, texts)
    elif t.is_struct(kind):
        members = [_member(array, i) for i in range(kind.num_fields)]
        texts = _json_objects(members, [member.name for member in kind], len(array))
        texts = pc.if_else(array.is_valid(), texts, _NONE)
    elif t.is_list(kind) or t.is_large_list(kind):
        texts = _json_lists(array)
    else:
        texts = _each(plain_texts(array), lambda text: json.dumps(text, ensure_ascii=False))
    return pc.fill_null(texts, "null")


def _member(array: pa.StructArray, i: int) -> pa.Array:
    return array.flatten()[i]  # missing where the struct is


def _json_lists(array: pa.Array) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(array).cast(pa.int64()), 0)
    offsets = pa.array(np.concatenate([[0], np.cumsum(numbers_of(lengths))]), pa.int64())
    inner = pa.LargeListArray.from_arrays(offsets, _json_values(array.flatten()))
    start, end, nothing = _text("["), _text("]"), _text("")
    texts = pc.binary_join_element_wise(start, pc.binary_join(inner, _text(", ")), end, nothing)
    return pc.if_else(array.is_valid(), texts, _NONE)


# ---------------------------------------------------------------------------------------------------------------------
# Text as values again
# ---------------------------------------------------------------------------------------------------------------------


def from_text(texts: pa.Array, kind: pa.DataType, *, time_format: str | None = None) -> pa.Array:
    """Return what :func:`plain_texts` wrote as values.

    Raises
    ------
    ValueError : text that is no value of this type
    """
    t = pa.types
    if t.is_dictionary(kind):
        return texts.cast(pa.string()).dictionary_encode().cast(kind)
    if time_format is not None and (t.is_date(kind) or t.is_timestamp(kind)):
        times = [None if text is None else datetime.strptime(text, time_format) for text in texts.to_pylist()]
        return pa.array(times, pa.timestamp("us", getattr(kind, "tz", None))).cast(kind)
    if t.is_duration(kind) or t.is_time(kind):
        carried = pa.int32() if t.is_time32(kind) else pa.int64()
        return pa.array([_ticks(text, kind.unit) for text in texts.to_pylist()], carried).cast(kind)
    if t.is_binary(kind):
        return _each(texts, lambda text: base64.b64decode(text, validate=True), kind)
    if t.is_list(kind) or t.is_struct(kind):
        return from_json([None if text is None else json.loads(text) for text in texts.to_pylist()], kind)
    if t.is_float16(kind):
        return texts.cast(pa.float32()).cast(kind)
    return texts.cast(pa.string()).cast(kind)


def _ticks(text: str | None, unit: str) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d+))?", text)
    if found is None:
        raise ValueError(f"{text!r} is no clock time")
    seconds = int(found[2]) * 3600 + int(found[3]) * 60 + int(found[4])
    digits = len(str(_SECONDS[unit])) - 1
    ticks = seconds * _SECONDS[unit] + int((found[5] or "0").ljust(digits, "0")[:digits] or 0)
    return -ticks if found[1] else ticks


def from_json(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return values of decoded JSON in the type that was written.

    Raises
    ------
    ValueError : a value that is none of this type
    """
    t = pa.types
    if t.is_nested(kind):
        wanted, name = (dict, "an object") if t.is_struct(kind) else (list, "a list")
        odd = next((v for v in values if v is not None and not isinstance(v, wanted)), None)
        if odd is not None:
            raise ValueError(f"{odd!r} is not {name}")
        missing = pa.array([v is None for v in values], pa.bool_())
    if t.is_struct(kind):
        members = [
            from_json([None if v is None else v.get(member.name) for v in values], member.type) for member in kind
        ]
        return pa.StructArray.from_arrays(members, fields=list(kind), mask=missing)
    if t.is_list(kind):
        inner = from_json([item for v in values if v is not None for item in v], kind.value_type)
        lengths = np.asarray([0 if v is None else len(v) for v in values], np.int64)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, inner, type=kind, mask=missing)
    if t.is_boolean(kind) or t.is_integer(kind):
        return pa.array(values, kind)
    if t.is_floating(kind):
        return pa.array(values, pa.float64()).cast(kind, safe=False)
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return from_text(pa.array(texts, pa.large_string()), kind)
