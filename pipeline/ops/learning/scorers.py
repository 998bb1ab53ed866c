"""The scorers that a step names, before the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.metrics import get_scorer_names

from pipeline.errors import OpError, nearest

__all__ = ["require_scores"]


def require_scores(estimator: Any, scorers: Sequence[str], *, supervised: bool) -> None:
    """Refuse scorers that don't exist, or have nothing to compare with.

    Parameters
    ----------
    estimator : None: unknown before the run
    supervised : whether there is a target

    Raises
    ------
    OpError : naming the scorer
    """
    known = get_scorer_names()
    for name in scorers:
        if name not in known:
            near = nearest(name, known) or f"; they are {', '.join(known)}"
            raise OpError("scoring", f"scikit-learn has no scorer {name!r}{near}")
    if scorers and not supervised:
        raise OpError("scoring", f"{scorers[0]} compares with a target, and the step has none")
    if not scorers and estimator is not None and not hasattr(estimator, "score"):
        cure = "name a scorer" if supervised else "write folds: 0"
        raise OpError("scoring", f"{type(estimator).__name__} has no score of its own; {cure}")
