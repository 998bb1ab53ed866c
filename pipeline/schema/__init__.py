"""What can be said of the language without a file: the listing of ops, and the JSON Schema for editors.

Both are made from the signature classes that the loader checks against, so they cannot say anything else.
"""

from __future__ import annotations

from pipeline.schema.document import json_schema
from pipeline.schema.listing import (
    OpEntry,
    ParameterEntry,
    describe,
    op_names,
    ops,
    ops_text,
    ops_unusable,
)

__all__ = [
    "OpEntry",
    "ParameterEntry",
    "describe",
    "json_schema",
    "op_names",
    "ops",
    "ops_text",
    "ops_unusable",
]
