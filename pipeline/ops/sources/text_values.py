"""Columns of texts as typed columns: the type that some texts show, and their values in a type, none of them changed.

Whole numbers are exact: those of which some are missing, those above 2**53, and those beyond 64 bits, which are
decimals. A whole number in a column of floats that no float64 equals does not fit, nor does a number beyond all floats.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError
from pipeline.graph.column_types import common_type, family, is_integer, is_text, type_name
from pipeline.ops.elementwise.sql_types import time_of_text
from pipeline.ops.frames.cast import cast_column
from pipeline.worker.sql_engine import query

__all__ = [
    "MISSING_TEXTS",
    "Column",
    "Numbers",
    "as_typed",
    "common",
    "exact_floats",
    "is_plain",
    "may_be_inexact",
    "misfit",
    "shown_type",
]

MISSING_TEXTS = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)
"""Texts that mean missing among numbers, truth values and times; among texts only an empty field does."""

_WHOLE = r"^\s*[+-]?[0-9]+\s*$"
_MOST = 2.0**53


@dataclass(frozen=True)
class Numbers:
    """What stands before decimals, and between groups of three digits (empty: nothing does)."""

    decimal: str = "."
    thousands: str = ""


@dataclass(frozen=True)
class Column:
    """A column that is read.

    Parameters
    ----------
    kind : the type that ``cast`` names; empty: it was inferred
    formats : of its dates and times; empty: as ISO 8601 writes them
    missing : texts that mean missing
    as_text : whether the parser gives its texts, because it does not read such values itself
    """

    name: str
    type: pa.DataType
    kind: str = ""
    formats: tuple[str, ...] = ()
    missing: tuple[str, ...] = ("",)
    as_text: bool = False


def is_plain(kind: pa.DataType) -> bool:
    """Return whether parsers give a type themselves, exactly as :func:`as_typed` does."""
    return is_integer(kind) or is_text(kind) or kind in (pa.float32(), pa.float64(), pa.bool_())


# ---------------------------------------------------------------------------------------------------------------------
# Which type
# ---------------------------------------------------------------------------------------------------------------------


def shown_type(texts: pa.ChunkedArray, missing: Sequence[str], numbers: Numbers) -> tuple[pa.DataType, bool, str]:
    """Return the type that texts show, whether one of them means missing, and the first number with leading zeros.

    Whole numbers, decimals beyond 64 bits, floats, truth values, else text. Null if none has a value; text if all are
    words that mean missing among numbers.
    """
    kind, has_words = _type_with_words(texts, missing, numbers)
    return kind, has_words, _first_padded(texts, missing) if family(kind) == "number" else ""


def _first_padded(texts: pa.ChunkedArray, missing: Sequence[str]) -> str:
    padded = texts.filter(pc.match_substring_regex(texts, r"^\s*0[0-9]+\s*$"))
    return next((text.strip() for text in padded.to_pylist() if text not in missing), "")


def _type_with_words(texts: pa.ChunkedArray, missing: Sequence[str], numbers: Numbers) -> tuple[pa.DataType, bool]:
    present = pc.drop_null(texts)
    if not len(present):
        return pa.null(), False
    is_missing = pc.is_in(present, value_set=pa.array(list(missing), pa.string()))
    if not pc.any(is_missing).as_py():
        return _type_of(present, numbers), False
    values = present.filter(pc.invert(is_missing))
    if len(values):
        return _type_of(values, numbers), True
    return pa.null() if pc.all(pc.equal(present, "")).as_py() else pa.string(), True


def _type_of(texts: pa.ChunkedArray, numbers: Numbers) -> pa.DataType:
    """The type of texts that are values, at least one; most are recognised by the first."""
    first = texts[0].as_py().strip().lower()
    if first in ("true", "false"):
        are_truths = pc.all(pc.match_substring_regex(texts, r"^(?i:true|false)$")).as_py()
        return pa.bool_() if are_truths else pa.string()
    if not re.match(r"[+-]?(?:[0-9]|[^\sa-z][0-9]|inf|nan)", first):
        return pa.string()
    try:
        plain = _plain_numbers(texts, numbers)
        whole = pc.all(pc.match_substring_regex(plain, _WHOLE)).as_py()
    except ValueError:
        return pa.string()
    for kind in (pa.int64(), pa.uint64(), pa.decimal128(38, 0)) if whole else (pa.float64(),):
        try:
            _cast(plain, kind)  # a whole number that no float equals fails its task
        except ValueError:
            continue
        return kind
    return pa.string()


def common(types: Sequence[pa.DataType]) -> pa.DataType:
    """Return the type of what texts show in several places; text holds all.

    >>> common([pa.int64(), pa.float64()]), common([pa.null(), pa.bool_()]), common([pa.int64(), pa.bool_()])
    (DataType(double), DataType(bool), DataType(string))
    """
    known = [kind for kind in dict.fromkeys(types) if not pa.types.is_null(kind)]
    if not known:
        return pa.float64()
    if pa.float64() in known and all(kind == pa.float64() or is_integer(kind) for kind in known):
        return pa.float64()  # a whole number that it does not hold fails its task
    if set(known) == {pa.int64(), pa.uint64()}:
        return pa.decimal128(38, 0)
    if any(is_integer(kind) for kind in known) and all(is_integer(k) or pa.types.is_decimal(k) for k in known):
        return known[0] if len(known) == 1 else pa.decimal128(38, 0)
    return common_type(known) or pa.string()


# ---------------------------------------------------------------------------------------------------------------------
# Values of a type
# ---------------------------------------------------------------------------------------------------------------------


def as_typed(texts: pa.ChunkedArray, column: Column, numbers: Numbers) -> pa.ChunkedArray:
    """Return texts in the type of their column.

    Raises
    ------
    pa.ArrowInvalid, ValueError, DataError : a text does not fit; see :func:`misfit` for which
    """
    texts = _without(texts, column.missing)
    if is_text(column.type):
        return texts
    if column.formats:
        times = _by_format(texts, column.formats)
        return cast_column(column.name, times, column.type, column.kind or type_name(column.type))
    if family(column.type) == "number" or pa.types.is_boolean(column.type):
        return _parsed(texts, column.type, numbers)
    return cast_column(column.name, texts, column.type, column.kind or type_name(column.type))


def _without(texts: pa.ChunkedArray, missing: Sequence[str]) -> pa.ChunkedArray:
    if tuple(missing) == ("",) and not pc.any(pc.equal(texts, "")).as_py():
        return texts
    is_missing = pc.is_in(texts, value_set=pa.array(list(missing), pa.string()))
    return pc.if_else(is_missing, pa.scalar(None, pa.string()), texts)


def _parsed(texts: pa.ChunkedArray, kind: pa.DataType, numbers: Numbers) -> pa.ChunkedArray:
    texts = _plain_numbers(texts, numbers)
    if is_integer(kind) and pc.any(pc.match_substring(texts, "0x", ignore_case=True)).as_py():
        raise pa.ArrowInvalid("has hexadecimal digits")
    if kind == pa.float16():
        return _parsed(texts, pa.float32(), Numbers()).cast(kind)
    found = _cast(texts, kind)
    return exact_floats(found, texts) if kind == pa.float64() else found


def _cast(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        found = texts.cast(kind)
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(texts)
        if not pa.types.is_boolean(kind):
            trimmed = pc.replace_substring_regex(trimmed, r"^\+", "")
        found = trimmed.cast(kind)
    if pa.types.is_decimal(kind):
        _require_digits(found, texts)
    return found


def _require_digits(found: pa.ChunkedArray, texts: pa.ChunkedArray) -> None:
    """Check decimals against their texts: Arrow drops digits beyond 128 bits without an error.

    Raises
    ------
    ValueError : a number with more digits than the decimal has
    """
    floats = pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), r"^\+", "").cast(pa.float64())
    off = pc.abs(pc.subtract(found.cast(pa.float64()), floats))
    if pc.any(pc.greater(off, pc.multiply(pc.abs(floats), 1e-9))).as_py():
        raise ValueError("has too many digits")


def exact_floats(found: pa.ChunkedArray, texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return floats, checked against the texts that they were.

    Raises
    ------
    ValueError : a whole number that its float does not equal, or a number beyond all floats
    """
    if not may_be_inexact(found):
        return found
    large = pc.greater_equal(pc.abs(found), _MOST)
    for text, value in zip(texts.filter(large).to_pylist(), found.filter(large).to_pylist(), strict=True):
        infinite = value in (float("inf"), float("-inf"))
        if infinite and re.search(r"\d", text):
            raise ValueError("is beyond all floats")
        if not infinite and re.fullmatch(r"\s*[+-]?\d+\s*", text) and int(text) != int(value):
            raise ValueError("is a whole number that no float equals")
    return found


