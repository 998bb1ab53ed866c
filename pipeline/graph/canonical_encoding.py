"""Bytes that are the same for equal values, in every process and session, and differ for any others.

Each part is a tag, its length or number of members, and its content, so that no two values have the same bytes. Lists
of one type are encoded together, and lists of lists or maps of one form by column: a million numbers take a few
milliseconds. Whatever is unknown makes the whole value unknown; no constant and no identity stands for it.

* The type is part of a value: ``1``, ``1.0`` and ``True`` differ, and so do a list and a tuple.
* Floats are compared by their bits: ``-0.0`` differs from ``0.0``, and NaN equals itself.
* Sets have no order. The order of a dict is part of it, unless ``sort_keys`` is given: it decides the columns of a
  table that is made of it.
"""

from __future__ import annotations

import array
import dataclasses
import datetime
import decimal
import enum
import fractions
import hashlib
import pathlib
import struct
import uuid
import zoneinfo
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

__all__ = ["Encoder", "UnknownValue", "canonical", "combined"]

_LONG = 4096  # bytes of a text from which its hash takes its place
_MOST = 2_000_000  # members that are encoded one by one, about 5 s: more are unknown


class UnknownValue(Exception):
    """A value that has no canonical bytes; the text names its type."""


def canonical(value: Any, *, sort_keys: bool = False) -> bytes | None:
    """Return the canonical bytes of a plain Python value; None if it, or anything in it, is unknown.

    Plain are None, numbers, texts, bytes, dates and times, paths, enums, ranges and slices; lists, tuples, named
    tuples, dicts, sets and dataclasses of these. Unknown are functions, objects of other classes, cycles.

    Parameters
    ----------
    sort_keys : whether the order of the keys of a dict is left out

    >>> canonical({"b": 1, "a": [2.0]}, sort_keys=True) == canonical({"a": [2.0], "b": 1}, sort_keys=True)
    True
    >>> canonical(1) == canonical(1.0), canonical(object())
    (False, None)
    """
    try:
        return Encoder(sort_keys=sort_keys).encode(value)
    except (UnknownValue, RecursionError):
        return None


