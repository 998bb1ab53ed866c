"""Config -> Graph, one step after the other.

Each copy of a step is given its inputs as collections over placeholders, builds what it adds, and is lowered alone
(``lowering.py``). Building reads metadata only and runs no task. What an optimiser over all steps would have done for
the readers is done here, from what the language knows: the columns that anybody needs are computed backwards and asked
of the reader, and a slice that every user of a source takes is taken by the reader.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from pipeline import assembly
from pipeline.config import Config, Output, Reference, Step
from pipeline.demand import check_references, needed_columns, shared_slices
from pipeline.errors import ConfigError, DataError, Fault, Location
from pipeline.expressions import Expression
from pipeline.graph import (
    CONTEXT,
    ArrayLayout,
    Graph,
    GraphNode,
    ItemsLayout,
    Key,
    Layout,
    PartsLayout,
    Policy,
    ValueLayout,
    Whole,
    cull,
    listed,
    ref,
    task,
)
from pipeline.lowering import building, lower
from pipeline.ops import calls
from pipeline.ops.targets import evaluate_arrays
from pipeline.ops.values import Single
from pipeline.outputs import plan_sink
from pipeline.referring import only_value, picked, refer, require_one, scalar_of

__all__ = ["build"]

_ORDERED = frozenset({"sort_values", "nlargest", "nsmallest"})
_KEEP_ORDER = frozenset({"select", "filter", "assign", "rename", "astype", "fillna", "dropna"})


def build(config: Config) -> Graph:
    """The Graph of a file: flat, closed, acyclic, each key owned by one copy of a step.

    Raises
    ------
    ConfigError : all faults that only metadata shows: unknown columns, dims that don't fit, kinds
    DataError : an input is missing or unreadable
    """
    builder = _built(config, needed_columns(config))
    if builder.faults:
        # with all columns there, the message about one that is missing can suggest any of them
        builder = _built(config, {})
    builder.raise_faults()
    return builder.graph()


def _built(config: Config, columns: Mapping[str, frozenset[str] | None]) -> _Builder:
    builder = _Builder(config, columns)
    with building():
        builder.steps()
        builder.outputs()
        builder.checks()
    return builder


@dataclass
class _Builder:
    """A Graph on its way: filled step by step, for one build; ``columns``: what of each source is needed."""

    config: Config
    columns: Mapping[str, frozenset[str] | None]
    tasks: dict[Key, GraphNode] = field(default_factory=dict)
    owners: dict[Key, str] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    layouts: dict[str, Layout] = field(default_factory=dict)
    sinks: list[Any] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unusable: list[DataError] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    wholes: list[Whole] = field(default_factory=list)

    # -- the file, in order -------------------------------------------------------------------------------------------

    def steps(self) -> None:
        slices = shared_slices(self.config)
        for step in self.config.steps.values():
            if any(copy in self.failed for r in step.references() for copy in r.copies):
                self.failed.add(step.name)
                continue
            with self._blamed(step.name, f"steps.{step.step}", step.location, step.locations):
                lowered = _StepBuilder(self, step, self.columns.get(step.name), slices)
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
        named = [r for check in self.config.checks for r in check_references(check)]
        used = {copy for step in self.config.steps.values() for r in step.references() for copy in r.copies}
        used |= {copy for output in self.config.outputs for copy in output.input.copies}
        for name in self.config.steps:
            asked = any(name in r.copies for r in named) or name in self.config.keep
            if name not in self.failed and (asked or name not in used):
                self.kept.append(name)
        for i, check in enumerate(self.config.checks):
            whole = not (check.equals_csv is None and check.rows is None and check.columns is None)
            for reference in check_references(check):
                if not any(copy in self.failed for copy in reference.copies) and not reference.gathered:
                    with self._blamed("", f"checks[{i}].that", reference.location, {}):
                        value = refer(self.layouts, reference, f"checks[{i}]")
                        if not whole:
                            require_one(value, reference)

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
            wholes=tuple(self.wholes),
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
        except ConfigError as error:
            self.failed.add(name)
            self.faults += [
                fault if fault.path else _placed(fault.message, path, location, locations) for fault in error.faults
            ]
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            self.failed.add(name)
            message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
            self.faults.append(_placed(message, path, location, locations))

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
        _require_other_dims(layout, step)
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
        try:
            value = refer(self.layouts, reference, f"{owner}/input")
        except ValueError as error:
            raise ConfigError(
                [
                    Fault(
                        reference.location,
                        f"outputs.{owner.removeprefix('write ').partition('[')[0]}.input",
                        str(error),
                    )
                ]
            ) from error
        own, picked = lower(value, f"{owner}/input", self.tasks)
        return picked, own


def _require_other_dims(layout: Layout, step: Step) -> None:
    """Refuse a dim that is named as a matrix key: ``[y=0]`` would mean the copy, and nobody could pick along it.

    Raises
    ------
    ValueError : naming the dim
    """
    arrays = layout.parts.values() if isinstance(layout, PartsLayout) else [layout]
    for dim in (d for array in arrays if isinstance(array, ArrayLayout) for d in array.dims):
        if dim in step.matrix:
            raise ValueError(
                f"matrix: the result has a dim {dim!r}, and the matrix a key of that name; picks could not tell them "
                "apart: rename the key"
            )


def _placed(message: str, path: str, location: Location, locations: Mapping[str, Location]) -> Fault:
    """A fault at the key of the step that the message begins with, or at the step."""
    key, _, rest = message.partition(": ")
    if rest and key.split(".")[0] in locations:
        return Fault(locations.get(key) or locations[key.split(".")[0]], f"{path}.{key}", rest)
    return Fault(location, path, message)


def _labels(output: Output) -> str:
    return f"[{','.join(str(v) for v in output.matrix.values())}]" if output.matrix else ""


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
        slices: Mapping[str, Reference],
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
            try:
                return evaluate_arrays(step.expression, bound)
            except ValueError as error:
                raise ValueError(f"expr: {error}") from error
        if step.kind == "op":
            return self.op()
        raise NotImplementedError(f"steps of the kind {step.kind} are not built yet")

    # -- inputs -------------------------------------------------------------------------------------------------------

    def enter(self, reference: Reference, *, number: int = 0) -> Any:
        """The collection of a reference; picks that the reader has taken already are not taken again."""
        taken = self.slices.get(reference.copies[number])
        if taken is not None and reference.picks:
            reference = replace(reference, picks=())
        try:
            return refer(self.builder.layouts, reference, f"{self.step.name}/input", number=number)
        except ValueError as error:
            path = f"steps.{self.step.step}{_path_of(reference, self.step)}"
            raise ConfigError([Fault(reference.location, path, str(error))]) from error

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
        if isinstance(value, dd.DataFrame) and len(value.columns) == 1:
            value = self.enter(replace(reference, part=str(value.columns[0])))
        if isinstance(value, xr.DataArray):
            return value
        from dask.array import Array

        key = f"{self.step.name}/{reference.text}"
        if isinstance(value, Single):
            node = task((key,), only_value, reference.text, ref(value.key))
            return xr.DataArray(Array({**value.tasks, (key,): node}, key, (), dtype=np.float64))
        if isinstance(value, dd.DataFrame):
            columns = ", ".join(value.columns)
            cure = f"one value of it, where it has one row, is ${{{reference.text}.{value.columns[0]}}}"
            raise ValueError(f"{reference.text!r} is a frame with the columns {columns}; {cure}")
        raise ValueError(f"{reference.text!r} is items; an expression takes arrays and scalars")

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
        nbytes = layout.nbytes if isinstance(layout, ArrayLayout) else math.nan
        path = f"steps.{self.step.step}" + _path_of(reference, self.step)
        self.builder.wholes.append(Whole(self.step.name, reference.text, path, reference.location, nbytes))
        self.extra[key] = task(key, assembly.argument, layout, listed(ref(k) for k in layout.keys))
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
        try:
            return build(*inputs, **keywords)
        except (ConfigError, ValueError) as error:
            (first, *_) = [r.text for role in type(parameters).inputs for r in step.inputs.get(role, ())]
            raise ValueError(str(error).replace("of the input", f"of {first!r}")) from error

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
        asked = self.slices.get(self.step.name)
        if asked is not None:
            return self.sliced(build, keywords, asked)
        value = build(**keywords)
        if not isinstance(value, dd.DataFrame) or self.columns is None or "columns" not in keywords:
            return value
        chosen = [c for c in value.columns if c in self.columns]
        if len(chosen) == len(value.columns):
            return value
        return build(**{**keywords, "columns": chosen or list(value.columns[:1])})

    def sliced(self, build: Any, keywords: dict[str, Any], asked: Reference) -> Any:
        """A source, read only as far as all its users' picks ask; picks that can't be are a fault of a user's."""
        try:
            return build(**keywords, picks=dict(asked.picks))
        except ConfigError:
            whole = build(**keywords)
            try:
                return picked(whole, asked)
            except ValueError as error:
                user = next(s for s in self.builder.config.steps.values() if any(r is asked for r in s.references()))
                raise ConfigError(
                    [Fault(asked.location, f"steps.{user.step}{_path_of(asked, user)}", str(error))]
                ) from error

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


