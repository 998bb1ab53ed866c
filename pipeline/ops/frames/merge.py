"""merge: the hash join.

Relational meaning: rows match where every key is equal, and a missing key matches nothing, not even another missing
one. Keys are compared in hidden columns of one common type a pair, so that both sides' own columns keep their types.

A side of one partition goes to every partition of the other; else both are dealt out by the hash of their keys, into as
many parts as the larger side has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.errors import DataError, OpError
from pipeline.graph.graph import listed, ref
from pipeline.ops.frames.partitions import Partitions, exchange, hashes, require_keys, stack
from pipeline.ops.frames.sort import names_of

__all__ = ["merge"]

Unique = Literal["one_to_one", "one_to_many", "many_to_one", "many_to_many"]
_HOW = ("inner", "left", "semi", "anti")


@dataclass(frozen=True)
class Join:
    """What every task of one merge knows: keys pair by pair, the types they are compared in, the result's columns."""

    how: str
    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    types: tuple[str, ...]  # "object": compared as they are; "numbers": as Python's, of any size
    left_names: tuple[tuple[str, str], ...]  # column, its name in the result
    right_names: tuple[tuple[str, str], ...]
    left_once: bool
    right_once: bool


def merge(
    left: Any,
    right: Any,
    *,
    how: str = "inner",
    on: str | Sequence[str] | None = None,
    left_on: str | Sequence[str] | None = None,
    right_on: str | Sequence[str] | None = None,
    suffixes: Sequence[str] = ("_x", "_y"),
    validate: Unique | None = None,
) -> Any:
    """The pairs of rows whose keys are equal; with ``how: left`` also the left rows that match none.

    ``semi`` gives the left rows that match some row of the right, each once, ``anti`` those that match none, a missing
    key among them; both have the left's columns and types.

    Columns are those of the left, then those of the right without the keys named alike; other columns named alike get
    the suffixes. Where a left join can leave a column of the right without a value, whole numbers become the nullable
    type of their size (``Int64``) and booleans ``boolean``, whether or not a value is missing in fact.

    Parameters
    ----------
    left, right : frames
    how : inner, left, semi or anti
    on : the keys, if both sides call them the same; else ``left_on`` and ``right_on``, pair by pair
    suffixes : appended to the left's and the right's columns that are named alike and are no shared keys
    validate : one_to_one, one_to_many, many_to_one: a key that repeats on a side that says `one` fails the run

    Raises
    ------
    OpError : an unknown column, keys of types that never compare equal, columns that would be named alike
    DataError : in the run, if ``validate`` does not hold
    """
    lefts, rights = _keys(left, right, on, left_on, right_on)
    if how not in _HOW:
        raise OpError("how", f"got '{how}'; allowed: {', '.join(_HOW)}")
    types = tuple(_common(left.meta[a], right.meta[b], a, b) for a, b in zip(lefts, rights, strict=True))
    left_names, right_names = (
        _result_names(left.columns, right.columns, lefts, rights, suffixes)
        if how in ("inner", "left")
        else (tuple((str(name), str(name)) for name in left.columns), ())
    )
    join = Join(
        how,
        tuple(lefts),
        tuple(rights),
        types,
        left_names,
        right_names,
        left_once=validate in ("one_to_one", "one_to_many"),
        right_once=validate in ("one_to_one", "many_to_one"),
    )
    meta = join_rows([left.meta], [right.meta], join)
    partitions = Partitions.of(left, right, parameters=("merge", join))
    left_keys, right_keys = partitions.keys
    # A broadcast side must not owe its unmatched rows, nor the other side a promise that needs all of its rows.
    if len(right_keys) == 1 and (not join.left_once or len(left_keys) == 1):
        pairs = [([key], right_keys) for key in left_keys]
    elif len(left_keys) == 1 and how == "inner" and not join.right_once:
        pairs = [(left_keys, [key]) for key in right_keys]
    else:
        n = max(len(left_keys), len(right_keys))
        pairs = list(
            zip(
                exchange(partitions, "left", left_keys, n, partial(places, names=join.left_on, types=types, n=n)),
                exchange(partitions, "right", right_keys, n, partial(places, names=join.right_on, types=types, n=n)),
                strict=True,
            )
        )
    joined = [
        partitions.add(
            "join", (i,), join_rows, listed(ref(key) for key in some), listed(ref(key) for key in others), join
        )
        for i, (some, others) in enumerate(pairs)
    ]
    return partitions.frame(joined, meta)


def _keys(left: Any, right: Any, on: Any, left_on: Any, right_on: Any) -> tuple[list[str], list[str]]:
    if on is not None:
        if left_on is not None or right_on is not None:
            raise OpError("on", "stands beside left_on or right_on; give `on`, or the other two")
        return names_of("on", on, left.columns), names_of("on", on, right.columns, of="the right side")
    if left_on is None or right_on is None:
        raise OpError("on", "is missing; give `on`, or `left_on` and `right_on`")
    lefts = [left_on] if isinstance(left_on, str) else list(left_on)
    rights = [right_on] if isinstance(right_on, str) else list(right_on)
    names_of("left_on", lefts, left.columns)
    names_of("right_on", rights, right.columns, of="the right side")
    if len(lefts) != len(rights):
        raise OpError("right_on", f"got {len(rights)} columns for the {len(lefts)} of left_on")
    return lefts, rights


