"""The plan that ``pipeline check`` shows: a row for each step, from metadata only."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.config.html_table import html_table
from pipeline.config.model import Config, Reference, Step
from pipeline.errors import ConfigError, Fault
from pipeline.graph.column_types import type_name
from pipeline.units import bytes_text, count_text, unused_text

if TYPE_CHECKING:  # both import dask, which a plan without data does not need
    from pipeline.graph.graph import Graph
    from pipeline.graph.value_types import ValueType


__all__ = ["SOMETHING_MOVED", "Plan", "Row", "plan", "unused_steps", "worker_memory"]

_SHOWN_COLUMNS = 6
_MOST_NOTES = 20  # below the table of a notebook

_SHUFFLED = "a shuffle moves all rows; the bytes are those of the sources: fewer after filters, more after joins"
SOMETHING_MOVED = "moves its input between tasks; how many bytes is unknown until run time"
_ONE_CHUNK = "brings everything along a dim of unknown length into one task"
_TIMEOUT = "serial, threads and an external cluster notice a timeout only when the task returns"
_NO_TASKS = "adds no tasks (merged into the steps that read it)"


@dataclass(frozen=True)
class Row:
    """What building shows of one step.

    Parameters
    ----------
    step, kind, shape : name in the file, kind of value, dims with their sizes or columns
    copies, tasks : number of instances of the step, and of tasks in all of them
    largest_chunk : bytes; None if unknown until run time
    moved : bytes that a rechunk or a shuffle moves between tasks (of a shuffle: that the sources read for it); None if
        nothing is moved, or if unknown until run time
    whole : bytes of the largest value that goes whole into one of its tasks; None if there is none, or if unknown
    notes : what the numbers don't show
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
    """The rows of a file, in the order of its steps.

    Parameters
    ----------
    graph : what the plan was made from; None for a plan without data
    absent : the step instances that do not exist, because of ``when`` or since they need one that doesn't, each with
        the reason
    writing : number of tasks that write outputs, which belong to no step
    unused : the steps that are not computed, see :func:`unused_steps`
    """

    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()
    graph: Graph | None = field(default=None, repr=False, compare=False)
    absent: Mapping[str, str] = field(default_factory=dict)
    writing: int = 0
    unused: tuple[str, ...] = ()

    def __repr__(self) -> str:
        n_tasks = sum(row.tasks for row in self.rows) + self.writing
        return f"<Plan: {count_text(len(self.rows), 'step')}, {count_text(n_tasks, 'task')}>"

    def _repr_html_(self) -> str:
        columns = ["step", "kind", "dims, columns", "instances x tasks", "largest chunk"]
        rows: list[tuple[str, ...]] = []
        for row in self.rows:
            each = row.tasks // max(row.copies, 1)
            size = f"{row.copies:,} x {each:,}" if row.copies > 1 else f"{row.tasks:,}"
            chunk = bytes_text(row.largest_chunk) if row.largest_chunk else ""
            rows.append((row.step, row.kind, row.shape, size, chunk))
        table = html_table(columns, rows, numbers=columns[-2:])
        notes = [*self.warnings, *(f"{row.step}: {note}" for row in self.rows for note in row.notes)]
        notes += [f"{name} does not exist: {why}" for name, why in self.absent.items()]
        notes += [unused_text(self.unused)] if self.unused else []
        listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes[:_MOST_NOTES])
        more = f"<li>… {len(notes) - _MOST_NOTES:,} more</li>" if len(notes) > _MOST_NOTES else ""
        below = f"<ul>{listed}{more}</ul>" if notes else ""
        return f"<p>{html.escape(repr(self).strip('<>'))}</p>{table}{below}"


def plan(config: Config, graph: Graph | None) -> Plan:
    """Return the plan of a file. Creates no file and runs no task.

    Parameters
    ----------
    graph : what :func:`pipeline.builder.build.build` made of ``config``; None for what the file alone shows

    Raises
    ------
    ConfigError : a value is too large to go whole into one task
    """
    if graph is None:
        rows = tuple(_rows_of_file(config))
        return Plan(rows, tuple(config.warnings), absent=config.absent, unused=unused_steps(config))
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
    warnings = (*config.warnings, *graph.warnings)
    rows = tuple(_rows_of_graph(config, graph))
    writing = sum(owner not in config.steps for owner in graph.owners.values())
    return Plan(rows, warnings, graph, config.absent, writing, unused_steps(config))


def unused_steps(config: Config) -> tuple[str, ...]:
    """Return the steps that lead to no output, check or ``keep``: ``raw``, ``monthly[tp]``, ``fit (3 of 10)``.

    Of a step of which some instances are used, a single unused one is named, of several their number.
    """
    n, unused = Counter(step.step for step in config.all_steps.values()), dict[str, list[str]]()
    for name in config.unused:
        unused.setdefault(config.all_steps[name].step, []).append(name)

    def named(step: str, names: list[str]) -> str:
        if len(names) == n[step]:
            return step
        return names[0] if len(names) == 1 else f"{step} ({len(names):,} of {count_text(n[step], 'instance')})"

    return tuple(named(step, names) for step, names in unused.items())


