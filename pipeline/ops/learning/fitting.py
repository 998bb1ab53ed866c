"""Tasks that train and score one combination of parameters on one fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.metrics import check_scoring

from pipeline.ops.learning.estimators import Recipe, estimator_of
from pipeline.ops.learning.tables import Table

__all__ = ["SCORE", "TIMES", "Scoring", "fit", "refitted", "scored", "scores_of"]

SCORE = "score"
TIMES = ("fit_seconds", "score_seconds")

Params = Mapping[str, Any]
Folds = Sequence[tuple[Any, Any]]


@dataclass(frozen=True)
class Scoring:
    """The scores of a step.

    Parameters
    ----------
    scorers : names; empty: the estimator's own score
    times : whether the seconds of training and scoring are among the scores
    """

    scorers: tuple[str, ...]
    times: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the scores, the seconds last."""
        return (self.scorers or (SCORE,)) + (TIMES if self.times else ())


def fit(estimator: Any, table: Table) -> Any:
    """Train an estimator, and return it."""
    return estimator.fit(table.x, table.y) if table.y is not None else estimator.fit(table.x)


def scored(
    recipe: Recipe, args: Params, params: Params, scoring: Scoring, fold: int, table: Table, folds: Folds
) -> dict[str, float]:
    """Train on all rows but those of a fold, and return the scores of the fold."""
    train, test = folds[fold]
    began = perf_counter()
    model = fit(estimator_of(recipe, args, params), table.rows(train))
    return scores_of(scoring, model, table.rows(test), perf_counter() - began)


def scores_of(scoring: Scoring, model: Any, table: Table, fit_seconds: float) -> dict[str, float]:
    """Return the scores of a trained model on some rows."""
    began = perf_counter()
    x, y = table.x, table.y
    if scoring.scorers:
        found = check_scoring(model, scoring=list(scoring.scorers), raise_exc=True)(model, x, y)
    else:
        found = {SCORE: model.score(x) if y is None else model.score(x, y)}
    scores = {name: float(value) for name, value in found.items()}
    return (
        {**scores, **dict(zip(TIMES, (fit_seconds, perf_counter() - began), strict=True))} if scoring.times else scores
    )


def refitted(recipe: Recipe, args: Params, best: Params, table: Table) -> Any:
    """Return the model with the best parameters, trained on all rows."""
    # on a copy: an estimator may be set to work in place, and other tasks see these rows, too
    return fit(estimator_of(recipe, args, best), table.rows(np.arange(len(table))))
