"""A key for each step instance, output and check: a hash of all that determines its result, however it is computed.

The key of a step holds its record and the keys of the steps that it reads; that of an output the record of its writer
and the key of what it writes; that of a check what it asks for and the keys of what it looks at. No key depends on a
place, on the back end, on the number of workers, or on how tasks are planned. An unknown part makes the key unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask.base import tokenize

from pipeline.config.model import Config, Output
from pipeline.graph.canonical_encoding import combined
from pipeline.graph.value_types import ArrayType, FrameType, ItemsType, PartsType, ValueType
from pipeline.runs.resume.records import StepRecord

__all__ = ["KeyOf", "Keys", "keys_of", "values_key"]

# 1: the first format.
_FORMAT = "1"


@dataclass(frozen=True)
class KeyOf:
    """The key of one step instance, output or check.

    Parameters
    ----------
    key : empty: unknown
    unknown : why it is unknown; else empty
    """

    key: str
    unknown: str = ""


@dataclass(frozen=True)
class Keys:
    """The keys of a pipeline: of its step instances and outputs (``NAME[MATRIX]``) by name, of its checks in order."""

    steps: Mapping[str, KeyOf]
    outputs: Mapping[str, KeyOf]
    checks: tuple[KeyOf, ...]


def keys_of(
    config: Config, records: Mapping[str, StepRecord], outputs: Mapping[str, Output], checks: Iterable[StepRecord]
) -> Keys:
    """Return the keys of all steps, outputs and checks of a pipeline.

    Parameters
    ----------
    records : of all steps and writers
    outputs : by the names of the sinks
    checks : the records of the checks, in order
    """
    steps: dict[str, KeyOf] = {}
    for name in config.steps:  # each after all that it refers to
        steps[name] = _of_record(records[name], steps)
    return Keys(
        steps,
        {name: _of_record(records[output.writer], steps, output.name) for name, output in outputs.items()},
        tuple(_of_record(check, steps) for check in checks),
    )


def _of_record(record: StepRecord, steps: Mapping[str, KeyOf], *more: str) -> KeyOf:
    why = next(iter(record.unknown), "") or _unknown_above(record.upstream, steps)
    if why:
        return KeyOf("", why)
    above = [text for name in record.upstream for text in (name, steps[name].key)]
    return KeyOf(combined([_FORMAT, record.digest, *more, *above]))


def _unknown_above(names: Iterable[str], steps: Mapping[str, KeyOf]) -> str:
    first = next((name for name in names if steps[name].unknown), None)
    return f"{first} always runs" if first is not None else ""


def values_key(writer: StepRecord, output: Output, value_type: ValueType, digests: Sequence[str] | None) -> str:
    """Return the key of an output by the values that it is written from, and their labels; empty: unknown.

    Parameters
    ----------
    digests : of the values of all tasks, in order; None: they are unknown
    """
    if digests is None or not writer.digest:
        return ""
    about = _labels(value_type)
    return combined([writer.digest, output.name, about, *digests]) if about else ""


def _labels(value_type: ValueType) -> str:
    """Return a hash of what of a value is known before the run: dims, labels, attributes, columns, keys of items.

    Empty: it has none that is the same in every process.
    """
    about: Any = value_type.kind
    if isinstance(value_type, ArrayType):
        about = value_type.dims, str(value_type.dtype), value_type.template, sorted(value_type.labels)
    elif isinstance(value_type, FrameType):
        about = str(value_type.schema)
    elif isinstance(value_type, ItemsType):
        about = value_type.names
    elif isinstance(value_type, PartsType):
        return _labels(value_type.whole) if value_type.whole is not None else ""
    try:
        return str(tokenize(value_type.kind, about, ensure_deterministic=True))
    except Exception:  # noqa: BLE001 - dask raises an error of its own kind, pickling labels any
        return ""