def may_be_inexact(floats: pa.ChunkedArray) -> bool:
    """Return whether a whole number as large as one of these can differ from its float."""
    ends = pc.min_max(floats)
    return any(value is not None and abs(value) >= _MOST for value in (ends["min"].as_py(), ends["max"].as_py()))


def _plain_numbers(texts: pa.ChunkedArray, numbers: Numbers) -> pa.ChunkedArray:
    """Numbers with a decimal point and no thousands.

    Raises
    ------
    ValueError : a text that is no number in this form
    """
    if numbers == Numbers():
        return texts
    point, group = re.escape(numbers.decimal), re.escape(numbers.thousands)
    whole = rf"([0-9]{{1,3}}({group}[0-9]{{3}})+|[0-9]+)" if group else "[0-9]+"
    form = rf"^\s*[+-]?({whole}({point}[0-9]*)?|{point}[0-9]+)([eE][+-]?[0-9]+)?\s*$"
    words = r"^\s*[+-]?(?i:inf|infinity|true|false)\s*$"
    fits = pc.or_(pc.match_substring_regex(texts, form), pc.match_substring_regex(texts, words))
    if not pc.all(fits).as_py() and pc.any(pc.invert(fits)).as_py():
        raise ValueError("is no number in this form")
    if numbers.thousands:
        texts = pc.replace_substring(texts, numbers.thousands, "")
    return pc.replace_substring(texts, numbers.decimal, ".")


