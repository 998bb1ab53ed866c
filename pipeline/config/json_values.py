"""A Config, or a part of it, in the types that JSON has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.expressions.expression import Expression
from pipeline.config.model import Config, Reference
from pipeline.config.secret_values import Secret

__all__ = ["json_value", "without_nan"]


def json_value(value: Any) -> Any:
    """Return a Config, or a part of it, in the types of JSON, with secrets and storage options masked."""
    if isinstance(value, Secret):
        return "***"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Expression | Reference):
        return value.text
    if isinstance(value, Config):
        hidden = ("storage", "text", "secrets", "tree", "functions")
        shown = {key: json_value(item) for key, item in vars(value).items() if key not in hidden}
        return shown | {"storage": dict.fromkeys(value.storage, "***")}
    if hasattr(value, "keywords"):  # the parameters of an op
        return json_value(value.keywords())
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {key: json_value(getattr(value, key)) for key in value.__dataclass_fields__ if key != "locations"}
    return str(value)


def without_nan(value: Any) -> Any:
    """Return the value with None for nan and infinity, at any depth, since JSON does not have them."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(k): without_nan(v) for k, v in value.items()}
    return [without_nan(v) for v in value] if isinstance(value, list | tuple) else value
