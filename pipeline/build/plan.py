"""What a file comes to before it is run: a row a step, from metadata only."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.config.model import Config, Reference, Step
from pipeline.errors import ConfigError, Fault
from pipeline.units import bytes_text, count_text

if TYPE_CHECKING:
    from pipeline.graph.graph import Graph
    from pipeline.graph.value_types import ValueType


__all__ = ["SOMETHING_MOVED", "Plan", "Row", "plan", "worker_memory"]

_NAMES = 6
"""Column names shown of a frame."""

_SHUFFLED = "a shuffle moves all its rows; the bytes are those that are read for them, which filters lessen"
SOMETHING_MOVED = "moves its input between tasks; how many bytes, only the run knows"
_BROUGHT = "brings into one task what lies along a dim whose length only the run knows"
_TIMEOUT = "serial and threads, and a cluster of others, notice a timeout only when the task has come back"


@dataclass(frozen=True)
class Row:
    """One step as it is built.

    Parameters
    ----------
    step, kind, shape : name in the file, kind of value, dims with their sizes or columns
    copies, tasks : how many copies it has, and tasks in all of them
    largest_chunk : bytes; None where only the run knows
    moved : bytes that a rechunk or a shuffle moves between tasks, of a shuffle those that are read for it; None where
        there is none or only the run knows
    whole : bytes of the largest value that goes whole into one of its tasks; None: none, or only the run knows
    notes : what the numbers don't say
    """

    step: str
    kind: str
    shape: str
    copies: int
    tasks: int
    largest_chunk: int | None = None
    moved: int | None = None
    whole: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The rows of a file in its order; ``graph`` is None for a plan without data.

    Parameters
    ----------
    absent : the copies that ``when`` takes away, and those that need them, each with the reason
    """

    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()
    graph: Graph | None = field(default=None, repr=False, compare=False)
    absent: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"<Plan: {count_text(len(self.rows), 'step')}, {count_text(sum(row.tasks for row in self.rows), 'task')}>"
        )

    def _repr_html_(self) -> str:
        cells = (
            (row.step, row.kind, row.shape, f"{row.copies} x {row.tasks // max(row.copies, 1)}", ", ".join(row.notes))
            for row in self.rows
        )
        head = "".join(f"<th>{name}</th>" for name in ("step", "kind", "dims, columns", "copies x tasks", "notes"))
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        return f"<table><tr>{head}</tr>{body}</table>"


def plan(config: Config, *, data: bool = True) -> Plan:
    """The plan of a file. Creates no file and runs no task.

    Parameters
    ----------
    data : whether the metadata of the inputs may be read; without, only what the file itself says is known

    Raises
    ------
    ConfigError, DataError : as :func:`pipeline.build.build.build`, and what is too large to go whole into one task
    """
    if not data:
        return Plan(tuple(_named(config)), tuple(config.warnings), absent=config.absent)
    from pipeline.build.build import build

    graph = build(config)
    memory = worker_memory(config)
    faults = [
        Fault(
            whole.location,
            whole.path,
            f"{whole.reference!r} is {bytes_text(whole.nbytes)} and would go whole into one task; a worker has "
            f"{bytes_text(memory)}; reduce it first, or use op map_blocks",
        )
        for whole in graph.wholes
        if whole.nbytes > memory
    ]
    if faults:
        raise ConfigError(faults)
    return Plan(tuple(_built(config, graph)), tuple(config.warnings), graph, config.absent)


def worker_memory(config: Config) -> float:
    """Bytes that one worker may use: what the file's cluster says, or an equal share of this machine."""
    import psutil
    from dask.utils import parse_bytes

    limit = config.cluster.get("memory_limit", config.cluster.get("kwargs", {}).get("memory_limit"))
    if isinstance(limit, str | int) and limit not in ("auto", 0):
        return float(parse_bytes(limit))
    workers = config.cluster.get("workers")
    return float(psutil.virtual_memory().total) / (workers if isinstance(workers, int) else psutil.cpu_count() or 1)


