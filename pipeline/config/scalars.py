"""Names, labels, numbers and durations, as they are written in a file."""

from __future__ import annotations

import keyword
import math
import re
from typing import Any

__all__ = ["duration", "forbidden_in_label", "is_name", "label", "name_error", "prints_differently", "size_in_bytes"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|h|d)\s*")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]?)(i?)B?\s*")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def is_name(text: str) -> bool:
    """Return whether ``text`` may name a step, a param, a matrix or over key, or a part."""
    return _NAME.fullmatch(text) is not None and not keyword.iskeyword(text)


def name_error(text: str) -> str:
    """Return what is wrong with a name, with a similar one that is allowed where there is one; empty if nothing is.

    >>> name_error("class")
    "'class' can't be a name: letters a to z, digits and _, no Python keyword; write 'class_'"
    """
    if is_name(text):
        return ""
    near = f"{text}_" if keyword.iskeyword(text) else re.sub(r"[ .-]+", "_", text)
    hint = f"; write {near!r}" if is_name(near) else ""
    return f"{text!r} can't be a name: letters a to z, digits and _, no Python keyword{hint}"


def label(value: Any) -> str:
    """Return the text of a scalar, as in names of instances, in paths, and inside other text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def forbidden_in_label(text: str) -> str:
    """Return the characters of ``text`` that a label can't contain, since names of instances are written with them."""
    return "".join(sorted({c for c in text if c in "[],=*'\"" or not c.isprintable()}))


def prints_differently(text: str, value: Any) -> bool:
    """Return whether a number is written in another way than it prints: ``01``, ``1.0e3``."""
    return isinstance(value, int | float) and not isinstance(value, bool) and text != label(value)


def duration(value: Any) -> float | None:
    """Return the seconds of a number, or of text like ``5min``, ``1.5h``; None if it is neither."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if value > 0 and math.isfinite(value) else None
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    return seconds if seconds > 0 else None


def size_in_bytes(value: Any) -> int | None:
    """Return the bytes of a number, or of text like ``500kB``, ``1.5 GiB``; None if it is neither, or not at least 1.

    >>> size_in_bytes("20MB"), size_in_bytes("1 KiB"), size_in_bytes("many")
    (20000000, 1024, None)
    """
    found = _SIZE.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    n = int(float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " ")) if found else 0
    return n if 1 <= n < 2**53 else None
