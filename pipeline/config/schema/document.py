"""The JSON Schema of a pipeline file: what an editor completes, explains and underlines.

It is draft 7, which every language server for YAML reads. Each key that can be written is described where it stands,
since an editor shows the text of a key's own schema; what many steps share is written once, under ``definitions``.
"""

from __future__ import annotations

from typing import Any

from pipeline.config.schema.pieces import (
    COUNT,
    FREE_MAP,
    FUNCTION,
    REFERENCE,
    SCALAR,
    closed,
    named_map,
    or_filled,
    said,
)
from pipeline.config.schema.steps import step_definitions
from pipeline.config.sections.formats import FORMATS

__all__ = ["json_schema"]


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 7) of a pipeline file.

    It is strict: an unknown key at any depth is refused, and so is a parameter that the step's op doesn't have. Any
    value but a key, a name, or a reference may be a text with ``${…}`` instead.
    """
    texts = {"type": "array", "items": {"type": "string"}}
    properties: dict[str, Any] = {
        "version": {"const": 1, "description": "of the language: 1"},
        "name": {"type": "string", "description": "of the pipeline; default: the file's name without .yaml"},
        "description": {"type": "string", "description": "what the pipeline is for, in your words"},
        "include": said(texts, "files merged first, in order, this one last"),
        "params": said(named_map({}), "values for ${name} and ${name.sub}; pipeline run … --set name=value"),
        "modules": said(texts, "what call may import: scipy.ndimage (installed), ./my.py (shipped to the workers)"),
        "seed": or_filled({"type": "integer", "minimum": 0}, "root of every random number; default: 0"),
        "steps": said(
            {**named_map({"$ref": "#/definitions/step"}), "minProperties": 1},
            "name: a step, which has one of op, expr, call, command",
        ),
        "outputs": said(named_map({"$ref": "#/definitions/output"}), "name: what is written; all of them, or none"),
        "checks": {
            "type": "array",
            "items": {"$ref": "#/definitions/check"},
            "description": "what must hold before anything is committed",
        },
        "keep": {"type": "array", "items": REFERENCE, "description": "steps whose values the run gives back"},
        "storage": {
            "type": "object",
            "additionalProperties": FREE_MAP,
            "description": "options of fsspec by protocol: {s3: {anon: true}}",
        },
        "cluster": said(closed(_cluster()), "the Dask cluster of pipeline run"),
        "compare": said(closed(_compare()), "what pipeline compare compares"),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Pipeline",
        "description": "A pipeline of chunked arrays, dataframes and Python calls.",
        **closed(properties, required=("version", "steps")),
        "definitions": {**step_definitions(), "output": _output(), "check": _check()},
    }


def _cluster() -> dict[str, Any]:
    return {
        "workers": said(SCALAR, "number of worker processes; auto: as many as cores"),
        "threads_per_worker": said(SCALAR, "tasks that a worker runs at once; default: 1"),
        "memory_limit": said(SCALAR, "of a worker: bytes, 4GB, or auto"),
        "address": said(SCALAR, "of a scheduler that runs already: tcp://host:8786"),
        "class": said(SCALAR, '"module:Class" of a Dask cluster'),
        "kwargs": said(FREE_MAP, "arguments of that class"),
        "scale": said({"type": ["string", "number", "object"]}, "how many workers that cluster starts"),
        "adapt": said(FREE_MAP, "between how many it moves: {minimum: 1, maximum: 10}"),
        "insecure": said(SCALAR, "true: an address without TLS that others can reach, too"),
        "page": said(SCALAR, "false: no page of steps on the dashboard of a cluster of ours"),
    }


def _compare() -> dict[str, Any]:
    reference = closed({"call": said(FUNCTION, "module:function")}, ("call",))
    return {
        "backends": or_filled({"type": "array", "items": {"type": "string"}}, "which: [processes, dask]"),
        "repeat": or_filled(COUNT, "rounds"),
        "reference": said(
            reference,
            "the whole job as one would write it without Pipeline, in one thread; it gets the params as keywords and "
            "returns a map: name of an output -> its value",
        ),
    }


def _output() -> dict[str, Any]:
    columns = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    properties = {
        "input": said(REFERENCE, "what is written; default: the step of the output's name"),
        "to": {
            "enum": list(FORMATS),
            "enumDescriptions": [f"of {' or '.join(form.kinds)}" for form in FORMATS.values()],
            "description": "; ".join(f"{name}: {' or '.join(form.kinds)}" for name, form in FORMATS.items()),
        },
        "path": {"type": "string", "minLength": 1, "description": "below the output folder (--out)"},
        "partition_by": or_filled(columns, "parquet: a folder for each value of these columns"),
        "files": or_filled(COUNT, "parquet: number of files"),
        "attrs": said(FREE_MAP, "attributes: {units: K}"),
        "mode": {"const": "replace", "description": "replace: what stood there goes when the new is complete"},
        "options": said(FREE_MAP, _options()),
    }
    return closed(properties, ("to", "path"))


def _options() -> str:
    return "; ".join(f"{name}: {', '.join(form.options)}" for name, form in FORMATS.items() if form.options)


def _check() -> dict[str, Any]:
    number = {"type": "number"}
    properties = {
        "that": {
            "type": "string",
            "description": "a step, or an expression of one-element steps that must be true",
        },
        "approx": or_filled(number, "the number wanted; with abs or rel"),
        "abs": or_filled(number, "how far from approx it may be"),
        "rel": or_filled(number, "how far from approx, or from equals_csv, relative to it"),
        "equals_csv": {"type": "string", "description": "a CSV file with the frame wanted"},
        "sep": {"type": "string", "minLength": 1, "description": "what separates the columns of equals_csv"},
        "rows": {
            "anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}],
            "description": 'of a frame: a number, or ">= 1"',
        },
        "columns": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "of a frame: {name: type}",
        },
    }
    return closed(properties, ("that",))
