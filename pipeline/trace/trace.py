"""The Trace of a run: what happened, one row for each attempt of a task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.units import count_text, duration_text

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["INSTANTS", "SCHEMA", "Record", "Trace"]

# 6: kept.
# 5: granted, limit.
# 4: shared_in, shared_sent, sharing.
# 3: delay, switches, faults, disk, cpu_beside.
# 2: received, loaded, opened, packed, sent, bytes_sent; ready is of the segment.
# 1: key, step, worker, segment, ready, submitted, start, stop, done, cpu, bytes_in, bytes_out, memory, attempt.
_FORMAT = 6

INSTANTS = ("received", "loaded", "opened", "start", "stop", "packed", "sent")
"""The instants of one task in one worker, in order. Times of its segment as a whole are on the segment's first task
(``received`` to ``start``) and last task (``stop`` to ``sent``), so that no time is counted twice: any other task is
received and loaded when the one before it stops, opened when it starts, packed and sent when it stops.

    received ─ transfer ─ loaded ─ runtime ─ opened ─ deserialization ─ start ─ in task ─ stop ─ serialization ─ packed
    ─ transfer ─ sent
"""

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), metadata={"what": "the task's key, as text"}),
        pa.field("step", pa.string(), metadata={"what": "the copy of the step that owns it"}),
        pa.field("worker", pa.string(), metadata={"what": "name of the worker thread that ran it"}),
        pa.field("segment", pa.int64(), metadata={"what": "number of the segment it ran in"}),
        pa.field("attempt", pa.int64(), metadata={"what": "0 for the first try"}),
        pa.field("ready", pa.int64(), metadata={"what": "ns since the run began: all its segment needs is made"}),
        pa.field("submitted", pa.int64(), metadata={"what": "ns: its segment was handed to the back end"}),
        pa.field("received", pa.int64(), metadata={"what": "ns: the worker began to take in what it is sent"}),
        pa.field("loaded", pa.int64(), metadata={"what": "ns: all of it is in the worker"}),
        pa.field("opened", pa.int64(), metadata={"what": "ns: the task is unpickled, its inputs are next"}),
        pa.field("start", pa.int64(), metadata={"what": "ns: the function began, in the worker"}),
        pa.field("stop", pa.int64(), metadata={"what": "ns: the function ended, in the worker"}),
        pa.field("packed", pa.int64(), metadata={"what": "ns: the results are pickled"}),
        pa.field("sent", pa.int64(), metadata={"what": "ns: the results are out of the worker's hands"}),
        pa.field("done", pa.int64(), metadata={"what": "ns: the result is known to the scheduler"}),
        pa.field("cpu", pa.int64(), metadata={"what": "ns of CPU time of the task's thread"}),
        pa.field("bytes_in", pa.int64(), metadata={"what": "bytes moved to the worker for its segment"}),
        pa.field("bytes_out", pa.int64(), metadata={"what": "bytes of the result"}),
        pa.field("bytes_sent", pa.int64(), metadata={"what": "bytes of its segment's results that left the worker"}),
        pa.field("memory", pa.int64(), metadata={"what": "resident bytes of the worker after it"}),
        pa.field("delay", pa.int64(), metadata={"what": "ns: its thread was ready to run and had no core"}),
        pa.field("switches", pa.int64(), metadata={"what": "times that its thread gave up its core to wait"}),
        pa.field("faults", pa.int64(), metadata={"what": "pages of memory that the system mapped for it"}),
        pa.field("disk", pa.int64(), metadata={"what": "bytes that it read from a disk or wrote to one"}),
        pa.field("cpu_beside", pa.int64(), metadata={"what": "ns of CPU time of its process's other threads"}),
        pa.field("shared_in", pa.int64(), metadata={"what": "bytes that its segment read in shared memory"}),
        pa.field("shared_sent", pa.int64(), metadata={"what": "bytes that its segment wrote to shared memory"}),
        pa.field("sharing", pa.int64(), metadata={"what": "ns of both, part of what goes before and after its tasks"}),
        pa.field("granted", pa.int64(), metadata={"what": "ns: its segment had its limits; 0: it waited for none"}),
        pa.field("limit", pa.string(), metadata={"what": "the limit that its segment waited for last, if it did"}),
        pa.field("kept", pa.string(), metadata={"what": "of a kept value: loaded, kept, cheap, or computed: why"}),
    ]
)


class Record(NamedTuple):
    """One row of a Trace; times are integer nanoseconds since the run began, sizes are bytes; see :data:`SCHEMA`."""

    key: str
    step: str
    worker: str
    segment: int
    attempt: int
    ready: int
    submitted: int
    received: int
    loaded: int
    opened: int
    start: int
    stop: int
    packed: int
    sent: int
    done: int
    cpu: int
    bytes_in: int
    bytes_out: int
    bytes_sent: int
    memory: int
    delay: int = 0
    switches: int = 0
    faults: int = 0
    disk: int = 0
    cpu_beside: int = 0
    shared_in: int = 0
    shared_sent: int = 0
    sharing: int = 0
    granted: int = 0
    limit: str = ""
    kept: str = ""


@dataclass(frozen=True, eq=False)
class Trace:
    """The measurements of one run.

    Parameters
    ----------
    tasks : one row for each attempt of a task, in order of start, with the columns of :data:`SCHEMA`
    elapsed : seconds from the first submit to the last output verified, workers warm
    start_up : seconds until the workers were warm
    backend : name of the back end
    n_workers : number of worker threads that could run tasks
    notes : other measurements. The analysis uses:
        ``cpu``: CPU seconds outside tasks, by process: ``parent``, ``scheduler``, ``workers``;
        ``gaps``: ``[worker, from, to]`` in ns, where it is unknown what the worker did, since it was lost;
        ``clock_error``: seconds by which instants of different machines may differ;
        ``measuring``: seconds that measuring one task takes, the mean;
        ``graph``: the fingerprint of the Graph;
        ``shared``: ``[step, type]`` of values that several tasks got as they are, since they can't be pickled;
        ``transport``: ``name``, as it was asked for, and ``least``, the bytes from which values were shared;
        ``limits``: name -> number of places of each limit that tasks use;
        ``n_segments``, ``versions``, ``start_method``, ``threads``
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
        rows = sorted(records, key=attrgetter("start", "worker"))
        columns = list(zip(*rows, strict=True)) or [()] * len(Record._fields)
        arrays = [_array(column, SCHEMA.field(name).type) for name, column in zip(Record._fields, columns, strict=True)]
        return cls(pa.Table.from_arrays(arrays, schema=SCHEMA), **fields)

    def __repr__(self) -> str:
        tasks, workers = count_text(self.tasks.num_rows, "task"), count_text(self.n_workers, "worker")
        return f"<Trace {self.backend}: {tasks} on {workers} in {duration_text(self.elapsed)}>"

    def save(self, path: str | Path) -> None:
        """Write the Trace as one Parquet file."""
        head = {k: getattr(self, k) for k in ("elapsed", "backend", "n_workers", "start_up")}
        head |= {"format": _FORMAT, "notes": dict(self.notes)}
        pq.write_table(self.tasks.replace_schema_metadata({"pipeline": json.dumps(head)}), path)

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read what :meth:`save` wrote, in this format or an earlier one.

        Raises
        ------
        ValueError : if the file is not a Trace, or has another format
        """
        table = pq.read_table(path)
        head = json.loads((table.schema.metadata or {}).get(b"pipeline", b"{}"))
        written = head.pop("format", None)
        if written not in range(1, _FORMAT + 1):
            raise ValueError(f"{path}: not a trace of format {_FORMAT}")
        if written == 1:
            table = _from_1(table)
        if written < 3:
            table = _from_2(table)
        if written < 4:
            table = _from_3(table)
        if written < 5:
            table = _from_4(table)
        if written < 6:
            table = _from_5(table)
        return cls(table.select(SCHEMA.names).cast(SCHEMA), **head)

    def to_frame(self) -> pd.DataFrame:
        """Return the rows with instants and durations in seconds, sizes in bytes.

        There are the columns of :data:`SCHEMA`, and ``seconds`` (in the task), ``transfer``, ``deserialization`` and
        ``serialization``; times of the whole segment are on its first or last task.
        """
        frame: pd.DataFrame = self.tasks.to_pandas()
        instants = ["ready", "submitted", *INSTANTS, "done", "cpu", "delay", "cpu_beside", "sharing", "granted"]
        frame[instants] /= 1e9
        return frame.assign(
            seconds=frame["stop"] - frame["start"],
            transfer=frame["loaded"] - frame["received"] + frame["sent"] - frame["packed"],
            deserialization=frame["start"] - frame["opened"],
            serialization=frame["packed"] - frame["stop"],
        )


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return whole numbers or texts as an array; ``pa.array`` would import pandas, which takes longer than a short run.

    Raises
    ------
    TypeError : if a value is of another type, or missing
    """
    if kind == pa.int64():
        return pa.Array.from_buffers(
            kind, len(values), [None, pa.py_buffer(np.fromiter(values, np.int64, len(values)))]
        )
    texts = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(texts)))


