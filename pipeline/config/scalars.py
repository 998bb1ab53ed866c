"""Names, labels, numbers and times as they are written in a file."""

from __future__ import annotations

import keyword
import math
import re
from typing import Any

__all__ = ["duration", "is_name", "label", "misprinted", "no_name", "unlabelled"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|h|d)\s*")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def is_name(text: str) -> bool:
    """Whether ``text`` may name a step, a param, a matrix or over key, or a part."""
    return _NAME.fullmatch(text) is not None and not keyword.iskeyword(text)


def no_name(text: str) -> str:
    """What to say of a name that can't be one, with what would do where that is plain; empty of one that can.

    >>> no_name("class")
    "'class' is no name: letters, digits and _, no Python keyword; 'class_' would do"
    """
    if is_name(text):
        return ""
    near = f"{text}_" if keyword.iskeyword(text) else re.sub(r"[ .-]+", "_", text)
    would = f"; {near!r} would do" if is_name(near) else ""
    return f"{text!r} is no name: letters, digits and _, no Python keyword{would}"


def label(value: Any) -> str:
    """The text of a scalar: what stands in names of copies, in paths, and inside other text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def unlabelled(text: str) -> str:
    """The characters of ``text`` that a label can't have, since names of copies are made of them."""
    return "".join(sorted({c for c in text if c in "[],=*'\"" or not c.isprintable()}))


def misprinted(text: str, value: Any) -> bool:
    """Whether a number is written otherwise than it prints: ``01``, ``1.0e3``."""
    return isinstance(value, int | float) and not isinstance(value, bool) and text != label(value)


def duration(value: Any) -> float | None:
    """Seconds: a number of them, or text like ``5min``, ``1.5h``; None if it is neither."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if value > 0 and math.isfinite(value) else None
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    return seconds if seconds > 0 else None
