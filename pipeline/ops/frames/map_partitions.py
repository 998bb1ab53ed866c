"""``map_partitions``: a function of the user's over each partition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipeline.errors import DataError
from pipeline.graph.column_types import declared_type, schema_of
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode
from pipeline.graph.ownership import users_code
from pipeline.graph.pandas_frames import FrameForm, as_frame, column_names, from_pandas, is_frame
from pipeline.ops.collections import Args, Frame, args_of_task
from pipeline.ops.frames.partitions import Partitions
from pipeline.worker.isolation import fresh
from pipeline.worker.sql_engine import entered
from pipeline.worker.users_function import called

__all__ = ["map_partitions"]


def map_partitions(
    input: Frame,  # noqa: A002
    *,
    function: str,
    columns: Mapping[str, str],
    args: Args = None,
    frames: FrameForm = "pandas",
) -> Frame:
    """A function of the user's over each partition: a frame in, one with any number of rows out.

    Which rows share a partition is said by op set_index; without it the function must not depend on it. A partition may
    have no rows.

    Parameters
    ----------
    function : ``module:function``, called as ``function(frame, **args)``; looked up inside the task
    args : keyword arguments; or the value that is a map of them
    columns : column -> type of the result; any of them may have missing values
    frames : which frames it gets; it may give any

    Raises
    ------
    OpError : no such type
    DataError : in the run, if it gives no frame, other columns, or values that don't fit their type
    """
    schema = schema_of({name: declared_type(kind, f"columns.{name}") for name, kind in columns.items()})
    late: dict[Key, GraphNode] = {}
    given = args_of_task(args, late)
    partitions = Partitions.of(input, parameters=("map_partitions", function, given, dict(columns), frames))
    partitions.tasks |= late
    return partitions.map("map_partitions", call_function, schema, function, given, schema, frames)


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


@users_code
def call_function(
    table: pa.Table, function: str, args: Mapping[str, Any], schema: pa.Schema, frames: FrameForm
) -> pa.Table:
    """What the function gives for one partition, held to the columns and types declared."""
    found = called(function, as_frame(table, frames), **fresh(args))
    if not is_frame(found):
        frames_of = "a partition becomes a pandas.DataFrame, or a frame of polars or Arrow"
        raise DataError(f"{function} gave a {type(found).__name__}; {frames_of}")
    names = column_names(found)
    odd = [str(name) for name in names if name not in schema.names]
    lacking = [name for name in schema.names if name not in names]
    if odd or lacking:
        wrong = f"no column {lacking[0]!r}" if lacking else f"the column {odd[0]!r}, which is not among them"
        raise DataError(f"{function} gave {wrong}; columns: says {', '.join(schema.names)}")
    return entered(from_pandas(found, schema, function), schema)
