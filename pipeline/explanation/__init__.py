"""Telling causes apart by experiment: what holds a step back, found by running its own tasks in several ways.

A trace shows that a task took longer than alone, and never why: a lock, memory bandwidth and a busy core look alike in
``wall - cpu``. So samples of the steps that cost most are run again, with their real inputs, by one worker, by threads,
by processes, with BLAS on one thread and on several; which of these is slow says what is shared.

===============  ================================================================
``experiment``   ``explain()``: the order of things, the budget, scratch
``sampling``     the serial run: every task timed, inputs kept
``selection``    which tasks are run, kept, and probed
``keeping``      a kept task in its file
``teams``        fresh processes that answer questions by a deadline
``probes``       the probes of one step
``overhead``     what an empty task costs
``readings``     what probes measured, and the ratios
``diagnosis``    readings -> causes; the graph's shape -> causes
``structure``    work, span, schedule of the serial run's times
``expectation``  causes -> what to change, and what that should save
``result``       the noun
===============  ================================================================

The names are imported on first use: the children of a probe import a module of this package, and need not wait for all
that builds a Graph.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.explanation.experiment import BUDGET, explain
    from pipeline.explanation.result import Explained, Explanation

__all__ = ["BUDGET", "Explained", "Explanation", "explain"]

_HOMES = {"BUDGET": "experiment", "explain": "experiment", "Explained": "result", "Explanation": "result"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
