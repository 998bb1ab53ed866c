"""The JSON Schema of a pipeline file: what an editor completes, explains and underlines.

It is draft 7, which every language server for YAML reads. Each key is described where it is used, since an editor shows
the text of a key's own schema; what many steps share is under ``definitions``, once.
"""

from __future__ import annotations

from typing import Any

from pipeline.config.schema.pieces import closed_model
from pipeline.config.schema.steps import step_definitions
from pipeline.config.sections.keys import CacheKeys, CheckKeys, File, OutputKeys

__all__ = ["json_schema"]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 7) of a pipeline file.

    It is strict: an unknown key at any depth is refused, and so is a parameter that the step's op doesn't have. Any
    value but a key, a name, or a reference may be a text with ``${…}`` instead.
    """
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Pipeline",
        "description": "A pipeline of chunked arrays, dataframes and Python calls.",
        **closed_model(File),
        "definitions": {
            **step_definitions(),
            "output": closed_model(OutputKeys),
            "check": closed_model(CheckKeys),
            "cache": closed_model(CacheKeys),
        },
    }
