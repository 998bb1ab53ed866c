"""A single value in the type that expressions use; pandas is imported only for values that need it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import constant_kind
from pipeline.graph.importing import is_instance

__all__ = ["as_scalar"]


def as_scalar(value: Any) -> Any:
    """Return the single element of a scalar, array, column or frame, in the type that expressions use.

    Raises
    ------
    ExpressionError : if there is more than one element, or an expression cannot hold such a value
    """
    if is_instance(value, "pandas", "DataFrame", "Series", "Index"):
        # not to_numpy, which would drop the time zone
        if value.size != 1:
            raise ExpressionError(f"one value is needed, got {value.size}")
        value = value.iloc[0, 0] if value.ndim == 2 else value.to_list()[0]
    elif hasattr(value, "values") and not isinstance(value, dict):
        value = value.values
    if isinstance(value, np.ndarray):
        if value.size != 1:
            raise ExpressionError(f"one value is needed, got {value.size}: an array of shape {value.shape}")
        value = value.reshape(-1)[0]
    if isinstance(value, np.generic):
        return value if value.dtype.kind in "Mm" else value.item()
    if value is None:
        return float("nan")
    if isinstance(value, datetime | timedelta) or type(value).__module__.startswith("pandas."):
        return _time(value)
    constant_kind(value)
    return value


def _time(value: Any) -> Any:
    """Return a time or duration of Python or pandas as a scalar of numpy, zoned times as ``pandas.Timestamp``."""
    import pandas as pd

    if value is pd.NA:
        return float("nan")
    if value is pd.NaT:
        return np.datetime64("NaT", "us")
    if isinstance(value, datetime):
        moment = pd.Timestamp(value)
        return moment.to_datetime64() if moment.tzinfo is None else moment
    if isinstance(value, timedelta):
        return pd.Timedelta(value).to_timedelta64()
    constant_kind(value)
    return value
