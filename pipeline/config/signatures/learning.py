"""Ops that train models of scikit-learn, and apply them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from pipeline.config.signatures.base import Columns, Dtype, Names, Signature, Type

__all__ = ["PredictArray", "PredictFrame", "TrainArray", "TrainFrame"]

_OF_GROUPS = ("GroupKFold", "StratifiedGroupKFold")


def _estimator(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*[.:][A-Za-z_]\w*", text):
        return text
    cure = "write its import path, such as sklearn.linear_model.Ridge, or, of a module of yours, mine.make_model"
    raise ValueError(f"got {text!r}; {cure}")


Estimator = Annotated[str, AfterValidator(_estimator)]
"""The import path of an estimator's class, or of a function that returns one."""
Grid = dict[str, Annotated[list[Any], Field(min_length=1)]]


class _Train(Signature):
    family: ClassVar[str] = "learning"
    gives: ClassVar[str] = "items"
    parts: ClassVar[Mapping[str, str]] = {"scores": "frame", "best": "value", "score": "value", "model": "value"}
    own_items: ClassVar[bool] = True
    extra: ClassVar[str] = "ml"
    distributions: ClassVar = ("numpy", "pyarrow", "scikit-learn", "scipy")

    estimator: (
        Estimator
        | Annotated[list[Estimator], Field(min_length=1)]
        | Annotated[dict[str, Estimator], Field(min_length=1)]
    ) = Field(description="import path; several are a Pipeline, named by their classes in lower case, or as in a map")
    args: dict[str, Any] = Field(default_factory=dict, description="fixed parameters; of one of several step__name")
    grid: Grid | Annotated[list[Grid], Field(min_length=1)] = Field(
        default_factory=dict, description="parameter: values to try; a list of such maps tries each of them"
    )
    folds: Annotated[int, Field(ge=0)] = Field(5, description="number of folds; 0: no scores")
    splitter: Literal["KFold", "StratifiedKFold", "GroupKFold", "StratifiedGroupKFold", "TimeSeriesSplit"] | None = (
        Field(None, description="how rows become folds; default: StratifiedKFold for classes, else KFold")
    )
    shuffle: bool = Field(False, description="whether rows are shuffled before they become folds")
    scoring: str | Names | None = Field(None, description="names of scorers; default: the estimator's own score")
    refit: bool | str = Field(
        True, description="model: train the best on all rows; a scorer: the one that decides; default: the first"
    )
    members: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="of forests and bagging: number of tasks that train the members of a model"
    )
    partial: bool = Field(False, description="train by partial_fit, one partition or chunk after the other")
    passes: Annotated[int, Field(ge=1)] = Field(1, description="partial: how often all partitions are passed")
    times: bool = Field(False, description="scores get fit_seconds and score_seconds, which differ between runs")

    def imported(self) -> dict[str, str]:
        spec = self.estimator
        named = {"estimator": spec} if isinstance(spec, str) else {}
        if isinstance(spec, dict):
            named = {f"estimator.{name}": path for name, path in spec.items()}
        elif isinstance(spec, list):
            named = {f"estimator.{i}": path for i, path in enumerate(spec)}
        own = {key: path for key, path in named.items() if not path.startswith("sklearn.")}
        return {key: path if ":" in path else ":".join(path.rsplit(".", 1)) for key, path in own.items()}

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        return [*self._misfits_of_folds(), *self._misfits_of_scores(), *self._misfits_of_parts()]

    def _n_candidates(self) -> int:
        grids = self.grid if isinstance(self.grid, list) else [self.grid]
        return sum(math.prod(len(values) for values in grid.values()) for grid in grids)

    def _misfits_of_folds(self) -> list[tuple[str, str]]:
        if self.folds == 1:
            return [("folds", "got 1; allowed: 2 and more, or 0 for a model without scores")]
        if self.folds == 0:
            errors = [
                (k, "has no effect with folds: 0") for k in ("splitter", "shuffle", "scoring") if getattr(self, k)
            ]
            n = self._n_candidates()
            if n > 1:
                errors.append(("folds", f"got 0, but the grid has {n} candidates: without scores none is best"))
            return errors
        if self.shuffle and self.splitter in ("GroupKFold", "TimeSeriesSplit"):
            return [("shuffle", f"has no effect on {self.splitter}")]
        return []

    def _misfits_of_scores(self) -> list[tuple[str, str]]:
        names = [self.scoring] if isinstance(self.scoring, str) else self.scoring or []
        if len(set(names)) < len(names):
            return [("scoring", "names a scorer twice")]
        if isinstance(self.refit, str) and self.refit not in names:
            allowed = ", ".join(names) or "none is named: use true"
            return [("refit", f"got {self.refit!r}; it must be one of scoring: {allowed}")]
        if self.folds == 0 and self.refit is False:
            return [("refit", "got false with folds: 0, which leaves nothing to do")]
        return []

    def _misfits_of_parts(self) -> list[tuple[str, str]]:
        errors = []
        if self.partial and self.members is not None:
            errors.append(("members", "can't be combined with partial: each pass goes through the partitions in order"))
        if self.partial and self.splitter not in (None, "KFold"):
            errors.append(("splitter", "with partial, folds are of whole partitions: KFold"))
        if not self.partial and self.passes > 1:
            errors.append(("passes", "needs partial: true"))
        return errors


