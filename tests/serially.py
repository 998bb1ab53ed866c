"""Runs what a YAML text asks for, task after task in this process: for tests of what steps mean."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.graph import collect
from pipeline.graph.graph import CONTEXT, Graph, constant, execute, toposort
from pipeline.worker.process_setup import install_modules

__all__ = ["graph_of", "values_of"]


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