def _path_of(reference: Reference, step: Step) -> str:
    """The key of the step that leads to a reference, as it stands in a message: ``.input``, ``.args.data``."""
    if step.kind == "expr":
        return ".expr"
    roles = [
        f".{role}" for role, references in step.inputs.items() if any(r.text == reference.text for r in references)
    ]
    named = [f".args.{name}" for name, value in step.args.items() if value is reference]
    return (named + roles + [""])[0]


def expressions_of(parameters: Any) -> dict[str, Expression]:
    """The expressions among an op's parameters by path: ``where``, ``columns.total``."""
    found: dict[str, Expression] = {}
    for name in type(parameters).expression_fields():
        value = getattr(parameters, name)
        members = value.items() if isinstance(value, Mapping) else [("", value)]
        found |= {f"{name}.{k}" if k else name: e for k, e in members if isinstance(e, Expression)}
    return found


def located(path: Any, root: str) -> Any:
    """Input paths, relative ones from the folder of the file."""
    if isinstance(path, list | tuple):
        return [located(p, root) for p in path]
    if not isinstance(path, str) or "://" in path:
        return path
    return str(Path(root) / Path(path).expanduser())


def shipped_modules(paths: tuple[str, ...]) -> dict[str, bytes]:
    """The user's own modules by file name below a modules folder; a package with all its sources."""
    modules: dict[str, bytes] = {}
    for path in map(Path, paths):
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in files:
            modules[file.relative_to(path.parent).as_posix()] = file.read_bytes()
    return modules
