"""Which operations are defined for which kinds of values, and the messages for the others."""

from __future__ import annotations

from pipeline.config.expressions.tree import mismatch_message

__all__ = ["OF_TIMES", "no_arithmetic"]

OF_TIMES = frozenset(
    {
        ("-", "time", "time"),
        ("-", "zoned time", "zoned time"),
        *((op, time, "duration") for op in "+-" for time in ("time", "zoned time", "duration")),
        ("+", "duration", "time"),
        ("+", "duration", "zoned time"),
        *((op, time, "months") for op in "+-" for time in ("time", "zoned time", "months")),
        *(("+", "months", time) for time in ("time", "zoned time")),
        ("*", "number", "duration"),
        ("*", "duration", "number"),
        ("/", "duration", "number"),
        *((op, "duration", "duration") for op in ("/", "//", "%")),
    }
)
"""Operator, kind on the left, kind on the right: what is defined for times, durations and months."""


def no_arithmetic(op: str, left: str, right: str) -> str:
    """Return the message for an operation that is not defined for two kinds, with what to write instead."""
    kinds = {left, right}
    if "text" in kinds:
        return f"'{op}' does not take text; to join text write concat(a, b), for a number number(x)"
    if kinds == {"time", "zoned time"}:
        return mismatch_message(left, right)
    if "number" in kinds:
        return f"'{op}' is not defined for {left} and {right}; a duration is written duration('5min')"
    return f"'{op}' is not defined for {left} and {right}"
