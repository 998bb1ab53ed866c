"""Config -> Graph, one step after the other.

Each copy of a step is given its inputs as collections over placeholders, builds what it adds, and is lowered alone
(``lowering.py``). Building reads metadata only and runs no task. What an optimiser over all steps would have done for
the readers is done here, from what the language knows: the columns that anybody needs are computed backwards and asked
of the reader, and a slice that every user of a source takes is taken by the reader.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from pipeline.config import Check, Config, Output, Reference, Step
from pipeline.errors import ConfigError, DataError, Fault, Location
from pipeline.expressions import Expression
from pipeline.graph import (
    CONTEXT,
    Graph,
    GraphNode,
    ItemsLayout,
    Key,
    Layout,
    PartsLayout,
    Policy,
    ValueLayout,
    cull,
    listed,
    ref,
    task,
)
from pipeline.lowering import building, enter, lower
from pipeline.ops import assembly, calls
from pipeline.ops.targets import evaluate_arrays
from pipeline.ops.values import Items, Parts, Single
from pipeline.outputs import plan_sink

__all__ = ["build", "needed_columns", "refer", "shared_slices"]

_SLICED = frozenset({"from_netcdf", "from_zarr"})
_ORDERED = frozenset({"sort_values", "nlargest", "nsmallest"})
_KEEP_ORDER = frozenset({"select", "filter", "assign", "rename", "astype", "fillna", "dropna"})


def build(config: Config) -> Graph:
    """The Graph of a file: flat, closed, acyclic, each key owned by one copy of a step.

    Raises
    ------
    ConfigError : all faults that only metadata shows: unknown columns, dims that don't fit, kinds
    DataError : an input is missing or unreadable
    """
    builder = _Builder(config)
    with building():
        builder.steps()
        builder.outputs()
        builder.checks()
    builder.raise_faults()
    return builder.graph()


@dataclass
class _Builder:
    """A Graph on its way: filled step by step, for one build."""

    config: Config
    tasks: dict[Key, GraphNode] = field(default_factory=dict)
    owners: dict[Key, str] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    layouts: dict[str, Layout] = field(default_factory=dict)
    sinks: list[Any] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unusable: list[DataError] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)

    # -- the file, in order -------------------------------------------------------------------------------------------

    def steps(self) -> None:
        columns = needed_columns(self.config)
        slices = shared_slices(self.config)
        for step in self.config.steps.values():
            if any(copy in self.failed for r in step.references() for copy in r.copies):
                self.failed.add(step.name)
                continue
            with self._blamed(step.name, f"steps.{step.step}", step.location, step.locations):
                lowered = _StepBuilder(self, step, columns.get(step.name), slices)
                value = lowered.value()
                self._take(step, value, lowered.extra)

    def outputs(self) -> None:
        for output in self.config.outputs:
            if any(copy in self.failed for copy in output.input.copies):
                continue
            owner = f"write {output.name}" + _labels(output)
            with self._blamed(owner, f"outputs.{output.name}", output.location, {}):
                layout, extra = self._referred(output.input, owner)
                nodes, sink = plan_sink(output, layout, prefix=owner)
                self.tasks |= extra | nodes
                self.owners |= dict.fromkeys([*extra, *nodes], owner)
                self.policies[owner] = Policy(
                    step=f"write {output.name}", kind="output", merge=False, location=str(output.location)
                )
                self.sinks.append(sink)

    def checks(self) -> None:
        named = [r for check in self.config.checks for r in _check_references(check)]
        used = {copy for step in self.config.steps.values() for r in step.references() for copy in r.copies}
        used |= {copy for output in self.config.outputs for copy in output.input.copies}
        for name in self.config.steps:
            asked = any(name in r.copies for r in named) or name in self.config.keep
            if name not in self.failed and (asked or name not in used):
                self.kept.append(name)

    def graph(self) -> Graph:
        wanted = [key for sink in self.sinks for key in sink.records]
        wanted += [key for name in self.kept for key in self.layouts[name].keys]
        tasks = cull({**self.tasks, CONTEXT: task(CONTEXT, dict)}, wanted)
        tasks.pop(CONTEXT, None)
        return Graph(
            tasks=tasks,
            wanted=tuple(dict.fromkeys(wanted)),
            owners={key: self.owners[key] for key in tasks},
            policies=self.policies,
            layouts=self.layouts,
            sinks=tuple(self.sinks),
            kept=tuple(self.kept),
            modules=shipped_modules(self.config.shipped),
            name=self.config.name,
        )

    # -- faults -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _blamed(self, name: str, path: str, location: Location, locations: Mapping[str, Location]) -> Iterator[None]:
        """Turn what an op says is wrong into a fault at its place in the file, and go on with the next step."""
        try:
            yield
        except DataError as error:
            self.failed.add(name)
            self.unusable.append(DataError(f"{path} ({location}): {error}"))
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            self.failed.add(name)
            message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
            key, _, rest = message.partition(": ")
            if key.split(".")[0] in locations and rest:
                path, message = f"{path}.{key}", rest
                location = locations.get(key) or locations[key.split(".")[0]]
            self.faults.append(Fault(location, path, message))

    def raise_faults(self) -> None:
        """Raise all faults of the file at once; unusable inputs only where the file itself is right."""
        if self.faults:
            raise ConfigError(self.faults)
        if self.unusable:
            raise DataError("\n".join(str(error) for error in self.unusable))

    # -- values -------------------------------------------------------------------------------------------------------

    def _take(self, step: Step, value: Any, extra: dict[Key, GraphNode]) -> None:
        ordered = step.function in _ORDERED or (
            step.function in _KEEP_ORDER
            and any(getattr(self.layouts[r.copies[0]], "ordered", False) for r in step.inputs.get("input", ()))
        )
        own, layout = lower(value, step.name, self.tasks, ordered=ordered)
        own = {key: node for key, node in {**extra, **own}.items() if key not in self.tasks}
        self.tasks |= own
        self.owners |= dict.fromkeys(own, step.name)
        self.layouts[step.name] = layout
        main = layout.whole if isinstance(layout, PartsLayout) and layout.whole is not None else layout
        items = main.names if isinstance(main, ItemsLayout) and step.over is not None else None
        self.policies[step.name] = Policy(
            step=step.step,
            kind=main.kind,
            merge=not (step.retries or step.timeout is not None or step.checkpoint or step.kind == "command"),
            batch=step.batch,
            items=items,
            over=step.name if items is not None else "",
            retries=step.retries,
            timeout=step.timeout,
            resources=step.resources,
            location=str(step.location),
        )

    def _referred(self, reference: Reference, owner: str) -> tuple[Layout, dict[Key, GraphNode]]:
        """The layout of a single reference; the tasks of a pick belong to whoever picks."""
        (copy,) = reference.copies
        layout = self.layouts[copy]
        if not reference.part and not reference.picks:
            return (layout.whole if isinstance(layout, PartsLayout) and layout.whole is not None else layout), {}
        value = refer(self.layouts, reference, f"{owner}/input")
        own, picked = lower(value, f"{owner}/input", self.tasks)
        return picked, own


def _labels(output: Output) -> str:
    return f"[{','.join(str(v) for v in output.matrix.values())}]" if output.matrix else ""


def _check_references(check: Check) -> tuple[Reference, ...]:
    return check.that.references if isinstance(check.that, Expression) else (check.that,)


# ---------------------------------------------------------------------------------------------------------------------
# References
# ---------------------------------------------------------------------------------------------------------------------


def refer(layouts: Mapping[str, Layout], reference: Reference, prefix: str, *, number: int = 0) -> Any:
    """The collection that one copy of a reference means; tasks of a pick have keys that begin with ``prefix``.

    Raises
    ------
    ValueError : if there is no such part or dim, or a position is out of range
    """
    layout = layouts[reference.copies[number]]
    value = enter(layout)
    if isinstance(value, Parts):
        if reference.part:
            if reference.part not in value.parts:
                raise ValueError(f"{reference.text!r}: there is no such part; there are {', '.join(value.parts)}")
            value = value.parts[reference.part]
        elif value.whole is not None:
            value = value.whole
        else:
            raise ValueError(f"{reference.text!r} has parts only: {', '.join(value.parts)}")
    elif reference.part:
        value = _part(value, reference, f"{prefix}.{reference.part}.{number}")
    return _picked(value, reference) if reference.picks else value


def _part(value: Any, reference: Reference, prefix: str) -> Any:
    if isinstance(value, dd.DataFrame):
        if reference.part not in value.columns:
            raise ValueError(
                f"{reference.text!r}: there is no column {reference.part!r}; there are {', '.join(value.columns)}"
            )
        tasks = dict(_collection_tasks(value))
        keys = value.optimize(fuse=False).__dask_keys__()
        tasks[prefix,] = task((prefix,), only_cell, reference.text, reference.part, listed(ref(k) for k in keys))
        return Single((prefix,), tasks)
    if isinstance(value, Items | Single):
        return calls.part(value, reference.part, prefix, dict(value.tasks))
    raise ValueError(f"{reference.text!r}: an array has no parts")


def only_cell(text: str, column: str, partitions: list[Any]) -> Any:
    """The one value of a column of a frame that must have one row."""
    n = sum(len(p) for p in partitions)
    if n != 1:
        raise ValueError(f"{text!r} needs a frame of one row; it has {n}")
    (value,) = [v for p in partitions for v in p[column].tolist()]
    return value


def only_value(text: str, value: Any) -> float:
    """A value that stands in an expression over arrays, as a number."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise ValueError(f"{text!r} must be one number to stand in an expression; got {type(value).__name__}")
    return float(array.reshape(())) if array.dtype.kind == "f" else array.reshape(()).item()


