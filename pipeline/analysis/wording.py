"""Numbers in sentences: two or three digits, in the unit that fits; those of tables are in ``report/``."""

from __future__ import annotations

__all__ = ["size_text", "time_text"]


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