def _named(config: Config) -> list[Row]:
    copies = Counter(step.step for step in config.steps.values())
    kinds = {step.step: step.kind for step in config.steps.values()}
    return [Row(name, kinds[name], "", n, 0, notes=("not built: --no-data",)) for name, n in copies.items()]


def _built(config: Config, graph: Graph) -> list[Row]:
    tasks = Counter(graph.owners[key] for key in graph.tasks)
    moves = {copy: stated for copy, stated in graph.moves.items() if tasks[copy]}  # the others are needed by nobody
    sizes = _sizes(config, graph)
    moving = {copy for copy, stated in moves.items() if stated & {"rechunk", "shuffle"}}
    copies_of: dict[str, list[Step]] = {}
    for step in config.steps.values():
        copies_of.setdefault(step.step, []).append(step)
    wholes_of: dict[str, list[float]] = {}
    for whole in graph.wholes:
        wholes_of.setdefault(config.steps[whole.copy].step, []).append(whole.nbytes)
    rows = []
    for name, copies in copies_of.items():
        value_types = [graph.value_types[step.name] for step in copies]
        moved = [_input_bytes(sizes, step.inputs) for step in copies if step.name in moving]
        wholes = wholes_of.get(name, [])
        notes = [_SHUFFLED] if any("shuffle" in moves.get(step.name, ()) for step in copies) else []
        if moved and math.isnan(sum(moved)):
            notes = [SOMETHING_MOVED]
        n_tasks = sum(tasks[step.name] for step in copies)
        if any("one chunk" in moves.get(step.name, ()) for step in copies):
            notes.append(_BROUGHT)
        if any(step.timeout is not None and step.kind != "command" for step in copies):
            notes.append(_TIMEOUT)
        if not n_tasks:
            notes.append("adds no task: nobody needs it, or it changes nothing")
        rows.append(
            Row(
                name,
                value_types[0].kind,
                _shape(value_types[0]),
                len(copies),
                n_tasks,
                _known(max((_largest(value_type) for value_type in value_types), default=math.nan)),
                _known(sum(moved)) if moved else None,
                _known(max(wholes, default=math.nan)),
                tuple(notes),
            )
        )
    return rows


def _known(n: float) -> int | None:
    return None if math.isnan(n) else int(n)


def _largest(value_type: ValueType) -> float:
    if value_type.kind == "array":
        return value_type.largest_chunk
    if value_type.kind == "parts":
        return max((_largest(part) for part in value_type.parts.values()), default=math.nan)
    return math.nan


def _sizes(config: Config, graph: Graph) -> dict[str, float]:
    """Bytes of each copy: of a frame as many as are read for it, since nobody knows what filters will leave."""
    sizes: dict[str, float] = {}
    for step in config.steps.values():
        value_type = graph.value_types[step.name]
        if value_type.kind == "array" or (value_type.kind == "frame" and not step.inputs):
            sizes[step.name] = value_type.nbytes
        else:
            sizes[step.name] = _input_bytes(sizes, step.inputs) if value_type.kind == "frame" else math.nan
    return sizes


def _input_bytes(sizes: Mapping[str, float], inputs: Mapping[str, tuple[Reference, ...]]) -> float:
    return sum(sizes[copy] for references in inputs.values() for r in references for copy in r.copies)


def _shape(value_type: ValueType) -> str:
    if value_type.kind == "array":
        sizes = zip(value_type.dims, (sum(c) for c in value_type.chunks), strict=True)
        return ", ".join(f"{d}: {'?' if math.isnan(n) else int(n)}" for d, n in sizes) or "one number"
    if value_type.kind == "frame":
        names = [str(c) for c in value_type.meta.columns]
        return ", ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")
    if value_type.kind == "items":
        return (
            count_text(len(value_type.names), "item") if value_type.names is not None else "items, counted in the run"
        )
    if value_type.kind == "parts":
        return ", ".join(value_type.parts)
    return "one value"
