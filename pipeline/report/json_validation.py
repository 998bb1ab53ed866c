"""Hold a value against a JSON Schema: all its faults at once, each with its place.

For the words that the schema of ``report.json`` uses, and no others: ``$ref`` to ``$defs``, ``anyOf``, ``const``,
``enum``, ``type``, ``properties``, ``required``, ``additionalProperties``, ``items``, ``minItems``, ``maxItems``,
``minimum``, ``maximum``. Rejected: the ``jsonschema`` package, which nothing else here needs; a test holds this against
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["faults"]

_Test = Callable[[Any], bool]

_EXACT: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
_TYPES = {"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None)}


def faults(value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a value, a line each: ``rows[2].speedup.n: got 'x'; it must be of type integer``.

    Of an ``anyOf`` that nothing fits, the faults of its first case are told.
    """
    yield from _Check(schema).faults(value, schema, "")


class _Check:
    """A schema made ready: :meth:`fits` lets most records through, and only the others are looked at again."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.definitions = root.get("$defs", {})
        self.ready: dict[int, _Test] = {}

    def faults(self, value: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
        if self.fits(schema)(value):
            return
        while "$ref" in schema:
            schema = self.definitions[schema["$ref"].rpartition("/")[2]]
        if "anyOf" in schema:
            tried = [list(self.faults(value, each, place)) for each in schema["anyOf"]]
            if all(tried):
                yield from tried[0]
            return
        wanted = _wanted(value, schema)
        if wanted:
            yield f"{_at(place)}: got {_brief(value)}; it must be {wanted}"
        elif isinstance(value, dict):
            yield from self._of_object(value, schema, place)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                yield from self.faults(item, schema.get("items", {}), f"{place}[{i}]")

    def fits(self, schema: Mapping[str, Any]) -> _Test:
        """A fast test: what it lets through has no fault; what it does not may still have none (``2.0`` as integer)."""
        if id(schema) not in self.ready:
            self.ready[id(schema)] = self._test(schema)
        return self.ready[id(schema)]

    def _test(self, schema: Mapping[str, Any]) -> _Test:
        if "$ref" in schema:
            return self.fits(self.definitions[schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema:
            tests = [self.fits(each) for each in schema["anyOf"]]
            return lambda value: any(test(value) for test in tests)
        if "properties" in schema or isinstance(schema.get("additionalProperties"), Mapping):
            return self._test_object(schema)
        if "items" in schema and not {"minItems", "maxItems"} & set(schema):
            inner = self.fits(schema["items"])
            return lambda value: type(value) is list and all(map(inner, value))
        kinds = schema.get("type", [])
        types = {found for kind in ([kinds] if isinstance(kinds, str) else kinds) for found in _EXACT.get(kind, ())}
        if not types or {"const", "enum", "items"} & set(schema):
            return lambda value: not _wanted(value, schema) and not isinstance(value, dict | list)
        if "minimum" in schema or "maximum" in schema:
            low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
            return lambda value: type(value) in types and (value is None or low <= value <= high)
        return lambda value: type(value) in types

    def _test_object(self, schema: Mapping[str, Any]) -> _Test:
        tests = {name: self.fits(inner) for name, inner in schema.get("properties", {}).items()}
        required = frozenset(schema.get("required", ()))
        rest = schema.get("additionalProperties", True)
        other: _Test = (lambda value: bool(rest)) if isinstance(rest, bool) else self.fits(rest)
        kinds = schema.get("type", "object")
        nothing = kinds != "object" and "null" in kinds

        def fits(value: Any) -> bool:
            if type(value) is not dict:
                return nothing and value is None
            return required <= value.keys() and all(tests.get(name, other)(inner) for name, inner in value.items())

        return fits

    def _of_object(self, value: dict[str, Any], schema: Mapping[str, Any], place: str) -> Iterator[str]:
        properties = schema.get("properties", {})
        rest = schema.get("additionalProperties", True)
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{_at(f'{place}.{name}')}: is missing"
        for name, inner in value.items():
            if name in properties:
                yield from self.faults(inner, properties[name], f"{place}.{name}")
            elif rest is False:
                yield f"{_at(f'{place}.{name}')}: is unknown; there are {', '.join(properties)}"
            elif rest is not True:
                yield from self.faults(inner, rest, f"{place}.{name}")


def _wanted(value: Any, schema: Mapping[str, Any]) -> str:
    """What the value must be and is not, in words; empty: it is."""
    if "const" in schema and (value != schema["const"] or isinstance(value, bool)):
        return repr(schema["const"])
    if "enum" in schema and value not in schema["enum"]:
        return f"one of {', '.join(schema['enum'])}"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"of type {' or '.join(kinds)}"
    if isinstance(value, list) and not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        return f"a list of {schema.get('minItems', 0)} to {schema.get('maxItems', 'any number of')} items"
    if not _is(value, "number"):
        return ""
    if value < schema.get("minimum", -math.inf):
        return f">= {schema['minimum']}"
    return f"<= {schema['maximum']}" if value > schema.get("maximum", math.inf) else ""


def _is(value: Any, kind: str) -> bool:
    if kind in _TYPES:
        return isinstance(value, _TYPES[kind])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return kind == "number" or (math.isfinite(value) and value == int(value))


def _at(place: str) -> str:
    return place.removeprefix(".") or "the document"


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
