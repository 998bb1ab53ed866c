"""The published JSON Schema of ``report.json``, and the check of a document against it.

Every field of format 1 is told with its unit; the records stand in ``records.py``. ``checking.py`` holds a document
against it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.report import json_validation
from pipeline.report.json_schema_records import (
    DEFINITIONS,
    Schema,
    count,
    listed,
    mapped,
    opened,
    or_null,
    record,
    text,
)

__all__ = ["FORMAT", "SCHEMA", "faults", "read", "validate"]

FORMAT = 1
_SHOWN = 10

_REFERENCES = {name: {"$ref": f"#/$defs/{name}"} for name in ("row", "account", "scaling", "measurement", "difference")}

SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "report.json of Pipeline",
    **opened(
        "What is known of a run or a comparison. Times are seconds, sizes are bytes.",
        {
            "format": {"const": FORMAT, "description": "of this document"},
            "kind": {"enum": ["comparison", "run"], "description": "what it tells of"},
            "name": text("of the pipeline"),
            "fingerprint": text("of the one Graph that ran"),
            "n_tasks": count("tasks of the Graph"),
            "folder": text("the run folder, relative to the report"),
            "created": text("when it was written: ISO 8601, UTC"),
            "exit_code": {"type": "integer", "description": "of the command"},
            "problem": text("what the exit code stands for; empty: nothing"),
            "equality": text("how equal the results are, over all back ends"),
            "verdict": listed("the lines to read if no others are read; the last says it all", text("a line")),
            "footnotes": listed("what the numbers mean", text("a line")),
            "rows": listed("one a back end and number of workers, the reference first", _REFERENCES["row"]),
            "accounts": listed("where the core-seconds went, of each row that ran", _REFERENCES["account"]),
            "scaling": listed("of back ends measured with several numbers of workers", _REFERENCES["scaling"]),
            "reference": or_null({"$ref": "#/$defs/reference"}),
            "measurements": listed("every measured run", _REFERENCES["measurement"]),
            "differences": mapped("label of a row -> what was compared", listed("of it", _REFERENCES["difference"])),
            "environment": opened(
                "the machine",
                {
                    "python": text("version"),
                    "platform": text("operating system"),
                    "machine": text("a hash that tells the machine from others"),
                    "processor": text("its name"),
                    "cores": or_null(count("that the run could use")),
                    "memory": or_null(count("bytes")),
                    "versions": mapped("package -> version", text("version")),
                },
                optional=("python", "platform", "machine", "processor", "cores", "memory", "versions"),
            ),
            "inputs": mapped(
                "path of an input file -> what it was",
                opened(
                    "an input file",
                    {"bytes": or_null(count("size")), "sha256": or_null(text("hash, in hex"))},
                    optional=("bytes", "sha256"),
                ),
            ),
            "code": mapped("name of a module or function -> hash of its source", text("SHA-256, in hex")),
            "config": text("the file as it was resolved, in YAML, secrets masked"),
            "graph": record(
                "the steps",
                {
                    "steps": listed(
                        "in the order of the file",
                        record(
                            "a step, its copies together",
                            {"step": text("name"), "kind": text("of its value"), "n_tasks": count("tasks")},
                        ),
                    ),
                    "edges": listed(
                        "pairs of steps; the second needs the first",
                        {"type": "array", "items": text("step"), "minItems": 2, "maxItems": 2},
                    ),
                },
            ),
        },
    ),
    "$defs": DEFINITIONS,
}
"""JSON Schema (draft 2020-12) of ``report.json``, format 1."""


def read(path: Path) -> dict[str, Any]:
    """A document from a file, checked.

    Raises
    ------
    DataError : if it cannot be read, is no JSON, or is not what the schema says
    """
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no report: {error}") from error
    try:
        validate(told)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    found: dict[str, Any] = told
    return found


def validate(told: Any) -> None:
    """Check a document against :data:`SCHEMA`.

    Raises
    ------
    DataError : naming what is wrong, all of it up to ten lines
    """
    if isinstance(told, Mapping) and told.get("format") != FORMAT:
        raise DataError(f"format: got {told.get('format')!r}; this version reads format {FORMAT}")
    found = faults(told)
    if found:
        more = [f"… {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        raise DataError("\n".join(["is no report of format 1:", *found[:_SHOWN], *more]))


def faults(told: Any) -> list[str]:
    """What is wrong with a document, a line each, with its place: ``rows[2].speedup.n: got 'x'; …``."""
    return list(json_validation.faults(told, SCHEMA))
