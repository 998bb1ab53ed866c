"""The options of ``read_csv``, checked: what marks mean, how numbers, dates and missing values are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import OpError
from pipeline.ops.sources.csv_rows import Dialect
from pipeline.ops.sources.text_values import MISSING_TEXTS, Numbers

__all__ = ["Formats", "Missing", "dialect_of", "formats_of", "missing_texts", "numbers_of"]

Missing = Sequence[str] | Mapping[str, Sequence[str]] | None
"""Texts that mean missing in all columns, or in some."""

Formats = tuple[Mapping[str, tuple[str, ...]], tuple[str, ...]]
"""The formats of dates by column, and those of all other columns of dates and times."""

_DIRECTIVES = "aAbBdefgHIjmMnpSuUVwWyYzZGcxX%-"


def dialect_of(
    sep: str,
    quote: str,
    escape: str,
    comment: str,
    encoding: str,
    skip_rows: int,
    skip_footer: int,
    *,
    strict: bool,
) -> Dialect:
    """Return how rows are written.

    Raises
    ------
    OpError : a mark that is not one character, two that are the same, or an unknown encoding
    """
    if not _is_mark(sep) or sep == '"':
        raise OpError("sep", f"got {sep!r}; it is one ASCII character, and no quote or end of a line")
    taken = {sep: "sep"}
    for key, mark in (("quote", quote), ("escape", escape), ("comment", comment)):
        if not mark or (key == "escape" and mark == quote):
            continue
        if not _is_mark(mark):
            raise OpError(key, f"got {mark!r}; it is one ASCII character and no end of a line, or empty for none")
        if mark in taken:
            raise OpError(key, f"got {mark!r}, which is {taken[mark]} as well")
        taken[mark] = key
    try:
        "".encode(encoding).decode(encoding)
    except (LookupError, UnicodeError):
        raise OpError("encoding", f"{encoding!r} is no encoding; as latin-1, cp1252, utf-16, shift_jis") from None
    return Dialect(sep, quote, escape, comment, encoding, skip_rows, skip_footer, strict)


def numbers_of(sep: str, decimal: str, thousands: str) -> Numbers:
    """Return how numbers are written.

    Raises
    ------
    OpError : a mark that is not one character, or means something else too
    """
    if not _is_mark(decimal) or decimal in (sep, '"'):
        raise OpError("decimal", f"got {decimal!r}; it is one ASCII character, no quote or end of a line, and not sep")
    if thousands and (len(thousands) != 1 or thousands.isalnum() or thousands in (decimal, '"', "\r", "\n")):
        raise OpError("thousands", f"got {thousands!r}; it is one character, no letter or digit, and not decimal")
    return Numbers(decimal, thousands)


def _is_mark(text: str) -> bool:
    return len(text) == 1 and text.isascii() and text not in "\r\n\0"


def missing_texts(name: str, given: Missing, *, is_text: bool) -> tuple[str, ...]:
    """Return the texts that mean missing in a column."""
    own = given.get(name, ()) if isinstance(given, Mapping) else given or ()
    return tuple(dict.fromkeys((*(("",) if is_text else MISSING_TEXTS), *map(str, own))))


def formats_of(given: Any) -> Formats:
    """Return the formats of dates.

    Raises
    ------
    OpError : a format without directives, or with an unknown one
    """
    own = {name: _listed(one) for name, one in given.items()} if isinstance(given, Mapping) else {}
    rest = () if isinstance(given, Mapping) else _listed(given)
    for one in (*rest, *(each for several in own.values() for each in several)):
        directives = re.findall(r"%(-?.?)", one)
        odd = next((each for each in directives if not each or each[-1] not in _DIRECTIVES), None)
        if odd is not None or not directives:
            raise OpError("date_format", f"got {one!r}; it is written as '%d.%m.%Y %H:%M'")
    return own, rest


def _listed(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)
