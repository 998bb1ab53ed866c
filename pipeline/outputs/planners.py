"""Plan the writer tasks of an output; ``config/sections/formats.py`` describes the formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config.model import Output
from pipeline.config.sections.formats import FORMATS, ONE_FILE, PACKED, are_lines
from pipeline.errors import OpError
from pipeline.graph.column_types import family, field_of, type_name
from pipeline.graph.graph import CONTEXT, Key, Sink
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.graph.value_types import ArrayType, FrameType, ItemsType, ObjectType, PartsType, ValueType
from pipeline.outputs import array_writers, netcdf, writers
from pipeline.outputs.files import PartRecord
from pipeline.outputs.grids import Grid
from pipeline.outputs.plots import plan_plot
from pipeline.outputs.whole_values import plan_json

__all__ = ["plan_sink"]

# Items are many and often small: at most so many tasks write them
_ITEM_TASKS = 256

Tasks = dict[Key, GraphNode]
Planned = tuple[Tasks, list[Key]]  # all tasks, and the keys of those that return records


def plan_sink(output: Output, value_type: ValueType, *, prefix: str) -> tuple[Tasks, Sink]:
    """Return the tasks that write ``output``, and its :class:`Sink` for the Graph.

    Parameters
    ----------
    value_type : value type of the step to write; the tasks need its keys and :data:`pipeline.graph.graph.CONTEXT`
    prefix : of the names of the new tasks

    Raises
    ------
    OpError : if the format does not take this kind of value, or an option does not fit the value
    """
    if isinstance(value_type, PartsType):
        if value_type.whole is None:
            parts = " ".join(value_type.parts)
            raise OpError("", f"the value has parts; write one of them, with a name.part as input: {parts}")
        value_type = value_type.whole
    _admit(output, value_type)
    if output.mode == "append" and isinstance(value_type, FrameType):  # what other runs add may have missing values
        value_type = replace(value_type, schema=pa.schema([field.with_nullable(True) for field in value_type.schema]))
    tasks, records = _PLANNERS[output.to, value_type.kind](output, value_type, prefix)
    options: dict[str, Any] = {"attrs": dict(output.attrs), "variable": output.name, **output.options}
    if output.files is not None:
        options["files"] = output.files
    if output.partition_by:
        options["partition_by"] = tuple(output.partition_by)
    return tasks, Sink(
        _label(output),
        output.to,
        output.path,
        value_type,
        tuple(records),
        options,
        output.overwrite,
        output.mode == "append",
    )


def _label(output: Output) -> str:
    if not output.matrix:
        return output.name
    if len(output.matrix) == 1:
        return f"{output.name}[{next(iter(output.matrix.values()))}]"
    return f"{output.name}[{','.join(f'{key}={value}' for key, value in output.matrix.items())}]"


def _admit(output: Output, value_type: ValueType) -> None:
    """Check the kind of value and the path, for all formats alike."""
    form = FORMATS.get(output.to)
    if form is None:
        raise OpError("to", f"got {output.to!r}; formats are {' '.join(FORMATS)}")
    if value_type.kind not in form.kinds:
        others = [name for name, other in FORMATS.items() if value_type.kind in other.kinds]
        raise OpError(
            "", f"{output.to} takes {' or '.join(form.kinds)}, got {value_type.kind}; use {' or '.join(others)}"
        )
    if "://" in output.path:
        raise OpError("path", f"got {output.path!r}; outputs on remote storage are not built yet")
    if output.to in ("csv", "json", "pickle", "text") and output.path.endswith((".zst", ".zip")):
        raise OpError("path", f"got {output.path!r}; compressed files are {' '.join(PACKED)}")
    if value_type.kind == "items" and "${key}" not in output.path and output.to not in ONE_FILE:
        raise OpError("path", f"got {output.path!r}; each item is a file: put ${{key}} into the path")
    if value_type.kind != "items" and "${key}" in output.path:
        raise OpError("path", f"got {output.path!r}; ${{key}} is for items, and this is {value_type.kind}")


# ---------------------------------------------------------------------------------------------------------------------
# Frames
# ---------------------------------------------------------------------------------------------------------------------


def _parquet(output: Output, value_type: FrameType, prefix: str) -> Planned:
    columns = value_type.schema.names
    missing = [column for column in output.partition_by if column not in columns]
    if missing:
        raise OpError("partition_by", f"no column {' '.join(missing)}; columns are {' '.join(columns)}")
    if len(output.partition_by) == len(columns):
        raise OpError("partition_by", "got all columns, which leaves none for the files")
    for column in output.partition_by:
        kind = field_of(value_type.schema, column).type
        if family(kind) in ("list", "struct", "binary"):
            raise OpError("partition_by", f"{column} is {type_name(kind)}, which is no name of a folder")
    _require_codec(output.options)
    n_files = value_type.n_partitions if output.files is None else output.files
    digits = max(5, len(str(n_files - 1)))
    tasks: Tasks = {}
    names = ("part-{run}-" if output.mode == "append" else "part-") + f"{{number:0{digits}d}}.parquet"
    schema, by, attrs, options = value_type.schema, tuple(output.partition_by), dict(output.attrs), dict(output.options)
    about = (names, schema, output.path, by, attrs, options, ref(CONTEXT))
    # Each task writes either one partition to several files, or several partitions to one file.
    n_tasks, keys = min(n_files, value_type.n_partitions), value_type.keys
    for i in range(n_tasks):
        parts = range(i * value_type.n_partitions // n_tasks, (i + 1) * value_type.n_partitions // n_tasks)
        numbers = tuple(range(i * n_files // n_tasks, (i + 1) * n_files // n_tasks))
        key = (prefix, i)
        tasks[key] = task(key, writers.write_parquet, listed([ref(keys[part]) for part in parts]), i, numbers, *about)
    if by:
        key = (f"{prefix}/none", 0)
        tasks[key] = task(key, writers.write_no_rows, listed([ref(record) for record in tasks]), *about)
    return tasks, list(tasks)


def _require_codec(options: Mapping[str, Any]) -> None:
    name, level = options.get("compression", "zstd"), options.get("compression_level")
    if level is None:
        return
    try:
        lowest, highest = pa.Codec.minimum_compression_level(name), pa.Codec.maximum_compression_level(name)
    except (ValueError, TypeError):
        raise OpError("options.compression_level", f"{name} has no levels") from None
    if not lowest <= level <= highest:
        raise OpError("options.compression_level", f"got {level}; levels of {name} are {lowest} to {highest}")


def _csv(output: Output, value_type: FrameType, prefix: str) -> Planned:
    options = dict(output.options)
    head = writers.csv_header(value_type.schema.names, options)
    fragments: Tasks = {}
    for i, key in enumerate(value_type.keys):
        own = (f"{prefix}/part", i)
        fragments[own] = task(own, writers.write_csv_fragment, ref(key), i, output.path, options, ref(CONTEXT))
    return _joined(fragments, prefix, head, b"", b"", output.path)


def _json_frame(output: Output, value_type: FrameType, prefix: str) -> Planned:
    lines = are_lines(output.path, output.options)
    fragments: Tasks = {}
    for i, key in enumerate(value_type.keys):
        own = (f"{prefix}/part", i)
        fragments[own] = task(own, writers.write_json_fragment, ref(key), i, output.path, lines, ref(CONTEXT))
    head, between, tail = (b"", b"\n", b"\n") if lines else (b"[\n", b",\n", b"\n]\n")
    return _joined(fragments, prefix, head, between, tail, output.path)


def _joined(fragments: Tasks, prefix: str, head: bytes, between: bytes, tail: bytes, path: str) -> Planned:
    key: Key = (f"{prefix}/join",)
    parts = listed([ref(fragment) for fragment in fragments])
    join = task(key, writers.join_text, parts, head, between, tail, path, ref(CONTEXT))
    return {**fragments, key: join}, [key]


# ---------------------------------------------------------------------------------------------------------------------
# Arrays
# ---------------------------------------------------------------------------------------------------------------------


def _spec(output: Output, value_type: ArrayType, level: int) -> array_writers.ArraySpec:
    """Describe the array for its writer tasks.

    Raises
    ------
    OpError : if the name of the output is also the name of a dim or coordinate
    """
    if output.to != "npy" and output.name in {*value_type.dims, *value_type.template.coords, *value_type.labels}:
        raise OpError("", f"{output.name!r} is also a dim or a coordinate of the array; rename the output")
    return array_writers.ArraySpec(
        output.name,
        value_type.dims,
        np.dtype(value_type.dtype).str,
        {**value_type.template.attrs, **output.attrs},
        value_type.template,
        dict(value_type.labels),
        dict(output.options.get("chunks", {})),
        int(output.options.get("level", level)),
    )


def _labels(value_type: ArrayType) -> Any:
    """Return a task argument with the labels that are computed in the run: for each coordinate, those of each chunk."""
    return listed(listed(ref(key) for key in own.keys) for own in value_type.labels.values())


def _zarr(output: Output, value_type: ArrayType, prefix: str) -> Planned:
    spec = _spec(output, value_type, level=1)
    unknown = [any(n != n for n in sizes) for sizes in value_type.chunks]
    sizes = [(1,) if late else own for late, own in zip(unknown, value_type.chunks, strict=True)]
    grid = Grid.plan(value_type.dims, sizes, value_type.dtype, spec.chunks, alone=any(unknown))
    if any(unknown):
        return _one_file(output, value_type, prefix, array_writers.join_zarr, spec)
    head: Key = (f"{prefix}/head",)
    node = task(head, array_writers.write_zarr_head, _labels(value_type), spec, grid, output.path, ref(CONTEXT))
    tasks = {head: node, **_zarr_tasks(prefix, value_type.name, grid, f"{output.path}/{output.name}", spec.level)}
    return tasks, list(tasks)


def _zarr_tasks(prefix: str, source: str, grid: Grid, path: str, level: int) -> Tasks:
    """Return one task per region of the array; ``source`` is the name in the keys of its chunks."""
    tasks: Tasks = {}
    for index, region in grid.regions():
        key = (prefix, *index)
        blocks = listed([ref((source, *block)) for block in region.blocks])
        tasks[key] = task(
            key,
            array_writers.write_zarr_chunks,
            blocks,
            region.pieces,
            index,
            region.shape,
            (grid.inner, grid.times),
            grid.dtype.str,
            path,
            level,
            ref(CONTEXT),
        )
    return tasks


def _npy(output: Output, value_type: ArrayType, prefix: str) -> Planned:
    dtype = np.dtype(value_type.dtype)
    if dtype.hasobject:
        raise OpError("", f"npy holds numbers, times and text of fixed width, got {dtype}")
    return _one_file(output, value_type, prefix, array_writers.join_npy, _spec(output, value_type, level=0))


def _netcdf(output: Output, value_type: ArrayType, prefix: str) -> Planned:
    spec = _spec(output, value_type, level=0)
    netcdf.require_netcdf(spec)
    return _one_file(output, value_type, prefix, netcdf.join_netcdf, spec)


def _one_file(
    output: Output, value_type: ArrayType, prefix: str, join: Callable[..., PartRecord], spec: array_writers.ArraySpec
) -> Planned:
    """Return one task per chunk that writes it as a fragment, and a task ``join`` that makes one file of them."""
    tasks: Tasks = {}
    indices = tuple(tuple(key[1:]) for key in value_type.chunk_keys)
    dtype = np.dtype(value_type.dtype).str
    for key, index in zip(value_type.chunk_keys, indices, strict=True):
        own = (f"{prefix}/part", *index)
        tasks[own] = task(own, array_writers.write_npy_fragment, ref(key), index, output.path, dtype, ref(CONTEXT))
    last = (f"{prefix}/join",)
    parts = listed([ref(own) for own in tasks])
    tasks[last] = task(last, join, parts, indices, _labels(value_type), spec, output.path, ref(CONTEXT))
    return tasks, [last]


# ---------------------------------------------------------------------------------------------------------------------
# Items and values
# ---------------------------------------------------------------------------------------------------------------------


def _json_whole(output: Output, value_type: ValueType, prefix: str) -> Planned:
    return plan_json(value_type, prefix, output.path, output.options)


def _json_items(output: Output, value_type: ItemsType, prefix: str) -> Planned:
    return (_items if "${key}" in output.path else _json_whole)(output, value_type, prefix)


def _plot(output: Output, value_type: ValueType, prefix: str) -> Planned:
    return plan_plot(value_type, prefix, output.to, output.path, output.name, output.plot)


def _items(output: Output, value_type: ItemsType, prefix: str) -> Planned:
    if value_type.names is not None:
        _refuse_paths(output.path, value_type.names)
    n_tasks, keys = min(value_type.n_tasks, _ITEM_TASKS), value_type.keys
    tasks: Tasks = {}
    for i in range(n_tasks):
        group = range(i * value_type.n_tasks // n_tasks, (i + 1) * value_type.n_tasks // n_tasks)
        names = None if value_type.names is None else tuple(value_type.names[k] for k in group)
        key = (prefix, i)
        tasks[key] = task(
            key,
            writers.write_items,
            listed([ref(keys[k]) for k in group]),
            names,
            i,
            output.to,
            output.path,
            dict(output.options),
            ref(CONTEXT),
        )
    return tasks, list(tasks)


def _refuse_paths(path: str, names: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for name in names:
        try:
            file = writers.item_path(path, name)
        except ValueError as error:
            cure = "write a table of all items ({op: to_frame}), or map over {range: n} and look the value up"
            raise OpError("path", f"{error}; {cure}") from error
        if file in seen:
            raise OpError("path", f"two items have the key {name!r} and would be written to the same file")
        seen.add(file)


def _value(output: Output, value_type: ObjectType, prefix: str) -> Planned:
    key = (prefix,)
    value, options = ref(value_type.keys[0]), dict(output.options)
    node = task(key, writers.write_object, value, output.to, output.path, options, ref(CONTEXT))
    return {key: node}, [key]


def _table(output: Output, value_type: ObjectType, prefix: str) -> Planned:
    """Return the task that writes a value which is a frame, of which nothing is known before the run."""
    given = {"partition_by": output.partition_by, "files": output.files is not None, "mode": output.mode == "append"}
    option = next((name for name, is_given in given.items() if is_given), None)
    if option is not None:
        raise OpError(option, "the columns of this table are known in the run alone; it is written as one file")
    options = dict(output.options)
    if output.to == "parquet":
        _require_codec(options)
    key = (prefix,)
    how = output.to, output.path, options, dict(output.attrs), ref(CONTEXT)
    return {key: task(key, writers.write_whole_table, ref(value_type.keys[0]), *how)}, [key]


_PLANNERS: Mapping[tuple[str, str], Callable[[Output, Any, str], Planned]] = {
    ("parquet", "frame"): _parquet,
    ("csv", "frame"): _csv,
    ("json", "frame"): _json_frame,
    ("zarr", "array"): _zarr,
    ("npy", "array"): _npy,
    ("netcdf", "array"): _netcdf,
    ("npy", "items"): _items,
    ("json", "items"): _json_items,
    ("json", "array"): _json_whole,
    ("pickle", "items"): _items,
    ("text", "items"): _items,
    ("file", "items"): _items,
    ("json", "value"): _value,
    ("parquet", "value"): _table,
    ("csv", "value"): _table,
    ("pickle", "value"): _value,
    ("text", "value"): _value,
    ("file", "value"): _value,
    ("png", "array"): _plot,
    ("png", "frame"): _plot,
    ("svg", "array"): _plot,
    ("svg", "frame"): _plot,
}
