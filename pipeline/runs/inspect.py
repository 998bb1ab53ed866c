"""Compute one value or one task of a pipeline, with what it needs and nothing else; no output is written.

A value has all its columns, since the pipeline is built again with that step as its only result. A task is the one of
the run, since the Graph of the run is cut down to what the task needs.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.backends.events import Listener, show_output
from pipeline.builder.build import build
from pipeline.builder.lowering import building, lower
from pipeline.builder.references import refer
from pipeline.config.model import Config
from pipeline.config.targets import Target, parse_target
from pipeline.errors import ConfigError, TaskError, nearest, task_name
from pipeline.graph.collect import collect
from pipeline.graph.graph import CONTEXT, Graph, Key
from pipeline.graph.nodes import GraphNode, constant, cull, execute, is_constant, task
from pipeline.graph.pandas_frames import FrameForm
from pipeline.graph.segments import Dropped
from pipeline.graph.value_types import ItemsType, PartsType, ValueType, whole_of
from pipeline.ops.calls.calls import Call
from pipeline.ops.calls.commands import Program
from pipeline.ops.metadata_progress import reported
from pipeline.outputs.commit import OutputTransaction
from pipeline.runs import run as execution
from pipeline.worker.isolation import isolated
from pipeline.worker.process_setup import install_modules

__all__ = ["Preview", "Ready", "preview", "ready"]

BACKEND = "threads"
"""The default back end: it starts no process, pickles nothing, and uses all cores where tasks release the GIL."""

_OWN = "shown"  # part of the keys of tasks that are made for the reference itself
_FEW = 6  # names that a message lists at most


# ---------------------------------------------------------------------------------------------------------------------
# A value
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Preview:
    """A value that was computed to be shown.

    Parameters
    ----------
    name : as a reference
    kind : array, frame, items or value
    value : as :func:`pipeline.graph.collect.collect` returns it
    n_dropped : items that failed under ``on_error: drop``
    """

    name: str
    kind: str
    value: Any
    n_dropped: int = 0


@dataclass(frozen=True)
class _Place:
    """What to compute for one instance of the target: ``keys`` are the tasks, ``positions`` the picked items if any."""

    name: str
    value_type: ValueType
    keys: tuple[Key, ...]
    positions: tuple[int, ...] | None = None


def preview(
    config: Config,
    text: str,
    *,
    backend: str = BACKEND,
    workers: int | None = None,
    frames: FrameForm = "arrow",
    modules: Mapping[str, bytes] | None = None,
    listener: Listener | None = None,
    change: Callable[[Graph], Graph] | None = None,
) -> list[Preview]:
    """Compute the value of a reference.

    Parameters
    ----------
    text : a reference of the language, or an item: ``svd.u[component=0:2]``, ``fit[alpha=0.1,fold=2]``
    frames : what a frame becomes
    modules : the user's modules with the content that they had in a run; None: as they are now
    listener : as for a run; secrets in its events are masked
    change : called with what is to be computed; returns what is computed in its place

    Returns
    -------
    One value, or one for each instance if the reference gathers (``tas[*]``).

    Raises
    ------
    ConfigError : if the reference names nothing, with the nearest name
    PipelineError : as in a run
    """
    target = parse_target(config, text)
    with reported(listener):
        graph = build(config.only(target.reference.instances))
    tasks, owners = dict(graph.tasks), dict(graph.owners)
    places = []
    for number, instance in enumerate(target.reference.instances):
        value_type, own = _referred(graph, target, number)
        tasks |= own
        owners |= dict.fromkeys(own, instance)
        places.append(_place(target, value_type, number))
    keys = tuple(dict.fromkeys(key for place in places for key in place.keys))
    graph = replace(graph, tasks=tasks, owners=owners, modules=graph.modules if modules is None else modules)
    part = _part(graph, keys)
    if change is not None:
        part = change(part)
    try:
        results = _computed(config, part, backend, workers, listener)
    except TaskError as error:
        if f"/{_OWN}" not in error.key:
            raise
        raise ConfigError(re.sub(r"^\w+(Error|Exception): ", "", error.cause)) from error  # the pick does not exist
    return [_seen(target, place, results, frames) for place in places]


def _referred(graph: Graph, target: Target, number: int) -> tuple[ValueType, dict[Key, GraphNode]]:
    """Return the type of the value of one instance, and the tasks to add for its picks."""
    reference = target.reference
    instance = reference.instances[number]
    value_type = graph.value_types[instance]
    if not reference.part and not reference.picks and not isinstance(whole_of(value_type), PartsType):
        return whole_of(value_type), {}
    prefix = f"{instance}/{_OWN}"
    try:
        with building():
            value = refer(graph.value_types, reference, prefix, number=number)
            own, value_type = lower(value, prefix, graph.tasks)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return value_type, own


def _place(target: Target, value_type: ValueType, number: int) -> _Place:
    reference = target.reference
    name = reference.instances[number] if reference.gathered else reference.text
    if reference.gathered and reference.part:
        name = name.replace(reference.step, f"{reference.step}.{reference.part}", 1)
    if not target.picks_items:
        return _Place(name, value_type, value_type.keys)
    if not isinstance(value_type, ItemsType):
        got = target.error or f"{reference.step!r} does not hold items, so it has no item {target.text!r}"
        raise ConfigError(got)
    if value_type.names is None:  # the keys of the items are unknown until run time
        return _Place(name, value_type, value_type.keys)
    positions = tuple(target.positions(value_type.names))
    keys = value_type.keys
    return _Place(name, value_type, tuple(keys[i] for i in positions), positions)


def _seen(target: Target, place: _Place, results: Mapping[Key, Any], frames: FrameForm) -> Preview:
    value_type = place.value_type
    if not isinstance(value_type, ItemsType):
        return Preview(place.name, value_type.kind, collect(value_type, results, frames=frames))
    if place.positions is None:
        items = collect(value_type, results)
        if target.picks_items:
            keys = list(items)
            items = {keys[i]: items[keys[i]] for i in target.positions(keys)}
        n = len(value_type.names) if value_type.names is not None else len(items)
    else:
        found = {(value_type.names or ())[i]: results[key] for i, key in zip(place.positions, place.keys, strict=True)}
        items = {name: item for name, item in found.items() if not isinstance(item, Dropped)}
        n = len(found)
        if n == 1 and not items:
            (dropped,) = found.values()
            step, key = target.reference.instances[0], str(place.keys[0])
            raise TaskError(step, key, f"it was dropped: {dropped.cause}", *found)
    if target.picks_items and n == len(items) == 1:
        return Preview(place.name, "value", *items.values())
    return Preview(place.name, "items", items, n - len(items))


# ---------------------------------------------------------------------------------------------------------------------
# A task
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Ready:
    """A task with the values it needs, in this process.

    Parameters
    ----------
    name : as in messages
    step : the step instance that owns it
    function : the function that the task calls, which may be ours and call the user's
    pure : whether it may be run again
    writable : whether it gets copies of arrays, instead of read-only views
    """

    name: str
    step: str
    node: GraphNode
    values: Mapping[Key, Any]
    function: Any
    pure: bool = True
    writable: bool = False

    def run(self) -> Any:
        """Run the task in this thread; exceptions are raised, also if the step drops failing items."""
        return execute(*isolated(self.node, self.values, writable=self.writable))


@contextlib.contextmanager
def ready(
    config: Config, text: str, *, backend: str = BACKEND, workers: int | None = None, listener: Listener | None = None
) -> Iterator[Ready]:
    """Compute what one task of the run needs.

    Parameters
    ----------
    text : its name in messages (``fit[alpha=0.1,fold=2]``, ``mean/sum(3,0)``), or a step with a single task
    listener : as for a run; secrets in its events are masked

    Inside the block, writer tasks write to a temporary folder.

    Raises
    ------
    ConfigError : if there is no such task, with the nearest name
    PipelineError : as in a run, if another task fails
    """
    with reported(listener):
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
        writable = graph.policies[owner].writable
        name = task_name(owner, key, graph.item(key))
        yield Ready(name, owner, _raising(node), values, getattr(node, "func", None), pure, writable)


def _task(config: Config, graph: Graph, text: str) -> Key:
    """Return the key of the task that a text names."""
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
        of_user = {name: key for name, key in owned.items() if _calls_user(graph.tasks[key])}
        return _task_of_step(config, graph, text, of_user or owned)
    owners = dict.fromkeys(owner.partition("[")[0] for owner in graph.policies)
    raise ConfigError(f"no task is named {text!r}{nearest(step, owners)}")


def _calls_user(node: GraphNode) -> bool:
    """Return whether a task calls a function or a program of the user, not only parts of what they gave."""
    return any(isinstance(argument, Call | Program) for argument in getattr(node, "args", ()))


def _task_of_step(config: Config, graph: Graph, text: str, owned: Mapping[str, Key]) -> Key:
    """Return the single task of a step that a text means."""
    exact = {name: key for name, key in owned.items() if graph.owners[key] == text}
    meant = exact
    if not exact and "(" not in text and not text.startswith("write "):
        target = parse_target(config, text)
        for instance in target.reference.instances:
            policy = graph.policies.get(instance)
            if target.picks_items and policy is not None and policy.items is not None:
                keys = {(policy.over, i) for i in target.positions(policy.items)}
                meant |= {name: key for name, key in owned.items() if key in keys}
            elif not target.picks_items:
                meant |= {name: key for name, key in owned.items() if graph.owners[key] == instance}
    if len(meant) == 1:
        return next(iter(meant.values()))
    names = list(meant or owned)
    listed = ", ".join(names[:_FEW]) + (", …" if len(names) > _FEW else "")
    if meant:
        raise ConfigError(f"{text!r} is {len(meant):,} tasks; name one of them: {listed}")
    raise ConfigError(f"no task is named {text!r}{nearest(text, owned) or f'; there are {listed}'}")


def _raising(node: GraphNode) -> GraphNode:
    """Return the node with dropping of failing items switched off."""
    arguments: list[Any] = [
        replace(argument, drop=False) if isinstance(argument, Call | Program) else argument
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
    """Return the Graph cut down to what some of its tasks need."""
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
    masked = execution.masked(listener or show_output, config)
    execution.tell_warnings(graph, config, listener)
    with execution.opened(config, graph, backend, workers=workers) as entered:
        return entered.run(graph, context=context, listener=masked).results
