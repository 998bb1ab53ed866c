"""One value of a file, or one task of it, and what has to be computed for it: nothing else is, and nothing is written.

What is looked at is a step's own value, with all columns that the file gives it: the file is built anew with that step
alone asked for. A task, however, is the one of the run: the Graph of the run is cut down to what the task needs.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

from pipeline.backends.events import Listener, show_output
from pipeline.builder.build import build
from pipeline.builder.lowering import building, lower
from pipeline.builder.references import refer
from pipeline.config.model import Config
from pipeline.config.targets import Target, parse_target
from pipeline.errors import ConfigError, TaskError, nearest, task_name
from pipeline.graph.collect import collect
from pipeline.graph.graph import CONTEXT, Graph, GraphNode, Key, constant, cull, execute, is_constant, task
from pipeline.graph.segments import Dropped
from pipeline.graph.value_types import ItemsType, PartsType, ValueType, whole_of
from pipeline.outputs.commit import OutputTransaction
from pipeline.runs import run as execution
from pipeline.worker.process_setup import install_modules

__all__ = ["Preview", "Ready", "preview", "ready"]

BACKEND = "threads"
"""Where it is computed if nobody says: no process to start, nothing to pickle, and all cores where the work lets go of
the GIL."""

_OWN = "shown"  # how the tasks of a reference's own picks are called
_FEW = 6  # names that a message lists


# ---------------------------------------------------------------------------------------------------------------------
# A value
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Preview:
    """A value, looked at.

    Parameters
    ----------
    name : as a reference
    kind : array, frame, items or value
    value : as :func:`pipeline.graph.collect.collect` gives it
    n_dropped : items that failed under ``on_error: drop``
    """

    name: str
    kind: str
    value: Any
    n_dropped: int = 0


@dataclass(frozen=True)
class _Place:
    """Where one copy of what was asked for lies: ``keys`` are the tasks needed, ``positions`` the items picked."""

    name: str
    value_type: ValueType
    keys: tuple[Key, ...]
    positions: tuple[int, ...] | None = None


def preview(
    config: Config, text: str, *, backend: str = BACKEND, workers: int | None = None, listener: Listener | None = None
) -> list[Preview]:
    """Compute what a reference means.

    Parameters
    ----------
    text : a reference of the language, or an item: ``svd.u[component=0:2]``, ``fit[alpha=0.1,fold=2]``
    listener : as of a run; what it hears is masked

    Returns
    -------
    one value, or one for each copy where the reference gathers (``tas[*]``)

    Raises
    ------
    ConfigError : for a reference of nothing, with the nearest name
    PipelineError : as in a run
    """
    wanted = parse_target(config, text)
    graph = build(_only(config, wanted.reference.instances))
    tasks, owners = dict(graph.tasks), dict(graph.owners)
    places = []
    for number, copy in enumerate(wanted.reference.instances):
        value_type, own = _referred(graph, wanted, number)
        tasks |= own
        owners |= dict.fromkeys(own, copy)
        places.append(_place(wanted, value_type, number))
    keys = tuple(dict.fromkeys(key for place in places for key in place.keys))
    part = _part(replace(graph, tasks=tasks, owners=owners), keys)
    try:
        results = _computed(config, part, backend, workers, listener)
    except TaskError as error:
        if f"/{_OWN}" not in error.key:
            raise
        raise ConfigError(error.cause.partition(": ")[2]) from error  # the reference asks for what is not there
    return [_seen(wanted, place, results) for place in places]


def _only(config: Config, copies: tuple[str, ...]) -> Config:
    """The same file with these copies asked for, and without the steps that they don't need."""
    needed: set[str] = set()
    stack = list(copies)
    while stack:
        name = stack.pop()
        if name not in needed:
            needed.add(name)
            stack += [copy for reference in config.steps[name].references() for copy in reference.instances]
    steps = {name: step for name, step in config.steps.items() if name in needed}
    return replace(config, steps=steps, outputs=(), checks=(), keep=copies)


