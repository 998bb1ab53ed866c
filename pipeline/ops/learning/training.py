"""``train``: models of scikit-learn over a grid and folds; the best of them, trained on all rows.

Each combination of parameters and fold is a task, an item of the step. All of them get the same rows, gathered once,
and the positions of the folds. Forests and bagging are trained by more tasks (``members.py``); with ``partial`` the
rows stay in their partitions (``partial.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xarray as xr
from sklearn.base import is_classifier
from sklearn.model_selection import KFold

from pipeline.errors import OpError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.ops import data_movement
from pipeline.ops.calls.arguments import label
from pipeline.ops.calls.mapping import item_key, unique_names
from pipeline.ops.collections import Args, Frame, Items, Parts, Single, args_of_task
from pipeline.ops.learning import fitting, partial, search, tables
from pipeline.ops.learning import members as ensembles
from pipeline.ops.learning.estimators import Recipe, checked, last_step
from pipeline.ops.learning.fitting import Scoring
from pipeline.ops.learning.row_sources import Rows, of_arrays, of_frame
from pipeline.ops.learning.scorers import require_scores

__all__ = ["train_array", "train_frame"]

_PIECES = 16
"""Tasks that train the members of one model, unless the step sets the number; fewer where there are many models."""
_MOST_TASKS = 500_000
_NO_MEMBERS = (
    "only RandomForest…, ExtraTrees… and Bagging… have members that can be trained by several tasks, and not with "
    "oob_score or warm_start, which need all of them at once; leave members out"
)


@dataclass(frozen=True)
class _Options:
    """The parameters that ``train`` has for frames and arrays; see :mod:`pipeline.config.signatures.learning`."""

    estimator: Any
    args: Args
    grid: Any
    folds: int
    splitter: str | None
    shuffle: bool
    scoring: str | Sequence[str] | None
    refit: bool | str
    members: int | None
    partial: bool
    passes: int
    times: bool


def train_frame(
    x: Frame,
    *,
    name: str,
    seed: int,
    drop: bool,
    estimator: Any,
    args: Args = None,
    grid: Any = None,
    folds: int = 5,
    splitter: str | None = None,
    shuffle: bool = False,
    scoring: str | Sequence[str] | None = None,
    refit: bool | str = True,
    members: int | None = None,
    partial: bool = False,
    passes: int = 1,
    times: bool = False,
    target: str | None = None,
    features: Sequence[str] | None = None,
    groups: str | None = None,
) -> Parts:
    """Return the scores of each combination of a grid on each fold as items; parts: scores, best, score, model.

    Parameters
    ----------
    seed : root of the random numbers
    drop : whether a combination that fails on a fold is left out
    args : parameters of the estimator; or the value that is a map of them

    Raises
    ------
    OpError : see its signature
    """
    options = _Options(estimator, args, grid, folds, splitter, shuffle, scoring, refit, members, partial, passes, times)
    recipe, found = _estimator(options, seed)
    rows = of_frame(x, name, found, recipe, target=target, features=features, groups=groups)
    return _trained(options, name, rows, recipe, found, drop=drop)


def train_array(
    x: xr.DataArray,
    y: xr.DataArray | None = None,
    *,
    name: str,
    seed: int,
    drop: bool,
    estimator: Any,
    args: Args = None,
    grid: Any = None,
    folds: int = 5,
    splitter: str | None = None,
    shuffle: bool = False,
    scoring: str | Sequence[str] | None = None,
    refit: bool | str = True,
    members: int | None = None,
    partial: bool = False,
    passes: int = 1,
    times: bool = False,
) -> Parts:
    """Do the same as :func:`train_frame` for an array with dims (row, feature).

    Parameters
    ----------
    y : what is predicted, its first dim the rows

    Raises
    ------
    OpError : see its signature
    """
    options = _Options(estimator, args, grid, folds, splitter, shuffle, scoring, refit, members, partial, passes, times)
    recipe, found = _estimator(options, seed)
    rows = of_arrays(x, y, name, found, recipe, by_chunks=partial)
    return _trained(options, name, rows, recipe, found, drop=drop)


def _grids(options: _Options) -> list[Mapping[str, Sequence[Any]]]:
    return list(options.grid) if isinstance(options.grid, list) else [options.grid or {}]


def _estimator(options: _Options, seed: int) -> tuple[Recipe, Any]:
    """Return how estimators are made, and one with the fixed parameters; None if that is unknown before the run."""
    recipe, args = Recipe.of(options.estimator, seed), options.args
    if isinstance(args, Single) or not recipe.is_known:
        return recipe, None
    return recipe, checked(recipe, args or {}, _grids(options))


def _trained(options: _Options, name: str, rows: Rows, recipe: Recipe, found: Any, *, drop: bool) -> Parts:
    scoring, refit, n_folds = options.scoring, options.refit, options.folds
    scorers = (scoring,) if isinstance(scoring, str) else tuple(scoring or ())
    if n_folds:
        require_scores(found, scorers, supervised=rows.supervised)
    grids = _grids(options)
    tasks: dict[Key, GraphNode] = dict(rows.tasks)
    plan = _Plan(
        name=name,
        recipe=recipe,
        args=args_of_task(options.args, tasks),
        found=found,
        rows=rows,
        candidates=search.candidates_of(grids, n_folds),
        varied=frozenset(part for one in grids for key in one for part in (key, key.rpartition("__")[2])),
        n_folds=n_folds,
        scoring=Scoring(scorers, options.times),
        by=refit if isinstance(refit, str) else (scorers or (fitting.SCORE,))[0],
        drop=drop,
        tasks=tasks,
    )
    state = recipe.seed >> 32 if options.shuffle else None
    if options.partial:
        plan.partly(options.passes, KFold(n_folds, shuffle=options.shuffle, random_state=state) if n_folds else None)
    else:
        plan.whole(tables.Folds(n_folds, options.splitter, state), options.members)
    return plan.parts(with_model=refit is not False)


@dataclass
class _Plan:
    """The tasks of one step, added one after the other.

    Parameters
    ----------
    args : of the estimator, as an argument of a task
    found : the estimator with them; None: unknown before the run
    varied : names of the parameters in the grid, and their last parts
    by : the score that decides
    drop : whether failed combinations are left out
    """

    name: str
    recipe: Recipe
    args: Any
    found: Any
    rows: Rows
    candidates: list[dict[str, Any]]
    varied: frozenset[str]
    n_folds: int
    scoring: Scoring
    by: str
    drop: bool
    tasks: dict[Key, GraphNode]
    items: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        pairs = [{**one, search.FOLD: k} for one in self.candidates for k in range(self.n_folds)]
        self.names = unique_names(item_key("", pair, i) for i, pair in enumerate(pairs))
        self.pairs = pairs

    def add(self, layer: str, index: tuple[int, ...], function: Any, *arguments: Any) -> Key:
        """Add a task, and return its key."""
        key = (f"{self.name}{layer}", *index)
        self.tasks[key] = task(key, function, *arguments)
        return key

    # -- all rows in each task ----------------------------------------------------------------------------------------

    def whole(self, how: tables.Folds, members: int | None) -> None:
        """Add tasks that get all rows; those of forests and bagging train some members each."""
        splittable = self.found is not None and ensembles.is_splittable(self.found) and not self._varies_members()
        if members is not None and not splittable:
            raise OpError("members", _NO_MEMBERS)
        data = ref(self.rows.whole(self.tasks))
        data_movement.note("all rows of the input go, whole, to each fit")
        n = len(self.pairs)
        n_pieces = members or (max(1, _PIECES // n) if n else 1)
        folds = ref(self.add("/folds", (), tables.folds_of, how, self.recipe, self.args, data)) if n else None
        for i, pair in enumerate(self.pairs):
            params, k = self.candidates[i // self.n_folds], pair[search.FOLD]
            common = self.recipe, self.args, params
            if splittable and self._n_members(n_pieces) > 1:
                pieces = self._pieces("/members", (i,), params, n_pieces, data, folds, k, self.names[i])
                key = self.add("", (i,), ensembles.scored_members, *common, self.scoring, k, data, folds, pieces)
            else:
                key = self.add("", (i,), fitting.scored, *common, self.scoring, k, data, folds)
            self.items.append(key)
        best = ref(self._best())
        if splittable and self._n_members(members or _PIECES) > 1:
            pieces = self._pieces("/refit", (), best, members or _PIECES, data)
            self.add(".model", (), ensembles.joined_members, self.recipe, self.args, best, pieces)
        else:
            self.add(".model", (), fitting.refitted, self.recipe, self.args, best, data)

    def _varies_members(self) -> bool:
        last = self.recipe.steps[-1][0]
        return bool(self.varied & {"oob_score", "warm_start", *([last] if last else [])})

    def _n_members(self, n_pieces: int) -> int:
        """Return the number of tasks for the members of a model: no more than members, where these are known."""
        if "n_estimators" in self.varied or self.found is None:
            return n_pieces
        return min(n_pieces, int(last_step(self.found).n_estimators))

    def _pieces(self, layer: str, index: tuple[int, ...], params: Any, n_pieces: int, data: Any, *fold: Any) -> Any:
        folds, k, item = fold or (None, 0, "")
        n = self._n_members(n_pieces)
        common = self.recipe, self.args, params
        drop = self.drop and bool(item)
        return listed(
            ref(self.add(layer, (*index, m), ensembles.some_members, *common, (m, n), item, drop, data, folds, k))
            for m in range(n)
        )

    # -- rows in their partitions -------------------------------------------------------------------------------------

    def partly(self, passes: int, splitter: KFold | None) -> None:
        """Add tasks that learn from one partition after the other."""
        if self.found is not None and not hasattr(self.found, "partial_fit"):
            raise OpError("partial", f"{type(self.found).__name__} has no partial_fit; leave partial out")
        n = self.rows.n_parts
        if n < self.n_folds:
            more = "op repartition makes more" if self.rows.of == "partition" else "op rechunk makes more"
            raise OpError("folds", f"got {self.n_folds}; with partial, folds are of whole {self.rows.of}s, and the "
                                   f"input has {n}: {more}")  # fmt: skip
        if (n_tasks := (len(self.pairs) + 1) * n * passes) > _MOST_TASKS:
            raise OpError("", f"makes {n_tasks:,} tasks (fits x {self.rows.of}s x passes); at most {_MOST_TASKS:,}")
        parts = [ref(self.rows.part(i, self.tasks)) for i in range(n)]
        classes = None
        if is_classifier(self.found) and self.rows.supervised:
            each = [ref(self.add("/classes", (i,), partial.classes_in, part)) for i, part in enumerate(parts)]
            classes = ref(self.add("/classes", (), partial.classes_of, listed(each)))
        folds = list(splitter.split(range(n))) if splitter is not None else []
        for i, pair in enumerate(self.pairs):
            train, test = folds[pair[search.FOLD]]
            params, chosen = self.candidates[i // self.n_folds], [parts[j] for j in train]
            state = self._passed("/passes", (i,), params, chosen * passes, classes, self.names[i])
            scored = listed(parts[j] for j in test)
            self.items.append(self.add("", (i,), partial.scored_state, self.scoring, state, scored))
        best = ref(self._best())
        self.add(".model", (), partial.model_of, self._passed("/refit", (), best, parts * passes, classes, ""))

    def _passed(
        self, layer: str, index: tuple[int, ...], params: Any, parts: Sequence[Any], classes: Any, item: str
    ) -> Any:
        state = None
        drop = self.drop and bool(item)
        for j, part in enumerate(parts):
            common = self.recipe, self.args, params, item, drop
            state = ref(self.add(layer, (*index, j), partial.learned, *common, state, part, classes))
        return state

    # -- results ------------------------------------------------------------------------------------------------------

    def _best(self) -> Key:
        if not self.n_folds:
            return self.add(".best", (), dict, self.candidates[0])
        results = listed(map(ref, self.items))
        return self.add(".best", (), search.best_of, self.candidates, self.n_folds, self.by, results)

    def parts(self, *, with_model: bool) -> Parts:
        """Return the items and parts; the tasks of what is not used are left out of the Graph."""
        schema = search.scores_schema(search.params_of(self.candidates), self.scoring.names)
        results = listed(map(ref, self.items))
        scores = self.add(".scores", (0,), search.scores_table, schema, self.candidates, self.n_folds, results)
        best: Key = (f"{self.name}.best",)
        names = dict.fromkeys(name for one in self.candidates for name in one)
        inner = {name: self._single(f".best.{name}", search.parameter, ref(best), name) for name in names}
        parts: dict[str, Any] = {
            "scores": Frame(self.tasks, (scores,), schema, lengths=(len(self.pairs),)),
            "best": Parts(inner, Single(best, self.tasks)),
        }
        if self.n_folds:
            parts["score"] = self._single(".score", search.mean_of, self.n_folds, self.by, results)
        if with_model:
            parts["model"] = Single((f"{self.name}.model",), self.tasks)
        return Parts(parts, Items(self.name, self.tasks, len(self.items), self.names, self._columns(), self.drop))

    def _single(self, layer: str, function: Any, *arguments: Any) -> Single:
        return Single(self.add(layer, (), function, *arguments), self.tasks)

    def _columns(self) -> Mapping[str, tuple[Any, ...]]:
        """Return the parameters and folds of the items, as far as they are scalars that all items have."""
        names = dict.fromkeys(name for pair in self.pairs for name in pair)
        columns = {name: tuple(pair.get(name) for pair in self.pairs) for name in names}
        return {
            name: values
            for name, values in columns.items()
            if all(value is not None and label(value) is not None for value in values)
        }
