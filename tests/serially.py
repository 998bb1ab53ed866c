"""Runs what a YAML text or a frame asks for, task after task in this process: for tests of what steps mean."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import dask
import pandas as pd

from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.graph import collect
from pipeline.graph.graph import CONTEXT, Graph, constant, execute, toposort
from pipeline.ops.collections import Frame
from pipeline.worker.process_setup import install_modules

__all__ = ["graph_of", "partitions_of", "rows_of", "values_of"]


def graph_of(text: str, root: Path, **params: Any) -> Graph:
    """The validated Graph of a file's text (``version: 1`` is added)."""
    config = loads("version: 1\n" + textwrap.dedent(text), name="test", root=root, sets=params)
    graph = build(config)
    graph.validate()
    return graph


def values_of(text: str, root: Path, **params: Any) -> dict[str, Any]:
    """The whole in-memory value of every copy of a step that nobody uses, is kept or checked."""
    graph = graph_of(text, root, **params)
    install_modules(graph.modules)
    tasks = {**graph.tasks, CONTEXT: constant(CONTEXT, None)}
    results: dict[Any, Any] = {}
    for key in toposort(tasks):
        results[key] = execute(tasks[key], results)
    return {
        name: collect.argument(graph.value_types[name], [results[key] for key in graph.value_types[name].keys])
        for name in graph.kept
    }


def partitions_of(frame: Frame) -> list[pd.DataFrame]:
    """The partitions of a frame that an op gives."""
    return list(dask.get(dict(frame.tasks), list(frame.keys)))


def rows_of(frame: Frame) -> pd.DataFrame:
    """Its rows."""
    return pd.concat(partitions_of(frame), ignore_index=True)
