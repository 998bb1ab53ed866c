"""Runs what a YAML text or a frame asks for, task after task in this process: for tests of what steps mean."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask
import pandas as pd
import pyarrow as pa

from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.graph import collect
from pipeline.graph.graph import CONTEXT, Graph
from pipeline.graph.nodes import constant, execute, toposort
from pipeline.graph.pandas_frames import to_pandas
from pipeline.ops.collections import Frame
from pipeline.worker.process_setup import install_modules

__all__ = ["frame_of", "graph_of", "partitions_of", "rows_of", "table_of", "values_of"]


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


def partitions_of(frame: Frame) -> list[pa.Table]:
    """The partitions of a frame that an op gives, each checked against the schema."""
    tables = list(dask.get(dict(frame.tasks), list(frame.keys)))
    for table in tables:
        assert table.schema.equals(frame.schema), f"{table.schema}\n!=\n{frame.schema}"
        table.validate(full=True)
    return tables


def table_of(frame: Frame) -> pa.Table:
    """Its rows."""
    return pa.concat_tables(partitions_of(frame))


def rows_of(frame: Frame) -> pd.DataFrame:
    """Its rows, as pandas has them."""
    return to_pandas(table_of(frame))


def frame_of(rows: pa.Table | Mapping[str, Any], n: int = 1, name: str = "given") -> Frame:
    """A frame of a table (or columns), cut into ``n`` partitions of nearly equal length."""
    table = rows if isinstance(rows, pa.Table) else pa.table(dict(rows))
    cuts = [i * table.num_rows // n for i in range(n + 1)]
    pieces = [table.slice(start, stop - start) for start, stop in itertools.pairwise(cuts)]
    tasks = {(name, i): constant((name, i), piece) for i, piece in enumerate(pieces)}
    return Frame(tasks, tuple(tasks), table.schema)
