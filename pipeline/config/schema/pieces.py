"""The pieces that a JSON Schema is put together from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "COUNT",
    "FREE_MAP",
    "FUNCTION",
    "NAME",
    "REFERENCE",
    "REFERENCES",
    "SCALAR",
    "VALUES",
    "closed",
    "fillable",
    "inlined",
    "named_map",
    "or_filled",
    "said",
]

NAME = "^[A-Za-z][A-Za-z0-9_]*$"
_FILLED = {"type": "string", "pattern": r"\$\{"}
REFERENCE = {"type": "string", "pattern": r"^\s*[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)?\s*(\[.*\])?\s*$"}
REFERENCES = {"anyOf": [REFERENCE, {"type": "array", "items": REFERENCE}]}
FUNCTION = {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"}
SCALAR = {"type": ["string", "number", "boolean", "null"]}
FREE_MAP = {"type": "object"}
COUNT = {"type": "integer", "minimum": 1}
VALUES = {"$ref": "#/definitions/values"}


def said(schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    """The schema with what an editor shows of it."""
    return {**schema, "description": description}


def closed(properties: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    """A map with these keys and no others."""
    made: dict[str, Any] = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return made | ({"required": list(required)} if required else {})


def named_map(values: Mapping[str, Any]) -> dict[str, Any]:
    """A map from names to ``values``."""
    return {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": dict(values)}


def or_filled(schema: Mapping[str, Any], description: str = "") -> dict[str, Any]:
    """The schema, or a text with ``${…}``."""
    made = {"anyOf": [dict(schema), _FILLED]}
    return said(made, description) if description else made


def inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema with its references resolved and without titles."""
    if isinstance(schema, list):
        return [inlined(s, definitions) for s in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return inlined(copy.deepcopy(definitions[schema["$ref"].rsplit("/", 1)[1]]), definitions)
    return {key: inlined(value, definitions) for key, value in schema.items() if key != "title"}


# what pydantic leaves at a union under its own names; JSON Schema's bounds mean nothing where the value is no number
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def fillable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a parameter in which any value, at any depth, may also be a text with ``${…}``."""
    if "anyOf" in schema:
        bounds = {word: schema[name] for name, word in _BOUNDS.items() if name in schema}
        return {"anyOf": [*(fillable({**bounds, **s}) for s in schema["anyOf"]), _FILLED]}
    made = {k: v for k, v in schema.items() if k not in ("description", "default")}
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = fillable(made[key])
    free = made.get("type") == "string" and not {"enum", "const"} & set(made)
    return made if free or not made else {"anyOf": [made, _FILLED]}
