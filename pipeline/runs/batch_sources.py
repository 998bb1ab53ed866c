"""Where batches get their rows from: files, outputs of runs and steps, cut into blocks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.backends.local.stream import independent_segments
from pipeline.builder.build import build
from pipeline.config.model import Config
from pipeline.config.python_builder import PipelineBuilder
from pipeline.errors import ConfigError, nearest
from pipeline.graph.graph import Graph, Key
from pipeline.graph.segments import Segment
from pipeline.graph.value_types import ArrayType, FrameType, ValueType
from pipeline.runs.run import Run
from pipeline.units import count_text

__all__ = ["Blocks", "blocks_of"]

_BLOCK = 16 << 20  # bytes of arrays that are read at once, about

_ENDINGS = {
    "read_parquet": (".parquet", ".pq"),
    "read_csv": (".csv",),
    "read_json": (".json", ".jsonl", ".ndjson"),
    "from_npy": (".npy",),
    "from_zarr": (".zarr",),
    "from_netcdf": (".nc", ".nc4", ".cdf", ".h5", ".hdf5"),
}
_FORMATS = {
    "parquet": "read_parquet",
    "csv": "read_csv",
    "json": "read_json",
    "npy": "from_npy",
    "zarr": "from_zarr",
    "netcdf": "from_netcdf",
}
_PACKED = (".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class Blocks:
    """Rows of some values, cut into the same blocks; each block can be computed by itself.

    Parameters
    ----------
    graph : the Graph of the values
    names : of the values; one empty name for a single value, which is then not in a dict
    segments : for each block, the segment that computes it for each value
    lengths : rows of each block; None where they are unknown until it is read
    """

    graph: Graph
    names: tuple[str, ...]
    segments: tuple[tuple[Segment, ...], ...]
    lengths: tuple[int, ...] | None


def blocks_of(
    source: Any, batch_size: int, *, step: str | None, output: str | None, options: Mapping[str, Any]
) -> Blocks:
    """Return the blocks of a source; the parameters are those of :func:`pipeline.runs.batches.batches`.

    Raises
    ------
    ConfigError : the source or an option can't be read so
    DataError : a file is missing, or is not what its name promises
    """
    if isinstance(source, Config):
        if step is None or step not in source.steps:
            raise ConfigError(f"step: got {step!r}; steps: {', '.join(source.steps)}{nearest(str(step), source.steps)}")
        return _blocks(build(source.only((step,))), {"": step})
    if isinstance(source, Run):
        return _of_files({"": _output(source, output, options)}, batch_size)
    if isinstance(source, Mapping):
        return _of_files({str(name): _files(path, options) for name, path in source.items()}, batch_size)
    return _of_files({"": _files(source, options)}, batch_size)


def _output(run: Run, name: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a step that reads a committed output."""
    names = list(run.outputs)
    chosen = names[0] if name is None and len(names) == 1 else str(name)
    if name is None and len(names) > 1:
        raise ConfigError(f"output: the run has {len(names)}; choose one: output={names[0]!r}; {', '.join(names)}")
    if chosen not in names:
        raise ConfigError(f"output: got {name!r}; outputs: {', '.join(names)}{nearest(chosen, names)}")
    manifest = run.outputs[chosen]
    if manifest.format not in _FORMATS:
        raise ConfigError(f"output {chosen!r} is {manifest.format}; rows are read from {', '.join(_FORMATS)}")
    return {"op": _FORMATS[manifest.format], "path": str(run.root / manifest.path), **options}


