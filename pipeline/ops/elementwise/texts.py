"""Functions of text. Missing stays missing; functions that return booleans return false for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.expressions.references import ExpressionError
from pipeline.graph.importing import Deferred
from pipeline.ops.elementwise.kinds import TEXT, Value, kind

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Deferred("pandas")

__all__ = ["TEXT_FUNCTIONS", "as_text"]


def as_text(value: Value, function: str) -> pd.Series:
    """Return the value as a text column.

    Raises
    ------
    ExpressionError : if it is not text
    """
    if isinstance(value, pd.Series) and kind(value) in {"text", "object"}:
        return value if value.dtype == TEXT else value.astype(TEXT)
    if isinstance(value, np.ndarray) and kind(value) in {"text", "object"}:
        return pd.Series(value, dtype=TEXT)
    raise ExpressionError(f"{function}(s) needs text, got {kind(value)}; write text(x)")


def _bools(result: pd.Series) -> np.ndarray:
    return result.fillna(False).to_numpy(bool)


def _by_unique(s: pd.Series, function: Callable[[str], Any]) -> np.ndarray:
    """Apply ``function`` to each distinct text once; None where the text is missing.

    Regular expressions are Python's ``re``; Arrow's engine has another syntax.
    """
    codes, uniques = pd.factorize(s)
    values = np.empty(len(uniques) + 1, dtype=object)
    values[:-1] = [function(text) for text in uniques]
    values[-1] = None
    return np.asarray(values[codes], dtype=object)


def _match(s: pd.Series, regex: str) -> np.ndarray:
    pattern = re.compile(regex)
    found = _by_unique(s, lambda text: pattern.match(text) is not None)
    return np.asarray(np.equal(found, True), dtype=bool)


def _extract(s: pd.Series, regex: str) -> pd.Series:
    pattern = re.compile(regex)

    def one(text: str) -> str | None:
        found = pattern.search(text)
        return None if found is None else found.group(1 if pattern.groups else 0)

    return pd.Series(_by_unique(s, one), dtype=TEXT)


def _concat(first: Value, *more: Value) -> Value:
    result = first
    for other in more:
        for value in (result, other):
            if kind(value) not in {"text", "object"}:
                raise ExpressionError(f"concat(a, b, …) needs text, got {kind(value)}; write text(x)")
        result = result + other
    return result


def _on_columns(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of a text column accept a single text, too."""

    def call(value: Value, *constants: Any) -> Value:
        if isinstance(value, str):
            result = function(pd.Series([value], dtype=TEXT), *constants)
            only = result[0] if isinstance(result, np.ndarray) else result.iloc[0]
            return only.item() if isinstance(only, np.generic) else only
        return function(as_text(value, name), *constants)

    return call


_COLUMN_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "contains": lambda s, text: _bools(s.str.contains(text, regex=False)),
    "startswith": lambda s, text: _bools(s.str.startswith(text)),
    "endswith": lambda s, text: _bools(s.str.endswith(text)),
    "match": _match,
    "lower": lambda s: s.str.lower(),
    "upper": lambda s: s.str.upper(),
    "strip": lambda s: s.str.strip(),
    "length": lambda s: s.str.len().to_numpy(),
    "slice": lambda s, i=None, j=None: s.str.slice(i, j),
    "replace": lambda s, old, new: s.str.replace(old, new, regex=False),
    "split": lambda s, sep, i: pd.Series(s.str.split(sep, regex=False).str.get(i), dtype=TEXT),
    "extract": _extract,
}

TEXT_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _on_columns(name, function) for name, function in _COLUMN_FUNCTIONS.items()},
    "concat": _concat,
}
"""Name -> function; the arguments after the first are constants, except for ``concat``."""