class TrainFrame(_Train):
    """A model of scikit-learn, trained for each combination of a grid and each fold; each is a task.

    Itself it is items, a map of scores for each combination and fold. Parts: ``scores``, a frame of them with the
    parameters and ``fold``; ``best``, the parameters with the highest mean; ``score``, that mean; ``model``, the best
    trained on all rows. Folds and scores are those of sklearn's GridSearchCV. A ``random_state`` that is not given
    comes from the seed. A text ``sklearn.…`` in ``args`` or ``grid`` is that estimator or function. With ``partial``,
    folds are of whole partitions, and only those of one fold are in memory together, to be scored.

    Errors: no such column, estimator, parameter or scorer; text columns; missing values that the estimator doesn't
    take; fewer rows, or rows of a class, than folds.
    """

    op: ClassVar[str] = "train"
    home: ClassVar[str] = "learning.training:train_frame"
    inputs: ClassVar = {"input": ("frame",)}

    target: str | None = Field(None, description="column that is predicted")
    features: Names | None = Field(None, description="columns to learn from; default: all others")
    groups: str | None = Field(None, description="column; rows of a group are in one fold: GroupKFold")

    def needed(self, columns: Columns) -> dict[str, Columns]:
        if self.features is None:
            return {"input": None}
        return {"input": frozenset(self.features) | {name for name in (self.target, self.groups) if name}}

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        errors = super().misfits(kinds)
        if self.splitter in _OF_GROUPS and self.groups is None:
            errors.append(("splitter", f"{self.splitter} needs groups: the column that names the group of a row"))
        if self.groups is not None and self.splitter not in _OF_GROUPS:
            errors.append(("groups", f"needs splitter: {' or '.join(_OF_GROUPS)}"))
        return errors


class TrainArray(_Train):
    """The same of an array: rows along its first dim, features along its second; ``y``, an array, is predicted."""

    op: ClassVar[str] = "train"
    home: ClassVar[str] = "learning.training:train_array"
    inputs: ClassVar = {"input": ("array",), "y": ("array?",)}

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        errors = super().misfits(kinds)
        if self.splitter in _OF_GROUPS:
            errors.append(("splitter", "groups are a column, so it needs a frame; make one: {op: to_frame, input: …}"))
        return errors


class _Predict(Signature):
    family: ClassVar[str] = "learning"
    extra: ClassVar[str] = "ml"
    distributions: ClassVar = ("numpy", "pyarrow", "scikit-learn", "scipy")

    method: Literal[
        "predict", "predict_proba", "predict_log_proba", "decision_function", "transform", "score_samples"
    ] = Field("predict", description="the method of the model")


class PredictFrame(_Predict):
    """The frame with columns that a model gives for its rows, partition by partition.

    The model gets the columns that it was trained on, or ``features``. Errors: values that don't fit the declared
    types; another number of columns; a column that the model needs and the frame lacks.
    """

    op: ClassVar[str] = "predict"
    inputs: ClassVar = {"input": ("frame",), "model": ("value",)}
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "learning.predicting:predict_frame"

    columns: Annotated[dict[str, Type], Field(min_length=1)] = Field(
        description="new column: type; of predict_proba one for each class, in sorted order"
    )
    features: Names | None = Field(None, description="columns that the model gets; default: those it was trained on")


class PredictArray(_Predict):
    """What a model gives for the rows of an array, along its first dim, chunk by chunk. The features get one chunk.

    Errors: values that don't fit the dtype, or another shape than declared.
    """

    op: ClassVar[str] = "predict"
    inputs: ClassVar = {"input": ("array",), "model": ("value",)}
    gives: ClassVar[str] = "array"
    home: ClassVar[str] = "learning.predicting:predict_array"

    dtype: Dtype = Field("float64", description="of the result")
    shape: Annotated[dict[str, Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=1)] | None = Field(
        None, description="the second dim of the result and its length, as {class: 10}; default: one number a row"
    )
