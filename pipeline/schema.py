"""What can be said of the language without a file: the listing of ops, and the JSON Schema for editors.

Both are made from the signature classes that the loader checks against, so they cannot say anything else.
"""

from __future__ import annotations

import copy
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic_core import PydanticUndefined

from pipeline.config.drafts import CALL_KEYS, COMMON_KEYS
from pipeline.config.formats import FORMATS
from pipeline.errors import ConfigError
from pipeline.signatures import LATER, OPS, Signature
from pipeline.signatures.wording import wanted

__all__ = ["OpEntry", "ParameterEntry", "describe", "json_schema", "op_names", "ops", "ops_later", "ops_text"]

NAME = "^[A-Za-z][A-Za-z0-9_]*$"


@dataclass(frozen=True)
class ParameterEntry:
    """One parameter: what it takes in words, its default as text (empty: it must be given), and what it means."""

    name: str
    type: str
    default: str
    description: str

    @property
    def required(self) -> bool:
        return not self.default


@dataclass(frozen=True)
class OpEntry:
    """One op for one kind of input.

    Parameters
    ----------
    inputs : the keys that hold references, each with the kinds it takes: ``array``; ``frame, …`` where it takes a list
    gives : kind of the result; for parts with their names
    doc : the whole docstring; its first paragraph says what the op gives
    """

    op: str
    group: str
    inputs: Mapping[str, str]
    gives: str
    parameters: tuple[ParameterEntry, ...]
    doc: str

    @property
    def summary(self) -> str:
        """The first sentence of the docstring, on one line."""
        first = " ".join(self.doc.split("\n\n")[0].replace("``", "").split())
        return first.split(". ")[0].split("; ")[0].rstrip(".") if ". " in first or "; " in first else first.rstrip(".")

    def __str__(self) -> str:
        inputs = "\n".join(f"  {name}: {kinds}" for name, kinds in self.inputs.items())
        rows = [
            (p.name, p.type + (f", default {p.default}" if p.default else ""), p.description) for p in self.parameters
        ]
        parameters = "\n".join(f"  {name}: {kind}\n      {said}" for name, kind, said in rows)
        blocks = [f"{self.op}: {' or '.join(self.inputs.values()) or 'nothing'} -> {self.gives}", self.doc]
        blocks += [f"Inputs\n{inputs}"] if inputs else []
        blocks += [f"Parameters\n{parameters}"] if parameters else []
        return "\n\n".join(blocks)


def op_names() -> tuple[str, ...]:
    """The names of all ops that can be used, in the order of their groups."""
    return tuple(OPS)


def ops_later() -> tuple[str, ...]:
    """The names of ops that belong to the language and are not built yet."""
    return tuple(sorted(LATER))


def describe(op: str) -> tuple[OpEntry, ...]:
    """What there is to know of an op: an entry for each kind of input that it takes in its own way.

    Raises
    ------
    KeyError : if there is no such op; its argument is a message fit for a user
    """
    if op in LATER:
        raise KeyError(f"op {op!r} is not built yet")
    if op not in OPS:
        raise KeyError(OPS.missing(op))
    return tuple(_entry(cls) for cls in OPS[op])


def ops(name: str | None = None) -> list[dict[str, Any]]:
    """The entries of one op, or of all, as plain data.

    Raises
    ------
    ConfigError : if there is no such op
    """
    return [asdict(entry) for entry in _entries(name)]


def ops_text(name: str | None = None) -> str:
    """All that is known of one op; without a name a line for each op, by group.

    Raises
    ------
    ConfigError : if there is no such op
    """
    if name is not None:
        return "\n\n\n".join(map(str, _entries(name)))
    lines: list[str] = []
    groups = {entry.group: None for entry in _entries(None)}
    for group in groups:
        lines += ["", group] if lines else [group]
        lines += [
            f"  {entry.op:<16}{textwrap.shorten(entry.summary, 62, placeholder=' …')}"
            for entry in _entries(None)
            if entry.group == group
        ]
    later = textwrap.wrap(" ".join(ops_later()), 80, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([*lines, "", "not built yet", *later])


def _entries(name: str | None) -> list[OpEntry]:
    try:
        return [entry for op in (op_names() if name is None else (name,)) for entry in describe(op)]
    except KeyError as error:
        raise ConfigError(str(error.args[0])) from None


def _entry(cls: type[Signature]) -> OpEntry:
    inputs = {}
    for name, role in cls.roles().items():
        kinds = [f"{kind}, or a list of them" if kind in role.gathered else kind for kind in role.kinds]
        inputs[name] = " or ".join(kinds) + (" (may be left out)" if role.optional else "")
    gives = f"{cls.gives} {', '.join(cls.parts)}" if cls.parts else cls.gives
    return OpEntry(
        cls.op, cls.group, inputs, gives, tuple(_parameter(cls, name) for name in cls.model_fields), _doc(cls)
    )


def _parameter(cls: type[Signature], name: str) -> ParameterEntry:
    info = cls.model_fields[name]
    default = ""
    if not info.is_required():
        value = info.get_default(call_default_factory=True)
        default = _yaml(value) if value is not PydanticUndefined else ""
    return ParameterEntry(name, wanted(cls, name), default, info.description or "")


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_yaml(v) for v in value)}]"
    if isinstance(value, str):
        return value if value.isidentifier() else f'"{value}"'
    return str(value)


