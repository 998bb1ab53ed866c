"""Models trained by ``partial_fit``, one partition after the other: nothing is averaged, nothing is whole in memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.graph.segments import Dropped
from pipeline.ops.learning.estimators import Recipe, estimator_of
from pipeline.ops.learning.fitting import Scoring, scores_of
from pipeline.ops.learning.tables import Table, joined
from pipeline.worker.run_segment import begin_item, cause_of

__all__ = ["State", "classes_in", "classes_of", "learned", "model_of", "scored_state"]

Params = Mapping[str, Any]
State = tuple[Any, float] | Dropped
"""A model, and the seconds of training so far."""


def classes_in(table: Table) -> Any:
    """Return the distinct values of the target in one partition, sorted."""
    return np.unique(table.y)


def classes_of(several: Sequence[Any]) -> Any:
    """Return the distinct values of the target in all partitions, sorted: classifiers need them at once.

    Raises
    ------
    DataError : there are no rows
    """
    full = [one for one in several if len(one)]
    if not full:
        raise DataError("there are no rows to learn from")
    return np.unique(np.concatenate(full))


def learned(
    recipe: Recipe, args: Params, params: Params, item: str, drop: bool, state: State | None, table: Table, classes: Any
) -> State:
    """Return a copy of a model that has also learned from one partition.

    Parameters
    ----------
    item : key of the item that the model is for, for messages; empty: none
    drop : whether a failure is part of the result
    state : None: the model is new
    classes : of a classifier: all values of the target; None: of another model
    """
    begin_item(item)
    if isinstance(state, Dropped):
        return state
    began = perf_counter()
    try:
        # a copy: the task that gave the model, or this one, may have to be run again
        model, seconds = (estimator_of(recipe, args, params), 0.0) if state is None else copy.deepcopy(state)
        if len(table):
            y = () if table.y is None else (table.y,)
            model.partial_fit(table.x, *y, **({} if classes is None else {"classes": classes}))
        return model, seconds + perf_counter() - began
    except Exception as error:
        if not drop:
            raise
        return Dropped(cause_of(error))


def scored_state(scoring: Scoring, state: State, tables: Sequence[Table]) -> dict[str, float] | Dropped:
    """Return the scores of a model on the rows of the partitions of a fold, together.

    Raises
    ------
    DataError : there are no rows
    """
    if isinstance(state, Dropped):
        return state
    full = [table for table in tables if len(table)]
    if not full:
        raise DataError("the partitions of this fold have no rows; make fewer folds, or op repartition before")
    return scores_of(scoring, state[0], joined(full), state[1])


def model_of(state: tuple[Any, float]) -> Any:
    """Return the model after the last partition."""
    return state[0]
