"""Candidates of a grid, their scores as a frame, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.model_selection import ParameterGrid

from pipeline.errors import DataError, OpError
from pipeline.graph.pandas_frames import held
from pipeline.graph.segments import Dropped
from pipeline.ops.calls.arguments import label
from pipeline.units import count_text

__all__ = ["FOLD", "best_of", "candidates_of", "mean_of", "parameter", "params_of", "scores_schema", "scores_table"]

FOLD = "fold"
_MOST = 1_000_000  # candidates times folds

Params = Mapping[str, Any]


def candidates_of(grids: Sequence[Mapping[str, Sequence[Any]]], n_folds: int) -> list[dict[str, Any]]:
    """Return the combinations of a grid, in the order of sklearn's ``ParameterGrid``, which decides ties.

    Raises
    ------
    OpError : there are too many
    """
    grid = ParameterGrid([dict(one) for one in grids])
    if len(grid) * max(1, n_folds) > _MOST:
        of = f"{count_text(len(grid), 'candidate')} x {count_text(n_folds, 'fold')}"
        raise OpError(
            "grid" if len(grid) > n_folds else "folds", f"makes {len(grid) * n_folds:,} fits ({of}); at most {_MOST:,}"
        )
    order = list(dict.fromkeys(name for one in grids for name in one))
    return [{name: one[name] for name in order if name in one} for one in grid]


def params_of(candidates: Sequence[Params]) -> dict[str, Any]:
    """Return the columns of the parameters with their types: whole numbers, numbers, booleans, else text."""
    names = dict.fromkeys(name for one in candidates for name in one)
    return {name: _field(name, [one.get(name) for one in candidates]) for name in names}


def _field(name: str, values: Sequence[Any]) -> pa.Field:
    kinds = {type(value) for value in values}
    missing = type(None) in kinds
    for kind, dtype in ((bool, pa.bool_()), (int, pa.int64())):
        if kinds - {type(None)} == {kind} and all(-(2**63) <= value < 2**63 for value in values if value is not None):
            return pa.field(name, dtype, missing)
    numbers = kinds <= {int, float, type(None)} and kinds != {type(None)}
    exact = all(type(value) is not int or abs(value) <= 2**53 for value in values)
    return pa.field(name, pa.float64() if numbers and exact else pa.string(), missing or numbers)


def scores_schema(params: Mapping[str, Any], scores: Sequence[str]) -> pa.Schema:
    """Return the columns of the frame of scores.

    Raises
    ------
    OpError : a parameter has the name of another column
    """
    for name in params:
        if name in (FOLD, *scores):
            raise OpError(f"grid.{name}", f"the scores have another column {name!r}; write the estimator with a name: "
                                          "estimator: {model: …}, which makes it model__" + name)  # fmt: skip
    given = [pa.field(name, pa.float64()) for name in scores]
    return pa.schema([*params.values(), pa.field(FOLD, pa.int64(), nullable=False), *given])


def scores_table(
    schema: pa.Schema, candidates: Sequence[Params], n_folds: int, results: Sequence[Mapping[str, float] | Dropped]
) -> pa.Table:
    """Return a row for each candidate and fold; the scores of one that was dropped are missing."""
    rows: list[dict[str, Any]] = []
    for number, result in enumerate(results):
        params = candidates[number // n_folds]
        scores = {} if isinstance(result, Dropped) else result
        rows.append({**params, FOLD: number % n_folds, **scores})
    columns = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        if pa.types.is_string(field.type):
            values = [None if value is None else label(value) or str(value) for value in values]
        columns.append(held(values, field, "the scores"))
    return pa.Table.from_arrays(columns, schema=schema)


def _means(n_folds: int, scorer: str, results: Sequence[Mapping[str, float] | Dropped]) -> np.ndarray[Any, Any]:
    """Return the mean score of each candidate; missing if one of its folds has none."""
    scores = [np.nan if isinstance(result, Dropped) else result[scorer] for result in results]
    means: np.ndarray[Any, Any] = np.reshape(scores, (-1, n_folds)).mean(axis=1)
    if np.isnan(means).all():
        raise DataError(f"no candidate has a score {scorer!r} in every fold")
    return means


def best_of(
    candidates: Sequence[Params], n_folds: int, scorer: str, results: Sequence[Mapping[str, float] | Dropped]
) -> dict[str, Any]:
    """Return the parameters with the highest mean score; of equal ones the first.

    Raises
    ------
    DataError : no candidate has all its scores
    """
    return dict(candidates[int(np.nanargmax(_means(n_folds, scorer, results)))])


def parameter(best: Params, name: str) -> Any:
    """Return one parameter of the best; None if it is of other candidates alone."""
    return best.get(name)


def mean_of(n_folds: int, scorer: str, results: Sequence[Mapping[str, float] | Dropped]) -> float:
    """Return the highest mean score.

    Raises
    ------
    DataError : no candidate has all its scores
    """
    return float(np.nanmax(_means(n_folds, scorer, results)))
