"""``op: train`` compared with sklearn's ``GridSearchCV``, and one BLAS thread a process with as many as workers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import pipeline
from bench.pairs import Aim, Row, Sizes, ratios, take_turns
from pipeline.backends import registry
from pipeline.graph.graph import Graph

__all__ = ["blas_threads", "training"]

_FOLDS = 5
_HEAD = "version: 1\nsteps:\n  rows: {op: read_parquet, path: rows.parquet}\n"


def training(sizes: Sizes) -> Iterator[Row]:
    """Time a search with warm workers on both sides: the same file, folds, candidates, and the refit of the best."""
    values = [float(10**i) for i in np.linspace(-1, 1, max(1, sizes.n_tasks // 12))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n = max(100, round(30_000 * sizes.seconds))
        x, y = make_classification(n, 20, n_informative=10, random_state=1)
        _save(folder, x, y)
        estimator = f"estimator: sklearn.svm.SVC, grid: {{C: {values}}}, folds: {_FOLDS}"
        graph = _graph(folder, f"search: {{op: train, input: rows, target: y, {estimator}}}")
        with registry.create("processes", workers=sizes.n_workers) as opened:

            def ours() -> Callable[[], Any]:
                outcome = opened.run(graph)
                return lambda: _scores(graph, outcome.results)

            def theirs() -> Callable[[], Any]:
                rows = pd.read_parquet(folder / "rows.parquet")
                search = GridSearchCV(SVC(), {"C": values}, cv=_FOLDS, n_jobs=sizes.n_workers)
                search.fit(rows.drop(columns="y"), rows["y"])
                scores = [search.cv_results_[f"split{k}_test_score"] for k in range(_FOLDS)]
                return lambda: np.stack(scores, axis=1).ravel()

            taken = take_turns({"ours": ours, "theirs": theirs}, sizes.pairs, warm_up=sizes.warm_up)
    yield ratios(f"{len(values)} x {_FOLDS} fits", taken["ours"], taken["theirs"], Aim(1.1, by="low"))


def blas_threads(sizes: Sizes) -> Iterator[Row]:
    """Time fits that are linear algebra: each worker with one thread, and each with as many as there are workers."""
    n = max(100, round(100_000 * sizes.seconds))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 300))
    alphas = [float(i + 1) for i in range(max(1, sizes.n_tasks // 12))]
    with tempfile.TemporaryDirectory() as name:
        _save(Path(name), x, x @ rng.normal(size=300))
        estimator = f"estimator: sklearn.linear_model.Ridge, args: {{solver: svd}}, grid: {{alpha: {alphas}}}"
        graph = _graph(Path(name), f"search: {{op: train, input: rows, target: y, {estimator}, folds: {_FOLDS}}}")
        several = max(2, sizes.n_workers)

        def on(n: int, stack: ExitStack) -> Callable[[], Callable[[], Any]]:
            opened = stack.enter_context(registry.create("processes", workers=sizes.n_workers, blas_threads=n))

            def run() -> Callable[[], Any]:
                outcome = opened.run(graph)
                return lambda: _scores(graph, outcome.results)

            return run

        with ExitStack() as stack:
            contenders = {"one": on(1, stack), "several": on(several, stack)}
            taken = take_turns(contenders, sizes.pairs, warm_up=sizes.warm_up)
    yield ratios(f"1 BLAS thread against {several}", taken["one"], taken["several"], Aim(1.0, by="low"))


def _save(folder: Path, x: Any, y: Any) -> None:
    columns = [f"x{i}" for i in range(x.shape[1])]
    pd.DataFrame(x, columns=columns).assign(y=y).to_parquet(folder / "rows.parquet")


def _graph(folder: Path, step: str) -> Graph:
    file = folder / "search.yaml"
    file.write_text(f"{_HEAD}  {step}\n", encoding="utf-8")
    return pipeline.build(pipeline.load(file))


def _scores(graph: Graph, results: Any) -> list[float]:
    value_type = graph.value_types["search"]
    assert value_type.kind == "parts"
    assert value_type.whole is not None
    return [results[key]["score"] for key in value_type.whole.keys]