def _family(dtype: Any) -> str:
    """The types whose values can be equal share a family."""
    if isinstance(dtype, pd.CategoricalDtype):
        dtype = dtype.categories.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return "zoned timestamp"
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if pd.api.types.is_integer_dtype(dtype):
        return "whole number"
    if pd.api.types.is_float_dtype(dtype):
        return "float"
    if pd.api.types.is_datetime64_dtype(dtype):
        return "timestamp"
    if pd.api.types.is_timedelta64_dtype(dtype):
        return "duration"
    return "text" if isinstance(dtype, pd.StringDtype) else str(dtype)


_COMPARED = {
    "boolean": "boolean",
    "whole number": "Int64",
    "float": "float64",
    "timestamp": "datetime64[ns]",
    "zoned timestamp": "datetime64[ns, UTC]",
    "duration": "timedelta64[ns]",
    "text": "str",
}


def _common(left: pd.Series[Any], right: pd.Series[Any], a: str, b: str) -> str:
    one, other = _family(left.dtype), _family(right.dtype)
    if one != other:
        raise OpError(
            "on" if a == b else "right_on",
            f"the keys '{a}' of the left ({left.dtype}) and '{b}' of the right ({right.dtype}) never compare equal; "
            "make them one type: `cast` in the reader, or integer(x), number(x), text(x) in an assign before",
        )
    if left.dtype == right.dtype and not isinstance(left.dtype, pd.CategoricalDtype):
        return "object"
    if one == "whole number" and "uint64" in (str(left.dtype).lower(), str(right.dtype).lower()):
        return "UInt64" if left.dtype.kind == right.dtype.kind == "u" else "numbers"
    return _COMPARED.get(one, "object")


def _result_names(
    left: Any, right: Any, lefts: Sequence[str], rights: Sequence[str], suffixes: Sequence[str]
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    if len(suffixes) != 2:
        raise OpError("suffixes", f"got {list(suffixes)}; give two, for the left and the right")
    shared = {a for a, b in zip(lefts, rights, strict=True) if a == b}
    both = (set(left) & set(right)) - shared
    named_left = tuple((name, name + suffixes[0] if name in both else name) for name in left)
    named_right = tuple((name, name + suffixes[1] if name in both else name) for name in right if name not in shared)
    names = [new for _, new in (*named_left, *named_right)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OpError("suffixes", f"{list(suffixes)} would give two columns the name '{twice[0]}'; choose others")
    return named_left, named_right


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def keys_of(frame: pd.DataFrame, names: Sequence[str], types: Sequence[str]) -> pd.DataFrame:
    """The keys as both sides compare them, under their positions."""
    require_keys(frame, names)
    columns = {}
    for i, (name, kind) in enumerate(zip(names, types, strict=True)):
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype(column.dtype.categories.dtype)
        target: Any = "object" if kind == "numbers" else kind
        columns[i] = column if kind == "object" else column.astype(target)
    return pd.DataFrame(columns, index=frame.index)


def places(
    frame: pd.DataFrame, *, names: Sequence[str], types: Sequence[str], n: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each row the part its key belongs to."""
    return (hashes(keys_of(frame, names, types)) % np.uint64(n)).astype(np.int64)


def join_rows(lefts: Sequence[pd.DataFrame], rights: Sequence[pd.DataFrame], join: Join) -> pd.DataFrame:
    """The rows of some left frames joined with those of some right frames."""
    left, right = stack(lefts), stack(rights)
    one, other = keys_of(left, join.left_on, join.types), keys_of(right, join.right_on, join.types)
    one["left"], other["right"] = np.arange(len(one)), np.arange(len(other))
    keys = list(range(len(join.types)))
    present, others = one.dropna(subset=keys), other.dropna(subset=keys)
    if join.left_once:
        _require_once(present, keys, "left", join.left_on)
    if join.right_once:
        _require_once(others, keys, "right", join.right_on)
    if join.how in ("semi", "anti"):
        matched = present.merge(others.drop_duplicates(keys), on=keys, how="inner")["left"].to_numpy(dtype=np.int64)
        kept = np.sort(matched) if join.how == "semi" else np.setdiff1d(np.arange(len(left)), matched)
        return left.take(kept).reset_index(drop=True)
    pairs = present.merge(others, on=keys, how="inner")
    at_left, at_right = pairs["left"].to_numpy(dtype=np.int64), pairs["right"].to_numpy(dtype=np.int64)
    if join.how == "left":
        alone = np.setdiff1d(np.arange(len(left)), at_left)
        at_left = np.concatenate([at_left, alone])
        at_right = np.concatenate([at_right, np.full(len(alone), -1)])
        right = nullable(right)
    columns = {new: left[name].array.take(at_left) for name, new in join.left_names}
    for name, new in join.right_names:
        columns[new] = _take(right[name], at_right)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(at_left)))


def nullable(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with types that have a missing value."""
    new = {
        name: "boolean" if dtype.kind == "b" else dtype.name.replace("i", "I").replace("u", "U")
        for name, dtype in frame.dtypes.items()
        if isinstance(dtype, np.dtype) and dtype.kind in "biu"
    }
    return frame.astype(new) if new else frame


def _take(column: pd.Series[Any], rows: np.ndarray[Any, np.dtype[np.int64]]) -> Any:
    if (rows < 0).any():
        return pd.api.extensions.take(column.array, rows, allow_fill=True)
    return column.array.take(rows)


def _require_once(keys: pd.DataFrame, columns: Sequence[Any], side: str, names: Sequence[str]) -> None:
    repeated = keys[keys.duplicated(columns)]
    if len(repeated):
        values = ", ".join(f"{name}={value}" for name, value in zip(names, repeated[columns].iloc[0], strict=True))
        raise DataError(f"validate: the key {values} repeats on the {side}")
