"""Expressions over the columns of a frame: their types while building, their values inside tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipeline.config.expressions.expression import Expression
from pipeline.errors import OpError
from pipeline.ops.elementwise.targets import columns_dtype, evaluate_columns
from pipeline.ops.frames.partitions import conform, require

__all__ = ["column_of", "dtype_of"]


def dtype_of(place: str, expression: Expression, meta: pd.DataFrame) -> Any:
    """The dtype of the expression's value.

    Raises
    ------
    OpError : an unknown column, or types that don't go together
    """
    names = sorted(expression.names, key=expression.text_column)
    require(place, names, meta.columns, at=expression.text_column)
    try:
        return pd.api.types.pandas_dtype(columns_dtype(expression, meta))
    except (TypeError, ValueError) as error:
        raise OpError(place, str(error)) from error


def column_of(expression: Expression, frame: pd.DataFrame, bound: Sequence[Any], dtype: Any) -> pd.Series[Any]:
    """The expression's value as a column of one partition, in the dtype found while building; the index counts rows."""
    value = evaluate_columns(expression, frame, bound)
    if not isinstance(value, pd.Series):
        value = pd.Series([value] * len(frame), dtype=dtype)
    return conform(value.reset_index(drop=True), dtype)