def _picked(value: Any, reference: Reference) -> Any:
    if not isinstance(value, xr.DataArray):
        raise ValueError(f"{reference.text!r}: only arrays have positions to pick")
    indexers: dict[str, Any] = {}
    for dim, pick in reference.picks:
        if dim not in value.dims:
            raise ValueError(
                f"{reference.text!r}: there is no dim {dim!r}; there are {', '.join(map(str, value.dims))}"
            )
        size = value.sizes[dim]
        span = f"picks are positions, 0 to {size - 1} here; for labels: {{op: sel, labels: {{{dim}: …}}}}"
        if isinstance(pick, int):
            if not -size <= pick < size:
                raise ValueError(f"{reference.text!r}: {span}")
            indexers[dim] = pick
        else:
            start, stop = pick
            if any(p is not None and not -size <= p <= size for p in pick):
                raise ValueError(f"{reference.text!r}: {span}")
            indexers[dim] = slice(start, stop)
    return value.isel(indexers, drop=True)


def _collection_tasks(value: Any) -> Mapping[Key, GraphNode]:
    if isinstance(value, xr.DataArray):
        tasks = dict(value.data.dask)
        for coordinate in value.coords.values():
            if coordinate.chunks is not None:
                tasks |= dict(coordinate.data.dask)
        return tasks
    if isinstance(value, dd.DataFrame):
        return value.optimize(fuse=False).__dask_graph__()  # type: ignore[no-any-return]
    return value.tasks  # type: ignore[no-any-return]


