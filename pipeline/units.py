"""Durations, bytes, ratios and counts as text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

__all__ = ["bytes_text", "digits", "duration", "interval_text", "ratio_text", "size_text", "time_text"]


class Bounds(Protocol):
    """A value with its bounds: what :class:`pipeline.trace.statistics.Interval` has."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def known(self) -> bool: ...


def time_text(seconds: float) -> str:
    """Seconds, two digits, in the unit that fits.

    >>> time_text(0.0123), time_text(3.456), time_text(250)
    ('12 ms', '3.5 s', '250 s')
    """
    if seconds >= 0.9995:
        return f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds:.0f} s"
    unit, scale = ("ms", 1e3) if seconds >= 0.9995e-3 else ("us", 1e6)
    value = seconds * scale
    return f"{value:.2g} {unit}" if value < 99.5 else f"{value:.0f} {unit}"


def size_text(n: float) -> str:
    """Bytes, in powers of 1000.

    >>> size_text(41_200_000)
    '41.2 MB'
    """
    for unit in ("B", "kB", "MB"):
        if n < 999.5:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"


def duration(seconds: float | None) -> str:
    """Seconds for a reader: three digits, and minutes or hours where those say more.

    >>> duration(0.01234), duration(9.876), duration(75), duration(4000)
    ('0.012 s', '9.88 s', '1 min 15 s', '1 h 07 min')
    """
    if seconds is None or math.isnan(seconds):
        return "-"
    if seconds < 60:
        return f"{digits(seconds)} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"


def bytes_text(n: float | None) -> str:
    """Bytes for a reader, in powers of 1000.

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
    """Seconds with their bounds; a value alone where one repeat was made.

    >>> from pipeline.trace.statistics import Interval
    >>> interval_text(Interval(1.2, 1.1, 1.34, 3, 0.75))
    '1.20 [1.10, 1.34]'
    """
    return _bounded(interval, digits, "")


def ratio_text(interval: Bounds | None) -> str:
    """A ratio with its bounds, to the hundredth, which is more than repeats ever show.

    >>> from pipeline.trace.statistics import Interval
    >>> ratio_text(Interval(0.9312, 0.92, 0.944, 3, 0.75))
    '0.93x [0.92, 0.94]'
    """
    return _bounded(interval, lambda x: f"{x:.2f}" if x < 10 else f"{x:.0f}", "x")


def _bounded(interval: Bounds | None, digits: Callable[[float], str], suffix: str) -> str:
    if interval is None:
        return "-"
    bounds = f" [{digits(interval.low)}, {digits(interval.high)}]" if interval.known else ""
    return f"{digits(interval.value)}{suffix}{bounds}"


def digits(x: float) -> str:
    """Three significant digits, without an exponent, for what people time."""
    if x == 0 or math.isnan(x):
        return "0" if x == 0 else "-"
    return f"{x:.{min(3, max(0, 2 - math.floor(math.log10(abs(x)))))}f}"
