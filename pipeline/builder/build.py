"""Build the Graph of a Config, one step after the other.

Each instance of a step gets its inputs as collections over placeholders and is lowered by itself. Building reads only
metadata and runs no task. Sources read only the columns and slices that later steps use (``projection.py``), since no
optimiser sees more than one step.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.builder.blockwise import Layers
from pipeline.builder.function_values import function_values
from pipeline.builder.lowering import building, lower
from pipeline.builder.projection import needed_columns, pushed_conditions, shared_slices
from pipeline.builder.references import refer, require_one
from pipeline.builder.siblings import Lowered, Siblings
from pipeline.builder.step import StepBuilder
from pipeline.config.model import Config, Output, Step
from pipeline.errors import ConfigError, DataError, Fault, Location, OpError
from pipeline.graph.garbage_collection import rarely_collected
from pipeline.graph.graph import CONTEXT, Graph, Key, Policy, Whole
from pipeline.graph.importing import Source
from pipeline.graph.metadata import Metadata
from pipeline.graph.nodes import GraphNode, cull, task
from pipeline.graph.value_types import ArrayType, FrameType, ItemsType, PartsType, ValueType, whole_of
from pipeline.ops import build_warnings, data_movement, metadata_progress
from pipeline.ops.collections import Frame
from pipeline.ops.sources.committed import CommittedOutputs
from pipeline.outputs.planners import plan_sink

__all__ = ["build"]

_ORDERED = frozenset(
    {
        *("sort_values", "set_index", "nlargest", "nsmallest", "rolling"),
        *("resample", "groupby", "value_counts", "pivot", "describe"),
    }
)
_KEEP_ORDER = frozenset(
    {
        *("select", "filter", "assign", "rename", "astype", "fillna", "dropna"),
        *("repartition", "head", "sample", "cut", "dummies"),
    }
)

_OWN_ROWS = frozenset(
    {
        *("read_parquet", "read_feather", "read_orc", "read_delta", "read_iceberg", "read_csv", "read_json"),
        *("select", "filter", "assign", "concat", "rename", "astype", "fillna", "dropna", "cut", "dummies"),
        *("unnest", "explode", "melt", "merge", "groupby", "value_counts", "pivot"),
    }
)
"""What reads rows, or does with them what takes about as long for each; not what runs code of the user."""
_LIGHT = 4 * 2**20  # bytes of a partition, up to which it is light


def build(config: Config) -> Graph:
    """Return the Graph of a file: flat, closed, acyclic, each key owned by one instance of a step.

    Raises
    ------
    ConfigError : all errors of the file that metadata show, at once: unknown columns, dims that don't fit
    DataError : an input is missing or unreadable
    """
    with rarely_collected(), metadata_progress.recorded() as files:
        builder = _built(config, needed_columns(config))
        if builder.faults:
            # again with all columns, so that the message about an unknown column can suggest any of them
            builder = _built(config, {})
        builder.raise_faults()
        return builder.graph(files.metadata)


def _built(config: Config, columns: Mapping[str, frozenset[str] | None]) -> _Builder:
    builder = _Builder(config, columns)
    with building():
        builder.files()
        builder.steps()
        builder.outputs()
        builder.checks()
        builder.functions()
    return builder


@dataclass
class _Builder:
    """The state of one build, filled step by step.

    Parameters
    ----------
    columns : the columns of each source that are used; see :func:`pipeline.builder.projection.needed_columns`
    faults, unusable : errors of the file and of its data so far
    failed : instances that could not be built; those that need them are not tried
    by_value : the files of the module of functions that were given as objects
    beside : paths of the modules that these need
    """

    config: Config
    columns: Mapping[str, frozenset[str] | None]
    tasks: dict[Key, GraphNode] = field(default_factory=dict)
    owners: dict[Key, str] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    value_types: dict[str, ValueType] = field(default_factory=dict)
    layers: Layers = field(default_factory=Layers)
    sinks: list[Any] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unusable: list[DataError] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    wholes: list[Whole] = field(default_factory=list)
    moves: dict[str, frozenset[str]] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)
    committed: CommittedOutputs = field(default_factory=CommittedOutputs)
    by_value: dict[str, bytes] = field(default_factory=dict)
    beside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.siblings = Siblings(self.config, self.value_types, self.layers)

    # -- the file, in order -------------------------------------------------------------------------------------------

    def files(self) -> None:
        """Check the files that were read with the pipeline: includes, ``${file:}``."""
        for path in self.config.files:
            with self._collecting_errors("", "files", Location(path), {}):
                self.committed.require_undamaged("", path)

    def steps(self) -> None:
        slices, conditions = shared_slices(self.config), pushed_conditions(self.config)
        for step in self.config.steps.values():
            if any(instance in self.failed for r in step.references() for instance in r.instances):
                self.failed.add(step.name)
                continue
            with self._collecting_errors(step.name, f"steps.{step.step}", step.location, step.locations):
                columns, condition = self.columns.get(step.name), conditions.get(step.name)
                builder = StepBuilder(self, step, columns, condition, slices)
                self._add(step, self.siblings.build(step, slices, functools.partial(self._lowered, step, builder)))

    def outputs(self) -> None:
        for output in self.config.outputs:
            if any(instance in self.failed for instance in output.input.instances):
                continue
            owner = output.writer
            with self._collecting_errors(owner, f"outputs.{output.name}", output.location, {}):
                value_type, extra = self._output_value(output)
                nodes, sink = plan_sink(output, value_type, prefix=owner)
                self.tasks |= extra | nodes
                self.owners |= dict.fromkeys([*extra, *nodes], owner)
                self.policies[owner] = Policy(
                    step=f"write {output.name}", kind="output", merge=False, location=str(output.location)
                )
                self.sinks.append(sink)

    def checks(self) -> None:
        in_checks = [r for check in self.config.checks for r in check.references()]
        used = {name for step in self.config.steps.values() for r in step.references() for name in r.instances}
        used |= {name for output in self.config.outputs for name in output.input.instances}
        for name in self.config.steps:
            checked = any(name in r.instances for r in in_checks) or name in self.config.keep
            if name not in self.failed and (checked or name not in used):
                self.kept.append(name)
        for i, check in enumerate(self.config.checks):
            if check.equals_csv is not None:
                with self._collecting_errors("", f"checks[{i}].equals_csv", check.location, {}):
                    if not Path(self.config.root, check.equals_csv).is_file():
                        raise DataError(f"{check.equals_csv}: no such file")
                    self.committed.require_undamaged("", str(Path(self.config.root, check.equals_csv)))
            whole = not (check.equals_csv is None and check.rows is None and check.columns is None)
            for reference in check.references():
                if not any(instance in self.failed for instance in reference.instances) and not reference.gathered:
                    with self._collecting_errors("", f"checks[{i}].that", reference.location, {}):
                        value = refer(self.value_types, reference, f"checks[{i}]")
                        if not whole:
                            require_one(value, reference)

    def functions(self) -> None:
        """Pickle the functions that were given as objects."""
        self.by_value, self.beside, faults = function_values(self.config)
        self.faults += faults

    def graph(self, metadata: Metadata) -> Graph:
        wanted = [key for sink in self.sinks for key in sink.records]
        wanted += [key for name in self.kept for key in self.value_types[name].keys]
        self.tasks[CONTEXT] = task(CONTEXT, dict)
        tasks = cull(self.tasks, wanted)
        tasks.pop(CONTEXT, None)
        modules, left_out = shipped_modules((*self.config.shipped, *self.beside))
        return Graph(
            tasks=tasks,
            wanted=tuple(dict.fromkeys(wanted)),
            owners=self.owners if len(self.owners) == len(tasks) else {key: self.owners[key] for key in tasks},
            policies=self.policies,
            value_types=self.value_types,
            sinks=tuple(self.sinks),
            kept=tuple(self.kept),
            modules={**modules, **self.by_value},
            left_out=left_out,
            wholes=tuple(self.wholes),
            moves=self.moves,
            warnings=tuple(self.warnings),
            name=self.config.name,
            metadata=metadata,
            limits={name: n for name, n in self.config.limits.items() if name in self._used_limits},
        )

    @property
    def _used_limits(self) -> set[str]:
        return {name for policy in self.policies.values() for name in policy.uses}

    # -- faults -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _collecting_errors(
        self, name: str, path: str, location: Location, locations: Mapping[str, Location]
    ) -> Iterator[None]:
        """Collect errors of the file and of its data, with their places, so that the next step can be built.

        Every other exception is a bug and is not caught.
        """
        try:
            yield
        except DataError as error:
            self.failed.add(name)
            self.unusable.append(DataError(f"{path} ({location}): {error}"))
        except ConfigError as error:
            self.failed.add(name)
            self.faults += [f if f.path else Fault(location, path, f.message) for f in error.faults]
        except OpError as error:
            self.failed.add(name)
            self.faults.append(_placed(error, path, location, locations))
        except MemoryError as error:
            self.failed.add(name)
            self.faults.append(Fault(location, path, f"planning needs more memory than this machine has: {error}"))
        except Exception as error:  # a bug: not an error of the file
            error.add_note(f"while building {path} ({location})")
            raise

    def raise_faults(self) -> None:
        """Raise all errors of the file at once; those of its data only if the file has none."""
        if self.faults:
            raise ConfigError(self.faults)
        if self.unusable:
            raise DataError("\n".join(str(error) for error in self.unusable))

    # -- values -------------------------------------------------------------------------------------------------------

    def _lowered(self, step: Step, builder: StepBuilder) -> Lowered:
        """Build one instance of a step."""
        n_wholes = len(self.wholes)
        with data_movement.recorded() as stated, build_warnings.recorded() as warnings:
            value = builder.value()
        self.warnings |= {f"steps.{step.step} ({step.location}): {text}": None for text in warnings}
        ordered = (
            step.function in _ORDERED
            or (isinstance(value, Frame) and value.ordered)
            or (
                step.function in _KEEP_ORDER
                and any(self._is_ordered(r.instances[0]) for r in step.inputs.get("input", ()))
            )
        )
        own, value_type = lower(value, step.name, self.tasks, ordered=ordered, layers=self.layers)
        _require_other_dims(value_type, step)
        if builder.extra:
            own = {key: node for key, node in {**builder.extra, **own}.items() if key not in self.tasks}
        alone = bool(warnings) or len(self.wholes) > n_wholes
        return Lowered(step.name, own, value_type, frozenset(stated), alone)

    def _add(self, step: Step, lowered: Lowered) -> None:
        value_type = lowered.value_type
        self.tasks |= lowered.tasks
        self.owners |= dict.fromkeys(lowered.tasks, step.name)
        self.value_types[step.name] = value_type
        self.moves |= {step.name: lowered.moves} if lowered.moves else {}
        main = whole_of(value_type)
        mapped = step.over is not None or (step.kind == "op" and type(step.parameters).own_items)
        items = main.names if isinstance(main, ItemsType) and mapped else None
        waits = isinstance(main, FrameType) and step.kind == "op" and step.function in _OWN_ROWS
        tries_itself = step.kind == "op" and type(step.parameters).tries_itself
        self.policies[step.name] = Policy(
            step=step.step,
            kind=main.kind,
            merge=step.pure and not (step.retries or step.timeout is not None or step.kind == "command"),
            batch=1 if step.kind == "command" else step.batch,
            items=items,
            over=step.name if items is not None else "",
            retries=0 if tries_itself else step.retries,
            timeout=None
            if tries_itself or step.kind == "command"
            else step.timeout,  # its task ends the program itself
            resources=step.resources,
            uses=step.uses,
            drop=step.on_error == "drop" and items is not None,
            pure=step.pure,
            writable=step.writable,
            waits=waits,
            light=isinstance(main, FrameType) and waits and main.bound <= _LIGHT * main.n_partitions,
            location=str(step.location),
        )

    def _is_ordered(self, instance: str) -> bool:
        value_type = self.value_types[instance]
        return isinstance(value_type, FrameType) and value_type.ordered

    def _output_value(self, output: Output) -> tuple[ValueType, dict[Key, GraphNode]]:
        """Return the type of the value that an output writes, and the tasks that pick it from the step's value."""
        reference, prefix = output.input, f"{output.writer}/input"
        (instance,) = reference.instances
        value_type = self.value_types[instance]
        if not reference.part and not reference.picks:
            return whole_of(value_type), {}
        try:
            value = refer(self.value_types, reference, prefix, layers=self.layers)
        except OpError as error:
            fault = Fault(reference.location, f"outputs.{output.name}.input", error.message)
            raise ConfigError([fault]) from error
        own, picked = lower(value, prefix, self.tasks, layers=self.layers)
        return picked, own


