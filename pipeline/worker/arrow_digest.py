"""What determines an Arrow table: its schema, and a hash of each column's values.

The hashes are of the values, in the order of the rows: they don't depend on chunks, slices, offsets, the dictionary of
a dictionary column, or on what memory holds where a value is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.graph.canonical_encoding import UnknownValue
from pipeline.graph.importing import Deferred

__all__ = ["arrow_parts"]

pc: Any = Deferred("pyarrow.compute")  # takes as long to import as numpy, and few runs keep tables
Arrays = Sequence[pa.Array]


def arrow_parts(value: Any) -> tuple[Any, ...]:
    """Return plain values that determine a table, record batch, array, schema, type or scalar of Arrow.

    Raises
    ------
    UnknownValue : for another object of Arrow's, and for columns of unions
    """
    if isinstance(value, pa.Table):
        columns = [_column(column.chunks, column.type) for column in value.columns]
        return "table", _schema(value.schema), value.num_rows, columns
    if isinstance(value, pa.RecordBatch):
        columns = [_column([column], column.type) for column in value.columns]
        return "batch", _schema(value.schema), value.num_rows, columns
    if isinstance(value, pa.ChunkedArray):
        return "chunked", _type(value.type), len(value), _column(value.chunks, value.type)
    if isinstance(value, pa.Array):
        return "array", _type(value.type), len(value), _column([value], value.type)
    if isinstance(value, pa.Schema):
        return "schema", _schema(value)
    if isinstance(value, pa.Field):
        return "field", _field(value)
    if isinstance(value, pa.DataType):
        return "type", _type(value)
    if isinstance(value, pa.Scalar):
        return "scalar", _type(value.type), _column([pa.array([value.as_py()], value.type)], value.type)
    raise UnknownValue(f"an object of type {type(value).__name__}")


# ---------------------------------------------------------------------------------------------------------------------
# Types
# ---------------------------------------------------------------------------------------------------------------------


def _schema(schema: pa.Schema) -> tuple[Any, ...]:
    return [_field(field) for field in schema], _metadata(schema.metadata)


def _field(field: pa.Field) -> tuple[Any, ...]:
    return field.name, _type(field.type), field.nullable, _metadata(field.metadata)


def _metadata(metadata: Any) -> list[tuple[bytes, bytes]]:
    return sorted((metadata or {}).items())


def _type(kind: pa.DataType) -> Any:
    if isinstance(kind, pa.BaseExtensionType):
        return "extension", kind.extension_name, str(kind), _type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return "dictionary", _type(kind.index_type), _type(kind.value_type), kind.ordered
    if kind.num_fields:
        head = str(kind) if pa.types.is_fixed_size_list(kind) or pa.types.is_map(kind) else ""
        return "nested", kind.id, head, [_field(kind.field(i)) for i in range(kind.num_fields)]
    return str(kind)


# ---------------------------------------------------------------------------------------------------------------------
# Columns
# ---------------------------------------------------------------------------------------------------------------------


class _Hash:
    """The hash of bytes that come in pieces; none is copied."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()
        self._n = 0

    def add(self, piece: Any) -> None:
        view = piece.reshape(-1).view(np.uint8).data if isinstance(piece, np.ndarray) else memoryview(piece).cast("B")
        self._n += len(view)
        self._state.update(view)

    def bytes(self) -> bytes:
        return self._n.to_bytes(8, "little") + self._state.digest()


def _column(chunks: Arrays, kind: pa.DataType) -> tuple[Any, ...]:
    """Return plain values that determine the values of some arrays of one type, one after the other."""
    if isinstance(kind, pa.BaseExtensionType):
        return _column([chunk.storage for chunk in chunks], kind.storage_type)
    types = pa.types
    if types.is_dictionary(kind):
        return _column([chunk.dictionary_decode() for chunk in chunks], kind.value_type)
    if types.is_run_end_encoded(kind):
        return _column([pc.run_end_decode(chunk) for chunk in chunks], kind.value_type)
    if types.is_null(kind):
        return ()
    if types.is_union(kind):
        raise UnknownValue("a column of a union")
    n_missing = sum(chunk.null_count for chunk in chunks)
    return n_missing, _validity(chunks) if n_missing else b"", _values(chunks, kind)