def worker_memory(config: Config) -> float:
    """Return the bytes that one worker may use: the limit of the file's cluster, or an equal share of this machine."""
    import psutil  # with dask: a plan without data needs neither
    from dask.utils import parse_bytes

    limit = config.cluster.get("memory_limit", config.cluster.get("kwargs", {}).get("memory_limit"))
    if isinstance(limit, str | int) and limit not in ("auto", 0):
        return float(parse_bytes(limit))
    workers = config.cluster.get("workers")
    return float(psutil.virtual_memory().total) / (workers if isinstance(workers, int) else psutil.cpu_count() or 1)


def _rows_of_file(config: Config) -> list[Row]:
    copies = Counter(step.step for step in config.steps.values())
    kinds = {step.step: step.kind for step in config.steps.values()}
    return [Row(name, kinds[name], "", n, 0, notes=("not built: --no-data",)) for name, n in copies.items()]


def _rows_of_graph(config: Config, graph: Graph) -> list[Row]:
    tasks = Counter(graph.owners[key] for key in graph.tasks)
    sizes = _sizes(config, graph)
    instances: dict[str, list[Step]] = {}
    for step in config.steps.values():
        instances.setdefault(step.step, []).append(step)
    wholes: dict[str, list[float]] = {}
    for whole in graph.wholes:
        wholes.setdefault(config.steps[whole.copy].step, []).append(whole.nbytes)
    rows = []
    for name, copies in instances.items():
        value_types = [graph.value_types[step.name] for step in copies]
        moves = {step.name: graph.moves.get(step.name, frozenset()) for step in copies if tasks[step.name]}
        moved = [
            _input_bytes(sizes, step.inputs) for step in copies if moves.get(step.name, set()) & {"rechunk", "shuffle"}
        ]
        n_tasks = sum(tasks[step.name] for step in copies)
        notes = [_SHUFFLED] if any("shuffle" in stated for stated in moves.values()) else []
        if moved and math.isnan(sum(moved)):
            notes = [SOMETHING_MOVED]
        if any("one chunk" in stated for stated in moves.values()):
            notes.append(_ONE_CHUNK)
        notes += _sentences(moves.values())
        if any(step.timeout is not None and step.kind != "command" for step in copies):
            notes.append(_TIMEOUT)
        if not n_tasks:
            notes.append(_NO_TASKS)
        rows.append(
            Row(
                name,
                value_types[0].kind,
                _shape(value_types[0]),
                len(copies),
                n_tasks,
                _known(max((_largest(value_type) for value_type in value_types), default=math.nan)),
                _known(sum(moved)) if moved else None,
                _known(max(wholes.get(name, []), default=math.nan)),
                tuple(notes),
            )
        )
    return rows


def _sentences(stated: Iterable[Iterable[str]]) -> list[str]:
    """Return the notes of ops; of several instances the first, and how many more there are."""
    found = [text for texts in stated for text in sorted(texts) if text not in ("rechunk", "shuffle", "one chunk")]
    return [found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")] if found else []


def _known(n: float) -> int | None:
    return None if math.isnan(n) else int(n)


def _largest(value_type: ValueType) -> float:
    if value_type.kind == "array":
        return value_type.largest_chunk
    if value_type.kind == "parts":
        return max((_largest(part) for part in value_type.parts.values()), default=math.nan)
    return math.nan


def _sizes(config: Config, graph: Graph) -> dict[str, float]:
    """Return the bytes of each instance; of a frame those read for it, since what filters leave is unknown."""
    sizes: dict[str, float] = {}
    for step in config.steps.values():
        value_type = graph.value_types[step.name]
        if value_type.kind == "array" or (value_type.kind == "frame" and not step.inputs):
            sizes[step.name] = value_type.nbytes
        else:
            sizes[step.name] = _input_bytes(sizes, step.inputs) if value_type.kind == "frame" else math.nan
    return sizes


def _input_bytes(sizes: Mapping[str, float], inputs: Mapping[str, tuple[Reference, ...]]) -> float:
    return sum(sizes[copy] for references in inputs.values() for r in references for copy in r.instances)


def _shape(value_type: ValueType) -> str:
    if value_type.kind == "array":
        sizes = zip(value_type.dims, (sum(c) for c in value_type.chunks), strict=True)
        return ", ".join(f"{d}: {'?' if math.isnan(n) else int(n)}" for d, n in sizes) or "one number"
    if value_type.kind == "frame":
        columns = [f"{field.name} {type_name(field.type)}" for field in value_type.schema]
        more = f" and {len(columns) - _SHOWN_COLUMNS} more" if len(columns) > _SHOWN_COLUMNS else ""
        return ", ".join(columns[:_SHOWN_COLUMNS]) + more
    if value_type.kind == "items":
        return (
            count_text(len(value_type.names), "item") if value_type.names is not None else "items, counted at run time"
        )
    if value_type.kind == "parts":
        return ", ".join(value_type.parts)
    return "one value"
