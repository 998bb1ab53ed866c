"""What the models of sections are made of: the base class, kinds of keys, and pieces of JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Count", "Section", "by_code", "closed", "code_schema", "key", "key_names", "named_map", "or_template"]

NAME = r"^[A-Za-z][A-Za-z0-9_]*$"
FUNCTION = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"
TEMPLATE = {"type": "string", "pattern": r"\$\{"}
REFERENCE = {"type": "string", "pattern": r"^\s*[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)?\s*(\[.*\])?\s*$"}
REFERENCES = {"anyOf": [REFERENCE, {"type": "array", "items": REFERENCE}]}
FREE_MAP = {"type": "object"}
TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
VALUES = {"$ref": "#/definitions/values"}

Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """The keys of one section of a file as fields; the description of a field is what an editor shows of its key."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=(), defer_build=True)


def key(description: str, default: Any = ..., *, takes: str = "", **bounds: Any) -> Any:
    """Return a field whose value is validated after interpolation.

    Parameters
    ----------
    default : without it the key must be there; None, which no file can give, where there is none of its type
    takes : what the key takes, for messages, where the words made from its type would not do
    bounds : of the value, as pydantic has them
    """
    return Field(default, description=description, title=takes or None, **bounds)


def by_code(schema: Mapping[str, Any], description: str, default: Any = None) -> Any:
    """Return a field that code of the section reads: its value is the node, with every ``${…}`` as it is written.

    Parameters
    ----------
    schema : the JSON Schema of the key
    """
    return Field(default, description=description, json_schema_extra={"by_code": dict(schema)})


def code_schema(field: Any) -> dict[str, Any] | None:
    """Return the JSON Schema of a field that code reads; None for one that the model validates."""
    return (field.json_schema_extra or {}).get("by_code")


def key_names(model: type[BaseModel]) -> dict[str, str]:
    """Return each key of a model as it is written in a file, with the name of its field."""
    return {info.alias or name: name for name, info in model.model_fields.items()}


def closed(properties: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    """Return the schema of a map with these keys and no others."""
    made: dict[str, Any] = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return made | ({"required": list(required)} if required else {})


def named_map(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a map from names to ``values``."""
    return {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": dict(values)}


def or_template(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of such a value, or of a text with ``${…}`` in its place."""
    return {"anyOf": [dict(schema), TEMPLATE]}