def _referred(graph: Graph, wanted: Target, number: int) -> tuple[ValueType, dict[Key, GraphNode]]:
    """Where the value of one copy of the reference lies, and the tasks of its picks."""
    reference = wanted.reference
    copy = reference.instances[number]
    value_type = graph.value_types[copy]
    if not reference.part and not reference.picks and not isinstance(whole_of(value_type), PartsType):
        return whole_of(value_type), {}
    prefix = f"{copy}/{_OWN}"
    try:
        with building():
            value = refer(graph.value_types, reference, prefix, number=number)
            own, value_type = lower(value, prefix, graph.tasks)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return value_type, own


def _place(wanted: Target, value_type: ValueType, number: int) -> _Place:
    reference = wanted.reference
    name = reference.instances[number] if reference.gathered else reference.text
    if reference.gathered and reference.part:
        name = name.replace(reference.step, f"{reference.step}.{reference.part}", 1)
    if not wanted.picks_items:
        return _Place(name, value_type, value_type.keys)
    if not isinstance(value_type, ItemsType):
        got = wanted.error or f"{reference.step!r} is no items, so it has no item {wanted.text!r}"
        raise ConfigError(got)
    if value_type.names is None:  # the keys of the items are known when they are there
        return _Place(name, value_type, value_type.keys)
    positions = tuple(wanted.positions(value_type.names))
    return _Place(name, value_type, tuple(value_type.keys[i] for i in positions), positions)


def _seen(wanted: Target, place: _Place, results: Mapping[Key, Any]) -> Preview:
    value_type = place.value_type
    if not isinstance(value_type, ItemsType):
        return Preview(place.name, value_type.kind, collect(value_type, results))
    if place.positions is None:
        items = collect(value_type, results)
        if wanted.picks_items:
            keys = list(items)
            items = {keys[i]: items[keys[i]] for i in wanted.positions(keys)}
        n = len(value_type.names) if value_type.names is not None else len(items)
    else:
        found = {(value_type.names or ())[i]: results[value_type.keys[i]] for i in place.positions}
        items = {name: item for name, item in found.items() if not isinstance(item, Dropped)}
        n = len(found)
        if n == 1 and not items:
            (dropped,) = found.values()
            step, key = wanted.reference.instances[0], str(place.keys[0])
            raise TaskError(step, key, f"it was dropped: {dropped.cause}", *found)
    if wanted.picks_items and n == len(items) == 1:
        return Preview(place.name, "value", *items.values())
    return Preview(place.name, "items", items, n - len(items))


# ---------------------------------------------------------------------------------------------------------------------
# A task
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Ready:
    """A task with what it needs, in this process.

    Parameters
    ----------
    name : as messages name it
    step : the copy of the step that owns it
    function : what the task calls: ours or a library's, which may call the user's
    pure : whether it may be run again
    """

    name: str
    step: str
    node: GraphNode
    values: Mapping[Key, Any]
    function: Any
    pure: bool = True

    def run(self) -> Any:
        """Run it, here: what it raises is raised, also where the step drops failing items."""
        return execute(self.node, self.values)


@contextlib.contextmanager
def ready(
    config: Config, text: str, *, backend: str = BACKEND, workers: int | None = None, listener: Listener | None = None
) -> Iterator[Ready]:
    """Compute what one task of the run needs.

    Parameters
    ----------
    text : its name as a message tells it, ``fit[alpha=0.1,fold=2]``, ``mean/sum(3,0)``, or a step that is one task
    listener : as of a run; what it hears is masked

    Within, writers of outputs have a folder of their own, which is gone afterwards.

    Raises
    ------
    ConfigError : if there is no such task, with the nearest name
    PipelineError : as in a run, if another task fails
    """
    graph = build(config)
    key = _task(config, graph, text)
    node, owner = graph.tasks[key], graph.owners[key]
    needed = tuple(k for k in graph.tasks if k in node.dependencies)
    with (
        tempfile.TemporaryDirectory(prefix="pipeline-") as folder,
        OutputTransaction(graph.sinks, folder, run="debug", storage=config.storage) as transaction,
    ):
        values: dict[Key, Any] = {CONTEXT: transaction.context}
        if needed:
            part = _part(graph, needed)
            values |= _computed(config, part, backend, workers, listener, transaction.context)
        install_modules(graph.modules)
        step = config.steps.get(owner)
        pure = step is None or step.pure
        name = task_name(owner, key, graph.item(key))
        yield Ready(name, owner, _raising(node), values, getattr(node, "func", None), pure)


