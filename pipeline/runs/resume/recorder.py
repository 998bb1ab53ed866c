"""Make the records of the steps and outputs of a Config."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.builder.step import gets_seed
from pipeline.config.model import Command, Config, Output, Step
from pipeline.graph.canonical_encoding import UnknownValue
from pipeline.graph.graph import Graph
from pipeline.graph.value_types import whole_of
from pipeline.runs.provenance.inputs import ABSENT, InputFiles, StepFiles, recorded_name
from pipeline.runs.provenance.installed_modules import installed_versions
from pipeline.runs.provenance.reads import Read, depended_on
from pipeline.runs.provenance.user_code import WHOLE, Code, UserCode
from pipeline.runs.resume.config_values import short_text, value_digest
from pipeline.runs.resume.records import Component, StepRecord

__all__ = ["Recorder", "record_of"]

_SEMANTICS = {"expr": 1, "call": 1, "command": 1}
"""Raised when the steps of a kind, or writing, give other results than before."""
_WRITES = 1
_CHECKS = 1
_EXPRESSIONS = ("dask", "numpy", "xarray")
_FORMS = {"array": ("numpy", "xarray"), "pandas": ("pandas",), "polars": ("polars",), "arrow": ("pyarrow",)}
"""The distributions of what a function gets, since it may call methods of it without importing them."""


def record_of(step: Step, config: Config, graph: Graph) -> StepRecord:
    """Return the record of one step instance; of several, a :class:`Recorder` is faster."""
    return Recorder(config, graph).of(step)


class Recorder:
    """Makes the records of one Config; remembers what its steps have in common.

    Parameters
    ----------
    graph : of this Config
    files : the files that its steps read
    """

    def __init__(self, config: Config, graph: Graph, files: InputFiles | None = None) -> None:
        self._config, self._graph = config, graph
        self._files = files if files is not None else InputFiles(config)
        self._code = UserCode(config.shipped, graph.modules, objects=config.functions)
        self._root = os.path.abspath(config.root)
        self._same: dict[Any, Component] = {}
        self._codes: dict[Any, Component | None] = {}

    def all(self) -> dict[str, StepRecord]:
        """Return the records of all steps and outputs, by the owners of their tasks."""
        steps = {step.name: self.of(step) for step in self._config.steps.values()}
        return steps | {output.writer: self.of_output(output) for output in self._config.outputs}

    def changed_files(self, step: Step) -> list[str]:
        """Return the files that a step reads, or depends on, which have changed since its record was made; sorted."""
        program = self._program(step)
        others = (*depended_on(step), *((program,) if program is not None else ()))
        changed = {*self._files.of(step).changed(), *(self._files.files(others).changed() if others else ())}
        return sorted(self._config.masked(recorded_name(path, self._root)) for path in changed)

    def of(self, step: Step) -> StepRecord:
        """Return the record of a step instance."""
        files = self._files.of(step)
        functions = _functions(step)
        code = self._code.of(functions) if functions else Code()
        components = {
            "op": self._op(step),
            "parameters": self._parameters(step),
            "seed": self._seed(step),
            "code": self._code_component(step, code),
            "versions": self._versions(step, code),
            "inputs": self._inputs(files),
        }
        unchecked = [one.label for one in files.identities.values() if one.digest and not one.checked]
        notes = (
            *code.notes,
            *(f"{name} is recognised by size and time of change, not by content" for name in unchecked),
        )
        upstream = tuple(dict.fromkeys(name for reference in step.references() for name in reference.instances))
        present = {name: one for name, one in components.items() if one is not None}
        digests = {name: one.digest for name, one in files.identities.items()}
        return StepRecord(step.name, present, upstream, notes, digests)

    def of_output(self, output: Output) -> StepRecord:
        """Return the record of the writer tasks of an output: its format and how it is written."""
        about = {
            "to": output.to,
            "path": output.path,
            "partition_by": output.partition_by,
            "files": output.files,
            "attrs": output.attrs,
            "mode": output.mode,
            "options": output.options,
            "input": output.input,
        }
        about = {name: value for name, value in about.items() if value not in (None, (), {})}
        components = {
            "op": self._shared(("write", output.to), {"name": f"to: {output.to}", "semantics": str(_WRITES)}),
            "parameters": self._described(about),
        }
        return StepRecord(output.writer, components, output.input.instances)

    def of_check(self, number: int) -> StepRecord:
        """Return the record of the check at a position: what must hold, and the table that it is compared with."""
        check = self._config.checks[number]
        about = {"that": check.that, "approx": check.approx, "abs": check.abs, "rel": check.rel, "rows": check.rows}
        about |= {"columns": check.columns, "equals_csv": check.equals_csv}
        about |= {"sep": check.sep} if check.equals_csv is not None else {}
        components = {
            "op": self._shared("check", {"name": "check", "semantics": str(_CHECKS)}),
            "parameters": self._described({name: value for name, value in about.items() if value is not None}),
        }
        if check.equals_csv is not None:
            path = os.path.join(self._root, check.equals_csv)
            inputs = self._inputs(self._files.files((Read(path, (path,), together=False),)))
            components |= {"inputs": inputs} if inputs is not None else {}
        upstream = tuple(dict.fromkeys(name for reference in check.references() for name in reference.instances))
        return StepRecord(f"check {number}", components, upstream)

    # -- components ---------------------------------------------------------------------------------------------------

    def _shared(self, key: Any, shown: Mapping[str, Any]) -> Component:
        if key not in self._same:
            self._same[key] = Component(value_digest(dict(shown)), dict(shown))
        return self._same[key]

    def _op(self, step: Step) -> Component:
        if not step.pure:
            return Component("", {"name": step.function}, "pure: false, so it is never reused")
        if step.kind != "op":
            return self._shared(step.kind, {"name": step.kind, "semantics": str(_SEMANTICS[step.kind])})
        reason = step.parameters.unrepeatable()
        if reason:
            return Component("", {"name": step.function}, reason)
        signature = type(step.parameters)
        about = {"name": step.function, "semantics": str(signature.semantics)}
        return self._shared(
            signature, about if _is_ours(signature) else about | {"function": signature.function_path()}
        )

    def _parameters(self, step: Step) -> Component:
        given: dict[str, Any] = {}
        about: dict[str, Any] = dict(step.inputs) if step.kind != "expr" else {"expr": step.expression}
        about |= {f"names of {role}": names for role, names in step.names.items()}
        if step.kind == "op":
            signature = type(step.parameters)
            fields = signature.model_fields
            given = {
                name: self._relative(value) if name in signature.paths() else value
                for name, value in step.parameters.keywords().items()
                # a default that is written is the same as one that is not; a new parameter changes no record
                if name not in signature.no_effect
                and not _same(value, fields[name].get_default(call_default_factory=True))
            }
        elif step.kind == "call":
            given = dict(step.args)
            about |= {"call": step.function, "over": step.over, "parts": step.parts}
        elif step.command is not None:
            command = step.command
            argv = (self._relative(command.argv[0]), *command.argv[1:])
            about |= {"command": argv, "cwd": self._relative(command.cwd), "env": dict(command.env)}
            about |= {"stdin": command.stdin, "files": dict(command.files), "over": step.over}
            about |= {} if command.check else {"check": False}
        about |= {"frames": step.frames} if step.frames != "pandas" else {}
        about |= {"on_error": step.on_error} if step.on_error != "stop" else {}
        about = {name: value for name, value in about.items() if value not in (None, (), "", {})}
        return self._described(about | {f"args.{name}" if name in about else name: one for name, one in given.items()})

    def _described(self, about: Mapping[str, Any]) -> Component:
        """Return the component of some named values."""
        shown, digests, unknown = {}, {}, ""
        for name, value in about.items():
            try:
                digests[name] = value_digest(value)
                shown[name] = self._config.masked(short_text(value, digests[name]))
            except UnknownValue as error:
                unknown = unknown or f"{name} is {error}, which can't be recognised"
        if unknown:
            return Component("", shown, unknown)
        return Component(value_digest(dict(sorted(digests.items()))), shown)

    def _relative(self, path: Any) -> Any:
        """Return paths below the file's folder relative to it."""
        if isinstance(path, str):
            inside = os.path.relpath(path, self._root) if os.path.isabs(path) else path
            return path if inside.startswith("..") else inside
        return [self._relative(one) for one in path] if isinstance(path, list | tuple) else path

    def _seed(self, step: Step) -> Component | None:
        uses = step.seed if step.kind == "call" else step.kind == "op" and gets_seed(type(step.parameters))
        if not uses:
            return None
        return Component(value_digest((self._config.seed, step.name)), {"seed": str(self._config.seed)})

    def _code_component(self, step: Step, code: Code) -> Component | None:
        program = (step.command.argv[0], step.command.env.get("PATH")) if step.command is not None else ()
        key = ("code", _functions(step), step.depends_on, step.code_version, program)
        if key not in self._codes:
            self._codes[key] = self._new_code_component(step, code)
        return self._codes[key]

    def _new_code_component(self, step: Step, code: Code) -> Component | None:
        shown: dict[str, Any] = {}
        unknown = ""
        for one in self._files.files(depended_on(step)).identities.values() if step.depends_on else ():
            shown[one.label] = {WHOLE: one.digest}
            if one.digest in ("", ABSENT):
                unknown = f"{one.label}, which it depends on, can't be read"
        if step.code_version is not None:
            shown["code_version"] = str(step.code_version)
        else:
            shown |= code.modules
            unknown = unknown or code.unknown
            read = self._program(step)
            for path, one in self._files.files((read,)).identities.items() if read is not None else ():
                shown[os.path.basename(path)] = {WHOLE: one.digest}
            if step.command is not None and read is None:
                unknown = unknown or _unknown_program(step.command)
        if unknown:
            return Component("", shown, unknown)
        return Component(value_digest(shown), shown) if shown else None

    def _program(self, step: Step) -> Read | None:
        """Return the file of the program of a command; None if it is unknown."""
        name = step.command.argv[0] if step.command is not None else None
        if step.command is None or not isinstance(name, str):
            return None
        path = step.command.env.get("PATH")
        found = shutil.which(name, path=path if isinstance(path, str) else None)
        return Read(found, (found,), together=False) if found is not None else None

    def _versions(self, step: Step, code: Code) -> Component | None:
        used = [*code.distributions]
        if step.kind == "op":
            used += type(step.parameters).distributions
        elif step.kind == "expr":
            used += _EXPRESSIONS
        if _functions(step):
            used += self._forms(step)
        names = tuple(sorted(set(used)))
        key = ("versions", names, code.bytecode)
        if key in self._same:
            return self._same[key]
        found = installed_versions(names)
        if code.bytecode:
            found["python"] = ".".join(platform.python_version_tuple()[:2])
        return self._shared(key, found) if found else None

    def _forms(self, step: Step) -> Sequence[str]:
        """Return the distributions of the arrays and frames that the user's function gets."""
        kinds = set()
        for reference in step.references():
            for name in reference.instances:
                value_type = self._graph.value_types.get(name)
                kinds.add(whole_of(value_type).kind if value_type is not None else "")
        forms = [step.frames if kind == "frame" else kind for kind in kinds]
        return [name for form in forms for name in _FORMS.get(form, ())]

    def _inputs(self, files: StepFiles) -> Component | None:
        if not files.identities:
            return None
        key = ("inputs", id(files))
        if key not in self._same:
            found = {one.label: [one.size, one.mtime_ns, one.digest] for one in files.identities.values()}
            digest = value_digest({name: about[2] for name, about in sorted(found.items())})
            self._same[key] = Component("" if files.unknown else digest, found, files.unknown)
        return self._same[key]


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default) and repr(value) == repr(default)


def _unknown_program(command: Command) -> str:
    name = command.argv[0]
    if not isinstance(name, str):
        return "which program it runs is unknown until run time"
    return f"the program {name!r} was not found here"


def _is_ours(signature: Any) -> bool:
    return bool(signature.function_path().startswith("pipeline.ops."))


def _functions(step: Step) -> tuple[str, ...]:
    """Return the functions of the user that the tasks of a step call, each ``module:function``."""
    if step.kind == "call":
        return (step.function,)
    if step.kind != "op":
        return ()
    found = [getattr(step.parameters, "function", None), *step.parameters.imported().values()]
    path = type(step.parameters).function_path()
    return tuple(
        one for one in (*found, "" if _is_ours(type(step.parameters)) else path) if isinstance(one, str) and one
    )
