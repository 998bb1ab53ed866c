"""The value of a step that a run did not keep: computed again where that is quick and gives what the run had.

Rejected: computing whatever is asked for, since a name in brackets must not take hours. The measured seconds of the run
decide; ``Pipeline.show`` computes without asking.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from pipeline.graph.late_pandas import numbers_of
from pipeline.runs import inspect
from pipeline.runs.folders import INPUTS
from pipeline.runs.history.schema import Inputs, Unreadable, document
from pipeline.runs.provenance.inputs import input_hashes
from pipeline.runs.report_model import Input
from pipeline.units import duration_text

if TYPE_CHECKING:
    from pipeline.backends.events import Event
    from pipeline.config.model import Config
    from pipeline.runs.run import Run


__all__ = ["MOST_SECONDS", "recomputed"]

MOST_SECONDS = 5.0
"""Seconds that the tasks of a value, and those that it needs, may have taken in the run for it to be computed again."""

_STATUS = ("bytes", "mtime_ns", "etag", "modified", "files")


def recomputed(run: Run, name: str) -> Any:
    """Compute the value of a step of a run again, on threads, from the same inputs and with the code that ran.

    Parameters
    ----------
    name : of a step instance, or a part of one

    Returns
    -------
    As :func:`pipeline.graph.collect.collect` returns it

    Raises
    ------
    KeyError : if it would take long or is not known to give the same, with the reason and what to do
    PipelineError : as in a run
    """
    assert run.config is not None
    instance = name if name in run.graph.value_types else name.rpartition(".")[0]
    config = run.config.only((instance,))
    reason = _reason_against(run, config)
    if reason:
        raise KeyError(f"{name!r} was not kept, and {reason}")
    text = name if name == instance else _reference(instance, name.rpartition(".")[2])
    found = inspect.preview(run.config, text, frames="pandas", modules=run.graph.modules, listener=_silent)
    return found[0].value


def _reference(instance: str, part: str) -> str:
    """Return the reference to a part of an instance: ``fit.rmse[A1B]``."""
    step, bracket, labels = instance.partition("[")
    return f"{step}.{part}{bracket}{labels}"


def _reason_against(run: Run, config: Config) -> str:
    """Return why a value is not computed again, and what to do; empty if it is."""
    (instance,) = config.keep
    show, keep = f"p.show({instance!r})", f"p.run(keep=[{instance!r}])"
    impure = [step.step for step in config.steps.values() if not step.pure]
    if impure:
        return f"computing it again would run step {impure[0]!r}, which is marked pure: false. Keep it: {keep}"
    seconds = _measured_seconds(run, config)
    if math.isnan(seconds):
        return f"how long computing it takes is unknown. To compute it now: {show}"
    if seconds > MOST_SECONDS:
        return f"computing it again takes about {duration_text(seconds)} of work. To do that now: {show}"
    changed = _changed_input(run, config)
    if changed:
        return f"its input {changed} is not as the run read it. Run it again: {keep}"
    return ""


def _measured_seconds(run: Run, config: Config) -> float:
    """Return what the tasks of these steps took in the run; nan if one of the steps has no tasks of its own in it."""
    steps = run.trace.tasks["step"].combine_chunks().dictionary_encode()
    nanoseconds = np.zeros(len(steps.dictionary), np.int64)
    took = numbers_of(pc.subtract(run.trace.tasks["stop"], run.trace.tasks["start"]))
    np.add.at(nanoseconds, numbers_of(steps.indices), took)
    measured = dict(zip(steps.dictionary.to_pylist(), nanoseconds.tolist(), strict=True))
    return math.fsum(measured.get(name, math.nan) for name in config.steps) / 1e9


def _changed_input(run: Run, config: Config) -> str:
    """Return an input that is not as the run read it, by size and time of change; empty if there is none."""
    try:
        recorded = Inputs.of(document(run.folder / INPUTS), INPUTS).inputs
    except Unreadable:  # the run folder was moved or deleted
        recorded = {}
    for name, found in input_hashes(config, budget=0).items():
        now = Input.model_validate(found)
        then = recorded.get(name)
        if now.bytes is None or then is None or any(getattr(now, key) != getattr(then, key) for key in _STATUS):
            return name
    return ""


def _silent(event: Event) -> None:
    """Show nothing: what its tasks print was shown in the run."""