# ---------------------------------------------------------------------------------------------------------------------
# One step
# ---------------------------------------------------------------------------------------------------------------------


class _StepBuilder:
    """Builds the value of one copy of a step; ``extra`` collects tasks of its own beside the value's."""

    def __init__(
        self,
        builder: _Builder,
        step: Step,
        columns: frozenset[str] | None,
        slices: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.builder, self.step, self.columns = builder, step, columns
        self.slices = slices
        self.extra: dict[Key, GraphNode] = {}
        self._wholes: dict[tuple[Any, ...], Key] = {}

    def value(self) -> Any:
        step = self.step
        if step.kind == "call":
            tasks: dict[Key, GraphNode] = {}
            value = calls.call(step, seed=self.builder.config.seed, whole=self.whole, enter=self.enter, tasks=tasks)
            self.extra |= {k: n for k, n in tasks.items() if k not in self.builder.tasks}
            return value
        if step.kind == "expr":
            bound = [self.scalar_or_array(r) for r in step.expression.references]
            return evaluate_arrays(step.expression, bound)
        if step.kind == "op":
            return self.op()
        raise NotImplementedError(f"steps of the kind {step.kind} are not built yet")

    # -- inputs -------------------------------------------------------------------------------------------------------

    def enter(self, reference: Reference, *, number: int = 0) -> Any:
        """The collection of a reference; picks that the reader has taken already are not taken again."""
        taken = self.slices.get(reference.copies[number])
        if taken is not None and reference.picks:
            reference = replace(reference, picks=())
        return refer(self.builder.layouts, reference, f"{self.step.name}/input", number=number)

    def input(self, reference: Reference) -> Any:
        """Like :meth:`enter`; gathered copies come as a list of ``(labels, collection)``."""
        if not reference.gathered:
            return self.enter(reference)
        return [
            (dict(zip(reference.gathered, labels, strict=True)), self.enter(reference, number=i))
            for i, labels in enumerate(reference.labels)
        ]

    def scalar_or_array(self, reference: Reference) -> Any:
        """What a name in an expression over arrays stands for: an array, or a number as a 0-d array."""
        value = self.enter(reference)
        if isinstance(value, xr.DataArray):
            return value
        from dask.array import Array

        key = f"{self.step.name}/{reference.text}"
        if isinstance(value, Single):
            node = task((key,), only_value, reference.text, ref(value.key))
            return xr.DataArray(Array({**value.tasks, (key,): node}, key, (), dtype=np.float64))
        kind = "a frame" if isinstance(value, dd.DataFrame) else "items"
        raise ValueError(f"{reference.text!r} is {kind}; an expression takes arrays and scalars")

    def whole(self, reference: Reference) -> Key:
        """The key of a task with the whole in-memory value of a reference."""
        name = (reference.copies, reference.gathered, reference.part, reference.picks)
        if name not in self._wholes:
            self._wholes[name] = self._whole(reference)
        return self._wholes[name]

    def _whole(self, reference: Reference) -> Key:
        keys = [self._whole_copy(reference, i) for i in range(len(reference.copies))]
        if not reference.gathered:
            return keys[0]
        key = (f"{self.step.name}/gathered.{len(self._wholes)}",)
        self.extra[key] = task(key, list, listed(ref(k) for k in keys))
        return key

    def _whole_copy(self, reference: Reference, number: int) -> Key:
        prefix = f"{self.step.name}/argument.{len(self._wholes)}.{number}"
        value = self.enter(reference, number=number)
        own, layout = lower(value, prefix, self.builder.tasks)
        self.extra |= own
        if isinstance(layout, ValueLayout):
            return layout.keys[0]
        key = (f"{prefix}/whole",)
        self.extra[key] = task(key, assembly.whole, layout, listed(ref(k) for k in layout.keys))
        return key

    # -- ops ----------------------------------------------------------------------------------------------------------

    def op(self) -> Any:
        step = self.step
        parameters = step.parameters
        module, _, function = type(parameters).home.partition(":")
        build = getattr(importlib.import_module(f"pipeline.ops.{module}"), function)
        inputs = [self.input(r) for role in type(parameters).inputs for r in step.inputs.get(role, ())]
        keywords: dict[str, Any] = dict(parameters.keywords())
        keywords |= self.context(build, keywords)
        bound = self.bound(parameters)
        if bound:
            keywords["bound"] = bound
        if not inputs:
            return self.source(build, keywords)
        return build(*inputs, **keywords)

    def context(self, build: Callable[..., Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """What a function gets besides the step's parameters, where its Python signature asks for it."""
        config, asked = self.builder.config, inspect.signature(build).parameters
        given: dict[str, Any] = {}
        if "name" in asked:
            given["name"] = self.step.name
        if "storage" in asked:
            given["storage"] = config.storage
        if "seed" in asked:
            given["seed"] = calls.derived_seed(config.seed, self.step.name)
        if "path" in keywords:
            given["path"] = located(keywords["path"], config.root)
        return given

    def source(self, build: Any, keywords: dict[str, Any]) -> Any:
        """A source, told what is needed of it."""
        picks = self.slices.get(self.step.name)
        if picks:
            return build(**keywords, picks=dict(picks))
        value = build(**keywords)
        if not isinstance(value, dd.DataFrame) or self.columns is None or "columns" not in keywords:
            return value
        chosen = [c for c in value.columns if c in self.columns]
        if self.columns - set(value.columns) or len(chosen) == len(value.columns):
            return value  # an unknown column is the fault of the step that asks for it, with all names to suggest
        return build(**{**keywords, "columns": chosen or list(value.columns[:1])})

    def bound(self, parameters: Any) -> dict[str, list[Any]]:
        """For each parameter with an expression that holds references: their values, as the op's kind wants them."""
        frames = any(kind.startswith("frame") for kinds in type(parameters).inputs.values() for kind in kinds)
        values: dict[str, list[Any]] = {}
        for name, expression in expressions_of(parameters).items():
            if expression.references:
                take = self.delayed if frames else self.scalar_or_array
                values[name] = [take(r) for r in expression.references]
        return values

    def delayed(self, reference: Reference) -> Delayed:
        """A value known only in the run, as an argument of a frame op."""
        key = self.whole(reference)
        scalar = (f"{self.step.name}/scalar.{len(self._wholes)}.{reference.text}",)
        self.extra[scalar] = task(scalar, scalar_of, reference.text, ref(key))
        return Delayed(scalar, {**self.extra, **{k: self.builder.tasks[k] for k in [key] if k in self.builder.tasks}})


def expressions_of(parameters: Any) -> dict[str, Expression]:
    """The expressions among an op's parameters by path: ``where``, ``columns.total``."""
    found: dict[str, Expression] = {}
    for name in type(parameters).expression_fields():
        value = getattr(parameters, name)
        members = value.items() if isinstance(value, Mapping) else [("", value)]
        found |= {f"{name}.{k}" if k else name: e for k, e in members if isinstance(e, Expression)}
    return found


def scalar_of(text: str, value: Any) -> Any:
    """The one element of a whole value, for an expression over columns."""
    if hasattr(value, "columns"):
        if value.shape != (1, 1):
            raise ValueError(f"{text!r} must be one value; it is a frame of {value.shape[0]} x {value.shape[1]}")
        return value.iloc[0, 0]
    if isinstance(value, xr.DataArray | np.ndarray):
        if value.size != 1:
            raise ValueError(f"{text!r} must be one value; it is an array of {value.size}")
        return np.asarray(value).reshape(())[()]
    return value


def located(path: Any, root: str) -> Any:
    """Input paths, relative ones from the folder of the file."""
    if isinstance(path, list | tuple):
        return [located(p, root) for p in path]
    if not isinstance(path, str) or "://" in path:
        return path
    return str(Path(root) / Path(path).expanduser())


# ---------------------------------------------------------------------------------------------------------------------
# What is needed of the sources
# ---------------------------------------------------------------------------------------------------------------------


def needed_columns(config: Config) -> dict[str, frozenset[str] | None]:
    """For each copy the columns that anybody needs of it; None where all are, or where it is no frame."""
    needed: dict[str, frozenset[str] | None] = {}

    def ask(reference: Reference, columns: frozenset[str] | None) -> None:
        if reference.part and not reference.gathered:
            columns = frozenset({reference.part})
        for copy in reference.copies:
            before = needed.get(copy, frozenset())
            needed[copy] = None if columns is None or before is None else before | columns

    for output in config.outputs:
        ask(output.input, None)
    for check in config.checks:
        for reference in _check_references(check):
            ask(reference, None)
    for name in config.keep:
        needed[name] = None
    for step in reversed(list(config.steps.values())):
        wanted = needed.get(step.name)  # nobody asks: it is kept, so all of it is wanted
        asked = {}
        if step.kind == "op" and hasattr(step.parameters, "needed"):
            asked = step.parameters.needed(wanted)
        inputs = {id(r) for references in step.inputs.values() for r in references}
        for role, references in step.inputs.items():
            for reference in references:
                ask(reference, asked.get(role))
        for reference in step.references():
            if id(reference) not in inputs:
                ask(reference, None)
    return needed


def shared_slices(config: Config) -> dict[str, dict[str, Any]]:
    """For each source of an array the picks that every one who uses it makes; sources with none are left out."""
    users: dict[str, list[Reference]] = {}
    for step in config.steps.values():
        for reference in step.references():
            for copy in reference.copies:
                users.setdefault(copy, []).append(reference)
    for output in config.outputs:
        users.setdefault(output.input.copies[0], []).append(output.input)
    for check in config.checks:
        for reference in _check_references(check):
            for copy in reference.copies:
                users.setdefault(copy, []).append(replace(reference, picks=()))
    shared = {}
    for name, step in config.steps.items():
        sliced = step.kind == "op" and step.function in _SLICED
        references = users.get(name, [])
        outputs = any(name in output.input.copies for output in config.outputs)
        if sliced and references and not outputs and name not in config.keep:
            picks = references[0].picks
            inputs_only = all(_first_pick(r) for r in references)
            if picks and inputs_only and all(r.picks == picks for r in references):
                shared[name] = dict(picks)
    return shared


def _first_pick(reference: Reference) -> bool:
    """Whether the reader can take the picks: each dim once, forwards from the start."""
    dims = [dim for dim, _ in reference.picks]
    return len(set(dims)) == len(dims)


def shipped_modules(paths: tuple[str, ...]) -> dict[str, bytes]:
    """The user's own modules by file name below a modules folder; a package with all its sources."""
    modules: dict[str, bytes] = {}
    for path in map(Path, paths):
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in files:
            modules[file.relative_to(path.parent).as_posix()] = file.read_bytes()
    return modules
