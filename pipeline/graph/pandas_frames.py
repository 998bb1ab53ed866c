"""Tables as pandas frames and back: what calls get and give, and what a run returns.

The dtype of a column follows from the schema, never from the values. Floats are numpy's, with NaN where a value is
missing. Whole numbers, truth values and text are numpy's and ``str`` where the schema allows no missing values, else
``Int64`` (in the width of the column), ``boolean`` and ``string``. Days and times are ``datetime64`` (days in seconds),
durations ``timedelta64``, categories ``category``; decimals and times of day keep Arrow's types; binary, lists and
structs are Python objects.

What a call gives is held to the columns that the file declares; polars frames and Arrow tables do as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError
from pipeline.graph.column_types import empty_table, is_text, type_name
from pipeline.graph.declared_values import Misfit, fitted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FrameForm", "as_frame", "column_names", "from_pandas", "held", "is_frame", "pandas_dtype", "to_pandas"]


FrameForm = Literal["pandas", "arrow", "polars"]
"""Which frames a function of the user's gets."""


def as_frame(table: pa.Table, form: FrameForm) -> Any:
    """Return a table as a function of the user's gets it; Arrow and polars share its memory.

    Raises
    ------
    DataError : polars is not installed here
    """
    if form == "pandas":
        return to_pandas(table)
    if form == "arrow":
        return table
    try:
        import polars as pl  # optional
    except ModuleNotFoundError as error:
        raise DataError("frames: polars needs polars, which is not installed here: pip install polars") from error
    return pl.from_arrow(table, rechunk=False)


def pandas_dtype(field: pa.Field) -> Any:
    """Return the dtype that a column has in pandas."""
    import pandas as pd

    t, kind = pa.types, field.type
    if t.is_boolean(kind):
        return pd.BooleanDtype() if field.nullable else np.dtype(bool)
    if t.is_integer(kind):
        plain = np.dtype(kind.to_pandas_dtype())
        return (
            pd.api.types.pandas_dtype(plain.name.replace("i", "I", 1).replace("u", "U", 1)) if field.nullable else plain
        )
    if t.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype())
    if is_text(kind):
        return pd.StringDtype() if field.nullable else pd.StringDtype(na_value=np.nan)
    if t.is_date(kind):
        return np.dtype("datetime64[s]")
    if t.is_timestamp(kind):
        return pd.DatetimeTZDtype(kind.unit, kind.tz) if kind.tz else np.dtype(f"datetime64[{kind.unit}]")
    if t.is_duration(kind):
        return np.dtype(f"timedelta64[{kind.unit}]")
    if t.is_dictionary(kind):
        return pd.CategoricalDtype()
    return pd.ArrowDtype(kind) if t.is_decimal(kind) or t.is_time(kind) else np.dtype(object)


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Return a table as a pandas frame with a RangeIndex; the caller owns its values."""
    import pandas as pd

    columns = {field.name: _column(table.column(i), field) for i, field in enumerate(table.schema)}
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))


def _column(column: pa.ChunkedArray, field: pa.Field) -> Any:
    import pandas as pd

    dtype: Any = pandas_dtype(field)
    if isinstance(dtype, pd.ArrowDtype):
        return pd.Series(pd.array(column, dtype=dtype))
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return pd.Series(column.to_pylist(), dtype=object)
    if isinstance(dtype, pd.CategoricalDtype):
        return (
            (column if column.num_chunks else empty_table(pa.schema([field])).column(0))
            .unify_dictionaries()
            .to_pandas()
        )
    if isinstance(dtype, np.dtype) and dtype.kind == "M" and pa.types.is_date(field.type):
        return pd.Series(column.cast(pa.timestamp("s")).to_pandas())
    if isinstance(dtype, pd.StringDtype | pd.BooleanDtype) or not isinstance(dtype, np.dtype | pd.DatetimeTZDtype):
        extension: Any = dtype
        return pd.Series(extension.__from_arrow__(column))
    values = column.to_pandas()
    return values.copy() if not values.to_numpy().flags.writeable else values


# ---------------------------------------------------------------------------------------------------------------------
# What a call gives
# ---------------------------------------------------------------------------------------------------------------------


def is_frame(value: Any) -> bool:
    """Return whether a value is a frame: of pandas, polars or Arrow."""
    return _form(value) != ""


def _form(value: Any) -> str:
    """``pandas``, ``polars`` or ``arrow``; none of them is imported here but Arrow."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__}
    if ("pandas", "DataFrame") in kinds:
        return "pandas"
    if ("polars", "DataFrame") in kinds:
        return "polars"
    return "arrow" if isinstance(value, pa.Table | pa.RecordBatch) else ""


def column_names(frame: Any) -> list[Any]:
    """Return the names of the columns of a frame of pandas, polars or Arrow."""
    return list(frame.schema.names) if isinstance(frame, pa.Table | pa.RecordBatch) else list(frame.columns)


def from_pandas(frame: Any, schema: pa.Schema, where: str) -> pa.Table:
    """Return what a function gave as a table of the declared columns; others are left out.

    Parameters
    ----------
    frame : ``pandas.DataFrame``, whose index is ignored; ``polars.DataFrame``, ``pyarrow.Table`` or ``RecordBatch``
    schema : the declared columns. A column that allows no missing values gets none
    where : what gave it; the errors begin with it

    Raises
    ------
    DataError : it is no frame, lacks a column, has two of one name, or holds a value that does not fit its type: the
        first of them is named
    """
    form = _form(frame)
    if not form:
        raise DataError(
            f"{where} gave a {type(frame).__name__}; a frame is a pandas.DataFrame, or one of polars or Arrow"
        )
    names = column_names(frame)
    columns = []
    for field in schema:
        places = [i for i, name in enumerate(names) if name == field.name]
        if len(places) != 1:
            has = f"has {len(places)} columns" if places else "has no column"
            raise DataError(f"{where} {has} {field.name!r}; it has {', '.join(map(str, names)) or 'none'}")
        columns.append(held(_values(frame, places[0], form), field, where))
    if not columns:
        return pa.table({})
    return pa.Table.from_arrays(columns, schema=schema)


def held(values: Sequence[Any] | pa.Array, field: pa.Field, where: str | Sequence[str]) -> pa.Array:
    """Return values as a declared column.

    Parameters
    ----------
    where : what gave them, or what gave each of them

    Raises
    ------
    DataError : naming the column and the first value that does not fit, or is missing where none may be
    """
    try:
        column = fitted(values, field.type)
    except Misfit as error:
        place = where if isinstance(where, str) else where[error.position]
        raise DataError(
            f"{place}: column {field.name!r} got {error.shown}, which does not fit {type_name(field.type)}"
        ) from error
    if column.null_count and not field.nullable:
        first = column.is_null().index(True).as_py()
        place = where if isinstance(where, str) else where[first]
        raise DataError(f"{place}: column {field.name!r} has missing values, and none are allowed")
    return column


def _values(frame: Any, position: int, form: str) -> Sequence[Any] | pa.Array:
    """One column as Arrow has it, or as Python objects; the caller of the function may change its own afterwards."""
    if form == "polars":
        return frame.to_series(position).to_arrow()
    if form == "arrow":
        column = frame.column(position)
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    series = frame.iloc[:, position]
    if isinstance(series.dtype, np.dtype) and series.dtype.kind not in "biufmM":
        return series.tolist()
    try:
        found = pa.array(series.copy(deep=True), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError):  # sparse, periods, categories of objects
        return series.astype(object).tolist()
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
