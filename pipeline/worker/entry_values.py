"""A value as the parts of a file, and back.

Arrays are npy files, tables Arrow streams, small plain values JSON: these are read without running any code. All else
is a pickle and its buffers.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.graph.canonical_encoding import canonical
from pipeline.worker.pickle_frames import frames_of
from pipeline.worker.value_digest import array_digest, buffer_hash, digest

__all__ = ["Encoded", "decoded", "encoded"]

_APART = 65_536  # bytes from which a buffer is kept beside its pickle
_MOST_IN_JSON = 1000  # members


class Encoded(NamedTuple):
    """A value as parts of a file.

    Parameters
    ----------
    kind : ``npy``, ``arrow``, ``json`` or ``pickle``
    parts : buffers, to be written one after the other; or functions that write to the file that they get
    hashes : SHA-256 of each part, where it is known
    digest : of the value; None if it is unknown
    """

    kind: str
    parts: Sequence[Any]
    hashes: Sequence[bytes | None]
    digest: str | None


def encoded(value: Any) -> Encoded:
    """Return a value as parts of a file; large buffers are those of the value.

    Raises
    ------
    Exception : whatever pickling it raises
    """
    if type(value) is np.ndarray:
        found = _array(value)
        if found is not None:
            return found
    if type(value) is pa.Table and value.num_columns:
        return Encoded("arrow", [_stream(value)], [None], digest(value))
    text = _json(value)
    if text is not None:
        return Encoded("json", [text], [None], digest(value))
    parts = frames_of(value, _APART, by_value=True)
    return Encoded("pickle", parts, [None] * len(parts), digest(value))


def decoded(kind: str, parts: Sequence[Any]) -> Any:
    """Return the value of some parts; it may use their memory. A pickle runs code: only of files that are the user's.

    Raises
    ------
    Exception : whatever reading it raises
    """
    if kind == "npy":
        head, data = parts
        shape, in_columns, dtype = _npy_head(head)
        array = np.frombuffer(data, dtype) if len(data) else np.empty(0, dtype)
        return array.reshape(shape, order="F" if in_columns else "C")
    if kind == "arrow":
        with pa.ipc.open_stream(pa.py_buffer(parts[0])) as stream:
            return stream.read_all()
    if kind == "json":
        return json.loads(bytes(parts[0]))
    if kind == "pickle":
        return pickle.loads(parts[0], buffers=parts[1:])
    raise ValueError(f"a value of kind {kind!r}")


def _array(array: Any) -> Encoded | None:
    """Return an array as an npy file; None if that would lose something of it."""
    dtype = array.dtype
    if dtype.hasobject or dtype.metadata or dtype.kind == "T":
        return None
    in_columns = array.flags.f_contiguous and not array.flags.c_contiguous
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": in_columns, "shape": array.shape}
    head = BytesIO()
    try:
        np.lib.format.write_array_header_2_0(head, about)
    except ValueError:  # a name of a field that it has no letters for
        return None
    if _npy_head(head.getvalue())[2] != dtype:
        return None
    data = array.T if in_columns else np.ascontiguousarray(array)
    sha = buffer_hash(data)
    plain = not in_columns and dtype.fields is None and dtype.char not in "gG"  # its digest is of its memory
    known = array_digest(array, sha) if plain else digest(array)
    raw = data.reshape(-1).view(np.uint8).data if data.nbytes else b""
    return Encoded("npy", [head.getvalue(), raw], [None, sha], known)


def _npy_head(head: Any) -> tuple[tuple[int, ...], bool, Any]:
    """Return shape, whether it is in the order of columns, and dtype."""
    file = BytesIO(bytes(head))
    np.lib.format.read_magic(file)
    found: tuple[tuple[int, ...], bool, Any] = np.lib.format.read_array_header_2_0(file, max_header_size=1 << 20)
    return found


def _stream(table: pa.Table) -> Callable[[Any], None]:
    """Return a function that writes the table to a file."""

    def write(file: Any) -> None:
        with pa.PythonFile(file, "w") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)

    return write


def _json(value: Any) -> bytes | None:
    """Return a small plain value as text that is read as the same value; None if there is none."""
    if not _is_plain(value, [_MOST_IN_JSON]):
        return None
    text = json.dumps(value, ensure_ascii=True)
    return text.encode() if canonical(json.loads(text)) == canonical(value) else None  # a NaN may have other bits


def _is_plain(value: Any, left: list[int]) -> bool:
    """Whether a value is of None, bool, int, float and str, and lists and dicts of them; ``left``: members, at most."""
    kind = type(value)
    left[0] -= 1
    if kind is int:
        return bool(value.bit_length() < 4000)
    if kind is str:
        return len(value) < 1 << 20
    if value is None or kind is bool or kind is float:
        return True
    if left[0] < 0:
        return False
    if kind is list:
        return len(value) <= left[0] and all(_is_plain(one, left) for one in value)
    if kind is dict:
        pairs = value.items()
        return len(value) <= left[0] and all(type(name) is str and _is_plain(one, left) for name, one in pairs)
    return False
