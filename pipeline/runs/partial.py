"""What a run that kept going could not compute: the tasks that failed, and what is missing since they did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.backends.base import Outcome
from pipeline.config.model import Check, Config, Reference
from pipeline.errors import task_name, where
from pipeline.graph.graph import CONTEXT, Graph, Key
from pipeline.graph.nodes import constant, dependents
from pipeline.graph.segments import Failure
from pipeline.graph.value_types import PartsType
from pipeline.units import count_text, names_text

__all__ = ["EXIT_CODE", "FailedStep", "FailedTask", "Partial", "find_missing"]

EXIT_CODE = 7
"""Of a run that kept going after a task had failed, whether or not an output was complete."""


@dataclass(frozen=True)
class FailedTask:
    """A task that failed finally.

    Parameters
    ----------
    item : the item of an ``over`` that it computes; empty if it computes none
    task : its name, as ``pipeline debug`` takes it
    cause : the exception, as ``Type: message (FILE:LINE, in FUNCTION)``
    """

    item: str
    task: str
    cause: str
    traceback: str = ""


@dataclass(frozen=True)
class FailedStep:
    """An instance of a step of which tasks failed, and what was not computed since they did.

    Parameters
    ----------
    step : the instance, ``fit[era5]``
    tasks : that failed, in the order of its items
    n_units : number of its items, or of its tasks where it has none
    steps : the instances that are missing, or a part of them, in the order of the file
    outputs, checks : names of outputs that were not written, texts of checks that were not evaluated
    """

    step: str
    tasks: tuple[FailedTask, ...]
    n_units: int
    steps: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the instance, with the item that failed if it is the only one."""
        return where(self.step, self.tasks[0].item) if len(self.tasks) == 1 else self.step

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        tasks = [{"item": task.item, "task": task.task, "cause": task.cause} for task in self.tasks]
        missing = {name: list(getattr(self, name)) for name in ("steps", "outputs", "checks")}
        return {"step": self.step, "failed": tasks, "n": self.n_units, "not_computed": missing}


@dataclass(frozen=True)
class Partial:
    """What is missing of a run; false if it is whole.

    Parameters
    ----------
    failed : the steps that failed, in the order of the file
    outputs : names of the outputs that were not written, out of ``n_outputs``; what was there stays as it was
    checks : texts of the checks that were not evaluated
    instances : step instances of which a value is missing
    """

    exit_code: ClassVar[int] = EXIT_CODE

    failed: tuple[FailedStep, ...] = ()
    outputs: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    instances: frozenset[str] = frozenset()
    n_outputs: int = 0

    def __bool__(self) -> bool:
        return bool(self.failed)

    def reason(self, name: str) -> str:
        """Return why an instance, a part of one, an output or a check is missing: ``not computed, since fit failed``.

        The text is empty if it is not missing.
        """
        for step in self.failed:
            instances = (step.step, *step.steps)
            is_part = name.startswith(tuple(f"{instance}." for instance in instances))
            if is_part or name in (*instances, *step.outputs, *step.checks):
                return f"not computed, since {step.name} failed: {step.tasks[0].cause}"
        return ""

    @property
    def problem(self) -> str:
        """One sentence: how many tasks failed, and which outputs are missing; empty if nothing is."""
        if not self:
            return ""
        n = sum(len(step.tasks) for step in self.failed)
        text = f"{count_text(n, 'task')} failed ({names_text([step.name for step in self.failed], 3)})"
        if not self.outputs:
            return f"{text}; no output needs what is missing" if self.n_outputs else text
        done = f"{self.n_outputs - len(self.outputs)} of {count_text(self.n_outputs, 'output')} committed"
        return f"{text}; {done}, not written: {names_text(self.outputs)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        failed = [step.to_dict() for step in self.failed]
        return {"failed": failed, "missing": {"outputs": list(self.outputs), "checks": list(self.checks)}}


def find_missing(config: Config, graph: Graph, outcome: Outcome) -> Partial:
    """Return what a run could not compute; texts have their secrets masked."""
    if not outcome.failures:
        return Partial()
    lost = _Lost(graph, outcome)
    outputs = [sink.name for sink in graph.sinks if any(key not in outcome.results for key in sink.records)]
    checks = [check for check in config.checks if is_missing(check, graph, outcome.results)]
    by_step: dict[str, list[Failure]] = {}
    position = {str(key): i for i, key in enumerate(graph.tasks)}
    for failure in sorted(outcome.failures, key=lambda failure: position.get(failure.key, 0)):
        by_step.setdefault(failure.step, []).append(failure)
    failed = []
    for instance in sorted(by_step, key=list(graph.policies).index):
        keys = lost.descendants(failure.key for failure in by_step[instance])
        owners = {graph.owners[key] for key in keys}
        failed.append(
            FailedStep(
                instance,
                tuple(_failed_task(failure, config) for failure in by_step[instance]),
                lost.n_units(instance),
                tuple(name for name in graph.value_types if name in owners and name != instance),
                tuple(s.name for s in graph.sinks if s.name in outputs and not keys.isdisjoint(s.records)),
                tuple(c.text for c in checks if any(not keys.isdisjoint(part) for part in _needs(c, graph))),
            )
        )
    instances = {graph.owners[key] for key in lost.descendants(failure.key for failure in outcome.failures)}
    return Partial(tuple(failed), tuple(outputs), tuple(c.text for c in checks), frozenset(instances), len(graph.sinks))


def is_missing(check: Check, graph: Graph, results: Mapping[Key, Any]) -> bool:
    """Return whether a check needs a value that was not computed."""
    return any(key not in results for keys in _needs(check, graph) for key in keys)


def _needs(check: Check, graph: Graph) -> Iterable[Sequence[Key]]:
    """Yield the keys of each value that a check needs."""
    for reference in check.references():
        for instance in reference.instances:
            yield _keys(graph, instance, reference)


def _keys(graph: Graph, instance: str, reference: Reference) -> Sequence[Key]:
    value_type, parts = graph.value_types[instance], list(reference.parts)
    while parts and isinstance(value_type, PartsType) and parts[0] in value_type.parts:
        value_type = value_type.parts[parts.pop(0)]
    return value_type.keys


def _failed_task(failure: Failure, config: Config) -> FailedTask:
    name = task_name(failure.step, failure.key, failure.item)
    return FailedTask(*map(config.masked, (failure.item, name, failure.cause, failure.traceback)))


class _Lost:
    """The tasks of one Graph that could not be computed."""

    def __init__(self, graph: Graph, outcome: Outcome) -> None:
        self._graph = graph
        self._keys = {str(key): key for key in graph.tasks}
        self._users = dependents({**graph.tasks, CONTEXT: constant(CONTEXT, None)})

    def descendants(self, texts: Iterable[str]) -> set[Key]:
        """Return the tasks with these keys, as text, and all that need them."""
        found: set[Key] = set()
        stack = [self._keys[text] for text in texts if text in self._keys]
        while stack:
            key = stack.pop()
            if key not in found:
                found.add(key)
                stack.extend(self._users[key] - found)
        return found

    def n_units(self, instance: str) -> int:
        """Return the number of items of an instance, or of tasks where it has none."""
        items = self._graph.policies[instance].items
        return len(items) if items else sum(owner == instance for owner in self._graph.owners.values())
