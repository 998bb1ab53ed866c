"""The rows that models are trained on: gathered, checked, cut into folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.base import is_classifier
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit
from sklearn.utils.multiclass import type_of_target

from pipeline.errors import DataError
from pipeline.graph.column_types import family
from pipeline.graph.pandas_frames import to_pandas
from pipeline.ops.conversions import matrix_dtype, matrix_of_rows
from pipeline.ops.learning.estimators import Recipe, estimator_of
from pipeline.units import count_text

__all__ = [
    "Columns",
    "Folds",
    "Table",
    "features_of",
    "folds_of",
    "gathered",
    "gathered_arrays",
    "joined",
    "named_matrix",
    "require_no_missing",
    "rows_of",
    "rows_of_chunk",
]

Block = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Columns:
    """What the columns of a frame are for.

    Parameters
    ----------
    dtype : of the matrix of features; None: some are no numbers, and the features stay a frame
    missing : whether features may be missing
    learner : name of the estimator, for messages
    """

    features: tuple[str, ...]
    target: str | None
    groups: str | None
    dtype: Any
    missing: bool
    learner: str


@dataclass(frozen=True, eq=False)
class Table:
    """Rows to learn from.

    Parameters
    ----------
    x : a frame of features, or of arrays a matrix, shape (rows, features)
    y : what is predicted, shape (rows,), or (rows, outputs) of arrays; None: nothing
    groups : the group of each row, shape (rows,)
    """

    x: Any
    y: Any = None
    groups: Any = None

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Any) -> Table:
        """Return a copy of some rows."""
        x = self.x.iloc[index] if isinstance(self.x, pd.DataFrame) else self.x[index]
        return replace(self, x=x, y=None if self.y is None else self.y[index], groups=None)


@dataclass(frozen=True)
class Folds:
    """How rows become folds.

    Parameters
    ----------
    splitter : None: stratified if classes are predicted
    seed : of the shuffling; None: rows are not shuffled
    """

    n: int
    splitter: str | None
    seed: int | None


# ---------------------------------------------------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------------------------------------------------


def rows_of(columns: Columns, partition: pa.Table) -> Table:
    """Return the rows of one partition.

    Raises
    ------
    DataError : missing values in the target, or in features where the estimator does not take them
    """
    for name in (columns.target, columns.groups):
        if name is not None and (n := partition.column(name).null_count):
            role = "target" if name == columns.target else "groups"
            raise DataError(
                f"{role} {name!r} is missing in {count_text(n, 'row')}; leave them out: "
                f"{{op: dropna, input: …, subset: [{name}]}}"
            )
    if not columns.missing:
        require_no_missing(partition, columns.features, columns.learner)
    x = features_of(partition, columns.features, columns.dtype)
    y, groups = (None if name is None else _plain(partition, name) for name in (columns.target, columns.groups))
    return Table(x, y, groups)


def features_of(partition: pa.Table, names: Sequence[str], dtype: Any) -> pd.DataFrame:
    """Return features as a frame for scikit-learn, which takes the names of columns from it.

    Numbers are numpy's, missing ones NaN; text is pandas' ``str``, categories are ``category``.

    Parameters
    ----------
    dtype : of all columns; None: some are no numbers
    """
    if dtype is not None:
        return named_matrix(partition, names, dtype)
    columns: dict[str, Any] = {}
    for name in names:
        field = partition.schema.field(name)
        if family(field.type) in ("number", "true/false"):
            columns[name] = matrix_of_rows((name,), matrix_dtype([field]), partition)[:, 0]
        else:
            given = pa.Table.from_arrays([partition.column(name)], schema=pa.schema([field.with_nullable(False)]))
            columns[name] = to_pandas(given)[name]
    return pd.DataFrame(columns, index=pd.RangeIndex(partition.num_rows))


def named_matrix(partition: pa.Table, names: Sequence[str], dtype: Any) -> pd.DataFrame:
    """Return some columns as a frame over one matrix, column after column, as pandas holds those of one dtype.

    Scores depend on that order in their last bits; so they are those that scikit-learn gives for such a frame.
    """
    matrix = np.asfortranarray(matrix_of_rows(tuple(names), dtype, partition))
    return pd.DataFrame(matrix, columns=list(names), copy=False)


def require_no_missing(partition: pa.Table, features: Sequence[str], learner: str) -> None:
    """Refuse missing values in features of an estimator that does not take them.

    Raises
    ------
    DataError : naming the columns
    """
    counts = {name: partition.column(name).null_count for name in features}
    lacking = [f"{name!r} ({n:,})" for name, n in counts.items() if n]
    if lacking:
        shown = ", ".join(lacking[:5]) + (", …" if lacking[5:] else "")
        raise DataError(
            f"missing values in {shown}, which {learner} does not take; leave these rows out (op dropna), "
            "fill them (op fillna), or make sklearn.impute.SimpleImputer the first of several estimators"
        )


def gathered(columns: Columns, partitions: Sequence[pa.Table]) -> Table:
    """Return the rows of all partitions, in order.

    Raises
    ------
    DataError : as :func:`rows_of`, or if there are no rows
    """
    tables = [rows_of(columns, partition) for partition in partitions if partition.num_rows]
    if not tables:
        raise DataError("there are no rows to learn from")
    return joined(tables)


def joined(tables: Sequence[Table]) -> Table:
    """Return the rows of several tables, one after the other."""
    if len(tables) == 1:
        return tables[0]
    x = [table.x for table in tables]
    return Table(
        pd.concat(x, ignore_index=True) if isinstance(x[0], pd.DataFrame) else np.concatenate(x),
        None if tables[0].y is None else np.concatenate([table.y for table in tables]),
        None if tables[0].groups is None else np.concatenate([table.groups for table in tables]),
    )


def gathered_arrays(missing: bool, learner: str, x: Sequence[Block], y: Sequence[Block] | None) -> Table:
    """Return the rows of chunks of features, and of what is predicted.

    Raises
    ------
    DataError : no rows, other rows in ``y``, or missing values where the estimator does not take them
    """
    table = rows_of_chunk(missing, learner, np.concatenate(x), None if y is None else np.concatenate(y))
    if not len(table):
        raise DataError("there are no rows to learn from")
    return table


def rows_of_chunk(missing: bool, learner: str, features: Block, target: Block | None) -> Table:
    """Return the rows of a chunk of features, and of what is predicted.

    Raises
    ------
    DataError : as :func:`gathered_arrays`
    """
    if target is not None and len(target) != len(features):
        raise DataError(f"y has {count_text(len(target), 'row')}, the input {len(features):,}")
    for name, values in (("y", target), ("the input", None if missing else features)):
        if values is not None and values.dtype.kind in "fc" and (n := int(np.isnan(values).sum())):
            takes = "" if name == "y" else f", which {learner} does not take; fill them: {{expr: fill(x, 0)}}"
            raise DataError(f"{count_text(n, 'missing value')} in {name}{takes}")
    return Table(features, target)


def _plain(partition: pa.Table, name: str) -> Block:
    """Return a column without missing values as a numpy array; text as an array of objects."""
    field = partition.schema.field(name)
    if family(field.type) == "text":
        return np.array(partition.column(name).to_pylist(), dtype=object)
    found: Block = matrix_of_rows((name,), matrix_dtype([field.with_nullable(False)]), partition)[:, 0]
    return np.ascontiguousarray(found)


# ---------------------------------------------------------------------------------------------------------------------
# Folds
# ---------------------------------------------------------------------------------------------------------------------


def folds_of(how: Folds, recipe: Recipe, args: Mapping[str, Any], table: Table) -> list[tuple[Block, Block]]:
    """Return for each fold the positions of the rows to train on, and of those to be scored.

    Raises
    ------
    DataError : too few rows, groups, or rows of a class
    """
    name = how.splitter
    if name is None:
        classes = table.y is not None and is_classifier(estimator_of(recipe, args, {}))
        stratified = classes and type_of_target(table.y) in ("binary", "multiclass")
        name = "StratifiedKFold" if stratified else "KFold"
    least = how.n + (name == "TimeSeriesSplit")
    if len(table) < least:
        raise DataError(f"folds: {how.n} needs {least} rows or more; there are {len(table):,}")
    if name.startswith("Stratified"):
        if table.y is None:
            raise DataError(f"splitter {name} needs a target")
        classes, counts = np.unique(table.y, return_counts=True)
        few = int(np.argmin(counts))
        if counts[few] < how.n and name == "StratifiedKFold":
            rare = f"class {str(classes[few])!r} of the target has {count_text(int(counts[few]), 'row')}"
            cure = "make fewer folds, join rare classes before, or write splitter: KFold"
            raise DataError(f"{rare}, fewer than folds: {how.n}; {cure}")
    if table.groups is not None and (n := len(np.unique(table.groups))) < how.n:
        raise DataError(f"folds: {how.n} needs as many groups or more; there are {n}")
    seed: Any = {"shuffle": how.seed is not None, "random_state": how.seed}
    splitter: Any = {
        "KFold": lambda: KFold(how.n, **seed),
        "StratifiedKFold": lambda: StratifiedKFold(how.n, **seed),
        "GroupKFold": lambda: GroupKFold(how.n),
        "StratifiedGroupKFold": lambda: StratifiedGroupKFold(how.n, **seed),
        "TimeSeriesSplit": lambda: TimeSeriesSplit(how.n),
    }[name]()
    try:
        return list(splitter.split(np.empty((len(table), 0)), table.y, table.groups))
    except ValueError as error:  # of scikit-learn, on the user's rows
        raise DataError(f"splitter {name}: {error}") from error
