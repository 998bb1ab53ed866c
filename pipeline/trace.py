"""The Trace: what happened, one row a task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["SCHEMA", "Record", "Trace"]

# 1: the columns below.
_FORMAT = 1

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), metadata={"what": "the task's key, as text"}),
        pa.field("step", pa.string(), metadata={"what": "the copy of the step that owns it"}),
        pa.field("worker", pa.string(), metadata={"what": "name of the worker thread that ran it"}),
        pa.field("segment", pa.int64(), metadata={"what": "number of the segment it ran in"}),
        pa.field("ready", pa.int64(), metadata={"what": "ns since the run began: all it needs is done"}),
        pa.field("submitted", pa.int64(), metadata={"what": "ns: its segment was handed to the back end"}),
        pa.field("start", pa.int64(), metadata={"what": "ns: the function began, in the worker"}),
        pa.field("stop", pa.int64(), metadata={"what": "ns: the function ended, in the worker"}),
        pa.field("done", pa.int64(), metadata={"what": "ns: the result is known to the scheduler"}),
        pa.field("cpu", pa.int64(), metadata={"what": "ns of CPU time of the task's thread"}),
        pa.field("bytes_in", pa.int64(), metadata={"what": "bytes moved to the worker for its segment"}),
        pa.field("bytes_out", pa.int64(), metadata={"what": "bytes of the result"}),
        pa.field("memory", pa.int64(), metadata={"what": "resident bytes of the worker after it"}),
        pa.field("attempt", pa.int64(), metadata={"what": "0 for the first try"}),
    ]
)


class Record(NamedTuple):
    """One row of a Trace; times are integer nanoseconds since the run began, sizes are bytes."""

    key: str
    step: str
    worker: str
    segment: int
    ready: int
    submitted: int
    start: int
    stop: int
    done: int
    cpu: int
    bytes_in: int
    bytes_out: int
    memory: int
    attempt: int = 0


@dataclass(frozen=True, eq=False)
class Trace:
    """What happened in one run.

    Parameters
    ----------
    tasks : one row a task, with the columns of :data:`SCHEMA`
    elapsed : seconds from the first submit to the last output verified, workers warm
    start_up : seconds until the workers were warm
    backend : its name
    n_workers : worker threads that could run tasks
    notes : whatever else was measured: CPU of parent and children, peak memory, versions
    """

    tasks: pa.Table
    elapsed: float
    backend: str
    n_workers: int
    start_up: float = 0.0
    notes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_records(cls, records: Iterable[Record], **fields: Any) -> Trace:
        """A Trace of rows in the order of their start."""
        rows = sorted(records, key=lambda r: (r.start, r.worker))
        columns = {name: [getattr(r, name) for r in rows] for name in SCHEMA.names}
        return cls(pa.table(columns, schema=SCHEMA), **fields)

    def __repr__(self) -> str:
        return (
            f"<Trace {self.backend}: {self.tasks.num_rows:,} tasks on {self.n_workers} workers in {self.elapsed:.3g} s>"
        )

    def save(self, path: str | Path) -> None:
        """Write the Trace as one Parquet file."""
        head = {k: getattr(self, k) for k in ("elapsed", "backend", "n_workers", "start_up")}
        head |= {"format": _FORMAT, "notes": dict(self.notes)}
        pq.write_table(self.tasks.replace_schema_metadata({"pipeline": json.dumps(head)}), path)

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ValueError : if the file is no Trace, or of another format
        """
        table = pq.read_table(path)
        head = json.loads((table.schema.metadata or {}).get(b"pipeline", b"{}"))
        if head.pop("format", None) != _FORMAT:
            raise ValueError(f"{path}: is no trace of format {_FORMAT}")
        return cls(table.cast(SCHEMA), **head)
