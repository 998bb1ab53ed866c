"""The JSON Schema of steps: a definition for each kind of step, and for each class of an op.

The kind of a step (``op``, ``expr``, ``call``, ``command``) and the name of the op decide which definition is used, so
that an editor offers the parameters of that op alone, and reports errors about that op.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.kinds import with_article
from pipeline.config.schema.listing import entry_of
from pipeline.config.schema.pieces import properties
from pipeline.config.sections.fields import (
    FREE_MAP,
    FUNCTION,
    REFERENCE,
    REFERENCES,
    VALUES,
    closed,
    named_map,
    or_template,
)
from pipeline.config.sections.keys import CallKeys, CommandKeys, StepKeys
from pipeline.config.signatures import OPS, Role, Signature

__all__ = ["step_definitions"]

_CALL_INPUT = {**REFERENCES, "description": "steps: positional arguments, in order"}
_COMMAND = {
    "type": "array",
    "items": {"anyOf": [{"type": ["string", "number", "boolean"]}, {"type": "array"}]},
    "minItems": 1,
}
_KINDS = {
    "op": "an operation on arrays or frames; pipeline ops lists them",
    "expr": "elementwise, over arrays and numbers; names are steps: tas - baseline",
    "call": "a function of yours: module:function",
    "command": "a program with its arguments: [convert, ${photo}, small.png]; no shell",
}


def step_definitions() -> dict[str, Any]:
    """Return the schemas below ``definitions``, by name."""
    common = properties(StepKeys)
    shared = {key: {"$ref": f"#/definitions/step_{key}"} for key in common}
    made: dict[str, Any] = {"step": _step(), "values": _values()}
    made |= {f"step_{key}": schema for key, schema in common.items()}
    made["op_step"] = _op_step()
    made["over"] = _over()
    own: dict[str, dict[str, Any]] = {
        "expr": {"expr": {"type": ["string", "number"]}},
        "call": {
            "call": or_template({"type": "string", "pattern": FUNCTION}),
            "input": _CALL_INPUT,
            **properties(CallKeys),
        },
        "command": {"command": _COMMAND, **properties(CommandKeys)},
    }
    for kind, keys in own.items():
        keys[kind]["description"] = _KINDS[kind]
        made[f"{kind}_step"] = closed({**keys, **shared}, (kind,))
    for classes in OPS.values():
        for number, cls in enumerate(classes):
            made[_definition(cls, number)] = _op(cls, shared)
    return made


def _step() -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {key: {"description": description} for key, description in _KINDS.items()}
    kinds["op"] |= {"enum": list(OPS), "enumDescriptions": [entry_of(classes[0]).summary for classes in OPS.values()]}
    return {
        "type": "object",
        "properties": kinds,
        "oneOf": [{"required": [kind]} for kind in _KINDS],
        "allOf": [{"if": {"required": [kind]}, "then": {"$ref": f"#/definitions/{kind}_step"}} for kind in _KINDS],
    }


def _values() -> dict[str, Any]:
    bound = or_template({"type": "integer"})
    numbers: dict[str, Any] = {"anyOf": [bound, {"type": "array", "items": bound, "minItems": 1, "maxItems": 3}]}
    numbers["description"] = "n, or [start, stop], or [start, stop, step]"
    values = or_template({"anyOf": [{"type": "array"}, closed({"range": numbers}, ("range",))]})
    return {**values, "description": "a list, {range: n}, or a ${…} that is a list"}


def _over() -> dict[str, Any]:
    over_map = {**named_map({"anyOf": [REFERENCE, VALUES]}), "minProperties": 1}
    over = or_template(
        {"anyOf": [REFERENCE, {"type": "array", "items": {"anyOf": [FREE_MAP, {"type": "array"}]}}, over_map]}
    )
    text = "once per combination of {name: values}; of a call also per map or list of a list, or per item of a step"
    return {**over, "description": text}


# ---------------------------------------------------------------------------------------------------------------------
# Ops
# ---------------------------------------------------------------------------------------------------------------------


def _op_step() -> dict[str, Any]:
    cases = []
    for op, classes in OPS.items():
        either = [{"$ref": f"#/definitions/{_definition(cls, number)}"} for number, cls in enumerate(classes)]
        then = either[0] if len(either) == 1 else {"anyOf": either}
        cases.append({"if": {"properties": {"op": {"const": op}}}, "then": then})
    return {"type": "object", "properties": {"op": {"enum": list(OPS)}}, "allOf": cases}


def _definition(cls: type[Signature], number: int) -> str:
    return f"op_{cls.op}" if not number else f"op_{cls.op}_{number + 1}"


def _op(cls: type[Signature], shared: Mapping[str, Any]) -> dict[str, Any]:
    doc = _doc(cls)
    keys: dict[str, Any] = {"op": {"const": cls.op, "description": doc, "markdownDescription": _hover(cls)}}
    for name, role in cls.roles().items():
        references = named_map(REFERENCE) if role.named else REFERENCES if role.many else REFERENCE
        keys[name] = {**references, "description": _input(role)}
    required = ["op", *(name for name, role in cls.roles().items() if not role.optional)]
    required += [name for name, info in cls.model_fields.items() if info.is_required()]
    return {**closed({**keys, **properties(cls), **shared}, required), "description": doc}


def _input(role: Role) -> str:
    kinds = " or ".join(map(with_article, role.kinds))
    if role.named:
        return f"a map: a name for each step that is {kinds}"
    many = f", or a list of them, or all instances: name[*] ({', '.join(role.gathered)})" if role.many else ""
    return f"a step that is {kinds}{many}" + ("; may be left out" if role.optional else "")


def _doc(cls: type[Signature]) -> str:
    return entry_of(cls).doc.replace("``", "`") or cls.op


def _hover(cls: type[Signature]) -> str:
    """Return what an editor shows of an op: its inputs and result, its docstring, its parameters."""
    entry = entry_of(cls)
    rows = [f"* `{name}`: {kinds}" for name, kinds in entry.inputs.items()]
    for p in entry.parameters:
        default = f", default `{p.default}`" if p.default else ""
        rows.append(f"* `{p.name}`: {p.type}{default}" + (f"; {p.description}" if p.description else ""))
    head = f"**{entry.op}**: {' or '.join(entry.inputs.values()) or 'nothing'} → {entry.gives}"
    return "\n\n".join(filter(None, [head, _doc(cls), "\n".join(rows)]))
