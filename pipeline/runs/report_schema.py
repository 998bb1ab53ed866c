"""The published JSON Schema of ``report.json``, and the check of documents that are read, with errors in our words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema

from pipeline.errors import DataError
from pipeline.runs.report_model import FORMAT, Report
from pipeline.units import count_text

__all__ = ["json_schema", "parse", "read", "upgraded", "validation_errors"]

_SHOWN = 10  # errors that a message lists


def read(path: Path) -> dict[str, Any]:
    """Return a document from a file, after checking it.

    Raises
    ------
    DataError : if the file cannot be read, is not JSON, or does not match the schema
    """
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no report: {error}") from error
    try:
        parse(document)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    found: dict[str, Any] = document
    return found


def parse(document: Any) -> Report:
    """Check a document, and return it as a :class:`Report`.

    Raises
    ------
    DataError : listing the first ten errors, each with its place
    """
    if isinstance(document, Mapping) and document.get("format") != FORMAT:
        raise DataError(f"format: got {document.get('format')!r:.60}; this version reads format {FORMAT}")
    try:
        return Report.model_validate(document)
    except ValidationError as error:
        lines = list(_messages(error))
        more = [f"… {count_text(len(lines) - _SHOWN, 'more error')}"] if len(lines) > _SHOWN else []
        raise DataError("\n".join(["is no report of format 1:", *lines[:_SHOWN], *more])) from None


def validation_errors(document: Any) -> list[str]:
    """Return what is wrong with a document, a line each: ``rows[2].speedup.n: got 'x'; it must be of type integer``."""
    try:
        Report.model_validate(document)
    except ValidationError as error:
        return list(_messages(error))
    return []


def upgraded(document: Any) -> Any:
    """Return an older document with all fields that format 1 requires today; ``comparison.json`` lacked most."""
    if not isinstance(document, dict):
        return document
    filled = _EMPTY | {name: value for name, value in document.items() if value is not None}
    for name, key in (("rows", "label"), ("measurements", "case")):
        if isinstance(filled[name], list):
            filled[name] = [{**_OLD_MEASUREMENT, key: record.get("backend"), **record} if isinstance(record, dict)
                            else record for record in filled[name]]  # fmt: skip
    return filled


_EMPTY: dict[str, Any] = {
    "format": FORMAT,
    "kind": "comparison",
    "folder": ".",
    "exit_code": 0,
    "reference": None,
    "graph": {"steps": [], "edges": []},
    **dict.fromkeys(("problem", "equality", "config", "created"), ""),
    **{name: {} for name in ("differences", "environment", "inputs", "code")},
    **{name: [] for name in ("verdict", "footnotes", "rows", "accounts", "scaling", "measurements")},
}
_OLD_MEASUREMENT = dict.fromkeys(("start_up", "verify", "commit", "user", "system", "memory", "process"))


# ---------------------------------------------------------------------------------------------------------------------
# The JSON Schema, and messages made from it
# ---------------------------------------------------------------------------------------------------------------------


class _Untitled(GenerateJsonSchema):
    """Leave out the titles that pydantic makes of the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@cache
def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``report.json``, format 1."""
    return {"$schema": GenerateJsonSchema.schema_dialect, **Report.model_json_schema(schema_generator=_Untitled)}


def _messages(error: ValidationError) -> Iterator[str]:
    for found in error.errors(include_url=False, include_context=False):
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in found["loc"])
        place = place.removeprefix(".") or "the document"
        if found["type"] == "missing":
            yield f"{place}: is missing"
        elif found["type"] == "extra_forbidden":
            yield f"{place}: is unknown; there are {', '.join(_schema_at(found['loc'][:-1])['properties'])}"
        else:
            got = repr(found["input"])
            got = got if len(got) <= 60 else f"{got[:59]}…"
            yield f"{place}: got {got}; it must be {_allowed(_schema_at(found['loc']), found['type'])}"


def _schema_at(place: tuple[int | str, ...]) -> dict[str, Any]:
    """Return the part of the JSON Schema that describes a place in a document."""
    schema = _resolved(json_schema())
    for part in place:
        inner = schema["items"] if isinstance(part, int) else schema.get("properties", {}).get(part)
        schema = _resolved(inner or schema["additionalProperties"])
    return schema


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference; join a type with null into one schema with both types."""
    if "anyOf" in schema:
        first, null = schema["anyOf"]
        first = _resolved(first)
        return {**first, "type": [first.get("type", "object"), null["type"]]}
    if "$ref" in schema:
        found: dict[str, Any] = json_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _allowed(schema: dict[str, Any], kind: str) -> str:
    """Return in words what a schema allows, as far as an error of pydantic's kind is concerned."""
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    bounds = {
        "greater_than_equal": (">=", "minimum"),
        "less_than_equal": ("<=", "maximum"),
        "less_than": ("<", "exclusiveMaximum"),
    }
    if kind in bounds:
        sign, bound = bounds[kind]
        return f"{sign} {schema[bound]}"
    if kind in ("too_short", "too_long"):
        return f"a list of {count_text(schema['minItems'], 'item')}"
    if kind == "finite_number":
        return "a finite number"
    types = schema.get("type", "object")
    return f"of type {types if isinstance(types, str) else ' or '.join(types)}"
