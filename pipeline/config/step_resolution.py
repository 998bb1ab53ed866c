"""The instances of one parsed step, with every reference, ``${…}`` and expression resolved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.config.absolute_paths import absolute_path
from pipeline.config.expression_binding import bind_expression, is_true
from pipeline.config.expressions.expression import Expression
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import Scope, interpolate
from pipeline.config.kinds import StepInfo, conversion_hint, reference_kind, with_article
from pipeline.config.matrix import Instances, effective_matrix, expand, guessed_instance
from pipeline.config.model import Reference, Step
from pipeline.config.op_parameters import check_kinds, read_parameters
from pipeline.config.scalars import label
from pipeline.config.sections.calls import call_fields
from pipeline.config.sections.commands import command_fields, command_parts
from pipeline.config.sections.function_arguments import (
    FUNCTION,
    arguments_in_op,
    called_function,
    check_called,
    require_named,
)
from pipeline.config.sections.keys import StepKeys
from pipeline.config.signatures import OPS, Signature, choose
from pipeline.config.step_context import Context, InstanceReader
from pipeline.config.step_syntax import ParsedStep, ReferenceSite, check_keys
from pipeline.config.user_functions import check_function
from pipeline.config.yaml_nodes import Node
from pipeline.errors import Location, nearest

__all__ = ["resolve_step"]

_COMMON_FIELDS = {
    *("pure", "writable", "frames", "retries", "timeout", "resources", "on_error", "checkpoint", "code_version")
}


def resolve_step(parsed: ParsedStep, context: Context) -> list[Step]:
    """Return the instances of a step; what others need to know of it is added to ``context``, and so are errors."""
    faults = context.faults
    n_faults = len(faults)
    instances = guessed_instance(parsed.name)
    with faults.caught():
        instances = _instances(parsed, context)
    context.resolved[parsed.name] = StepInfo(instances)
    signature = _check(parsed, context)
    steps: list[Step] = []
    for labels, name in instances.names.items():
        reader = _StepReader(parsed, name, instances.matrix(labels), context, signature)
        with faults.caught():
            if parsed.is_known:
                steps.append(reader.step())
            else:
                reader.check_values()
        if len(faults) > n_faults:
            break  # the other instances have the same errors
    context.resolved[parsed.name] = _info(parsed, instances, signature, context)
    return steps


def _instances(parsed: ParsedStep, context: Context) -> Instances:
    references = [context.bind(site) for site in parsed.references]
    keys = effective_matrix(parsed.matrix, references, at=parsed.location, path=parsed.path)
    is_sure = parsed.is_whole and all(reference.instances.valid for reference in references)
    for i, excluded in enumerate(parsed.excluded):
        for key, value in excluded.items():
            path = f"{parsed.path}.exclude[{i}]"
            if key not in keys:
                has = f"it has {', '.join(keys)}" if keys else "it has none"
                place = parsed.node.at("exclude", i).location
                message = f"the step has no matrix key {key!r}; {has}"
                raise ConfigFault(place, path, message, consequence=not is_sure and key in context.matrix_keys)
            if label(value) not in keys[key]:
                message = f"leaves out no instance: {key} has no value {label(value)!r}; it has {', '.join(keys[key])}"
                raise ConfigFault(parsed.node.at("exclude", i, key).location, f"{path}.{key}", message)
    when = parsed.node.value.get("when")

    def exists(matrix: Mapping[str, Any]) -> bool:
        unsure = frozenset() if is_sure else context.matrix_keys
        scope = Scope(context.params, matrix, parsed.over, context.steps, unsure=unsure)
        return when is None or is_true(when, f"{parsed.path}.when", scope)

    made = expand(parsed.name, keys, references, excluded=parsed.excluded, when=exists, at=parsed.location)
    return replace(made, valid=is_sure)


# ---------------------------------------------------------------------------------------------------------------------
# What is the same for all instances
# ---------------------------------------------------------------------------------------------------------------------


def _check(parsed: ParsedStep, context: Context) -> type[Signature] | None:
    """Note errors in keys and kinds of inputs; return the signature of an op."""
    kinds: dict[str, str] = {}
    for site in parsed.references:
        with context.faults.caught():
            kind = reference_kind(site.reference, context.resolved[site.reference.name], site.location, site.path)
            kinds.setdefault(site.role, kind)
            if parsed.is_known:
                _check_input_kind(parsed, site, kind, context)
    if parsed.kind in ("call", "command", "expr"):
        check_keys(parsed, (), context.faults)
        if parsed.kind == "call" and parsed.is_known and "${" not in parsed.function:  # else it is that of an instance
            check_called(parsed, parsed.function, context)
    if parsed.kind != "op" or not parsed.is_known:
        return None
    first = next((kinds[role] for role in parsed.roles if role in kinds), "")
    signature = _signature(parsed, first)
    parsed.roles = tuple(signature.inputs)
    check_keys(parsed, tuple(signature.model_fields), context.faults)
    for name, role in signature.roles().items():
        if name not in parsed.node.value and not role.optional:
            message = f"op {parsed.function!r} needs {name}: the name of a step that is {_either(role.kinds)}"
            context.faults.add(parsed.location, parsed.path, message)
        elif name in parsed.node.value and parsed.node.value[name].value == []:
            message = f"got an empty list; op {parsed.function!r} needs {_either(role.kinds)}"
            context.faults.add(parsed.node.value[name].location, f"{parsed.path}.{name}", message)
    return signature


def _signature(parsed: ParsedStep, kind: str) -> type[Signature]:
    """Return the class of a step's op; the step's parameters decide where the kind of the input is unknown."""
    chosen = choose(parsed.function, kind, [name for name, node in parsed.node.items() if node.is_map])
    if kind or not chosen.inputs:
        return chosen
    return max(
        [chosen, *OPS[parsed.function]], key=lambda cls: sum(key in cls.model_fields for key in parsed.node.value)
    )


def _either(kinds: tuple[str, ...]) -> str:
    return " or ".join(map(with_article, dict.fromkeys(kinds)))


def _check_input_kind(parsed: ParsedStep, site: ReferenceSite, kind: str, context: Context) -> None:
    """Raise a ConfigFault if the kind of an input is not one that the step takes."""
    text, function = str(site.reference), parsed.function
    got = f"got {text!r} ({kind})"

    def fault(message: str) -> ConfigFault:
        return ConfigFault(site.location, site.path, message)

    if not kind:
        return
    if parsed.kind == "expr" and site.role and kind in ("frame", "items"):
        hint = f"; columns are computed by {{op: assign, input: {text}, columns: {{…: …}}}}" if kind == "frame" else ""
        raise fault(f"{got}; an expr takes arrays and scalars{hint or conversion_hint(kind, ('array',), text)}")
    if site.role == "over" and kind in ("array", "frame"):
        raise fault(f"{got}; over takes items, or a value that is a list{conversion_hint(kind, ('items',), text)}")
    if site.role == "stdin" and kind != "value":
        hint = f"; map over them: over: {{item: {text}}}, stdin: item" if kind == "items" else ""
        raise fault(f"{got}; stdin takes a value: text, bytes or a file{hint}")
    if parsed.kind == "op" and not site.role and kind == "items" and not site.path.startswith(f"{parsed.path}.args"):
        raise fault(f"{got}; ${{…}} takes one value")
    if parsed.kind != "op" or not site.role:
        return
    roles = [cls.roles()[site.role] for cls in OPS[function] if site.role in cls.inputs]
    allowed = tuple(dict.fromkeys(kind for role in roles for kind in role.kinds))
    if kind not in allowed:
        role = _signature(parsed, kind).roles().get(site.role)
        allowed = role.kinds if role is not None else allowed
    if roles and kind not in allowed:
        raise fault(f"{got}; op {function!r} needs {_either(allowed)}{conversion_hint(kind, allowed, text)}")
    info = context.resolved[site.reference.name]
    if function == "to_array" and kind == "items" and info.droppable:
        cure = f"make a frame: {{op: to_frame, input: {text}, columns: {{…: type}}}}"
        raise fault(f"items of {text!r} may be left out (on_error: drop), so an array of them would have gaps; {cure}")
    many = {kind for role in roles for kind in role.gathered}
    if any(pick.is_gather for pick in site.reference.picks) and kind not in many:
        raise fault(f"got all instances of {info.instances.step!r}; op {function!r} takes one")
    node = parsed.node.value.get(site.role)
    if node is not None and node.is_list and not many:
        raise ConfigFault(node.location, f"{parsed.path}.{site.role}", f"got a list; op {function!r} takes one")


def _info(parsed: ParsedStep, instances: Instances, signature: type[Signature] | None, context: Context) -> StepInfo:
    if not parsed.is_known or parsed.is_misspelt:
        return StepInfo(instances)
    if signature is not None:
        is_decided = any(context.resolved[site.reference.name].kind for site in parsed.references if site.role)
        if not is_decided and len({cls.gives for cls in OPS[parsed.function]}) > 1 and parsed.roles:
            return StepInfo(instances)
        dropping = signature.own_items and _may_drop(parsed, "input", context)
        return StepInfo(instances, signature.gives, signature.part_kinds(), dropping)
    if parsed.kind == "expr":
        return StepInfo(instances, "array")
    kind = "items" if "over" in parsed.node.value else "value"
    declared = parsed.node.value.get("parts")
    names = [node.text for node in declared.value] if declared is not None and declared.is_list else []
    if parsed.kind == "command":
        names = list(command_parts(parsed))
    return StepInfo(instances, kind, dict.fromkeys(names, kind), _may_drop(parsed, "over", context))


def _may_drop(parsed: ParsedStep, role: str, context: Context) -> bool:
    """Return whether items may be left out: by the step itself, or among those that it gets as ``role``."""
    given = (context.resolved[site.reference.name] for site in parsed.references if site.role == role)
    return parsed.node.at("on_error").value == "drop" or any(info.droppable for info in given)


# ---------------------------------------------------------------------------------------------------------------------
# One instance
# ---------------------------------------------------------------------------------------------------------------------


class _StepReader(InstanceReader):
    """Reads one instance of a step."""

    def __init__(
        self,
        parsed: ParsedStep,
        name: str,
        matrix: Mapping[str, Any],
        context: Context,
        signature: type[Signature] | None,
    ) -> None:
        super().__init__(parsed, name, matrix, context)
        self.signature = signature

    def step(self) -> Step:
        """Return the instance; errors in single keys are noted, and their defaults are used."""
        kind = self.parsed.kind or "call"
        common = self._common()
        inputs = self._inputs()
        fields: dict[str, Any] = {"function": self.parsed.function}
        if kind == "op" and self.signature is not None:
            fields["parameters"] = self._parameters(self.signature)
        elif kind == "expr":
            fields["expression"] = self._expression(inputs)
        elif kind == "call":
            fields |= {**call_fields(self), "function": called_function(self)}
        elif kind == "command":
            fields |= command_fields(self)
        return Step(
            name=self.name,
            step=self.parsed.name,
            kind=kind,
            matrix=dict(self.matrix),
            inputs=inputs,
            names=self._names(),
            location=self.parsed.location,
            locations=dict(_locations(self.node, "")),
            **common,
            **fields,
        )

    def check_values(self) -> None:
        """Note the errors that can be found without knowing what the step does: in common keys and in ``${…}``."""
        self._common()
        for key, value in self.node.items():
            if key not in StepKeys.model_fields and key not in self.parsed.roles:
                with self.context.faults.caught():
                    interpolate(value, f"{self.path}.{key}", self.scope, run=True)

    def _common(self) -> dict[str, Any]:
        keys = self.keys(StepKeys)
        if keys.checkpoint and not keys.pure:
            self._note("checkpoint", "a step with pure: false runs each time, so its value is not kept; leave one out")
        if keys.code_version is not None and not self._calls_a_function() and self.parsed.kind != "command":
            self._note("code_version", "stands for code of yours, and this step runs none; leave it out")
        if keys.retries and not keys.pure:
            reason = "a step with pure: false has effects outside, and is never run twice"
            self._note("retries", f"{reason}; leave retries out")
        own_items = self.signature is not None and self.signature.own_items
        if keys.on_error == "drop" and "over" not in self.node.value and not own_items:
            reason = "drop leaves out the failed items of a call or a command with over"
            self._note("on_error", f"{reason}; this step has no items of its own")
        if keys.writable and not self._calls_a_function():
            self._note("writable", "lets a function of yours write to arrays; this step calls none")
        if keys.frames != "pandas" and not self._calls_a_function():
            self._note("frames", "says which frames a function of yours gets; this step calls none")
        self._check_uses(keys.uses)
        common = keys.model_dump(include=_COMMON_FIELDS)
        return {**common, "uses": tuple(sorted(keys.uses)), "depends_on": self._depends_on(keys.depends_on)}

    def _depends_on(self, paths: list[str]) -> tuple[str, ...]:
        """Return the absolute paths; one that is not there is noted."""
        found = []
        for path in paths:
            full = absolute_path(path, self.node.value["depends_on"].folder)
            if "://" in path:
                self._note("depends_on", f"got {path!r}; write a local file or folder")
            elif not os.path.exists(full):
                self._note("depends_on", f"there is no {full}")
            found.append(full)
        return tuple(dict.fromkeys(found))

    def _check_uses(self, names: list[str]) -> None:
        limits = self.context.limits
        for name in names:
            if limits is not None and name not in limits:
                has = f"its limits are {', '.join(sorted(limits))}" if limits else "it has none"
                cure = nearest(name, limits) or f"; write at the top: limits: {{{name}: 1}}"
                self._note("uses", f"the file has no limit {name!r}; {has}{cure}")

    def _calls_a_function(self) -> bool:
        """Whether the step calls a function of the user's, or is an op of another distribution."""
        if self.parsed.kind != "op" or self.signature is None:
            return self.parsed.kind == "call"
        return "function" in self.signature.model_fields or not self.signature.function_path().startswith("pipeline.")

    def _note(self, key: str, message: str) -> None:
        self.context.faults.add(self.node.value[key].location, f"{self.path}.{key}", message)

    def _inputs(self) -> dict[str, tuple[Reference, ...]]:
        inputs: dict[str, tuple[Reference, ...]] = {}
        for site in self.parsed.references:
            if site.role and site.role != "over":
                with self.context.faults.caught():
                    inputs[site.role] = (*inputs.get(site.role, ()), self.resolve(site))
        return inputs

    def _names(self) -> dict[str, tuple[str, ...]]:
        names: dict[str, tuple[str, ...]] = {}
        for site in self.parsed.references:
            if site.label:
                names[site.role] = (*names.get(site.role, ()), site.label)
        return names

    def _parameters(self, signature: type[Signature]) -> Signature | None:
        given = read_parameters(signature, self.parsed, self.scope, self.context.faults)
        if given is not None:
            check_kinds(given, self.parsed, self._input_kinds(), self.context.faults)
        if "function" in signature.model_fields and "function" in self.node.value:
            self._check_function(given)
        for key, name in given.imported().items() if given is not None else ():
            node, path, context = self.node.at(*key.split(".")), f"{self.path}.{key}", self.context
            if require_named(name, node, path, context):
                check_function(name, None, context.shipped, context.functions, context.faults, at=(node.location, path))
        return given

    def _check_function(self, parameters: Signature | None) -> None:
        """Note errors in the function of an op, and in the arguments that it gets."""
        node, path, context = self.node.value["function"], f"{self.path}.function", self.context
        function = node.text if parameters is None else parameters.keywords()["function"]
        if FUNCTION.fullmatch(str(function)) and require_named(function, node, path, context):
            given = arguments_in_op(parameters, self.parsed) if parameters is not None else None
            check_function(
                function, given, context.shipped, context.functions, context.faults, at=(node.location, path)
            )

    def _input_kinds(self) -> dict[str, str]:
        """Return the kind of each role's first reference, with a ``*`` where it is gathered."""
        kinds: dict[str, str] = {}
        for site in self.parsed.references:
            info = self.context.resolved[site.reference.name]
            kind = reference_kind(site.reference, info, site.location, site.path)
            gathers = any(pick.is_gather for pick in site.reference.picks)
            if site.role:
                kinds.setdefault(site.role, f"{kind}*" if gathers else kind)
        return kinds

    def _expression(self, inputs: Mapping[str, tuple[Reference, ...]]) -> Expression | None:
        expression = self.parsed.expression
        if expression is None:
            return None
        path = f"{self.path}.expr"
        named = {text: inputs[str(text)][0] for text in expression.step_references if inputs.get(str(text))}
        for text, reference in named.items():
            if reference.gathered:
                message = f"got {str(text)!r}; an expr takes one instance, not all"
                raise ConfigFault(reference.location, path, message)
        return bind_expression(expression, self.node.value["expr"], path, self.scope, named)


def _locations(node: Node, path: str) -> list[tuple[str, Location]]:
    """Return every key of a map, dotted, with the place of its value."""
    found: list[tuple[str, Location]] = []
    for key, inner in node.items():
        inner_path = f"{path}.{key}" if path else key
        found.append((inner_path, inner.location))
        found += _locations(inner, inner_path)
    return found
