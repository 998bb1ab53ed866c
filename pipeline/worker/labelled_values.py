"""What determines an object of pandas, polars, xarray, SciPy or cftime: plain values, arrays and Arrow tables."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.graph.canonical_encoding import UnknownValue

__all__ = ["LIBRARIES", "library_parts"]

Parts = tuple[Any, ...]


def library_parts(value: Any) -> Parts:
    """Return values of plain types, numpy and Arrow that determine an object of a library; classes are compared, too.

    Raises
    ------
    UnknownValue : if it is of a library, or of a class, that is not known here
    """
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if library not in LIBRARIES or library not in sys.modules:
        raise UnknownValue(f"an object of type {kind.__module__}.{kind.__qualname__}")
    parts = LIBRARIES[library](value)
    if parts is None:
        raise UnknownValue(f"an object of type {kind.__module__}.{kind.__qualname__}")
    return library, kind.__name__, *parts


# ---------------------------------------------------------------------------------------------------------------------
# pandas
# ---------------------------------------------------------------------------------------------------------------------


def _pandas(value: Any) -> Parts | None:
    pd = sys.modules["pandas"]
    kind = type(value)
    if kind is pd.DataFrame:
        columns = [_pandas_array(value.iloc[:, i].array) for i in range(value.shape[1])]
        return value.index, value.columns, columns, value.attrs, value.flags.allows_duplicate_labels
    if kind is pd.Series:
        return value.index, value.name, _pandas_array(value.array), value.attrs, value.flags.allows_duplicate_labels
    if kind is pd.RangeIndex:
        return value.start, value.stop, value.step, value.name
    if kind is pd.MultiIndex:
        return [value.get_level_values(i) for i in range(value.nlevels)], list(value.names)
    if isinstance(value, pd.Index):
        return value.name, getattr(value, "freqstr", None), _pandas_array(value.array)
    if value is pd.NA or value is pd.NaT:
        return ()
    if kind is pd.Timestamp:
        return value.unit, value.asm8, value.fold, str(value.tz)
    if kind is pd.Timedelta:
        return value.unit, value.asm8
    if kind is pd.Period:
        return value.ordinal, value.freqstr
    if kind is pd.Interval:
        return value.left, value.right, value.closed
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return _pandas_array(value)
    if isinstance(value, pd.api.extensions.ExtensionDtype):
        return (str(value),)
    return None


def _pandas_array(array: Any) -> Parts:
    """Return what determines the array of a column or index."""
    pd = sys.modules["pandas"]
    dtype = array.dtype
    head = (type(array).__name__, str(dtype))
    if isinstance(dtype, np.dtype) or isinstance(array, pd.arrays.NumpyExtensionArray):
        return *head, array.to_numpy()
    if isinstance(dtype, pd.CategoricalDtype):
        return *head, dtype.ordered, dtype.categories, np.asarray(array.codes)
    if isinstance(dtype, (pd.DatetimeTZDtype, pd.PeriodDtype)):
        return *head, np.asarray(array.asi8)
    if isinstance(dtype, pd.IntervalDtype):
        return *head, array.left, array.right
    if isinstance(dtype, pd.SparseDtype):
        return *head, dtype.fill_value, array.to_dense()
    if hasattr(array, "__arrow_array__"):  # of Arrow's own, of texts, and of numbers with a mask
        return *head, repr(getattr(dtype, "na_value", None)), array.__arrow_array__()
    raise UnknownValue(f"a column of type {dtype}")


# ---------------------------------------------------------------------------------------------------------------------
# Others
# ---------------------------------------------------------------------------------------------------------------------


def _polars(value: Any) -> Parts | None:
    pl = sys.modules["polars"]
    if type(value) is pl.Series:
        value = value.to_frame()
    if type(value) is not pl.DataFrame:
        return None
    types = [(name, repr(dtype)) for name, dtype in value.schema.items()]
    if any(dtype.base_type() is pl.Object for dtype in value.schema.values()):
        return types, [value[name].to_list() for name in value.columns]
    return types, value.to_arrow()


def _xarray(value: Any) -> Parts | None:
    xr = sys.modules["xarray"]
    kind = type(value)
    if isinstance(value, sys.modules["pandas"].Index):
        return _pandas(value)
    if kind is xr.DataArray:
        coords = {name: coord.variable for name, coord in value.coords.items()}
        return value.name, value.variable, sorted(coords.items(), key=_name), sorted(map(repr, value.xindexes))
    if kind is xr.Dataset:
        variables = sorted(value.variables.items(), key=_name)
        order = list(value.data_vars)
        about = value.attrs, value.encoding, sorted(map(repr, value.xindexes))
        return order, dict(value.sizes), variables, *about
    if isinstance(value, xr.Variable):
        data = value.to_index() if kind is xr.IndexVariable else value.data
        if isinstance(data, (np.ndarray, sys.modules["pandas"].Index)):
            return value.dims, data, value.attrs, value.encoding
    return None


def _name(pair: tuple[Any, Any]) -> str:
    return repr(pair[0])


def _scipy(value: Any) -> Parts | None:
    form = getattr(value, "format", None)
    names = {"csr": ("indptr", "indices", "data"), "coo": ("coords", "data"), "dia": ("offsets", "data")}
    names |= {"csc": names["csr"], "bsr": names["csr"]}
    if form not in names or not type(value).__module__.startswith("scipy.sparse"):
        return None
    return form, value.shape, [getattr(value, name) for name in names[form]]


def _cftime(value: Any) -> Parts | None:
    if not hasattr(value, "calendar"):
        return None
    day = value.year, value.month, value.day
    return value.calendar, value.has_year_zero, day, value.hour, value.minute, value.second, value.microsecond


LIBRARIES: dict[str, Callable[[Any], Parts | None]] = {
    "pandas": _pandas,
    "polars": _polars,
    "xarray": _xarray,
    "scipy": _scipy,
    "cftime": _cftime,
}