def _from_1(table: pa.Table) -> pa.Table:
    """Convert a table of format 1, which has no times around the tasks: they count as 0."""
    for name in ("received", "loaded", "opened"):
        table = table.append_column(name, table["start"])
    for name in ("packed", "sent"):
        table = table.append_column(name, table["stop"])
    return table.append_column("bytes_sent", pa.nulls(table.num_rows, pa.int64()).fill_null(0))


def _from_2(table: pa.Table) -> pa.Table:
    """Convert a table of format 2, which lacks what the system counted for a task: it counts as 0."""
    for name in ("delay", "switches", "faults", "disk", "cpu_beside"):
        table = table.append_column(name, pa.nulls(table.num_rows, pa.int64()).fill_null(0))
    return table


def _from_3(table: pa.Table) -> pa.Table:
    """Convert a table of format 3, which was written when nothing went through shared memory."""
    for name in ("shared_in", "shared_sent", "sharing"):
        table = table.append_column(name, pa.nulls(table.num_rows, pa.int64()).fill_null(0))
    return table


def _from_4(table: pa.Table) -> pa.Table:
    """Convert a table of format 4, which has no limits."""
    table = table.append_column("granted", pa.nulls(table.num_rows, pa.int64()).fill_null(0))
    return table.append_column("limit", pa.nulls(table.num_rows, pa.string()).fill_null(""))


def _from_5(table: pa.Table) -> pa.Table:
    """Convert a table of format 5, which was written when no values were kept."""
    return table.append_column("kept", pa.nulls(table.num_rows, pa.string()).fill_null(""))
