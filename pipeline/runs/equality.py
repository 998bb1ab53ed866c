"""Whether two results are equal: bit by bit, within a tolerance, or where they differ.

=======  ==============================================================================================================
kind     equal if they have the same
=======  ==============================================================================================================
array    dims, coordinates, dtype, and values
frame    columns with their types, and rows in any order; in the same order if the order is part of the value
items    keys, and equal items
value    members (containers), values (numbers, numpy, pandas, xarray), or by ``==`` (others)
=======  ==============================================================================================================

A missing value equals a missing value. Results are bitwise equal if no number differs; else numbers may differ by a
relative tolerance, since sums in another order give slightly different numbers.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.graph.importing import is_instance
from pipeline.runs.equal_frames import columns_of, paired, relative_difference, same_type

__all__ = ["Equality", "equal", "relative_difference"]


@dataclass(frozen=True)
class Equality:
    """How two results compare.

    Parameters
    ----------
    same : whether they are the same within the tolerance
    bitwise : whether no number differs at all
    largest_relative : difference of two numbers over the larger of them; inf if one is missing
    tolerance : the relative difference that is allowed
    message : the first difference; empty if there is none
    """

    same: bool
    bitwise: bool
    largest_relative: float
    tolerance: float
    message: str = ""


def equal(kind: str, reference: Any, other: Any, *, rtol: float = 1e-9, ordered: bool = False) -> Equality:
    """Compare two values of a kind: array, frame, items or value.

    Arrays over dask chunks are compared chunk by chunk, so that they need not fit into memory.

    Parameters
    ----------
    rtol : largest relative difference of two numbers that are still the same
    ordered : whether the order of a frame's rows counts
    """
    comparison = _Comparison(rtol, ordered)
    try:
        if kind == "items":
            comparison.items(reference, other)
        else:
            comparison.any("", reference, other)
    except _Differs as found:
        return Equality(False, False, comparison.largest, rtol, str(found))
    same = comparison.largest <= rtol
    return Equality(same, comparison.largest == 0, comparison.largest, rtol, "" if same else comparison.where)


class _Differs(Exception):
    """Two results differ in something that has no tolerance."""


class _Comparison:
    """One comparison: the largest difference so far, and where it is."""

    def __init__(self, rtol: float, ordered: bool) -> None:
        self.rtol, self.ordered = rtol, ordered
        self.largest, self.where = 0.0, ""

    # -- numbers ------------------------------------------------------------------------------------------------------

    def numbers(self, where: str, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> None:
        if not a.size:
            return
        found = relative_difference(a, b)
        worst = np.unravel_index(int(np.argmax(found)), found.shape)
        if found[worst] > self.largest:
            self.largest = float(found[worst])
            place = f"{where}[{', '.join(map(str, worst))}]" if found.ndim else where
            self.where = f"{place or 'value'}: got {b[worst]}, reference {a[worst]}"

    def array(self, where: str, a: Any, b: Any) -> None:
        """Compare two numpy arrays."""
        if a.dtype != b.dtype and not (a.dtype.kind in "UST" and b.dtype.kind in "UST"):
            raise _Differs(f"{where or 'array'}: dtype is {b.dtype}, reference {a.dtype}")
        if a.shape != b.shape:
            raise _Differs(f"{where or 'array'}: shape is {b.shape}, reference {a.shape}")
        if a.dtype.kind in "fc":
            self.numbers(where, a, b)
        elif a.dtype.kind == "O":
            for i, (x, y) in enumerate(zip(a.ravel(), b.ravel(), strict=True)):
                self.any(f"{where}[{i}]", x, y)
        else:
            missing = np.isnat(a) & np.isnat(b) if a.dtype.kind in "mM" else np.zeros(a.shape, bool)
            wrong = ~((a == b) | missing)
            if wrong.any():
                place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
                shown = f"{where}[{', '.join(map(str, place))}]" if a.ndim else where or "value"
                raise _Differs(f"{shown}: got {b[place]}, reference {a[place]}")

    # -- arrays with names --------------------------------------------------------------------------------------------

    def labelled(self, where: str, a: Any, b: Any) -> None:
        """Compare two ``xarray.DataArray``."""
        if a.dims != b.dims:
            raise _Differs(f"{where or 'array'}: dims are {b.dims}, reference {a.dims}")
        if a.shape != b.shape or a.dtype != b.dtype:
            got, wanted = (f"{x.shape} of {x.dtype}" for x in (b, a))
            raise _Differs(f"{where or 'array'}: is {got}, reference {wanted}")
        if set(a.coords) != set(b.coords):
            raise _Differs(f"{where or 'array'}: coordinates are {sorted(b.coords)}, reference {sorted(a.coords)}")
        for name in a.coords:
            if a.coords[name].dims != b.coords[name].dims:
                raise _Differs(f"{where}.{name}: dims are {b.coords[name].dims}, reference {a.coords[name].dims}")
            self.array(f"{where}.{name}", np.asarray(a.coords[name].values), np.asarray(b.coords[name].values))
        for region in _regions(a):
            self.array(where, np.asarray(a[region].values), np.asarray(b[region].values))

    # -- frames -------------------------------------------------------------------------------------------------------

    def frame(self, where: str, a: Any, b: Any) -> None:
        """Compare two ``pyarrow.Table``, or two ``pandas.DataFrame``."""
        one, other = columns_of(a), columns_of(b)
        names, wanted = ([column.name for column in columns] for columns in (other, one))
        if names != wanted:
            raise _Differs(f"{where or 'frame'}: columns are {names}, reference {wanted}")
        if len(a) != len(b):
            raise _Differs(f"{where or 'frame'}: has {len(b)} rows, reference {len(a)}")
        for x, y in zip(one, other, strict=True):
            if not same_type(x, y):
                raise _Differs(f"{where}.{x.name}: type is {y.type}, reference {x.type}")
        if not len(a):
            return
        pairs = paired(one, other, len(a), rtol=self.rtol, ordered=self.ordered)
        if pairs.differs is not None:
            i, place = pairs.differs
            row, wanted_row = int(pairs.b[place]), int(pairs.a[place])
            got, expected = other[i].value(row), one[i].value(wanted_row)
            raise _Differs(f"{where}.{one[i].name}: no row for row {row}, which has {got!r} ({expected!r})")
        for column, i in enumerate(pairs.floats):
            self.numbers(f"{where}.{one[i].name}", pairs.x[:, column], pairs.y[:, column])

    # -- anything -----------------------------------------------------------------------------------------------------

    def items(self, a: Any, b: Any) -> None:
        if not isinstance(a, Mapping):
            a, b = ({str(i): item for i, item in enumerate(x)} for x in (a, b))
        lost, new = [k for k in a if k not in b], [k for k in b if k not in a]
        if lost or new:
            texts = [f"item {lost[0]!r} is missing"] if lost else []
            texts += [f"item {new[0]!r} is not in the reference"] if new else []
            raise _Differs("; ".join(texts))
        for key in a:
            self.any(str(key), a[key], b[key])

    def any(self, where: str, a: Any, b: Any) -> None:
        """Compare two objects of any kind, member by member."""
        if a is b:
            return
        if hasattr(a, "dims") and hasattr(a, "coords") and hasattr(a, "dtype"):
            self._alike(where, a, b)
            self.labelled(where, a, b)
        elif isinstance(a, pa.Table):
            self._alike(where, a, b)
            self.frame(where, a, b)
        elif is_instance(a, "pandas", "DataFrame", "Series", "Index"):
            self._alike(where, a, b)
            frames = [x if x.ndim == 2 else x.to_frame(name="values") for x in (a, b)]
            self.frame(where, frames[0].reset_index(drop=True), frames[1].reset_index(drop=True))
        elif isinstance(a, np.ndarray | np.generic):
            self._alike(where, a, b)
            self.array(where, np.asarray(a), np.asarray(b))
        elif isinstance(a, float | complex):
            self._alike(where, a, b)
            self.numbers(where, np.asarray(a), np.asarray(b))
        else:
            self._container(where, a, b)

    def _container(self, where: str, a: Any, b: Any) -> None:
        self._alike(where, a, b)
        if isinstance(a, Mapping):
            if set(a) != set(b):
                raise _Differs(f"{where or 'value'}: keys are {sorted(map(str, b))}, reference {sorted(map(str, a))}")
            for key in a:
                self.any(f"{where}.{key}" if where else str(key), a[key], b[key])
        elif isinstance(a, list | tuple):
            if len(a) != len(b):
                raise _Differs(f"{where or 'value'}: has {len(b)} members, reference {len(a)}")
            for i, (x, y) in enumerate(zip(a, b, strict=True)):
                self.any(f"{where}[{i}]", x, y)
        elif not _same_object(a, b):
            if getattr(a, "__dict__", None) and type(a).__module__ != "builtins":
                self.any(where, vars(a), vars(b))
            else:
                raise _Differs(f"{where or 'value'}: got {_short(b)}, reference {_short(a)}")

    def _alike(self, where: str, a: Any, b: Any) -> None:
        if type(a) is not type(b) and not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
            names = [f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.") for x in (b, a)]
            raise _Differs(f"{where or 'value'}: is a {names[0]}, reference a {names[1]}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _same_object(a: Any, b: Any) -> bool:
    try:
        if bool(a == b):
            return True
    except (TypeError, ValueError):  # the result of == has no truth value
        pass
    try:
        return pickle.dumps(a) == pickle.dumps(b)
    except (pickle.PicklingError, TypeError, AttributeError):
        return False


def _regions(x: Any) -> Iterable[dict[str, slice]]:
    """Return the chunks of a lazy array as positions; of an array in memory, all of it."""
    if not x.chunks:
        return [{}]
    edges = [list(itertools.accumulate(sizes, initial=0)) for sizes in x.chunks]
    along = ([slice(*pair) for pair in itertools.pairwise(edge)] for edge in edges)
    return (dict(zip(map(str, x.dims), index, strict=True)) for index in itertools.product(*along))