def _doc(cls: type[Signature]) -> str:
    return inspect.cleandoc(cls.__doc__ or "")


# ---------------------------------------------------------------------------------------------------------------------
# JSON Schema
# ---------------------------------------------------------------------------------------------------------------------

_FILLED = {"type": "string", "pattern": r"\$\{"}
_REFERENCE = {"type": "string", "pattern": r"^\s*[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)?\s*(\[.*\])?\s*$"}
_REFERENCES = {"anyOf": [_REFERENCE, {"type": "array", "items": _REFERENCE}]}
_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_FREE_MAP = {"type": "object"}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a pipeline file.

    It is strict: an unknown key at any depth is refused, and so is a parameter that the step's op doesn't have. Any
    value but a key, a name, or a reference may be a text with ``${…}`` instead.
    """
    outputs = {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": {"$ref": "#/$defs/output"}}
    properties: dict[str, Any] = {
        "version": {"const": 1, "description": "of the language"},
        "name": {"type": "string", "description": "of the pipeline; default: the file's stem"},
        "description": {"type": "string"},
        "include": {"type": "array", "items": {"type": "string"}, "description": "files merged first, in order"},
        "params": {
            "type": "object",
            "propertyNames": {"pattern": NAME},
            "description": "values for ${name}, ${name.sub}",
        },
        "modules": {"type": "array", "items": {"type": "string"}, "description": "what call may import"},
        "seed": _or_filled({"type": "integer", "minimum": 0, "description": "root of every random number"}),
        "steps": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": NAME},
            "additionalProperties": {"$ref": "#/$defs/step"},
        },
        "outputs": outputs,
        "checks": {"type": "array", "items": {"$ref": "#/$defs/check"}},
        "keep": {"type": "array", "items": _REFERENCE, "description": "steps whose values the run gives back"},
        "storage": {"type": "object", "additionalProperties": _FREE_MAP, "description": "fsspec options by protocol"},
        "cluster": _closed(
            dict.fromkeys(
                ("workers", "threads_per_worker", "memory_limit", "address", "class", "scale", "insecure", "page"),
                _SCALAR,
            )
            | {"kwargs": _FREE_MAP, "adapt": _FREE_MAP}
        ),
        "compare": _closed(
            {
                "backends": _or_filled({"type": "array", "items": {"type": "string"}}),
                "repeat": _or_filled({"type": "integer", "minimum": 1}),
                "reference": {
                    **_closed({"call": {"type": "string", "description": "module:function"}}, ("call",)),
                    "description": "the whole job as one would write it without Pipeline, in one thread; it gets the "
                    "params as keywords and returns a map: name of an output -> its value",
                },
            }
        ),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pipeline",
        "description": "A pipeline of chunked arrays, dataframes and Python calls.",
        **_closed(properties, required=("version", "steps")),
        "$defs": {"step": _step(), "output": _output(), "check": _check(), "values": _values(), **_op_definitions()},
    }


def _closed(properties: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return made | ({"required": list(required)} if required else {})


def _or_filled(schema: Mapping[str, Any]) -> dict[str, Any]:
    description = {"description": schema["description"]} if "description" in schema else {}
    return {"anyOf": [dict(schema), _FILLED], **description}


def _values() -> dict[str, Any]:
    bound = _or_filled({"type": "integer"})
    ranges = {"anyOf": [bound, {"type": "array", "items": bound, "minItems": 1, "maxItems": 3}]}
    return {"anyOf": [{"type": "array"}, _closed({"range": ranges}, ("range",)), _FILLED]}


def _common() -> dict[str, Any]:
    made: dict[str, Any] = {
        "matrix": {
            "type": "object",
            "propertyNames": {"pattern": NAME},
            "additionalProperties": {"$ref": "#/$defs/values"},
            "description": "one copy of the step per combination, known before the run",
        },
        "exclude": _or_filled({"type": "array", "items": _FREE_MAP, "description": "combinations without a copy"}),
        "when": {"type": ["string", "boolean"], "description": "false: the copy does not exist"},
        "checkpoint": {"const": False, "description": "not built yet"},
        "retries": _or_filled({"type": "integer", "minimum": 0, "description": "per task"}),
        "timeout": {"type": ["string", "number"], "description": "per task: seconds, or 5min, 2h"},
        "resources": _or_filled({"type": "object", "description": "as Dask's"}),
        "pure": {"const": True, "description": "not built yet"},
        "on_error": {"enum": ["stop", "drop"], "description": "drop: failed items are left out"},
    }
    assert {*made, "input"} == set(COMMON_KEYS)
    return made


def _step() -> dict[str, Any]:
    """A step: one of three kinds, chosen by its key, so that a fault is told of the kind that was meant."""
    by_kind = [
        {"if": {"required": [kind]}, "then": {"$ref": f"#/$defs/{kind}_step"}} for kind in ("op", "expr", "call")
    ]
    return {
        "type": "object",
        "oneOf": [{"required": ["op"]}, {"required": ["expr"]}, {"required": ["call"]}],
        "allOf": by_kind,
    }


def _op_definitions() -> dict[str, Any]:
    common = _common()
    expr = _closed({"expr": {"type": ["string", "number"], "description": "elementwise"}, **common}, ("expr",))
    over = {"anyOf": [_REFERENCE, _FILLED, {"type": "array", "items": _FREE_MAP}, _over_map()]}
    call = {
        "call": {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", "description": "module:function"},
        "input": _REFERENCES,
        "args": {"type": "object", "description": "keyword arguments"},
        "over": over,
        "batch": _or_filled({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
        "parts": {"type": "array", "items": {"type": "string", "pattern": NAME}, "minItems": 1, "uniqueItems": True},
        "seed": _or_filled({"type": "boolean", "description": "the function gets seed="}),
    }
    assert set(call) == {"call", "input", *CALL_KEYS}
    definitions: dict[str, Any] = {}
    cases = []
    for op, classes in OPS.items():
        for number, cls in enumerate(classes):
            definitions[_definition(cls, number)] = _op(cls, common)
        either = [{"$ref": f"#/$defs/{_definition(cls, n)}"} for n, cls in enumerate(classes)]
        then = either[0] if len(either) == 1 else {"anyOf": either}
        cases.append({"if": {"properties": {"op": {"const": op}}}, "then": then})
    op_step = {"type": "object", "properties": {"op": {"enum": list(OPS)}}, "allOf": cases}
    return {"op_step": op_step, "expr_step": expr, "call_step": _closed({**call, **common}, ("call",)), **definitions}


def _over_map() -> dict[str, Any]:
    either = {"anyOf": [_REFERENCE, {"$ref": "#/$defs/values"}]}
    return {"type": "object", "minProperties": 1, "propertyNames": {"pattern": NAME}, "additionalProperties": either}


def _definition(cls: type[Signature], number: int) -> str:
    return f"op_{cls.op}" if not number else f"op_{cls.op}_{number + 1}"


def _op(cls: type[Signature], common: Mapping[str, Any]) -> dict[str, Any]:
    own = cls.model_json_schema()
    own = _inlined(own, own.pop("$defs", {}))
    properties: dict[str, Any] = {"op": {"const": cls.op, "description": _doc(cls)}}
    for name, role in cls.roles().items():
        properties[name] = _REFERENCES if role.many else _REFERENCE
    for name, schema in own.get("properties", {}).items():
        described = {k: v for k, v in schema.items() if k in ("description", "default")}
        properties[name] = {**_fillable(schema), **described}
    needed = [name for name, role in cls.roles().items() if not role.optional]
    return {**_closed({**properties, **common}, ("op", *needed, *own.get("required", ()))), "description": _doc(cls)}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(s, definitions) for s in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(copy.deepcopy(definitions[schema["$ref"].rsplit("/", 1)[1]]), definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items() if key != "title"}


# what pydantic leaves at a union under its own names; JSON Schema's bounds mean nothing where the value is no number
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def _fillable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a parameter in which any value, at any depth, may also be a text with ``${…}``."""
    if "anyOf" in schema:
        bounds = {word: schema[name] for name, word in _BOUNDS.items() if name in schema}
        return {"anyOf": [*(_fillable({**bounds, **s}) for s in schema["anyOf"]), _FILLED]}
    made = {k: v for k, v in schema.items() if k not in ("description", "default")}
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = _fillable(made[key])
    free = made.get("type") == "string" and not {"enum", "const"} & set(made)
    return made if free or not made else {"anyOf": [made, _FILLED]}


def _output() -> dict[str, Any]:
    properties = {
        "input": {**_REFERENCE, "description": "what is written; default: the step of the output's name"},
        "to": {"enum": list(FORMATS), "description": "format"},
        "path": {"type": "string", "minLength": 1, "description": "below the output folder"},
        "files": _or_filled({"type": "integer", "minimum": 1, "description": "parquet: number of files"}),
        "partition_by": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "uniqueItems": True,
            "description": "parquet: columns that become folders column=value",
        },
        "attrs": {"type": "object", "description": "attributes of an array or frame"},
        "mode": {"const": "replace"},
        "options": {"type": "object", "description": "of the format"},
    }
    return _closed(properties, ("to", "path"))


def _check() -> dict[str, Any]:
    number = _or_filled({"type": "number"})
    properties = {
        "that": {"type": "string", "description": "a step, or an expression of one-element steps"},
        "approx": number,
        "abs": number,
        "rel": number,
        "equals_csv": {"type": "string"},
        "sep": {"type": "string", "minLength": 1},
        "rows": {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]},
        "columns": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    return _closed(properties, ("that",))
