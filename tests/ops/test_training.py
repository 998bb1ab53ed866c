"""Op train: what it gives is what scikit-learn gives, whatever runs it."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from learning_functions import NAMES, points
from serially import graph_of, values_of
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, ExtraTreesRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.config.loader import loads
from pipeline.errors import ConfigError, DataError, TaskError
from pipeline.graph.collect import collect
from pipeline.graph.importing import resolve
from pipeline.runs.equality import equal
from pipeline.runs.run import run

HERE = Path(__file__).parent
COLUMNS = "{a: float64, b: float64, c: float64, kind: string, level: float64, group: int64}"
ROWS = f'{{op: from_call, function: "learning_functions:rows", columns: {COLUMNS}, partitions: 4}}'
FLAWED = ROWS.replace(":rows", ":flawed").replace(
    "group: int64", "group: int64, hole: float64, torn: string, rare: string"
)
RIDGE = "input: t, target: level, features: [a, b, c], estimator: sklearn.linear_model.Ridge"
LOGISTIC = "input: t, target: kind, features: [a, b, c], estimator: sklearn.linear_model.LogisticRegression"


def text_of(steps: str, more: str = "") -> str:
    return (
        f"seed: 5\nmodules: [./learning_functions.py]\n{more}\nsteps:\n  t: {ROWS}\n  bad: {FLAWED}\n"
        + textwrap.indent(textwrap.dedent(steps), "  ")
    )


def values(steps: str, more: str = "") -> dict[str, Any]:
    return values_of(text_of(steps, more), HERE)


def of(keys: str, *names: str) -> list[Any]:
    """The parts of a step that trains."""
    calls = "".join(f'{name}: {{call: "learning_functions:same", args: {{x: "${{s.{name}}}"}}}}\n' for name in names)
    found = values(f"s: {{op: train, {keys}}}\n{calls}")
    return [found[name] for name in names]


def searched(estimator: Any, grid: Any, y: str, **options: Any) -> GridSearchCV:
    table = points()
    groups = table["group"] if "groups" in options else None
    options.pop("groups", None)
    return GridSearchCV(estimator, grid, **options).fit(table[list(NAMES)], table[y], groups=groups)


def scores_of(found: GridSearchCV, scorer: str = "score") -> np.ndarray:
    """The scores in the order of ours: the folds of a candidate together."""
    return np.stack([found.cv_results_[f"split{k}_test_{scorer}"] for k in range(found.n_splits_)], axis=1).ravel()


# ---------------------------------------------------------------------------------------------------------------------
# The same as scikit-learn
# ---------------------------------------------------------------------------------------------------------------------


def test_scores_best_and_model_are_those_of_a_grid_search() -> None:
    scores, best, score, model = of(f"{RIDGE}, grid: {{alpha: [0.1, 1, 100]}}", "scores", "best", "score", "model")
    found = searched(Ridge(), {"alpha": [0.1, 1, 100]}, "level", cv=5)
    assert scores["score"].tolist() == scores_of(found).tolist()
    assert scores["alpha"].tolist() == [0.1] * 5 + [1.0] * 5 + [100.0] * 5
    assert scores["fold"].tolist() == [0, 1, 2, 3, 4] * 3
    assert best == found.best_params_
    assert score == found.best_score_
    assert model.coef_.tolist() == found.best_estimator_.coef_.tolist()
    assert list(model.feature_names_in_) == list(NAMES)


def test_several_estimators_and_scorers_are_a_pipeline() -> None:
    names = "estimator: [sklearn.preprocessing.StandardScaler, sklearn.linear_model.LogisticRegression]"
    grid = {"logisticregression__C": [10, 0.1], "standardscaler__with_mean": [True, False]}
    state = "args: {logisticregression__random_state: 0}"
    scores, best, model = of(
        f"input: t, target: kind, features: [a, b, c], {names}, {state}, grid: {json.dumps(grid)}, "
        "scoring: [accuracy, neg_log_loss], refit: neg_log_loss, folds: 3",
        *("scores", "best", "model"),
    )
    found = searched(
        make_pipeline(StandardScaler(), LogisticRegression(random_state=0)),
        grid,
        "kind",
        cv=3,
        scoring=["accuracy", "neg_log_loss"],
        refit="neg_log_loss",
    )
    assert scores["neg_log_loss"].tolist() == scores_of(found, "neg_log_loss").tolist()
    assert scores["accuracy"].tolist() == scores_of(found, "accuracy").tolist()
    assert best == found.best_params_
    assert equal("value", found.best_estimator_, model).bitwise


@pytest.mark.parametrize(
    ("keys", "cv"),
    [
        ("splitter: KFold", KFold(3)),
        ("splitter: StratifiedKFold", StratifiedKFold(3)),
        ("splitter: GroupKFold, groups: group", GroupKFold(3)),
        ("splitter: TimeSeriesSplit", TimeSeriesSplit(3)),
    ],
)
def test_a_splitter_is_that_of_scikit_learn(keys: str, cv: Any) -> None:
    (scores,) = of(f"{LOGISTIC}, folds: 3, {keys}", "scores")
    groups = {"groups": True} if "groups" in keys else {}
    assert scores["score"].tolist() == scores_of(searched(LogisticRegression(), {}, "kind", cv=cv, **groups)).tolist()


def test_a_grid_may_be_several_and_hold_estimators() -> None:
    grid = "[{model: [sklearn.linear_model.Ridge], model__alpha: [1, 10]}, {model: [sklearn.linear_model.Lasso]}]"
    keys = (
        f"input: t, target: level, features: [a, b, c], estimator: {{model: sklearn.svm.SVR}}, grid: {grid}, folds: 2"
    )
    scores, best = of(keys, "scores", "best")
    assert scores["model"].tolist() == ["sklearn.linear_model.Ridge"] * 4 + ["sklearn.linear_model.Lasso"] * 2
    assert scores["model__alpha"].tolist()[:4] == [1, 1, 10, 10]
    assert scores["model__alpha"].isna().tolist() == [False] * 4 + [True] * 2
    assert best == {"model": "sklearn.linear_model.Ridge", "model__alpha": 1}


def test_shuffling_and_random_states_come_from_the_seed() -> None:
    keys = "input: t, target: kind, features: [a, b, c], estimator: sklearn.tree.DecisionTreeClassifier, shuffle: true"
    tree = f"{keys}, args: {{max_features: 1}}"
    (one,), (again,) = of(tree, "scores"), of(tree, "scores")
    assert one.equals(again)
    (plain,) = of(tree.replace(", shuffle: true", ""), "scores")
    assert not one.equals(plain)
    ((model,), (other,)) = (of(f"{tree.replace(', shuffle: true', '')}, folds: 0", "model") for _ in range(2))
    assert model.random_state == other.random_state
    assert model.random_state is not None


def test_arrays_give_what_their_frame_gives() -> None:
    array = """
    x: {op: to_array, input: t, columns: [a, b, c], dims: [row, feature]}
    all: {op: to_array, input: t, columns: [level], dims: [row, feature]}
    y: {op: reshape, input: all, axis: [row, feature], dims: {row: -1}}
    s: {op: train, input: x, y: y, estimator: sklearn.linear_model.Ridge, folds: 2, grid: {alpha: [1, 10]}}
    f: {op: train, input: t, target: level, features: [a, b, c], estimator: sklearn.linear_model.Ridge, folds: 2,
        grid: {alpha: [1, 10]}}
    p: {op: predict, input: x, model: s.model}
    q: {op: predict, input: t, model: f.model, columns: {p: float64}}
    """
    found = values(array, "keep: [s, f]")
    s, f = ([item["score"] for item in found[name].values()] for name in "sf")
    np.testing.assert_allclose(s, f, rtol=1e-12)  # an array is one row after the other in memory, a frame is not
    np.testing.assert_allclose(found["p"], found["q"]["p"], rtol=1e-12)
    assert found["p"].dims == ("row",)


def test_parts_are_values_of_other_steps() -> None:
    found = values(
        f"""
        s: {{op: train, {RIDGE}, grid: {{alpha: [0.1, 1000]}}, folds: 2}}
        again: {{op: train, {RIDGE}, args: {{alpha: "${{s.best.alpha}}"}}, folds: 2}}
        twice: {{expr: "${{s.best.alpha}} * 20"}}
        fits: {{op: to_frame, input: s, columns: {{score: float64}}}}
        """
    )
    assert float(found["twice"]) == 2.0
    assert [item["score"] for item in found["again"].values()] == found["fits"]["score"].tolist()[:2]
    assert found["fits"]["alpha"].tolist() == [0.1, 0.1, 1000, 1000]


def test_without_folds_there_is_a_model_alone() -> None:
    scores, best, model = of(f"{RIDGE}, folds: 0, args: {{alpha: 3.0}}", "scores", "best", "model")
    assert len(scores) == 0
    assert best == {}
    table = points()
    assert model.coef_.tolist() == Ridge(alpha=3.0).fit(table[list(NAMES)], table["level"]).coef_.tolist()


def test_times_are_columns_if_asked_for() -> None:
    (scores,) = of(f"{RIDGE}, folds: 2, times: true", "scores")
    assert list(scores.columns) == ["fold", "score", "fit_seconds", "score_seconds"]
    assert (scores[["fit_seconds", "score_seconds"]] > 0).all(axis=None)


# ---------------------------------------------------------------------------------------------------------------------
# Members, partial fits
# ---------------------------------------------------------------------------------------------------------------------

ENSEMBLES = {
    "RandomForestClassifier": (RandomForestClassifier(n_estimators=7, max_depth=3, random_state=1), "kind"),
    "ExtraTreesRegressor": (ExtraTreesRegressor(n_estimators=7, max_depth=3, random_state=1), "level"),
    "BaggingClassifier": (BaggingClassifier(n_estimators=7, max_features=2, random_state=1), "kind"),
}


@pytest.mark.parametrize("members", [None, 3])
@pytest.mark.parametrize("name", ENSEMBLES)
def test_members_trained_apart_are_those_of_one_fit(name: str, members: int | None) -> None:
    estimator, target = ENSEMBLES[name]
    args = {k: v for k, v in estimator.get_params().items() if k in ("n_estimators", "max_depth", "max_features",
                                                                     "random_state") and v is not None}  # fmt: skip
    more = f", members: {members}" if members else ""
    keys = (
        f"input: t, target: {target}, features: [a, b, c], estimator: sklearn.ensemble.{name}, args: {args}, folds: 2"
    )
    scores, model = of(f"{keys}{more}", "scores", "model")
    table = points()
    whole = clone(estimator).fit(table[list(NAMES)], table[target])
    assert equal("value", whole, model).bitwise
    assert scores["score"].tolist() == scores_of(searched(clone(estimator), {}, target, cv=2)).tolist()
    if name.startswith("Bagging"):
        assert all(map(np.array_equal, whole.estimators_samples_, model.estimators_samples_))


def test_members_can_vary_and_stand_behind_a_scaler() -> None:
    keys = (
        "input: t, target: kind, features: [a, b, c], folds: 2, members: 4, args: {f__random_state: 1}, "
        "estimator: {s: sklearn.preprocessing.StandardScaler, f: sklearn.ensemble.RandomForestClassifier}, "
        "grid: {f__n_estimators: [2, 9]}"
    )
    scores, best, model = of(keys, "scores", "best", "model")
    pipe = make_pipeline(StandardScaler(), RandomForestClassifier(random_state=1))
    pipe.steps = [("s", pipe.steps[0][1]), ("f", pipe.steps[1][1])]
    found = searched(pipe, {"f__n_estimators": [2, 9]}, "kind", cv=2)
    assert scores["score"].tolist() == scores_of(found).tolist()
    assert best == found.best_params_
    assert equal("value", found.best_estimator_.steps[1][1], model.steps[1][1]).bitwise


def test_a_partial_fit_passes_through_partitions_in_order() -> None:
    keys = (
        "input: t, target: kind, features: [a, b, c], estimator: sklearn.linear_model.SGDClassifier, partial: true, "
        "passes: 2, folds: 2, args: {random_state: 3}, grid: {alpha: [0.001, 0.1]}"
    )
    scores, best, model = of(keys, "scores", "best", "model")
    table = points()
    parts = [table.iloc[i * 30 : (i + 1) * 30] for i in range(4)]

    def learned(some: list[pd.DataFrame], alpha: float) -> SGDClassifier:
        new = SGDClassifier(random_state=3, alpha=alpha)
        for part in some * 2:
            new.partial_fit(part[list(NAMES)], part["kind"], classes=["high", "low"])
        return new

    expected = []
    for alpha in (0.001, 0.1):
        for train, test in ((parts[2:], parts[:2]), (parts[:2], parts[2:])):
            rows = pd.concat(test)
            expected.append(learned(train, alpha).score(rows[list(NAMES)], rows["kind"]))
    assert scores["score"].tolist() == expected
    assert model.coef_.tolist() == learned(parts, best["alpha"]).coef_.tolist()


def test_a_partial_fit_never_has_all_rows_in_one_task() -> None:
    keys = "op: train, input: t, features: [a, b, c], estimator: sklearn.decomposition.IncrementalPCA, partial: true"
    graph = graph_of(text_of(f"s: {{{keys}, folds: 0, args: {{n_components: 2}}}}"), HERE)
    parts = {key for key in graph.tasks if str(key[0]) in ("t", "s/rows")}
    assert {len(graph.tasks[key].dependencies & parts) for key in graph.tasks if str(key[0]).startswith("s")} == {0, 1}


def test_a_chain_of_models_without_targets_reduces_rows() -> None:
    steps = """
    s: {op: train, input: t, features: [a, b, c], estimator: sklearn.decomposition.PCA, folds: 0,
        args: {n_components: 2}}
    p: {op: predict, input: t, model: s.model, method: transform, columns: {u: float64, v: float64}}
    """
    table = points()
    expected = PCA(2, random_state=0).fit_transform(table[list(NAMES)])
    np.testing.assert_allclose(values(steps)["p"][["u", "v"]].to_numpy(), expected, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong
# ---------------------------------------------------------------------------------------------------------------------

S = "s: {op: train, "
WRONG = {
    f"{S}{RIDGE.replace('Ridge', 'Rigde')}}}": "estimator: scikit-learn has no .*Rigde; did you mean '.*Ridge'",
    f"{S}{RIDGE.replace('sklearn.linear_model.', '')}}}": "estimator: got 'Ridge'; write its import path",
    f"{S}{RIDGE.replace('linear_model', 'base').replace('Ridge', 'clone')}}}": "estimator: .*clone is no estimator",
    f"{S}{RIDGE.replace('sklearn.linear_model.Ridge', 'os.system')}}}": "estimator: 'os' is not among modules",
    f"{S}{RIDGE.replace('sklearn.linear_model.Ridge', 'learning_functions.Pick')}}}": "did you mean 'Picky'",
    f"{S}{RIDGE}, grid: {{alhpa: [1]}}}}": r"grid\.alhpa: Ridge has no parameter 'alhpa'; did you mean 'alpha'",
    f"{S}{RIDGE}, grid: {{alpha: [1, -1]}}}}": r"grid\.alpha: The 'alpha' parameter of Ridge .* Got -1",
    f"{S}{RIDGE}, args: {{solver: x}}}}": r"args\.solver: .*Got 'x'",
    f"{S}{RIDGE.replace('linear_model.Ridge', 'ensemble.RandomForestRegressor')}, args: {{n_jobs: 2}}}}": "n_jobs out",
    f"{S}{RIDGE}, scoring: r3}}": "scoring: scikit-learn has no scorer 'r3'; did you mean 'r2'",
    f"{S}{RIDGE}, scoring: [r2, r2]}}": "scoring: names a scorer twice",
    f"{S}{RIDGE}, scoring: r2, refit: max_error}}": "refit: got 'max_error'; it must be one of scoring: r2",
    f"{S}{RIDGE.replace('level', 'levle')}}}": "target: 'levle' is no column of 't'; did you mean 'level'",
    f"{S}{RIDGE.replace('target: level, ', '')}}}": "Ridge needs target",
    f"{S}{RIDGE.replace('[a, b, c]', '[a, level]')}}}": "features: column 'level' is the target",
    f"{S}{RIDGE.replace('[a, b, c]', '[a, kind]')}}}": r"column 'kind' is text; .*features: \[a\].*OneHotEncoder",
    f"{S}{RIDGE}, folds: 1}}": "folds: got 1; allowed: 2 and more",
    f"{S}{RIDGE}, folds: 0, grid: {{alpha: [1, 2]}}}}": "folds: got 0, but the grid has 2 candidates",
    f"{S}{RIDGE}, splitter: GroupKFold}}": "splitter: GroupKFold needs groups",
    f"{S}{RIDGE}, groups: group}}": "groups: needs splitter: GroupKFold",
    f"{S}{RIDGE}, splitter: TimeSeriesSplit, shuffle: true}}": "shuffle: has no effect on TimeSeriesSplit",
    f"{S}{RIDGE}, partial: true}}": "partial: Ridge has no partial_fit",
    f"{S}{RIDGE}, passes: 2}}": "passes: needs partial",
    f"{S}{RIDGE}, folds: 2000000}}": r"folds: makes 2,000,000 fits \(1 candidate x 2,000,000 folds\)",
    f"{S}{RIDGE.replace('sklearn', '{memory: sklearn')}}}}}": "'memory' is a parameter of sklearn's",
    f"{S}{RIDGE}, members: 2}}": "members: only RandomForest",
    f"{S}{RIDGE.replace('Ridge', 'SGDRegressor')}, partial: true}}": "folds: got 5; with partial, .* the input has 4",
    f"{S}{RIDGE.replace('sklearn', '[sklearn.svm.SVC, sklearn')}]}}": r"estimator\.0: SVC comes before Ridge",
    f"{S}{RIDGE.replace('linear_model.Ridge', 'multioutput.MultiOutputRegressor')}}}": "needs estimator: args:",
    f"{S}{RIDGE.replace('linear_model.Ridge', 'preprocessing.StandardScaler')}}}": "StandardScaler has no score",
    f'{S}{RIDGE}, refit: false}}\nv: {{expr: "${{s.model}}"}}': "there is no part 'model'; there are scores",
    f'{S}{RIDGE}}}\nv: {{expr: "${{s.best.x}}"}}': "there is no part 'x'",
    f"{S}{RIDGE}}}\np: {{op: predict, input: t, model: s.model, columns: {{a: int64}}}}": "has a column 'a'",
}


@pytest.mark.parametrize("steps", WRONG)
def test_what_is_wrong_is_said_with_its_place_before_a_run(steps: str) -> None:
    with pytest.raises(ConfigError, match=WRONG[steps]) as caught:
        graph_of(text_of(steps), HERE)
    assert all(fault.location.line for fault in caught.value.faults)


BAD_ROWS = {
    f"{RIDGE.replace('input: t', 'input: bad').replace('[a,', '[hole,')}": r"missing values in 'hole' \(3\), which",
    f"{LOGISTIC.replace('input: t', 'input: bad').replace('kind', 'torn')}": "target 'torn' is missing in 1 row",
    f"{LOGISTIC.replace('input: t', 'input: bad').replace('kind', 'rare')}": "class 'y' of the target has 2 rows",
    f"{RIDGE}, folds: 121": "folds: 121 needs 121 rows or more; there are 120",
    f"{RIDGE}, folds: 8, splitter: GroupKFold, groups: group": "folds: 8 needs as many groups or more; there are 7",
    f"{RIDGE.replace('sklearn.linear_model.Ridge', 'learning_functions.no_estimator')}": "which is no estimator",
}


@pytest.mark.parametrize("keys", BAD_ROWS)
def test_rows_that_cannot_be_learned_from_are_named(keys: str) -> None:
    with pytest.raises(DataError, match=BAD_ROWS[keys]):
        values(f"s: {{op: train, {keys}}}")


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith("pipeline.ops.learning"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    resolve.cache_clear()
    with pytest.raises(ConfigError, match=r"needs sklearn\.base, which is not installed: pip install 'pipeline\[ml\]'"):
        graph_of(text_of(f"s: {{op: train, {RIDGE}}}"), HERE)


def test_predictions_are_held_to_what_is_declared() -> None:
    steps = f"s: {{op: train, {LOGISTIC}, folds: 0}}\np: {{op: predict, input: t, model: s.model, "
    with pytest.raises(
        DataError, match=r"predict_proba of LogisticRegression gives 2 columns; columns: p are declared"
    ):
        values(f"{steps}method: predict_proba, columns: {{p: float64}}}}")
    with pytest.raises(DataError, match=r"has no transform"):
        values(f"{steps}method: transform, columns: {{p: float64}}}}")
    with pytest.raises(DataError, match=r"was trained on a column 'b', which the input lacks"):
        values(f"few: {{op: select, input: t, columns: [a]}}\n{steps.replace('input: t, model', 'input: few, model')}"
               "columns: {p: string}}")  # fmt: skip


def run_of(steps: str, folder: Path) -> Any:
    config = loads(f"version: 1\n{text_of(steps)}", name="test", root=HERE)
    return run(config, backend="serial", out=folder, runs=folder / "runs")


PICKY = "input: t, target: kind, features: [a, b, c], estimator: learning_functions.Picky, grid: {fails: [false, true]}"


def test_a_pair_that_fails_is_dropped_and_its_scores_are_missing(tmp_path: Path) -> None:
    r = run_of(f"s: {{op: train, {PICKY}, folds: 2, on_error: drop}}", tmp_path)
    parts = r.graph.value_types["s"].parts
    scores = collect(parts["scores"], r.results)
    assert scores["score"].isna().tolist() == [False, False, True, True]
    assert collect(parts["best"], r.results) == {"fails": False}
    assert [item for _, item, _ in r.dropped] == ["fails=true,fold=0", "fails=true,fold=1"]


def test_a_fit_that_fails_names_its_parameters_and_fold(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"s\[fails=true,fold=0\]: ArithmeticError: told to fail"):
        run_of(f"s: {{op: train, {PICKY}, folds: 2}}", tmp_path)
    bad = "grid: {max_features: [1, 9]}, estimator: sklearn.ensemble.BaggingClassifier, folds: 2, members: 2"
    with pytest.raises(TaskError, match=r"item max_features=9,fold=0: ValueError: max_features must be"):
        run_of(f"s: {{op: train, input: t, target: kind, features: [a, b, c], {bad}}}", tmp_path)
    r = run_of(f"s: {{op: train, input: t, target: kind, features: [a, b, c], {bad}, on_error: drop}}", tmp_path)
    assert collect(r.graph.value_types["s"].parts["scores"], r.results)["score"].isna().sum() == 2
