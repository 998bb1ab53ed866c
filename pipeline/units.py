"""Durations, bytes, ratios and counts as text, for tables, sentences and messages alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

__all__ = [
    "bytes_text",
    "count_text",
    "digits",
    "duration_text",
    "interval_text",
    "names_text",
    "ratio_text",
    "share_text",
    "time_left_text",
    "unused_text",
    "whole_duration_text",
]


class Bounds(Protocol):
    """A value with its bounds, such as :class:`pipeline.trace.statistics.Interval`."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def known(self) -> bool: ...


def share_text(share: float | None) -> str:
    """Return a signed share as per cents; empty for None.

    >>> share_text(0.713), share_text(-0.5)
    ('71.3%', '-50.0%')
    """
    return "" if share is None else f"{share:.1%}"


def count_text(n: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun in the singular or plural; ``plural`` is needed where it is irregular.

    >>> count_text(1, "worker"), count_text(0, "worker"), count_text(1000, "process")
    ('1 worker', '0 workers', '1,000 processes')
    >>> count_text(1, "item was", "items were"), count_text(2, "copy")
    ('1 item was', '2 copies')
    """
    return f"{n:,} {noun if n == 1 else plural or _plural(noun)}"


def names_text(names: Sequence[str], most: int = 8) -> str:
    """Return names as text, at most so many of them.

    >>> names_text(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def unused_text(steps: Sequence[str]) -> str:
    """Return the sentence about steps that are not computed, since nothing needs them.

    >>> unused_text(["raw", "monthly[tp]"])
    'not computed, since no output, check or keep needs them: raw, monthly[tp]'
    """
    return (
        f"not computed, since no output, check or keep needs {'them' if len(steps) > 1 else 'it'}: {names_text(steps)}"
    )


def duration_text(seconds: float | None) -> str:
    """Return a duration with three digits in the unit that fits it; ``-`` for None and nan.

    Limits that a user sets (a timeout, a budget) are shown with ``:g`` in seconds instead, as they were written.

    >>> duration_text(0.000012), duration_text(0.01234), duration_text(9.876), duration_text(75), duration_text(4000)
    ('12.0 µs', '12.3 ms', '9.88 s', '1 min 15 s', '1 h 07 min')
    """
    if seconds is None or math.isnan(seconds):
        return "-"
    if seconds >= 59.95:
        return whole_duration_text(round(seconds))
    if seconds >= 0.9995 or seconds <= 0:
        return f"{digits(seconds)} s"
    return f"{digits(seconds * 1e3)} ms" if seconds >= 0.9995e-3 else f"{digits(seconds * 1e6)} µs"


def whole_duration_text(seconds: int) -> str:
    """Return a duration without fractions and without a last part that is zero.

    >>> whole_duration_text(35), whole_duration_text(75), whole_duration_text(360), whole_duration_text(4000)
    ('35 s', '1 min 15 s', '6 min', '1 h 07 min')
    """
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        large, small, units = seconds // 60, seconds % 60, ("min", "s")
    else:
        minutes = round(seconds / 60)
        large, small, units = minutes // 60, minutes % 60, ("h", "min")
    return f"{large} {units[0]} {small:02} {units[1]}" if small else f"{large} {units[0]}"


def bytes_text(n: float | None) -> str:
    """Return a number of bytes in powers of 1000; ``-`` for None and nan.

    >>> bytes_text(0), bytes_text(1500), bytes_text(41_000_000_000)
    ('0 B', '1.5 kB', '41.0 GB')
    """
    if n is None or math.isnan(n):
        return "-"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(n) < 999.95 or unit == "TB":
            break
        n /= 1000
    return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"


def interval_text(interval: Bounds | None) -> str:
    """Return seconds with their bounds, without a unit; the value alone if there was one repeat.

    >>> from pipeline.trace.statistics import Interval
    >>> interval_text(Interval(1.2, 1.1, 1.34, 3, 0.75))
    '1.20 [1.10, 1.34]'
    """
    return _with_bounds(interval, digits, "")


def ratio_text(ratio: Bounds | float | None) -> str:
    """Return a ratio, with its bounds if it has any, to the hundredth: repeats never show more.

    >>> from pipeline.trace.statistics import Interval
    >>> ratio_text(Interval(0.9312, 0.92, 0.944, 3, 0.75)), ratio_text(1.5), ratio_text(12.3)
    ('0.93x [0.92, 0.94]', '1.50x', '12x')
    """
    return f"{_hundredths(ratio)}x" if isinstance(ratio, (int, float)) else _with_bounds(ratio, _hundredths, "x")


def digits(x: float) -> str:
    """Return a number with three significant digits, at most three of them decimals, and no exponent.

    >>> digits(123.4), digits(1.2), digits(0.0123), digits(9.999)
    ('123', '1.20', '0.012', '10.0')
    """
    if x == 0 or math.isnan(x):
        return "0" if x == 0 else "-"
    exponent = int(f"{x:.2e}".rpartition("e")[2]) if math.isfinite(x) else 0
    return f"{x:.{min(3, max(0, 2 - exponent))}f}"


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"


def _hundredths(x: float) -> str:
    return f"{x:.2f}" if x < 10 else f"{x:.0f}"


def _with_bounds(interval: Bounds | None, text: Callable[[float], str], suffix: str) -> str:
    if interval is None:
        return "-"
    bounds = f" [{text(interval.low)}, {text(interval.high)}]" if interval.known else ""
    return f"{text(interval.value)}{suffix}{bounds}"


class Remaining(Protocol):
    """An estimate of the time left, such as :class:`pipeline.trace.time_left.TimeLeft`."""

    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def early(self) -> Sequence[str]: ...
    @property
    def waiting(self) -> int: ...
    @property
    def earlier(self) -> int: ...


def time_left_text(left: Remaining) -> str:
    """Return the range of the time left, rounded outwards, or why it is unknown; empty if nothing is left.

    >>> from types import SimpleNamespace
    >>> def text(low, high, early=(), waiting=0, earlier=0):
    ...     return time_left_text(SimpleNamespace(low=low, high=high, early=early, waiting=waiting, earlier=earlier))
    >>> text(42.0, 100.0), text(0.5, 3.2)
    ('about 40 s to 2 min left', 'less than 4 s left')
    >>> text(42.0, None, waiting=3), text(None, None, waiting=3)
    ('at least 40 s left, and 3 steps not begun', 'time left unknown: 3 steps not begun')
    >>> text(42.0, 100.0, earlier=2)
    'about 40 s to 2 min left, 2 steps as in an earlier run'
    >>> text(None, None, early=("fit",))
    "time left unknown: too early to say for 'fit'"
    """
    if left.high is not None:
        text = _range_text(left.low or 0.0, left.high)
        return f"{text}, {count_text(left.earlier, 'step')} as in an earlier run" if text and left.earlier else text
    reasons = []
    if left.early:
        others = f" and {len(left.early) - 1} more" if len(left.early) > 1 else ""
        reasons.append(f"too early to say for '{left.early[0]}'{others}")
    if left.waiting:
        reasons.append(f"{count_text(left.waiting, 'step')} not begun")
    if left.low is None or not _rounded(left.low, math.floor):
        return f"time left unknown: {', '.join(reasons)}" if reasons else ""
    least = whole_duration_text(_rounded(left.low, math.floor))
    return f"at least {least} left, {'and ' if not left.early else ''}{', '.join(reasons)}"


def _range_text(low: float, high: float) -> str:
    if high <= 0:
        return ""
    below, above = _rounded(low, math.floor), _rounded(high, math.ceil)
    if not below:
        return f"less than {whole_duration_text(above)} left"
    until = "" if below == above else f" to {whole_duration_text(above)}"
    return f"about {whole_duration_text(below)}{until} left"


def _rounded(seconds: float, function: Callable[[float], int]) -> int:
    """Round to a unit that grows with the time, so that the text does not change all the time."""
    units = ((10, 1), (60, 5), (120, 30), (600, 60), (3600, 300), (math.inf, 1800))
    unit = next(unit for bound, unit in units if seconds < bound)
    return function(seconds / unit) * unit
