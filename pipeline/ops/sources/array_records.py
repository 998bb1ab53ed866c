"""The metadata of one stored variable as they are in the file, before scaling, masking and times; and as bytes.

The bytes are a JSON text and the buffers of arrays. Large arrays are apart: coordinates of many files are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.ops.sources.file_facts import Fact
from pipeline.worker.file_notes import content_digest

__all__ = [
    "ArrayRecord",
    "RawVariable",
    "attrs_text",
    "json_text",
    "packed",
    "raw_variable",
    "token_of",
    "unpacked_record",
]

Values = np.ndarray[Any, Any]

_LARGE = 32_768  # bytes of an array that is a part of its own
_KINDS = "biufcSUMm"


@dataclass(frozen=True, eq=False)
class RawVariable:
    """A variable as it is stored.

    Parameters
    ----------
    attrs_text : text that distinguishes its attributes from any others; empty: there is none
    values : of a coordinate
    token : bytes that distinguish ``values`` from any others of this dtype and shape; None: there are none
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attrs_text: str
    values: Values | None = None
    token: bytes | None = None
    plain_attrs: Mapping[str, Any] | None = None

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes, as xarray gives them before it decodes."""
        return dict(self.plain_attrs) if self.plain_attrs is not None else _attrs(self.attrs_text)

    @property
    def key(self) -> tuple[Any, ...] | None:
        """What distinguishes it from any other variable; None if it is unknown."""
        if not self.attrs_text or (self.values is not None and self.token is None):
            return None
        return self.name, self.dims, self.shape, self.dtype.str, self.attrs_text, self.token


@dataclass(frozen=True, eq=False)
class ArrayRecord:
    """The metadata of one variable of a file, as they are stored.

    Parameters
    ----------
    engine : what reads it
    coordinates : with their values
    chunks : the stored ones
    ends : the first and the last value, if they are times
    """

    engine: str
    group: str
    variable: RawVariable
    coordinates: tuple[RawVariable, ...] = ()
    chunks: tuple[int, ...] | None = None
    ends: Values | None = None


def raw_variable(
    name: str, dims: Sequence[str], dtype: np.dtype[Any], shape: Sequence[int], attrs: Mapping[str, Any], values: Any
) -> RawVariable:
    """Return a variable with what distinguishes it, as far as that is known.

    Parameters
    ----------
    values : None: they are not part of the metadata
    """
    token = token_of(values) if values is not None else None
    return RawVariable(name, tuple(dims), tuple(shape), dtype, attrs_text(attrs), values, token, attrs)


# ---------------------------------------------------------------------------------------------------------------------
# Attributes as text
# ---------------------------------------------------------------------------------------------------------------------


def attrs_text(attrs: Mapping[str, Any]) -> str:
    """Return attributes as text from which they can be made again; empty if there is none.

    >>> attrs_text({"units": "K", "_FillValue": np.float32(1)})
    '{"units": "K", "_FillValue": {"scalar": ["<f4", "0000803f"]}}'
    """
    try:
        return json.dumps({str(name): _as_json(value) for name, value in attrs.items()})
    except (TypeError, ValueError):
        return ""


def json_text(value: Any) -> str:
    """Return the value of an attribute as :func:`attrs_text` has it.

    Raises
    ------
    TypeError : there is no such text
    """
    return json.dumps(_as_json(value))


def _as_json(value: Any) -> Any:
    kind = type(value)
    if kind in (str, int, float, bool, type(None)):
        return value
    if kind is bytes:
        return {"bytes": value.hex()}
    if kind is list:
        return [_as_json(one) for one in value]
    if kind is dict:
        if not all(type(key) is str for key in value):
            raise TypeError("keys that are no text")
        return {"map": {key: _as_json(one) for key, one in value.items()}}
    if isinstance(value, np.generic) and value.dtype.kind in _KINDS:
        return {"scalar": [value.dtype.str, value.tobytes().hex()]}
    if kind is np.ndarray and value.dtype.kind in _KINDS:
        return {"array": [value.dtype.str, list(value.shape), value.tobytes().hex()]}
    raise TypeError(f"{kind} is not kept")


def _attrs(text: str) -> dict[str, Any]:
    return {name: _from_json(value) for name, value in json.loads(text).items()}


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(one) for one in value]
    if not isinstance(value, dict):
        return value
    ((kind, given),) = value.items()
    if kind == "bytes":
        return bytes.fromhex(given)
    if kind == "map":
        return {key: _from_json(one) for key, one in given.items()}
    dtype, *shape, data = given
    found = np.frombuffer(bytes.fromhex(data), np.dtype(dtype))
    return found[0] if kind == "scalar" else found.reshape(shape[0]).copy()


# ---------------------------------------------------------------------------------------------------------------------
# Records as bytes
# ---------------------------------------------------------------------------------------------------------------------


def _is_texts(values: Values) -> bool:
    return values.dtype == object and all(type(one) is str for one in values.flat)


def token_of(values: Values) -> bytes | None:
    """Return bytes that distinguish values from any others of their dtype and shape; None if there are none."""
    if _is_texts(values):
        return json.dumps(values.ravel().tolist()).encode()
    if values.dtype.kind not in _KINDS:
        return None
    data = values.tobytes()
    return data if len(data) < _LARGE else content_digest(data)


def packed(record: ArrayRecord) -> Fact | None:
    """Return a record as bytes; None if it has values, or attributes, of which there are none."""
    buffers: list[bytes] = []
    digests: list[bytes] = []
    parts: dict[bytes, bytes] = {}
    at = 0

    def values(array: Values | None, token: bytes | None) -> Any:
        nonlocal at
        if array is None:
            return None
        if token is None:
            raise TypeError("values that are not kept")
        if array.nbytes >= _LARGE and array.dtype != object:
            digests.append(token)
            parts[token] = array.tobytes()
            return len(digests) - 1
        buffers.append(token)
        at += len(token)
        return [at - len(token), at]

    def variable(raw: RawVariable) -> list[Any]:
        if not raw.attrs_text or raw.dtype.kind not in f"{_KINDS}O":
            raise TypeError("attributes or a type that are not kept")
        kind = "O" if raw.dtype == object else raw.dtype.str
        return [raw.name, raw.dims, raw.shape, kind, raw.attrs_text, values(raw.values, raw.token)]

    try:
        ends = record.ends
        head = {
            "engine": record.engine,
            "group": record.group,
            "variable": variable(record.variable),
            "coordinates": [variable(raw) for raw in record.coordinates],
            "chunks": record.chunks,
            "ends": None if ends is None else [ends.dtype.str, ends.shape, values(ends, token_of(ends))],
        }
    except TypeError:
        return None
    text = json.dumps(head).encode()
    return Fact(len(text).to_bytes(4, "big") + text + b"".join(buffers), tuple(digests), parts)


def unpacked_record(fact: Fact) -> ArrayRecord:
    """Return the record that was packed."""
    start = 4 + int.from_bytes(fact.head[:4], "big")
    head = json.loads(fact.head[4:start])

    def token(place: Any) -> bytes:
        return fact.digests[place] if isinstance(place, int) else fact.head[start + place[0] : start + place[1]]

    def array(kind: str, shape: Sequence[int], place: Any) -> Values:
        if kind == "O":
            found = np.empty(shape, object)
            for i, one in enumerate(json.loads(token(place))):
                found.flat[i] = one
            return found
        data = fact.parts[fact.digests[place]] if isinstance(place, int) else token(place)
        return np.frombuffer(data, np.dtype(kind)).reshape(shape) if data else np.empty(shape, np.dtype(kind))

    def variable(given: Sequence[Any]) -> RawVariable:
        name, dims, shape, kind, text, place = given
        has_values = place is not None
        return RawVariable(
            name, tuple(dims), tuple(shape), np.dtype(kind), text,
            array(kind, shape, place) if has_values else None,
            token(place) if has_values else None,
        )  # fmt: skip

    chunks, ends = head["chunks"], head["ends"]
    return ArrayRecord(
        engine=head["engine"],
        group=head["group"],
        variable=variable(head["variable"]),
        coordinates=tuple(map(variable, head["coordinates"])),
        chunks=None if chunks is None else tuple(chunks),
        ends=None if ends is None else array(ends[0], ends[1], ends[2]),
    )