def _require_other_dims(value_type: ValueType, step: Step) -> None:
    """Refuse a dim with the name of a matrix key: ``[y=0]`` would mean an instance, never a position.

    Raises
    ------
    OpError : naming the dim
    """
    arrays = value_type.parts.values() if isinstance(value_type, PartsType) else [value_type]
    for dim in (d for array in arrays if isinstance(array, ArrayType) for d in array.dims):
        if dim in step.matrix:
            raise OpError(
                "matrix",
                f"the result has a dim {dim!r} and the matrix a key of that name, so [{dim}=…] would be ambiguous: "
                "rename the key",
            )


def _placed(error: OpError, path: str, location: Location, locations: Mapping[str, Location]) -> Fault:
    """Return the fault at the key that the error names; at the step if that key is not written there."""
    first = error.field.split(".")[0]
    at = locations.get(error.field) or locations.get(first) or location
    return Fault(at, f"{path}.{error.field}" if error.field else path, error.message)


_MOST_DATA = 20_000_000
"""Bytes of the data files of all packages that are sent to workers on other machines."""


def shipped_modules(paths: tuple[str, ...]) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Return the files of the user's modules by name below a modules folder, and the data files that are too large.

    Of a package these are all its files, but for hidden and compiled ones: data files may lie beside the sources.
    """
    modules: dict[str, bytes] = {}
    left_out: list[str] = []
    room = _MOST_DATA
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = file.relative_to(path.parent).as_posix()
            if path.is_dir() and not _is_shipped(file, name):
                continue
            if file.suffix != ".py":
                room -= file.stat().st_size
                if room < 0:
                    left_out.append(name)
                    continue
            modules[name] = Source(file.read_bytes(), str(file))
    return modules, tuple(left_out)


def _is_shipped(file: Path, name: str) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))
    return file.is_file() and not hidden and file.suffix != ".pyc"
