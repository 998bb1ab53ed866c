"""Forests and bagging whose members are trained by several tasks, and put together.

A task trains the members from ``a`` to ``b`` by ``warm_start``, as if those before ``a`` were there: scikit-learn then
draws the seeds of the others as for a whole fit. So the members are those that one fit gives, bit by bit, and do not
depend on the number of tasks.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from pipeline.graph.segments import Dropped
from pipeline.ops.learning.estimators import Recipe, estimator_of, last_step
from pipeline.ops.learning.fitting import Scoring, fit, scores_of
from pipeline.ops.learning.tables import Table
from pipeline.worker.run_segment import begin_item, cause_of

__all__ = ["Piece", "is_splittable", "joined_members", "scored_members", "some_members"]

_ENSEMBLES = (
    *(RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor),
    *(BaggingClassifier, BaggingRegressor),
)

Params = Mapping[str, Any]
Piece = tuple[Any, float] | Dropped | None
"""A model with some of the members, and the seconds of training; None: there were none to train."""


def is_splittable(estimator: Any) -> bool:
    """Return whether the members of a model can be trained by several tasks.

    Not where the model is scored with rows that its members have not seen: that needs all of them at once.
    """
    last = last_step(estimator)
    return type(last) in _ENSEMBLES and not last.oob_score and not last.warm_start


def some_members(
    recipe: Recipe,
    args: Params,
    params: Params,
    place: tuple[int, int],
    item: str,
    drop: bool,
    table: Table,
    folds: Sequence[tuple[Any, Any]] | None = None,
    fold: int = 0,
) -> Piece:
    """Train some of the members of a model.

    Parameters
    ----------
    place : the number of this task, and how many there are
    item : key of the item that the model is for, for messages; empty: none
    drop : whether a failure is part of the result
    folds : the folds, of which the rows of ``fold`` are left out; None: all rows are used
    """
    begin_item(item)
    began = perf_counter()
    try:
        model = estimator_of(recipe, args, params)
        ensemble, (number, n) = last_step(model), place
        start, stop = (i * ensemble.n_estimators // n for i in (number, number + 1))
        if start == stop:
            return None
        rows = np.arange(len(table)) if folds is None else folds[fold][0]
        ensemble.set_params(warm_start=True, n_estimators=stop)
        ensemble.estimators_, ensemble.estimators_features_ = [None] * start, [None] * start
        with warnings.catch_warnings():
            # of class weights, which are those of all rows here, in every task
            warnings.filterwarnings("ignore", message="class_weight presets", category=UserWarning)
            fit(model, table.rows(rows))
        return model, perf_counter() - began
    except Exception as error:
        if not drop:
            raise
        return Dropped(cause_of(error))


def joined_members(recipe: Recipe, args: Params, params: Params, pieces: Sequence[Piece]) -> Any:
    """Return the model with the members of all pieces, as one fit would have left it."""
    models = [piece[0] for piece in pieces if isinstance(piece, tuple)]
    model, parts = models[-1], [last_step(one) for one in models]
    ensemble = last_step(model)
    begins = [0, *(len(part.estimators_) for part in parts[:-1])]
    for name in ("estimators_", "estimators_features_"):
        members = [getattr(part, name)[begin:] for part, begin in zip(parts, begins, strict=True)]
        setattr(ensemble, name, list(itertools.chain.from_iterable(members)))
    if hasattr(ensemble, "_seeds"):  # of bagging: what draws the rows of each member
        ensemble._seeds = np.concatenate([part._seeds for part in parts])
    else:
        del ensemble.estimators_features_  # which forests don't have
    plain = last_step(estimator_of(recipe, args, params))
    ensemble.set_params(warm_start=plain.warm_start, n_estimators=plain.n_estimators)
    return model


def scored_members(
    recipe: Recipe,
    args: Params,
    params: Params,
    scoring: Scoring,
    fold: int,
    table: Table,
    folds: Sequence[tuple[Any, Any]],
    pieces: Sequence[Piece],
) -> dict[str, float] | Dropped:
    """Put the members of a model together, and return the scores of a fold."""
    failed = next((piece for piece in pieces if isinstance(piece, Dropped)), None)
    if failed is not None:
        return failed
    seconds = sum(piece[1] for piece in pieces if isinstance(piece, tuple))
    model = joined_members(recipe, args, params, pieces)
    return scores_of(scoring, model, table.rows(folds[fold][1]), seconds)
