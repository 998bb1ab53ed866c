"""The part of the JSON Schema that speaks of steps: a definition for each kind, and for each class of an op.

A step is told apart by its key (``op``, ``expr``, ``call``, ``command``), and an op by its name, before anything else
is looked at: so an editor offers the parameters of that op alone, and a fault is told of what was meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.matrix import one
from pipeline.config.schema.listing import entry_of
from pipeline.config.schema.pieces import (
    COUNT,
    FREE_MAP,
    FUNCTION,
    REFERENCE,
    REFERENCES,
    VALUES,
    closed,
    fillable,
    inlined,
    named_map,
    or_filled,
    said,
)
from pipeline.config.signatures import OPS, Role, Signature
from pipeline.config.step_syntax import CALL_KEYS, COMMAND_KEYS, COMMON_KEYS

__all__ = ["step_definitions"]

OVER = {"$ref": "#/definitions/over"}
_KINDS = {
    "op": "an operation on arrays or frames; pipeline ops lists them",
    "expr": "elementwise, over arrays and numbers; names are steps: tas - baseline",
    "call": "a function of yours: module:function",
    "command": "a program with its arguments: [convert, ${photo}, small.png]; no shell",
}


def step_definitions() -> dict[str, Any]:
    """Name below ``definitions`` -> schema."""
    common = _common()
    shared = {key: {"$ref": f"#/definitions/step_{key}"} for key in common}
    made: dict[str, Any] = {"step": _step(), "values": _values()}
    made |= {f"step_{key}": schema for key, schema in common.items()}
    made["op_step"] = _op_step()
    made["expr_step"] = closed({"expr": said({"type": ["string", "number"]}, _KINDS["expr"]), **shared}, ("expr",))
    made["over"] = _over()
    made["call_step"] = closed({**_call(), **shared}, ("call",))
    made["command_step"] = closed({**_command(), **shared}, ("command",))
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
    bound = or_filled({"type": "integer"})
    numbers = {"anyOf": [bound, {"type": "array", "items": bound, "minItems": 1, "maxItems": 3}]}
    span = closed({"range": said(numbers, "n, or [start, stop], or [start, stop, step]")}, ("range",))
    return or_filled({"anyOf": [{"type": "array"}, span]}, "a list, {range: n}, or a ${…} that is a list")


def _common() -> dict[str, Any]:
    made: dict[str, Any] = {
        "matrix": said(named_map(VALUES), "one copy of the step per combination, known before the run"),
        "exclude": or_filled({"type": "array", "items": FREE_MAP}, "combinations without a copy: [{key: value}]"),
        "when": {"type": ["string", "boolean"], "description": "over params and matrix keys; false: no such copy"},
        "checkpoint": {"const": False, "description": "not built yet"},
        "retries": or_filled({"type": "integer", "minimum": 0}, "how often a task that failed is tried again"),
        "timeout": {"type": ["string", "number"], "description": "of a task: seconds, or 5min, 2h"},
        "resources": or_filled(FREE_MAP, "what a task needs of a worker, as Dask names it: {GPU: 1}"),
        "pure": or_filled({"type": "boolean"}, "false: has effects outside (sends, inserts); never run twice"),
        "on_error": {"enum": ["stop", "drop"], "description": "of over; drop: failed items are left out and counted"},
    }
    assert {*made, "input"} == set(COMMON_KEYS)
    return made


def _over() -> dict[str, Any]:
    over_map = {**named_map({"anyOf": [REFERENCE, VALUES]}), "minProperties": 1}
    return said(
        or_filled({"anyOf": [REFERENCE, {"type": "array", "items": FREE_MAP}, over_map]}),
        "once per combination of {name: values}; of a call also per map of a list, or per item of a step",
    )


def _call() -> dict[str, Any]:
    made: dict[str, Any] = {
        "call": said(FUNCTION, _KINDS["call"]),
        "input": said(REFERENCES, "steps: positional arguments, in order"),
        "args": said(FREE_MAP, 'keyword arguments; "${step}" hands over the result of a step'),
        "over": OVER,
        "batch": or_filled({"anyOf": [{"const": "auto"}, COUNT]}, "items a task; default: auto"),
        "parts": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]*$"},
            "minItems": 1,
            "uniqueItems": True,
            "description": "names of what the function returns: a map with these keys, or a tuple",
        },
        "seed": or_filled({"type": "boolean"}, "true: the function gets seed=, the same on every back end"),
    }
    assert set(made) == {"call", "input", *CALL_KEYS}
    return made


def _command() -> dict[str, Any]:
    scalar = {"type": ["string", "number", "boolean"]}
    made: dict[str, Any] = {
        "command": {
            "type": "array",
            "items": {"anyOf": [scalar, {"type": "array"}]},
            "minItems": 1,
            "description": _KINDS["command"],
        },
        "over": OVER,
        "cwd": {"type": "string", "description": "the folder to run in; default: a new one of its own"},
        "env": said({"type": "object", "additionalProperties": scalar}, "variables: {NAME: value}"),
        "stdin": said(REFERENCE, "a step, or a name of over, whose text, bytes or file it reads"),
        "files": said(named_map({"type": "string"}), "parts that are files it leaves: {png: plot.png}"),
        "check": or_filled({"type": "boolean"}, "false: another exit code than 0 is no failure"),
    }
    assert set(made) == {"command", *COMMAND_KEYS}
    return made


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
    own = cls.model_json_schema()
    own = inlined(own, own.pop("$defs", {}))
    doc = _doc(cls)
    properties: dict[str, Any] = {"op": {"const": cls.op, "description": doc, "markdownDescription": _hover(cls)}}
    for name, role in cls.roles().items():
        properties[name] = said(REFERENCES if role.many else REFERENCE, _taken(role))
    for name, schema in own.get("properties", {}).items():
        described = {k: v for k, v in schema.items() if k in ("description", "default")}
        properties[name] = {**fillable(schema), **described}
    needed = [name for name, role in cls.roles().items() if not role.optional]
    return {**closed({**properties, **shared}, ("op", *needed, *own.get("required", ()))), "description": doc}


def _taken(role: Role) -> str:
    kinds = " or ".join(map(one, role.kinds))
    several = f", or a list of them, or all copies: name[*] ({', '.join(role.gathered)})" if role.many else ""
    return f"a step that is {kinds}{several}" + ("; may be left out" if role.optional else "")


def _doc(cls: type[Signature]) -> str:
    return entry_of(cls).doc.replace("``", "`") or cls.op


def _hover(cls: type[Signature]) -> str:
    """What an editor shows of an op: what it takes and gives, its docstring, its parameters."""
    entry = entry_of(cls)
    rows = [f"* `{name}`: {kinds}" for name, kinds in entry.inputs.items()]
    for p in entry.parameters:
        default = f", default `{p.default}`" if p.default else ""
        rows.append(f"* `{p.name}`: {p.type}{default}" + (f"; {p.description}" if p.description else ""))
    head = f"**{entry.op}**: {' or '.join(entry.inputs.values()) or 'nothing'} → {entry.gives}"
    return "\n\n".join(filter(None, [head, _doc(cls), "\n".join(rows)]))
