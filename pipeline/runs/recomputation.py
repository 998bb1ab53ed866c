"""The value of a step that a run did not keep: computed again where that is quick and gives what the run had.

What the run has kept in a cache or as a checkpoint is loaded. Rejected: computing whatever is asked for, since a name
in brackets must not take hours. The measured seconds of the run decide; ``Pipeline.show`` computes without asking.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from pipeline.errors import EntryDamaged
from pipeline.graph.graph import Graph
from pipeline.graph.late_pandas import numbers_of
from pipeline.graph.nodes import is_constant
from pipeline.runs import inspect
from pipeline.runs.folders import INPUTS
from pipeline.runs.history.schema import Inputs, Unreadable, document
from pipeline.runs.provenance.inputs import input_hashes
from pipeline.runs.report_model import Input
from pipeline.runs.resume.recorder import Recorder
from pipeline.runs.resume.task_plan import Stores, plan_values
from pipeline.runs.resume.value_stores import stores_of
from pipeline.units import duration_text
from pipeline.worker.kept_tasks import load_arguments

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
    stores = stores_of(run.config, run.folder.parents[1])
    text = name if name == instance else _reference(instance, name.rpartition(".")[2])
    how: dict[str, Any] = {"frames": "pandas", "modules": run.graph.modules, "listener": _silent}
    if not reason and stores.checkpoints is not None:
        with suppress(EntryDamaged):  # it is computed, if that is quick

            def loading(graph: Graph) -> Graph:
                return _quick(run, instance, _with_kept(config, graph, stores))

            return inspect.preview(run.config, text, **how, change=loading)[0].value
    reason = reason or _reason_of_time(run, instance, config.steps)
    if reason:
        raise KeyError(f"{name!r} was not kept, and {reason}")
    return inspect.preview(run.config, text, **how)[0].value


def _with_kept(config: Config, graph: Graph, stores: Stores) -> Graph:
    """Return a Graph that loads the values that were kept, without what these alone need."""
    records = Recorder(config, graph).all()
    values = plan_values(config, graph, records, stores)
    return replace(values, nodes={key: values.nodes[key] for key in values.digests}).cut(graph)


def _quick(run: Run, instance: str, graph: Graph) -> Graph:
    """Return a Graph if computing it is quick.

    Raises
    ------
    KeyError : it is not, with what to do
    """
    computed = {
        graph.owners[key]
        for key, node in graph.tasks.items()
        if not is_constant(node) and load_arguments(node) is None and graph.owners[key] in graph.policies
    }
    reason = _reason_of_time(run, instance, computed)
    if reason:
        raise KeyError(f"{instance!r} was not kept, and {reason}")
    return graph


def _reference(instance: str, part: str) -> str:
    """Return the reference to a part of an instance: ``fit.rmse[A1B]``."""
    step, bracket, labels = instance.partition("[")
    return f"{step}.{part}{bracket}{labels}"


def _reason_against(run: Run, config: Config) -> str:
    """Return why a value is not computed again, and what to do; empty if it is."""
    (instance,) = config.keep
    keep = f"p.run(keep=[{instance!r}])"
    impure = [step.step for step in config.steps.values() if not step.pure]
    if impure:
        return f"computing it again would run step {impure[0]!r}, which is marked pure: false. Keep it: {keep}"
    changed = _changed_input(run, config)
    if changed:
        return f"its input {changed} is not as the run read it. Run it again: {keep}"
    return ""


def _reason_of_time(run: Run, instance: str, steps: Iterable[str]) -> str:
    """Return why these steps are not computed again, and what to do; empty if they are."""
    show = f"p.show({instance!r})"
    seconds = _measured_seconds(run, steps)
    if math.isnan(seconds):
        return f"how long computing it takes is unknown. To compute it now: {show}"
    if seconds > MOST_SECONDS:
        return f"computing it again takes about {duration_text(seconds)} of work. To do that now: {show}"
    return ""


def _measured_seconds(run: Run, names: Iterable[str]) -> float:
    """Return what the tasks of these steps took in the run; nan if one of the steps has no tasks of its own in it."""
    steps = run.trace.tasks["step"].combine_chunks().dictionary_encode()
    nanoseconds = np.zeros(len(steps.dictionary), np.int64)
    took = numbers_of(pc.subtract(run.trace.tasks["stop"], run.trace.tasks["start"]))
    np.add.at(nanoseconds, numbers_of(steps.indices), took)
    measured = dict(zip(steps.dictionary.to_pylist(), nanoseconds.tolist(), strict=True))
    return math.fsum(measured.get(name, math.nan) for name in names) / 1e9


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