def _validity(chunks: Arrays) -> bytes:
    found = _Hash()
    for chunk in chunks:
        found.add(_valid(chunk))
    return found.bytes()


def _valid(chunk: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return 1 for each value that is there, 0 for each that is missing."""
    return _fixed(chunk.is_valid().cast(pa.uint8()), 1).reshape(-1)


def _values(chunks: Arrays, kind: pa.DataType) -> Any:
    types = pa.types
    if types.is_struct(kind):  # flatten: what is missing in the struct is missing in its fields
        flat = [chunk.flatten() for chunk in chunks]
        return [_column([one[i] for one in flat], kind.field(i).type) for i in range(kind.num_fields)]
    if types.is_map(kind):
        pairs = pa.list_(pa.struct([kind.key_field, kind.item_field]))
        return _values([_list_of_map(chunk, pairs) for chunk in chunks], pairs)
    if types.is_fixed_size_list(kind):
        return _column([chunk.flatten() for chunk in chunks], kind.value_type)
    if any(test(kind) for test in (types.is_list, types.is_large_list, types.is_list_view, types.is_large_list_view)):
        lengths = _of_each(chunks, lambda chunk: pc.fill_null(pc.list_value_length(chunk), 0).cast(pa.int64()), 8)
        return lengths, _column([chunk.flatten() for chunk in chunks], kind.value_type)
    if types.is_boolean(kind):
        return _of_each(chunks, lambda chunk: pc.fill_null(chunk, False).cast(pa.uint8()), 1)
    if _is_text(kind):
        return _texts(chunks, kind)
    return _of_each(chunks, None, kind.bit_width // 8)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return any(
        test(kind)
        for test in (
            *(types.is_string, types.is_large_string, types.is_binary, types.is_large_binary),
            *(types.is_string_view, types.is_binary_view),
        )
    )


def _list_of_map(chunk: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the pairs of each map as a list."""
    n, start = len(chunk), chunk.offset
    validity, offsets = chunk.buffers()[:2]
    pairs = pa.StructArray.from_arrays([chunk.keys, chunk.items], fields=list(kind.value_type))
    return pa.Array.from_buffers(kind, n, [validity, offsets], offset=start, children=[pairs])


def _of_each(chunks: Arrays, plain: Callable[[pa.Array], pa.Array] | None, width: int) -> bytes:
    """Return the hash of values of ``width`` bytes each, zero where they are missing."""
    found = _Hash()
    for chunk in chunks:
        values = _fixed(plain(chunk) if plain else chunk, width)
        if plain is None and chunk.null_count:
            values = values * _valid(chunk).reshape(-1, 1)
        found.add(values)
    return found.bytes()


def _fixed(chunk: pa.Array, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the bytes of values of a fixed width, a row a value; no copy is made."""
    data = chunk.buffers()[1]
    if data is None or not len(chunk):
        return np.zeros((len(chunk), width), np.uint8)
    whole = np.frombuffer(data, np.uint8)
    return whole[chunk.offset * width : (chunk.offset + len(chunk)) * width].reshape(-1, width)


def _texts(chunks: Arrays, kind: pa.DataType) -> tuple[bytes, bytes]:
    """Return the hash of the lengths of texts, and that of the texts."""
    is_wide = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    is_view = pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
    lengths, texts = _Hash(), _Hash()
    for chunk in chunks:
        if is_view:
            chunk = chunk.cast(pa.large_binary())
        if chunk.null_count:
            chunk = pc.fill_null(chunk, b"" if pa.types.is_binary(chunk.type) or _is_large_binary(chunk) else "")
        _, offsets, data = chunk.buffers()
        if offsets is None or not len(chunk):
            continue
        kind_of_offset = np.int64 if is_wide or is_view else np.int32
        ends = np.frombuffer(offsets, kind_of_offset)[chunk.offset : chunk.offset + len(chunk) + 1]
        lengths.add(np.diff(ends).astype(np.int64))
        if data is not None:
            texts.add(memoryview(data)[int(ends[0]) : int(ends[-1])])
    return lengths.bytes(), texts.bytes()


def _is_large_binary(chunk: pa.Array) -> bool:
    return bool(pa.types.is_large_binary(chunk.type))
