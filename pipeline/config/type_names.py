"""The names of the types of columns, taken apart; neither pydantic nor pyarrow is imported here."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["DTYPES", "MORE_TYPES", "TYPES", "UNITS", "TypeName", "taken_apart"]

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
"""The types of arrays, by their names in numpy."""
TYPES = (
    *(name for name in DTYPES if not name.startswith("complex")),
    *("string", "category", "binary", "date", "time", "timestamp", "duration"),
)
"""The types of columns that have no parameters, or need none."""
MORE_TYPES = "timestamp[ZONE], timestamp[ns], duration[s], decimal(12, 2), list[TYPE], struct[NAME: TYPE, …]"
UNITS = ("s", "ms", "us", "ns")
"""Of times and durations, the coarsest first."""


class TypeName(NamedTuple):
    """A type of columns.

    Parameters
    ----------
    kind : one of ``TYPES``, or ``decimal``, ``list``, ``struct``
    unit : of a time or a duration; empty: the usual one
    zone : of a timestamp; empty: none. Whether there is such a zone is not looked up
    digits : of a decimal, all and those after the point
    members : of a list one without a name, of a struct all
    """

    kind: str
    unit: str = ""
    zone: str = ""
    digits: tuple[int, int] = (0, 0)
    members: tuple[tuple[str, TypeName], ...] = ()


def taken_apart(name: str) -> TypeName | None:
    """Return the type that a text names; None if it names none.

    >>> taken_apart("list[decimal(12, 2)]").members[0][1].digits, taken_apart("timestamp[ns, UTC]").zone
    ((12, 2), 'UTC')
    """
    name = name.strip()
    if name in TYPES:
        return TypeName(name)
    if found := re.fullmatch(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)", name):
        digits = int(found[1]), int(found[2])
        return TypeName("decimal", digits=digits) if 0 < digits[0] <= 38 and digits[1] <= digits[0] else None
    if not (found := re.fullmatch(r"(timestamp|duration|time|list|struct)\[(.*)\]", name, re.DOTALL)):
        return None
    kind, inner = found[1], found[2].strip()
    if kind == "list":
        member = taken_apart(inner)
        return TypeName("list", members=(("", member),)) if member else None
    if kind == "struct":
        return _struct(inner)
    first, *rest = (part.strip() for part in inner.split(","))
    unit, zones = (first, rest) if first in UNITS else ("", [first, *rest])
    if len(zones) > (kind == "timestamp") or any(not zone or set(zone) & set("[]") for zone in zones):
        return None
    return TypeName(kind, unit, zones[0] if zones else "")


def _struct(inner: str) -> TypeName | None:
    members = []
    for part in _top_level(inner):
        name, _, kind = part.partition(":")
        member = taken_apart(kind)
        if not name.strip() or member is None:
            return None
        members.append((name.strip(), member))
    return TypeName("struct", members=tuple(members))


def _top_level(text: str) -> list[str]:
    """Split at the commas that no bracket encloses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[(") - (character in "])")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts
