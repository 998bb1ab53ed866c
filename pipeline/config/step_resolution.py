"""The copies of one step, from its draft and from what is known of the steps that it refers to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.config.expression_binding import bound, truth
from pipeline.config.expressions.expression import Expression
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import Scope
from pipeline.config.kinds import StepInfo, cure, kind_of, one
from pipeline.config.matrix import BoundReference, Instances, expanded, following
from pipeline.config.model import Reference, Step
from pipeline.config.op_parameters import parameters, shapes
from pipeline.config.scalars import label
from pipeline.config.sections.calls import call
from pipeline.config.sections.commands import command, parts
from pipeline.config.sections.keys import StepKeys
from pipeline.config.signatures import OPS, Signature, choose
from pipeline.config.step_context import Context, InstanceReader
from pipeline.config.step_syntax import ParsedStep, ReferenceSite, keys_allowed
from pipeline.config.yaml_nodes import Node
from pipeline.errors import Location

__all__ = ["check_module", "resolved"]

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def resolved(draft: ParsedStep, context: Context) -> list[Step]:
    """The copies of a step; what is known of it is added to ``context.known``, faults to ``context.faults``."""
    faults = context.faults
    n_faults = len(faults)
    copies = Instances(draft.name, {}, {(): draft.name}, sure=False)
    signature: type[Signature] | None = None
    with faults.caught():
        copies = _copies(draft, context)
    context.known[draft.name] = StepInfo(copies)
    try:
        signature = _checked(draft, context)
    except ConfigFault as wrong:
        faults.add(wrong.fault.location, wrong.fault.path, wrong.fault.message)
        return []
    steps: list[Step] = []
    for labels, name in copies.names.items():
        with faults.caught():
            steps.append(_Instance(draft, name, copies.matrix(labels), context, signature).step())
        if len(faults) > n_faults:
            break  # the other copies have the same faults
    context.known[draft.name] = _known(draft, copies, signature, context)
    return steps


def _copies(draft: ParsedStep, context: Context) -> Instances:
    uses = [
        BoundReference(f.reference, f.location, f.path, context.known[f.reference.name].copies) for f in draft.found
    ]
    keys = following(draft.matrix, uses, at=draft.location, path=draft.path)
    for i, cut in enumerate(draft.excluded):
        for key in cut:
            if key not in keys:
                node = draft.node.at("exclude", i)
                has = f"it has {', '.join(keys)}" if keys else "it has none"
                raise ConfigFault(
                    node.location, f"{draft.path}.exclude[{i}]", f"the step has no matrix key {key!r}; {has}"
                )
            if label(cut[key]) not in keys[key]:
                node = draft.node.at("exclude", i, key)
                said = f"leaves out no copy: {key} has no value {label(cut[key])!r}; it has {', '.join(keys[key])}"
                raise ConfigFault(node.location, f"{draft.path}.exclude[{i}].{key}", said)
    when = draft.node.value.get("when")

    def exists(matrix: Mapping[str, Any]) -> bool:
        scope = Scope(context.params, matrix, draft.over, context.steps)
        return when is None or truth(when, f"{draft.path}.when", scope)

    return expanded(draft.name, keys, uses, excluded=draft.excluded, when=exists, at=draft.location)


# ---------------------------------------------------------------------------------------------------------------------
# What holds of all copies
# ---------------------------------------------------------------------------------------------------------------------


def _checked(draft: ParsedStep, context: Context) -> type[Signature] | None:
    """Check keys and kinds; the signature of an op."""
    kinds: dict[str, str] = {}
    for found in draft.found:
        with context.faults.caught():
            kind = kind_of(found.reference, context.known[found.reference.name], found.location, found.path)
            kinds.setdefault(found.role, kind)
            _role_kind(draft, found, kind, context)
    if draft.kind != "op":
        keys_allowed(draft, (), context.faults)
        if draft.kind == "call":
            _check_call(draft, context)
        return None
    first = next((kinds[role] for role in draft.roles if role in kinds), "")
    signature = _meant(draft, first)
    draft.roles = tuple(signature.inputs)
    keys_allowed(draft, tuple(signature.model_fields), context.faults)
    for name, role in signature.roles().items():
        if name not in draft.node.value and not role.optional:
            message = f"op {draft.function!r} needs {name}: the name of a step that is {_kinds(role.kinds)}"
            context.faults.add(draft.location, draft.path, message)
        elif name in draft.node.value and draft.node.value[name].value == []:
            message = f"got an empty list; op {draft.function!r} needs {_kinds(role.kinds)}"
            context.faults.add(draft.node.value[name].location, f"{draft.path}.{name}", message)
    return signature


def _meant(draft: ParsedStep, kind: str) -> type[Signature]:
    """The class of a step's op; the step's parameters tell where the kind of the input does not."""
    return choose(draft.function, kind, [name for name, node in draft.node.items() if node.is_map])


def _kinds(kinds: tuple[str, ...]) -> str:
    return " or ".join(map(one, dict.fromkeys(kinds)))


def _role_kind(draft: ParsedStep, found: ReferenceSite, kind: str, context: Context) -> None:
    """Message 5: the kind of an input is not one that the step takes."""
    text, known = str(found.reference), context.known[found.reference.name]
    if not kind:
        return
    if draft.kind == "expr" and found.role and kind in ("frame", "items"):
        hint = f"; columns are computed by {{op: assign, input: {text}, columns: {{…: …}}}}" if kind == "frame" else ""
        hint = hint or cure(kind, ("array",), text)
        raise ConfigFault(found.location, found.path, f"got {text!r} ({kind}); an expr takes arrays and scalars{hint}")
    if found.role == "over" and kind in ("array", "frame"):
        hint = cure(kind, ("items",), text)
        raise ConfigFault(
            found.location, found.path, f"got {text!r} ({kind}); over takes items, or a value that is a list{hint}"
        )
    if found.role == "stdin" and kind != "value":
        hint = f"; map over them: over: {{item: {text}}}, stdin: item" if kind == "items" else ""
        raise ConfigFault(
            found.location, found.path, f"got {text!r} ({kind}); stdin takes a value: text, bytes or a file{hint}"
        )
    if draft.kind == "op" and not found.role and kind == "items" and not found.path.startswith(f"{draft.path}.args"):
        raise ConfigFault(found.location, found.path, f"got {text!r} (items); within ${{…}} stands one value")
    if draft.kind != "op" or not found.role:
        return
    roles = [cls.roles()[found.role] for cls in OPS[draft.function] if found.role in cls.inputs]
    allowed = tuple(dict.fromkeys(k for role in roles for k in role.kinds))
    if kind not in allowed:
        role = _meant(draft, kind).roles().get(found.role)
        allowed = role.kinds if role is not None else allowed
    if roles and kind not in allowed:
        hint = cure(kind, allowed, text)
        raise ConfigFault(
            found.location, found.path, f"got {text!r} ({kind}); op {draft.function!r} needs {_kinds(allowed)}{hint}"
        )
    if draft.function == "to_array" and kind == "items" and known.droppable:
        said = f"items of {text!r} may be left out (on_error: drop), so an array of them has holes"
        raise ConfigFault(
            found.location, found.path, f"{said}; make a frame: {{op: to_frame, input: {text}, columns: {{…: type}}}}"
        )
    several = {k for role in roles for k in role.gathered}
    gathers = any(p.is_gather for p in found.reference.picks)
    if gathers and kind not in several:
        raise ConfigFault(
            found.location, found.path, f"got all copies of {known.copies.step!r}; op {draft.function!r} takes one"
        )
    node = draft.node.value.get(found.role)
    if node is not None and node.is_list and not several:
        raise ConfigFault(node.location, f"{draft.path}.{found.role}", f"got a list; op {draft.function!r} takes one")


def _check_call(draft: ParsedStep, context: Context) -> None:
    node = draft.node.value["call"]
    path = f"{draft.path}.call"
    if not _FUNCTION.fullmatch(draft.function):
        raise ConfigFault(node.location, path, f'got {node.said}; a function is written "module:function"')
    check_module(draft.function, node, path, context)


def check_module(function: str, node: Node, path: str, context: Context) -> None:
    """Note it if the module of ``module:function`` is not among ``modules``."""
    module = function.partition(":")[0]
    names = module.split(".")
    if not any(".".join(names[:i]) in context.importable for i in range(1, len(names) + 1)):
        has = f"modules has {', '.join(sorted(context.importable))}" if context.importable else "modules is empty"
        context.faults.add(
            node.location,
            path,
            f"{module!r} is not among modules; add it: modules: [{module}], or [./{names[0]}.py]; {has}",
        )


def _known(draft: ParsedStep, copies: Instances, signature: type[Signature] | None, context: Context) -> StepInfo:
    if signature is not None:
        return StepInfo(copies, signature.gives, dict.fromkeys(signature.parts, "array"))
    if draft.kind == "expr":
        return StepInfo(copies, "array")
    kind = "items" if "over" in draft.node.value else "value"
    named = draft.node.value.get("parts")
    names = [n.text for n in named.value] if named is not None and named.is_list else []
    if draft.kind == "command":
        names = list(parts(draft))
    dropping = draft.node.at("on_error").value == "drop"
    dropping |= any(f.role == "over" and context.known[f.reference.name].droppable for f in draft.found)
    return StepInfo(copies, kind, dict.fromkeys(names, kind), dropping)


# ---------------------------------------------------------------------------------------------------------------------
# One copy
# ---------------------------------------------------------------------------------------------------------------------


class _Instance(InstanceReader):
    """Reads one copy of a step."""

    def __init__(
        self,
        draft: ParsedStep,
        name: str,
        matrix: Mapping[str, Any],
        context: Context,
        signature: type[Signature] | None,
    ) -> None:
        super().__init__(draft, name, matrix, context)
        self.signature = signature

    def step(self) -> Step:
        """The copy; faults in single keys are noted, and a stand-in value goes on."""
        kind = self.draft.kind
        common = self._common()
        inputs = self._inputs()
        made: dict[str, Any] = {"function": self.draft.function}
        if kind == "op" and self.signature is not None:
            given = parameters(self.signature, self.draft, self.scope, self.context.faults)
            made["parameters"] = given
            if given is not None:
                shapes(given, self.draft, self._kinds(), self.context.faults)
                function = given.keywords().get("function")
                if function is not None:
                    node = self.node.at("function")
                    check_module(function, node, f"{self.path}.function", self.context)
        elif kind == "expr":
            made["expression"] = self._expression(inputs)
        elif kind == "call":
            made |= call(self)
        elif kind == "command":
            made |= command(self)
        return Step(
            name=self.name,
            step=self.draft.name,
            kind=kind,
            matrix=dict(self.matrix),
            inputs=inputs,
            location=self.draft.location,
            locations=dict(_locations(self.node, "")),
            **common,
            **made,
        )

    def _common(self) -> dict[str, Any]:
        keys = self.keys(StepKeys)
        if keys.checkpoint:
            self._wrong("checkpoint", "checkpoint: true is not built yet")
        if keys.retries and not keys.pure:
            self._wrong(
                "retries", "a step with pure: false has effects outside, and is never run twice; leave retries out"
            )
        if keys.on_error == "drop" and "over" not in self.node.value:
            message = (
                "drop leaves out the failed items of a call or a command with over; this step has no items of its own"
            )
            self._wrong("on_error", message)
        return keys.model_dump(include={"pure", "retries", "timeout", "resources", "on_error"})

    def _wrong(self, key: str, message: str) -> None:
        self.context.faults.add(self.node.value[key].location, f"{self.path}.{key}", message)

    def _inputs(self) -> dict[str, tuple[Reference, ...]]:
        inputs: dict[str, tuple[Reference, ...]] = {}
        for found in self.draft.found:
            if found.role and found.role != "over":
                inputs[found.role] = (*inputs.get(found.role, ()), self.referred(found))
        return inputs

    def _kinds(self) -> dict[str, str]:
        """The kind of each role's first reference, with a ``*`` where it is gathered."""
        kinds: dict[str, str] = {}
        for found in self.draft.found:
            kind = kind_of(found.reference, self.context.known[found.reference.name], found.location, found.path)
            gathers = any(p.is_gather for p in found.reference.picks)
            if found.role:
                kinds.setdefault(found.role, f"{kind}*" if gathers else kind)
        return kinds

    def _expression(self, inputs: Mapping[str, tuple[Reference, ...]]) -> Expression | None:
        if self.draft.parsed is None:
            return None
        named = {text: inputs[str(text)][0] for text in self.draft.parsed.step_references if str(text) in inputs}
        for text, given in named.items():
            if given.gathered:
                raise ConfigFault(
                    given.location, f"{self.path}.expr", f"got {str(text)!r}; an expr takes one copy, not all"
                )
        return bound(self.draft.parsed, self.node.value["expr"], f"{self.path}.expr", self.scope, named)


def _locations(node: Node, path: str) -> list[tuple[str, Location]]:
    """Every key of a map, dotted, with the place of its value."""
    found: list[tuple[str, Location]] = []
    for key, inner in node.items():
        inner_path = f"{path}.{key}" if path else key
        found.append((inner_path, inner.location))
        found += _locations(inner, inner_path)
    return found