def _task(config: Config, graph: Graph, text: str) -> Key:
    """The key of the task that a text names."""
    named_tasks = {
        task_name(graph.owners[key], key, graph.item(key)): key
        for key, node in graph.tasks.items()
        if not is_constant(node)
    }
    if text in named_tasks:
        return named_tasks[text]
    by_key = {str(key): key for key in named_tasks.values()}
    if text in by_key:
        return by_key[text]
    step = re.split(r"[\[(/.]", text, maxsplit=1)[0].strip()
    owned = {name: key for name, key in named_tasks.items() if graph.owners[key].partition("[")[0] == step}
    if owned:
        return _one(config, graph, text, owned)
    owners = dict.fromkeys(owner.partition("[")[0] for owner in graph.policies)
    raise ConfigError(f"no task is named {text!r}{nearest(step, owners)}")


def _one(config: Config, graph: Graph, text: str, owned: Mapping[str, Key]) -> Key:
    """The one task that a reference means."""
    exact = {name: key for name, key in owned.items() if graph.owners[key] == text}
    meant = exact
    if not exact and "(" not in text and not text.startswith("write "):
        wanted = parse_target(config, text)
        for copy in wanted.reference.instances:
            policy = graph.policies.get(copy)
            if wanted.picks_items and policy is not None and policy.items is not None:
                keys = {(policy.over, i) for i in wanted.positions(policy.items)}
                meant |= {name: key for name, key in owned.items() if key in keys}
            elif not wanted.picks_items:
                meant |= {name: key for name, key in owned.items() if graph.owners[key] == copy}
    if len(meant) == 1:
        return next(iter(meant.values()))
    few = list(meant or owned)
    listed = ", ".join(few[:_FEW]) + (", …" if len(few) > _FEW else "")
    if meant:
        raise ConfigError(f"{text!r} is {len(meant):,} tasks; name one: {listed}")
    raise ConfigError(f"no task is named {text!r}{nearest(text, owned) or f'; there are {listed}'}")


def _raising(node: GraphNode) -> GraphNode:
    """The node of a call, so that a failing item is not dropped."""
    arguments: list[Any] = [
        replace(argument, drop=False)
        if is_dataclass(argument) and not isinstance(argument, type) and getattr(argument, "drop", False)
        else argument
        for argument in getattr(node, "args", ())
    ]
    if arguments == list(getattr(node, "args", ())):
        return node
    changed: Any = node
    return task(changed.key, changed.func, *arguments, **changed.kwargs)


# ---------------------------------------------------------------------------------------------------------------------
# Both
# ---------------------------------------------------------------------------------------------------------------------


def _part(graph: Graph, wanted: tuple[Key, ...]) -> Graph:
    """The Graph cut down to what some of its tasks need."""
    tasks = cull({**graph.tasks, CONTEXT: constant(CONTEXT, None)}, wanted)
    tasks.pop(CONTEXT, None)
    return replace(graph, tasks=tasks, wanted=wanted, owners={key: graph.owners[key] for key in tasks}, kept=())


def _computed(
    config: Config,
    graph: Graph,
    backend: str,
    workers: int | None,
    listener: Listener | None,
    context: Any = None,
) -> Mapping[Key, Any]:
    begin = getattr(listener, "begin", None)
    if begin is not None:
        begin(graph)
    told = execution.masked(listener or show_output, config)
    with execution.opened(config, graph, backend, workers=workers) as there:
        return there.run(graph, context=context, listener=told).results