def combined(parts: Iterable[str | bytes]) -> str:
    """Return the first 128 bits of the SHA-256, in hex, of some texts in this order; each is preceded by its length.

    >>> combined(["ab", "c"]) == combined(["a", "bc"])
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(_LENGTH.pack(len(data)) + data)
    return digest.hexdigest()[:32]


_LENGTH = struct.Struct("<Q")
_FLOAT = struct.Struct("<d")


def _part(tag: bytes, content: bytes) -> bytes:
    if len(content) > _LONG:
        return b"#" + tag + _LENGTH.pack(len(content)) + hashlib.sha256(content).digest()
    return tag + _LENGTH.pack(len(content)) + content


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _class_name(kind: type) -> bytes:
    return _text(f"{kind.__module__}.{kind.__qualname__}")


def _zone(zone: datetime.tzinfo | None) -> str:
    if zone is None:
        return ""
    if type(zone) is datetime.timezone:
        return repr(zone)
    if type(zone) is zoneinfo.ZoneInfo and zone.key:
        return f"zone {zone.key}"
    raise UnknownValue(f"a time zone of type {type(zone).__name__}")


def _datetime(value: datetime.datetime) -> str:
    return f"{value.replace(tzinfo=None).isoformat()} {value.fold} {_zone(value.tzinfo)}"


def _time(value: datetime.time) -> str:
    return f"{value.replace(tzinfo=None).isoformat()} {value.fold} {_zone(value.tzinfo)}"


_TEXTS: dict[type, Callable[[Any], str]] = {
    decimal.Decimal: str,
    fractions.Fraction: str,
    uuid.UUID: str,
    datetime.date: str,
    datetime.datetime: _datetime,
    datetime.time: _time,
    datetime.timedelta: lambda value: f"{value.days} {value.seconds} {value.microseconds}",
    datetime.timezone: repr,
    zoneinfo.ZoneInfo: _zone,
    range: lambda value: repr((value.start, value.stop, value.step)),
    type(Ellipsis): str,
    type(NotImplemented): str,
    **dict.fromkeys((pathlib.PurePosixPath, pathlib.PosixPath, pathlib.PureWindowsPath, pathlib.WindowsPath), str),
}
"""Types whose text describes a value completely."""


def _is_plain_class(kind: Any) -> bool:
    """Whether the fields of an object are all that there is: its class does not say how it is pickled."""
    return kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__


class Encoder:
    """Encodes one value. A subclass knows more types. State: how many members may still be encoded one by one.

    Parameters
    ----------
    sort_keys : whether the order of the keys of a dict is left out
    """

    def __init__(self, *, sort_keys: bool = False) -> None:
        self._sort_keys = sort_keys
        self._left = _MOST

    def encode(self, value: Any) -> bytes:
        """Return the bytes of a value.

        Raises
        ------
        UnknownValue : if it, or anything in it, has none
        RecursionError : if it is nested too deeply, or in itself
        """
        kind = type(value)
        if kind is str:
            return _part(b"s", _text(value))
        if kind is int:
            return _part(b"i", b"%d" % value if abs(value) < 1 << 4000 else hex(value).encode())
        if kind is float:
            return b"f" + _FLOAT.pack(value)
        if value is None:
            return b"N"
        if kind is bool:
            return b"T" if value else b"F"
        if kind is list or kind is tuple:
            return (b"l" if kind is list else b"t") + self._members(value)
        if kind is dict or kind is OrderedDict or kind is Counter:
            return _part(b"d", _class_name(kind)) + self._dict(value)
        if kind is set or kind is frozenset:
            return (b"S" if kind is set else b"Z") + self._unordered(value)
        if kind is bytes or kind is bytearray:
            return _part(b"b" if kind is bytes else b"B", value)
        if kind is complex:
            return b"c" + _FLOAT.pack(value.real) + _FLOAT.pack(value.imag)
        if kind in _TEXTS:
            return _part(b"x", _class_name(kind)) + _part(b"v", _text(_TEXTS[kind](value)))
        if kind is slice:
            return b"/" + self._members((value.start, value.stop, value.step))
        return self.encode_other(value)

    def encode_other(self, value: Any) -> bytes:
        """Return the bytes of a value of no plain type.

        Raises
        ------
        UnknownValue : if it is of a type that is not known
        """
        kind = type(value)
        if isinstance(value, enum.Enum):
            return _part(b"e", _class_name(kind)) + _part(b"v", _text(value.name or repr(value.value)))
        if isinstance(value, tuple) and hasattr(kind, "_fields") and _is_plain_class(kind):
            return _part(b"n", _class_name(kind)) + self._members(tuple(value))
        if dataclasses.is_dataclass(value) and _is_plain_class(kind):
            names = [field.name for field in dataclasses.fields(value)]
            if getattr(value, "__dict__", {}).keys() <= set(names):
                return _part(b"D", _class_name(kind)) + self._dict({n: getattr(value, n) for n in names})
        raise UnknownValue(f"an object of type {kind.__module__}.{kind.__qualname__}")

    def _dict(self, value: Any) -> bytes:
        if not self._sort_keys:
            return self._members(list(value)) + self._members(list(value.values()))
        keys = sorted(value, key=self.encode)
        return self._members(keys) + self._members([value[key] for key in keys])

    def _unordered(self, value: Collection[Any]) -> bytes:
        self._count(len(value))
        return _part(b"u", b"".join(sorted(_part(b"m", self.encode(one)) for one in value)))

    def _members(self, values: Sequence[Any]) -> bytes:
        """Return the bytes of the members of a list or tuple, without its own type."""
        return _LENGTH.pack(len(values)) + (self._column(values) if values else b"")

    def _column(self, values: Sequence[Any]) -> bytes:
        kinds = set(map(type, values))
        kind = kinds.pop() if len(kinds) == 1 else None
        if kind is float:
            return _part(b"f", array.array("d", values).tobytes())
        if kind is int:
            try:
                return _part(b"i", array.array("q", values).tobytes())
            except OverflowError:
                pass
        elif kind is type(None):
            return b"N"
        elif kind is bool:
            return _part(b"o", bytes(values))
        elif kind is str:
            texts = list(map(_text, values))
            return _part(b"s", array.array("q", map(len, texts)).tobytes()) + _part(b"v", b"".join(texts))
        elif kind is bytes:
            return _part(b"b", array.array("q", map(len, values)).tobytes()) + _part(b"v", b"".join(values))
        elif (kind is list or kind is tuple) and len(values) > 1:
            lengths = set(map(len, values))
            if len(lengths) == 1 and (n := lengths.pop()):
                self._count(n)
                columns = [self._column(column) for column in zip(*values, strict=True)]
                return (b"l" if kind is list else b"t") + _LENGTH.pack(n) + b"".join(columns)
        elif kind is dict and not self._sort_keys and len(values) > 1:
            first = list(values[0])
            if first and set(map(type, first)) == {str} and all(list(one) == first for one in values):
                self._count(len(first))
                columns = [self._column(column) for column in zip(*(one.values() for one in values), strict=True)]
                return b"d" + self._members(first) + b"".join(columns)
        self._count(len(values))
        return b"*" + _part(b"m", b"".join(self.encode(one) for one in values))

    def _count(self, n: int) -> None:
        self._left -= n
        if self._left < 0:
            raise UnknownValue("more members than are compared")
