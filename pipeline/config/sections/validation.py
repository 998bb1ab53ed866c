"""Values of a file checked against a pydantic model; pydantic's errors become ours, each at its place in the file."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pipeline.config.fault_collector import FaultCollector
from pipeline.config.interpolation import Scope, interpolate
from pipeline.config.sections.fields import code_schema, key_names
from pipeline.config.signatures.descriptions import describe_parameter
from pipeline.config.yaml_nodes import Node
from pipeline.errors import Location, nearest

__all__ = ["check_key_names", "read", "validated"]

Model = TypeVar("Model", bound=BaseModel)


def read(
    model: type[Model],
    node: Node,
    path: str,
    scope: Scope,
    faults: FaultCollector,
    *,
    place: Location | None = None,
    others: bool = False,
) -> Model | None:
    """Return the keys of a map, interpolated and validated; None if there are errors, which are noted.

    Parameters
    ----------
    place : where an error about the whole map is; default: where the map begins
    others : whether the map has keys of other models, too
    """
    given: dict[str, Any] = {}
    names = key_names(model)
    n_faults = len(faults)
    for key, inner in node.items():
        name = names.get(key)
        if name is None:
            given |= {} if others else {key: inner}
        elif code_schema(model.model_fields[name]) is not None:
            given[key] = inner
        else:
            with faults.caught():
                given[key] = interpolate(inner, f"{path}.{key}" if path else key, scope)
    made = validated(model, given, node, path, faults, place=place)
    return made if len(faults) == n_faults else None


def validated(
    model: type[Model],
    given: Mapping[str, Any],
    node: Node,
    path: str,
    faults: FaultCollector,
    *,
    place: Location | None = None,
    owner: str = "",
) -> Model | None:
    """Return the model of the given values; None if there are errors, which are noted.

    Parameters
    ----------
    given : interpolated values by key; a key of ``node`` that is not among them has an error that is noted already
    node : the map that they are written in
    owner : what the keys belong to, for messages: ``op 'mean'``
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        for one in _one_per_key(error, model, node):
            key = one["loc"][0]
            if key in given or node.at(key) is node:
                faults.add(*_explained(one, model, node, place or node.location, path, owner))
        return None


def _one_per_key(error: ValidationError, model: type[BaseModel], node: Node) -> list[Any]:
    """Return one error per key: of the branches of a union the one that is deepest in what is written."""
    found: dict[Any, tuple[int, Any]] = {}
    for one in error.errors(include_url=False):
        inner, depth = node, 0
        for part in one["loc"]:
            depth += inner.at(part) is not inner
            inner = inner.at(part)
        key, inside = one["loc"][:1], _section(model, one["loc"][0])
        while inside is not None and len(key) < len(one["loc"]):
            part = one["loc"][len(key)]
            key, inside = one["loc"][: len(key) + 1], inside if isinstance(part, int) else _section(inside, part)
        if key not in found or depth > found[key][0]:
            found[key] = depth, one
    return [one for _, one in found.values()]


def _section(model: type[BaseModel], key: Any) -> type[BaseModel] | None:
    """Return the model of a key whose value is a section of its own, or a list of them."""
    name = key_names(model).get(key)
    kind = model.model_fields[name].annotation if name is not None else None
    kind = get_args(kind)[0] if get_origin(kind) is list else kind
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _explained(
    one: Any, model: type[BaseModel], node: Node, place: Location, path: str, owner: str
) -> tuple[Location, str, str]:
    """Return place, path and message of one of pydantic's errors."""
    key, *rest = one["loc"]
    here = f"{path}.{key}" if path else str(key)
    if one["type"] == "extra_forbidden" and not rest:
        return node.keys.get(key, node.at(key).location), here, _unknown(str(key), model, owner)
    if one["type"] == "missing" and not rest:
        return place, path, _missing(str(key), model, owner)
    name = key_names(model)[key]
    info = model.model_fields[name]
    node = node.at(key)
    section = _section(model, key)
    if section is not None and rest and isinstance(rest[0], int):
        node, here, rest = node.at(rest[0]), f"{here}[{rest[0]}]", rest[1:]
    if rest and section is not None:
        return _explained(one | {"loc": tuple(rest)}, section, node, node.location, here, "")
    for part in rest:
        if node.at(part) is not node:
            node = node.at(part)
            here += f"[{part}]" if isinstance(part, int) else f".{part}"
    message = str(one["ctx"]["error"]) if one["type"] == "value_error" else ""
    if not message:
        got = node.shown
        if isinstance(node.value, str) and "${" in node.value:
            got += f", which is {reprlib.repr(one['input'])}"
        choices = re.findall(r"'([^']*)'", one["ctx"]["expected"]) if one["type"] == "literal_error" else []
        takes = info.title or describe_parameter(model, name)
        message = f"got {got}; {key} takes {takes}{nearest(str(one['input']), choices)}"
    return node.location, here, message


def _unknown(key: str, model: type[BaseModel], owner: str) -> str:
    refused: Mapping[str, str] = getattr(model, "REFUSED", {})
    if key in refused:
        return refused[key]
    names = key_names(model)
    what = f"unknown key of {owner}" if owner else "unknown key"
    return f"{what}; allowed: {', '.join(names) or 'none'}{nearest(key, names)}"


def _missing(key: str, model: type[BaseModel], owner: str) -> str:
    name = key_names(model)[key]
    takes = model.model_fields[name].description or describe_parameter(model, name)
    return f"{owner} needs {key}: {takes}" if owner else f"needs {key}: {takes}"


def check_key_names(model: type[BaseModel], node: Node, path: str, place: Location, faults: FaultCollector) -> None:
    """Note the unknown and the missing keys of a map, whose values can't be read yet."""
    names = key_names(model)
    for key in node.value:
        if key not in names:
            faults.add(node.keys[key], f"{path}.{key}", _unknown(key, model, ""))
    for key, name in names.items():
        if model.model_fields[name].is_required() and key not in node.value:
            faults.add(place, path, _missing(key, model, ""))
