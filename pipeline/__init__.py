"""Parallel array, dataframe and Python pipelines from one YAML file.

The public names are imported on first use (PEP 562): ``pipeline --help`` and a bad file are answered without numpy or
dask being loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import Pipeline as Pipeline
    from pipeline.api import batches as batches
    from pipeline.api import build as build
    from pipeline.api import check as check
    from pipeline.api import compare as compare
    from pipeline.api import load as load
    from pipeline.api import run as run
    from pipeline.config.model import Config as Config
    from pipeline.errors import BackendError as BackendError
    from pipeline.errors import CheckError as CheckError
    from pipeline.errors import ConfigError as ConfigError
    from pipeline.errors import DataError as DataError
    from pipeline.errors import OutputError as OutputError
    from pipeline.errors import PipelineError as PipelineError
    from pipeline.errors import TaskError as TaskError
    from pipeline.graph.graph import Graph as Graph
    from pipeline.trace.trace import Trace as Trace
    from pipeline.worker import shared as shared

_HOME = {
    **dict.fromkeys(("load", "batches", "build", "check", "run", "compare", "Pipeline"), "api"),
    "Config": "config.model",
    "Graph": "graph.graph",
    "Trace": "trace.trace",
    **dict.fromkeys(("BackendError", "CheckError", "ConfigError", "DataError"), "errors"),
    **dict.fromkeys(("OutputError", "PipelineError", "TaskError"), "errors"),
}
"""Public name -> the module it is imported from."""

__version__ = "0.2.0"
__all__ = [*sorted(_HOME), "shared", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "shared":
        return importlib.import_module("pipeline.worker.shared")
    if name not in _HOME:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pipeline.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