def _files(path: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a step that reads files, with the op that the ending of the first name means."""
    paths = list(map(os.fspath, path)) if isinstance(path, list | tuple) else path
    paths = os.fspath(paths) if isinstance(paths, os.PathLike) else paths
    if not isinstance(paths, str | list) or not paths:
        raise ConfigError(f"got {path!r}; a source is a path, a list or map of paths, a Run, or a pipeline with step")
    first = paths if isinstance(paths, str) else paths[0]
    op = options.get("op") or _op_by_name(first)
    if op is None:
        known = ", ".join(ending for endings in _ENDINGS.values() for ending in endings)
        raise ConfigError(f"{first}: its ending is none of {known}; name the op that reads it, such as op='read_csv'")
    return {**options, "op": op, "path": paths}


def _op_by_name(path: str) -> str | None:
    """Return the op that reads a file, pattern or folder; of a folder, by what is in it."""
    name = path.lower().rstrip("/")
    for ending in _PACKED:
        name = name.removesuffix(ending)
    for op, endings in _ENDINGS.items():
        if name.endswith(endings):
            return op
    if any((Path(path) / meta).is_file() for meta in ("zarr.json", ".zgroup", ".zarray")):
        return "from_zarr"
    names = [name for _, _, several in os.walk(path) for name in several]
    return next((op for op, endings in _ENDINGS.items() if any(name.endswith(endings) for name in names)), None)


def _of_files(keys: Mapping[str, Mapping[str, Any]], batch_size: int) -> Blocks:
    """Build the steps that read files; without ``chunks``, arrays are cut into blocks of about the same bytes."""
    steps = {name: name or "rows" for name in keys}
    graph = _built({steps[name]: own for name, own in keys.items()})
    arrays = {name: of for name, step in steps.items() if isinstance(of := graph.value_types[step], ArrayType)}
    if len(keys) > 1 and len(arrays) < len(keys):
        frame = next(name for name in keys if name not in arrays)
        raise ConfigError(f"{frame!r} is a frame; a map of sources has arrays alone")
    if arrays and all(array.dims for array in arrays.values()) and not any("chunks" in own for own in keys.values()):
        n_rows = _rows_of_a_block(list(arrays.values()), batch_size)
        chunks = {name: {arrays[name].dims[0]: n_rows} for name in keys}
        graph = _built({steps[name]: {**own, "chunks": chunks[name]} for name, own in keys.items()})
    return _blocks(graph, steps)


def _built(steps: Mapping[str, Mapping[str, Any]]) -> Graph:
    made = PipelineBuilder({"name": "batches"}, os.getcwd())
    for name, keys in steps.items():
        made.add("steps", name, keys)
    return build(made.config.only(tuple(steps)))


def _rows_of_a_block(arrays: Sequence[ArrayType], batch_size: int) -> int:
    """Return how many rows of all arrays are read at once: whole stored chunks, else whole batches."""
    row = sum(math.prod(map(sum, array.chunks[1:])) * array.dtype.itemsize for array in arrays)
    unit = max((int(array.chunks[0][0]) for array in arrays if len(array.chunks[0]) > 1), default=batch_size)
    return unit * max(1, round(_BLOCK / max(1.0, float(row)) / unit))


def _blocks(graph: Graph, steps: Mapping[str, str]) -> Blocks:
    """Return the blocks of the values of some steps.

    Raises
    ------
    ConfigError : a value has no rows, they have different ones, or a block can't be computed by itself
    """
    rows = {name: _rows(graph.value_types[step], step) for name, step in steps.items()}
    lengths = {own for _, own in rows.values()}
    if len({len(keys) for keys, _ in rows.values()}) > 1 or len(lengths) > 1:
        each = ", ".join(f"{name}: {_lengths_text(own)}" for name, (_, own) in rows.items())
        raise ConfigError(f"several sources must have the same rows, in the same chunks; {each}")
    segments = independent_segments(graph, [key for keys, _ in rows.values() for key in keys])
    if segments is None:
        raise ConfigError(
            f"{', '.join(map(repr, steps.values()))}: a block of rows needs other blocks, so it can't be computed by "
            "itself; write the step as an output, and read that"
        )
    of_blocks = zip(*(keys for keys, _ in rows.values()), strict=True)
    return Blocks(graph, tuple(steps), tuple(tuple(segments[key] for key in keys) for keys in of_blocks), lengths.pop())


def _rows(value: ValueType, step: str) -> tuple[tuple[Key, ...], tuple[int, ...] | None]:
    """Return the key of each block of rows, and its number of rows where that is known."""
    if isinstance(value, FrameType):
        return value.keys, value.lengths
    if not isinstance(value, ArrayType):
        raise ConfigError(f"{step!r} is {value.kind}; rows are read from frames and arrays")
    if not value.dims:
        raise ConfigError(f"{step!r} is one number, which has no rows")
    if any(len(sizes) > 1 for sizes in value.chunks[1:]):
        rest = ", ".join(f"{dim}: {sum(sizes):g}" for dim, sizes in zip(value.dims[1:], value.chunks[1:], strict=True))
        raise ConfigError(
            f"{step!r} has chunks that hold parts of rows; make them whole: op: rechunk, chunks: {{{rest}}}"
        )
    sizes = value.chunks[0]
    return value.chunk_keys, None if any(math.isnan(size) for size in sizes) else tuple(map(int, sizes))


def _lengths_text(lengths: tuple[int, ...] | None) -> str:
    if lengths is None:
        return "unknown until it is read"
    return f"{count_text(sum(lengths), 'row')} in {count_text(len(lengths), 'chunk')}"
