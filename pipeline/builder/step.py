"""Build the value of one instance of a step: enter its inputs as collections, call its op."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipeline.builder.blockwise import Layers
from pipeline.builder.lowering import lower
from pipeline.builder.references import only_value, picked, refer, scalar_of
from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.model import Config, Reference, Step
from pipeline.config.signatures import Signature
from pipeline.errors import ConfigError, Fault, OpError
from pipeline.graph import collect
from pipeline.graph.graph import Key, Whole
from pipeline.graph.importing import Deferred, is_instance, resolve
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.graph.pandas_frames import FrameForm
from pipeline.graph.value_types import ArrayType, ObjectType, ValueType
from pipeline.ops.calls import calls, commands
from pipeline.ops.calls.arguments import Arguments, filled_args
from pipeline.ops.collections import Args, Frame, Single
from pipeline.ops.elementwise.targets import evaluate_arrays
from pipeline.ops.frames.partitions import UnknownColumn
from pipeline.ops.sources.committed import CommittedOutputs

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr
else:
    da = Deferred("dask.array")
    xr = Deferred("xarray")

__all__ = ["StepBuilder", "gets_seed"]


class BuildState(Protocol):
    """What is known of the steps before this one; values that go whole into one task are added to ``wholes``.

    ``committed`` checks what sources read against the manifests of earlier runs.
    """

    config: Config
    tasks: dict[Key, GraphNode]
    value_types: dict[str, ValueType]
    layers: Layers
    wholes: list[Whole]
    committed: CommittedOutputs


class StepBuilder:
    """Builds the value of one instance of a step.

    Parameters
    ----------
    columns : of a source, the columns that are used; None: all
    condition : of a source, what holds of the rows that are used; None: nothing
    slices : source -> a reference to it, if all references to it have the same picks

    ``extra`` collects the step's own tasks that are not among those of its value.
    """

    def __init__(
        self,
        builder: BuildState,
        step: Step,
        columns: frozenset[str] | None,
        condition: Expression | None,
        slices: Mapping[str, Reference],
    ) -> None:
        self.builder, self.step, self.columns, self.condition = builder, step, columns, condition
        self.slices = slices
        self.extra: dict[Key, GraphNode] = {}
        self._wholes: dict[tuple[Any, ...], Key] = {}

    def value(self) -> Any:
        """Return the collection that the step gives.

        Raises
        ------
        OpError : the step asks for what its op cannot do
        ConfigError : a reference means something that is not there; with its place
        DataError : an input is missing or unreadable
        """
        step = self.step
        tasks: dict[Key, GraphNode] = {}
        if step.kind == "call":
            value = calls.call(step, seed=self.builder.config.seed, whole=self.whole, enter=self.enter, tasks=tasks)
            return self.own(value, tasks)
        if step.kind == "command":
            return self.own(commands.command(step, whole=self.whole, enter=self.enter, tasks=tasks), tasks)
        if step.kind == "expr":
            bound = [self.scalar_or_array(r) for r in step.expression.references]
            try:
                return evaluate_arrays(step.expression, bound)
            except ExpressionError as error:
                raise OpError("expr", str(error)) from error
        return self.op()

    def own(self, value: Any, tasks: Mapping[Key, GraphNode]) -> Any:
        """Add those of ``tasks`` that no step before has to ``extra``; return ``value``."""
        self.extra |= {k: n for k, n in tasks.items() if k not in self.builder.tasks}
        return value

    # -- inputs -------------------------------------------------------------------------------------------------------

    def enter(self, reference: Reference, *, number: int = 0) -> Any:
        """Return the collection of a reference, without picks that its source has already applied."""
        taken = self.slices.get(reference.instances[number])
        if taken is not None and reference.picks:
            reference = replace(reference, picks=())
        try:
            state, prefix = self.builder, f"{self.step.name}/input"
            return refer(state.value_types, reference, prefix, number=number, layers=state.layers)
        except OpError as error:
            path = f"steps.{self.step.step}{_path_of(reference, self.step)}"
            raise ConfigError([Fault(reference.location, path, error.message)]) from error

    def input(self, reference: Reference) -> Any:
        """Like :meth:`enter`; gathered instances are returned as a list of ``(labels, collection)``."""
        if not reference.gathered:
            return self.enter(reference)
        return [
            (dict(zip(reference.gathered, labels, strict=True)), self.enter(reference, number=i))
            for i, labels in enumerate(reference.labels)
        ]

    def input_of(self, role: str, reference: Reference) -> Any:
        """Like :meth:`input`, of an op.

        Raises
        ------
        OpError : it is a table of which nothing is known before the run, and the op takes no value
        """
        found = self.input(reference)
        members = [value for _, value in found] if reference.gathered else [found]
        takes = type(self.step.parameters).roles()[role].kinds
        if "value" not in takes and any(isinstance(value, Single) for value in members):
            cure = "list them there (names: [a, b]), or give it to an output or a call"
            raise OpError(role, f"the columns of {reference.text!r} are known only in the run (names: auto); {cure}")
        return found

    def scalar_or_array(self, reference: Reference) -> Any:
        """Return the value of a name in an expression over arrays: an array, or a number as a 0-d array."""
        value = self.enter(reference)
        if isinstance(value, Frame) and len(value.columns) == 1:
            value = self.enter(replace(reference, part=str(value.columns[0])))
        if is_instance(value, "xarray", "DataArray"):
            return value
        key = f"{self.step.name}/{reference.text}"
        if isinstance(value, Single):
            node = task((key,), only_value, reference.text, ref(value.key))
            return xr.DataArray(da.Array({**value.tasks, (key,): node}, key, (), dtype=np.float64))
        if isinstance(value, Frame):
            columns = ", ".join(value.columns)
            cure = f"if it has one row, one value of it is ${{{reference.text}.{value.columns[0]}}}"
            raise OpError("expr", f"{reference.text!r} is a frame with the columns {columns}; {cure}")
        raise OpError("expr", f"{reference.text!r} is items; an expression takes arrays and scalars")

    def whole(self, reference: Reference, frames: FrameForm | None = None) -> Key:
        """Return the key of a task that gives the whole in-memory value of a reference.

        Parameters
        ----------
        frames : what a frame becomes; None: what the step gives its function
        """
        form = frames or self.step.frames
        name = (reference.instances, reference.gathered, reference.part, reference.picks, form)
        if name not in self._wholes:
            self._wholes[name] = self._whole(reference, form)
        return self._wholes[name]

    def _whole(self, reference: Reference, frames: FrameForm) -> Key:
        keys = [self._whole_instance(reference, i, frames) for i in range(len(reference.instances))]
        if not reference.gathered:
            return keys[0]
        key = (f"{self.step.name}/gathered.{len(self._wholes)}",)
        self.extra[key] = task(key, list, listed(ref(k) for k in keys))
        return key

    def _whole_instance(self, reference: Reference, number: int, frames: FrameForm) -> Key:
        prefix = f"{self.step.name}/argument.{len(self._wholes)}.{number}"
        value = self.enter(reference, number=number)
        own, value_type = lower(value, prefix, self.builder.tasks)
        self.extra |= own
        if isinstance(value_type, ObjectType):
            return value_type.keys[0]
        key = (f"{prefix}/whole",)
        nbytes = value_type.nbytes if isinstance(value_type, ArrayType) else math.nan
        path = f"steps.{self.step.step}" + _path_of(reference, self.step)
        self.builder.wholes.append(Whole(self.step.name, reference.text, path, reference.location, nbytes))
        self.extra[key] = task(key, collect.argument, value_type, listed(ref(k) for k in value_type.keys), frames)
        return key

    # -- ops ----------------------------------------------------------------------------------------------------------

    def op(self) -> Any:
        step = self.step
        parameters = step.parameters
        build = function_of(type(parameters))
        inputs = [self.input_of(role, r) for role in type(parameters).inputs for r in step.inputs.get(role, ())]
        keywords: dict[str, Any] = dict(parameters.keywords())
        keywords |= self.context(build, keywords)
        if type(parameters).family == "sources" and "path" in keywords:
            hashes = bool(keywords.pop("hashes", False))
            self.builder.committed.require_undamaged(type(parameters).op, keywords["path"], hashes=hashes)
        if "args" in keywords and type(parameters).inputs:
            keywords["args"] = self.args(keywords["args"])
        bound = self.bound(parameters)
        if bound:
            keywords["bound"] = bound
        if not inputs:
            return self.source(build, keywords)
        try:
            return build(*inputs, **keywords)
        except UnknownColumn as error:
            first = next(r.text for role in type(parameters).inputs for r in step.inputs.get(role, ()))
            raise error.of(first) from error

    def args(self, args: Mapping[str, Any]) -> Args:
        """Return the keyword arguments of the user's function; a task makes them if results of steps are among them."""
        arguments = Arguments(self.whole)
        slotted = {name: arguments.slotted(value) for name, value in args.items()}
        if not arguments.keys:
            return args
        key = (f"{self.step.name}/args",)
        self.extra[key] = task(key, filled_args, slotted, *(ref(k) for k in arguments.keys))
        known = {k: self.builder.tasks[k] for k in arguments.keys if k in self.builder.tasks}
        return Single(key, {**self.extra, **known})

    def context(self, build: Callable[..., Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the op's function gets besides the step's parameters, as far as its Python signature has it."""
        config, given = self.builder.config, dict[str, Any]()
        # the file's come first: step is a parameter of arange, drop of set_labels, name of melt
        names = _parameters_of(build) - keywords.keys()
        if "name" in names:
            given["name"] = self.step.name
        if "storage" in names:
            given["storage"] = config.storage
        if "root" in names:
            given["root"] = config.root
        if "step" in names:
            given["step"] = self.step
        if "seed" in names:
            given["seed"] = calls.derived_seed(config.seed, self.step.name)
        if "names" in names:
            given["names"] = next(iter(self.step.names.values()), ())
        if "frames" in names:
            given["frames"] = self.step.frames
        if "needed" in names and type(self.step.parameters).inputs:
            given["needed"] = self.columns
        if "drop" in names:
            given["drop"] = self.step.on_error == "drop"
        if "path" in keywords:
            given["path"] = located(keywords["path"], config.root)
        own = (*type(self.step.parameters).reads, *type(self.step.parameters).keeps)
        return given | {key: located(keywords[key], config.root) for key in own if keywords[key] is not None}

    def source(self, build: Any, keywords: dict[str, Any]) -> Any:
        """Call a source so that it reads only the columns, rows and slices that are used."""
        shared = self.slices.get(self.step.name)
        if shared is not None:
            return self.sliced(build, keywords, shared)
        names = _parameters_of(build)
        if "needed" in names:
            used: dict[str, Any] = {"needed": self.columns}
            return build(**keywords, **used, **({"where": self.condition} if "where" in names else {}))
        value = build(**keywords)
        if not isinstance(value, Frame) or self.columns is None or "columns" not in keywords:
            return value
        takes = str(type(self.step.parameters).model_fields["columns"].annotation)
        if "dict" in takes:  # the types of data that the source makes, not reads
            return value
        chosen = [c for c in value.columns if c in self.columns]
        if len(chosen) == len(value.columns):
            return value
        return build(**{**keywords, "columns": chosen or list(value.columns[:1])})

    def sliced(self, build: Any, keywords: dict[str, Any], shared: Reference) -> Any:
        """Call a source with the picks that all references to it share; report impossible picks at a reference."""
        try:
            return build(**keywords, picks=dict(shared.picks))
        except OpError:
            whole = build(**keywords)
            try:
                return picked(whole, shared)
            except OpError as error:
                user = next(s for s in self.builder.config.steps.values() if any(r is shared for r in s.references()))
                raise ConfigError(
                    [Fault(shared.location, f"steps.{user.step}{_path_of(shared, user)}", error.message)]
                ) from error

    def bound(self, parameters: Any) -> dict[str, list[Any]]:
        """Return the values of the references in each expression parameter, as arrays or, for frame ops, as tasks."""
        frames = any(kind.startswith("frame") for kinds in type(parameters).inputs.values() for kind in kinds)
        values: dict[str, list[Any]] = {}
        for name, expression in expressions_of(parameters).items():
            if expression.references:
                take = self.run_time_value if frames else self.scalar_or_array
                values[name] = [take(r) for r in expression.references]
        return values

    def run_time_value(self, reference: Reference) -> Single:
        """Return a value that is computed at run time as an argument of a frame op's tasks."""
        key = self.whole(reference, "arrow")
        scalar = (f"{self.step.name}/scalar.{len(self._wholes)}.{reference.text}",)
        self.extra[scalar] = task(scalar, scalar_of, reference.text, ref(key))
        return Single(scalar, {**self.extra, **{k: self.builder.tasks[k] for k in [key] if k in self.builder.tasks}})


def gets_seed(signature: type[Signature]) -> bool:
    """Return whether the function of an op gets a seed that is derived from that of the file."""
    return "seed" in _parameters_of(function_of(signature)) and "seed" not in signature.model_fields


@functools.lru_cache(maxsize=1024)
def _parameters_of(build: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the parameters of an op's function."""
    return frozenset(inspect.signature(build).parameters)


def function_of(signature: type[Signature]) -> Callable[..., Any]:
    """Return the function of an op.

    Raises
    ------
    OpError : if the distribution that brings the op lacks it, or it can't be imported there
    """
    path = signature.function_path()
    try:
        return resolve(path)
    except (ConfigError, ImportError) as error:
        if signature.extra and isinstance(error, ModuleNotFoundError):
            needs = f"op {signature.op!r} needs {error.name}, which is not installed"
            raise OpError("op", f"{needs}: pip install 'pipeline[{signature.extra}]'") from error
        raise OpError("op", f"the function of {signature.op!r}, {path}, can't be imported: {error}") from error


def _path_of(reference: Reference, step: Step) -> str:
    """Return the key of the step that leads to a reference, as messages write it: ``.input``, ``.args.data``."""
    if step.kind == "expr":
        return ".expr"
    roles = [
        f".{role}" for role, references in step.inputs.items() if any(r.text == reference.text for r in references)
    ]
    named = [f".args.{name}" for name, value in step.args.items() if value is reference]
    return (named + roles + [""])[0]


def expressions_of(parameters: Any) -> dict[str, Expression]:
    """Return the expressions among an op's parameters by path: ``where``, ``columns.total``."""
    found: dict[str, Expression] = {}
    for name in type(parameters).expression_fields():
        value = getattr(parameters, name)
        members = value.items() if isinstance(value, Mapping) else [("", value)]
        found |= {f"{name}.{k}" if k else name: e for k, e in members if isinstance(e, Expression)}
    return found


def located(path: Any, root: str) -> Any:
    """Return input paths with relative ones resolved from the folder of the file."""
    if isinstance(path, list | tuple):
        return [located(p, root) for p in path]
    if not isinstance(path, str) or "://" in path:
        return path
    return str(Path(root) / Path(path).expanduser())
