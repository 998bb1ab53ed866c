"""Compare the outputs and values of one run with those of the reference.

Files with equal hashes are equal bit by bit, and are not opened. The others are read and compared by kind: an array by
dims, coordinates, dtype and values, a frame by its rows as a multiset, items by key.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config.sections.formats import PICTURES
from pipeline.errors import DataError
from pipeline.experiments.comparison.measured_run import kept_value_types
from pipeline.experiments.comparison.result import Difference
from pipeline.experiments.comparison.shared_state import shared_state
from pipeline.graph.column_types import schema_of
from pipeline.graph.graph import Graph, Sink
from pipeline.graph.pandas_frames import from_pandas, is_frame
from pipeline.graph.value_types import FrameType, PartsType, ValueType
from pipeline.outputs.open import read
from pipeline.runs.equality import equal
from pipeline.trace.trace import Trace

__all__ = ["TOLERANCE", "differences", "reference_differences"]

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_VISIBLE = 0.02  # of a colour, from 0 to 1

TOLERANCE = 1e-9
"""Largest relative difference of equal results: sums may be computed in another order."""
REFERENCE_TOLERANCE = 1e-6
"""The same for a reference call: another algorithm may round differently."""


def differences(graph: Graph, folders: Sequence[Path], outputs: Sequence[Path]) -> list[Difference]:
    """Compare every output and every wanted value of two runs.

    Parameters
    ----------
    folders, outputs : of the reference and of the other run
    """
    reports = [json.loads((folder / "report.json").read_text()) for folder in folders]
    found = [_output(sink, [r["files"][sink.name] for r in reports], outputs) for sink in graph.sinks]
    found += _values(graph, [folder / "values.pickle" for folder in folders])
    found = [one if one.same else _with_cause(one, graph, folders) for one in found]
    if reports[0]["dropped"] != reports[1]["dropped"]:
        items = [sorted(row[:2] for row in report["dropped"]) for report in reports]
        if items[0] != items[1]:
            found.append(Difference("dropped items", same=False, bitwise=False,
                                    message=f"{len(items[1])} were dropped, {len(items[0])} by serial"))  # fmt: skip
    return found


def _with_cause(found: Difference, graph: Graph, folders: Sequence[Path]) -> Difference:
    """Return a difference with what the tasks share that may have caused it, where that is seen."""
    keys = [key for sink in graph.sinks if found.what == _name(sink) for key in sink.records]
    kept = kept_value_types(graph).items()
    keys += [key for name, of in kept if found.what.startswith(f"'{name}'") for key in of.keys]
    shared = [one for folder in folders for one in Trace.load(folder / "trace.parquet").notes.get("shared", ())]
    cause = shared_state(graph, keys, shared)
    return replace(found, message=f"{found.message}; {cause}") if cause else found


def _name(sink: Sink) -> str:
    return f"output '{sink.name}'"


def reference_differences(graph: Graph, values: Path, outputs: Path) -> list[Difference]:
    """Compare the results of a reference call with the outputs of serial's first run.

    Parameters
    ----------
    values : pickle of a map: name of an output -> value
    outputs : folder of serial's outputs
    """
    given = pickle.loads(values.read_bytes())  # written by our own child, a moment ago
    found = []
    for sink in graph.sinks:
        what = _name(sink)
        if sink.name not in given:
            message = f"the reference returned {', '.join(map(str, given)) or 'nothing'}, and no {sink.name!r}"
            found.append(Difference(what, same=False, bitwise=False, message=message))
            continue
        expected = read(sink, outputs)
        value = given[sink.name]
        if (
            isinstance(value, np.ndarray | np.generic)
            and hasattr(expected, "copy")
            and np.shape(value) == np.shape(expected)
        ):
            value = expected.copy(data=np.asarray(value))  # it has no dims: it gets those of the output
        if isinstance(expected, pa.Table) and is_frame(value):
            expected = _in_floats(expected, value)
            try:
                value = from_pandas(value, _all_nullable(expected.schema), "the reference")
            except DataError as error:
                found.append(Difference(what, same=False, bitwise=False, message=str(error)))
                continue
        found.append(_compared(what, sink.value_type, expected, value, rtol=REFERENCE_TOLERANCE))
    return found


def _in_floats(expected: pa.Table, value: Any) -> pa.Table:
    """Return the output with floats where the reference has floats and the output decimals or whole numbers."""
    t = pa.types
    for i, field in enumerate(expected.schema):
        exact = t.is_decimal(field.type) or t.is_integer(field.type)
        if exact and _has_floats(value, field.name):
            column = expected.column(i).cast(pa.float64(), safe=False)
            expected = expected.set_column(i, pa.field(field.name, pa.float64()), column)
    return expected


def _has_floats(frame: Any, name: str) -> bool:
    if isinstance(frame, pa.Table | pa.RecordBatch):
        return name in frame.schema.names and pa.types.is_floating(frame.schema.field(name).type)
    dtype = frame[name].dtype if name in frame.columns else None
    return getattr(dtype, "kind", "") == "f" or str(dtype) in ("Float32", "Float64")  # of pandas, of polars


def _all_nullable(schema: pa.Schema) -> pa.Schema:
    return schema_of({field.name: field.type for field in schema})


def _output(sink: Sink, hashes: Sequence[Mapping[str, str]], outputs: Sequence[Path]) -> Difference:
    what = _name(sink)
    if hashes[0] == hashes[1]:
        return Difference(what, same=True, bitwise=True)
    if sink.format in PICTURES:
        return _pictures(what, sink.format, *(bytes(read(sink, folder)) for folder in outputs))
    return _compared(what, sink.value_type, *(read(sink, folder) for folder in outputs))


def _pictures(what: str, form: str, reference: bytes, other: bytes) -> Difference:
    """Compare two plots: they are the same if nobody could see a difference, as of sums in another order."""
    if form == "png":
        from matplotlib.image import imread  # has drawn them

        a, b = (np.asarray(imread(io.BytesIO(data))) for data in (reference, other))
        far = np.abs(a - b).max(axis=-1) > _VISIBLE if a.shape == b.shape else np.ones(1, bool)
        message = f"{int(far.sum()):,} of {far.size:,} pixels differ"
    else:
        parts = [_NUMBER.split(data.decode()) for data in (reference, other)]
        one, two = (np.array(_NUMBER.findall(data.decode()), float) for data in (reference, other))
        alike = parts[0] == parts[1] and len(one) == len(two)
        far = ~np.isclose(one, two, rtol=1e-4, atol=0.01) if alike else np.ones(1, bool)
        message = "its lines or texts differ"
    same = not far.any()
    return Difference(what, same=same, bitwise=False, message="" if same else f"the picture differs: {message}")


def _values(graph: Graph, paths: Sequence[Path]) -> list[Difference]:
    data = [path.read_bytes() for path in paths]
    value_types = kept_value_types(graph)
    if data[0] == data[1]:
        return [Difference(f"'{name}'", same=True, bitwise=True) for name in value_types]
    values = [pickle.loads(each) for each in data]  # written by our own children, a moment ago
    return [
        found
        for name, value_type in value_types.items()
        for found in _value(f"'{name}'", value_type, *(each[name] for each in values))
    ]


def _value(what: str, value_type: ValueType, reference: Any, other: Any) -> list[Difference]:
    if isinstance(value_type, PartsType):
        if value_type.whole is not None:
            return _value(what, value_type.whole, reference, other)
        return [
            found
            for name, part in value_type.parts.items()
            for found in _value(f"{what}.{name}", part, reference[name], other[name])
        ]
    return [_compared(what, value_type, reference, other)]


def _compared(what: str, value_type: ValueType, reference: Any, other: Any, rtol: float = TOLERANCE) -> Difference:
    ordered = isinstance(value_type, FrameType) and value_type.ordered
    result = equal(value_type.kind, reference, other, rtol=rtol, ordered=ordered)
    return Difference(
        what,
        same=result.same,
        bitwise=result.bitwise,
        largest=float(result.largest_relative),
        tolerance=float(result.tolerance),
        message=result.message,
    )