def _by_format(texts: pa.ChunkedArray, formats: Sequence[str]) -> pa.ChunkedArray:
    """Times, each in the first format in which its text is written.

    Raises
    ------
    ValueError : a text in none of them
    """
    statement = f"select {time_of_text('c0', '$formats')} as t from t"
    times = query(statement, {"t": pa.table({"c0": texts.combine_chunks()})}, {"formats": list(formats)}).column(0)
    if times.null_count > texts.null_count:
        raise ValueError("is not in this format")
    return times.cast(pa.timestamp("us", "UTC")) if times.type.tz else times


# ---------------------------------------------------------------------------------------------------------------------
# What does not fit
# ---------------------------------------------------------------------------------------------------------------------


def misfit(
    texts: pa.ChunkedArray, column: Column, numbers: Numbers, *, can_have_formats: bool = False
) -> tuple[int, str]:
    """Return the row (from 0 on) of the first text that does not fit its column, and what to say of it.

    Parameters
    ----------
    can_have_formats : whether ``date_format`` says how times are written
    """
    start, stop, said = 0, len(texts), ""
    while stop - start > 1:
        middle = (start + stop) // 2
        if _failure(texts.slice(start, middle - start), column, numbers) is None:
            start = middle
        else:
            stop = middle
    failure = _failure(texts.slice(start, 1), column, numbers)
    value = texts[start].as_py()
    if isinstance(failure, DataError):
        said = re.sub(rf"^column {re.escape(repr(column.name))}:? ?", "", str(failure))
    kind = type_name(column.type)
    if column.formats:
        said = _unread_time(value, column)
    elif not said or is_plain(column.type):
        reason = "its type by cast" if column.kind else "its type by the first 1,000 rows"
        cure = f"cure: cast: {{{column.name}: {_better(value or '', column, numbers)}}}"
        said = f"{value!r} is no {kind}, {reason}; {cure}"
        if isinstance(failure, ValueError) and "float" in str(failure):
            what = str(failure).replace("float ", f"{kind} ")
            why = "its type by cast" if column.kind else "and some values of the column are not whole"
            said = f"{value!r} {what}, {why}; {cure}"
    elif can_have_formats and family(column.type) in ("date", "time", "zoned time"):
        said += f"; how it is written says date_format: {{{column.name}: '%d.%m.%Y'}}"
    return start, f"column {column.name!r}: {said}"


def _failure(texts: pa.ChunkedArray, column: Column, numbers: Numbers) -> Exception | None:
    try:
        as_typed(texts, column, numbers)
    except (pa.ArrowInvalid, ValueError, DataError) as error:
        return error
    return None


def _unread_time(value: str, column: Column) -> str:
    """What to say of a text that is written in none of the formats of its column, or is no time that there is."""
    read = f"cast: {{{column.name}: string}} and parse_time({column.name}, {list(column.formats)}, errors='missing')"
    for one in column.formats:
        shape = re.sub(r"%-?[dmYHMSyj]", "0", one)
        digits = re.sub(r"0", r"\\d+", re.escape(shape)) if "%" not in shape else ""
        if digits and re.fullmatch(digits, value.strip()):
            return f"{value!r} is written as {one!r}, but there is no such time; to have it missing: {read}"
    known = " or ".join(map(repr, column.formats))
    return f"{value!r} is not written as {known}, its date_format, which may be a list; to have it missing: {read}"


def _better(value: str, column: Column, numbers: Numbers) -> str:
    """The name of a type that holds a value that the type of its column does not."""
    if not is_integer(column.type):
        return "string"
    wider = {"int64": pa.int64(), "uint64": pa.uint64(), "decimal(38, 0)": pa.decimal128(38, 0)}
    kinds = wider if re.fullmatch(_WHOLE, value) else {"float64": pa.float64()}
    text = pa.chunked_array([[value]], pa.string())
    fits = (name for name, kind in kinds.items() if _failure(text, replace(column, type=kind), numbers) is None)
    return next(fits, "string")
