"""JSON Schema made from pydantic models: the properties of their fields, without references and titles."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from pipeline.config.sections.fields import TEMPLATE, closed, code_schema, key_names, or_template

__all__ = ["closed_model", "properties", "with_templates"]


def properties(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of each key of a model.

    A key that the model validates may contain ``${…}`` at any depth; one that code reads has the schema of its field.
    """
    return {key: _property(model.model_fields[name]) for key, name in key_names(model).items()}


def _property(info: FieldInfo) -> dict[str, Any]:
    schema, kind = code_schema(info), info.annotation
    if schema is None and isinstance(kind, type) and issubclass(kind, BaseModel):
        schema = closed_model(kind)
    if schema is None:
        validated: Any = Annotated[kind, *info.metadata, None]
        schema = TypeAdapter(validated).json_schema()
        schema = with_templates(_inlined(schema, schema.pop("$defs", {})))
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        schema |= {"default": default} if default not in (None, [], {}) else {}
    return {**schema, **({"description": info.description} if info.description else {})}


def closed_model(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a map with the keys of a model and no others."""
    required = [key for key, name in key_names(model).items() if model.model_fields[name].is_required()]
    return closed(properties(model), required)


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return the schema with its references resolved and without titles."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(copy.deepcopy(definitions[schema["$ref"].rsplit("/", 1)[1]]), definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items() if key != "title"}


# at a union pydantic keeps its own names of bounds; those of JSON Schema apply to numbers alone
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def with_templates(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of such a value in which any value, at any depth, may also be a text with ``${…}``."""
    made = _with_templates_inside(schema)
    if "anyOf" in made:
        return {"anyOf": [*made["anyOf"], TEMPLATE]}
    is_free_text = "string" in made.get("type", "") and not {"enum", "const", "pattern"} & set(made)
    return made if is_free_text or not made else or_template(made)


def _with_templates_inside(schema: Mapping[str, Any]) -> dict[str, Any]:
    if "anyOf" in schema:
        bounds = {word: schema[name] for name, word in _BOUNDS.items() if name in schema}
        return {"anyOf": [_with_templates_inside({**bounds, **one}) for one in schema["anyOf"]]}
    made = {key: value for key, value in schema.items() if key not in ("description", "default")}
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = with_templates(made[key])
    return made
