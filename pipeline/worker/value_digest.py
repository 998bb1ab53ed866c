"""The digest of a value: the same in every process and session for equal values, and another one for any others.

Of the values of tasks: arrays (numpy, masked, with labels), tables (Arrow, pandas, polars) and plain Python objects, in
any nesting. It is computed from what a value holds, not from how memory holds it: a slice, a transposed array and a
table in many chunks have the digest of their copy. Types are part of it (dtype, schema, labels, attributes), and so are
bits: ``-0.0`` differs from ``0.0``, and a NaN differs from a NaN with other bits. What is under a mask or a missing
value, or between the fields of a record, is not.

A large buffer is hashed where it is, by SHA-256, which takes 0.6 s a GB on a CPU that has instructions for it
(rejected: BLAKE2b, 1.4 s there; hashes that are no cryptographic ones, since equal digests stand for equal values).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from pipeline.graph.canonical_encoding import Encoder, combined
from pipeline.graph.segments import Group
from pipeline.worker.arrow_digest import arrow_parts
from pipeline.worker.labelled_values import LIBRARIES, library_parts

__all__ = ["array_digest", "buffer_hash", "digest"]

_VERSION = "1"  # of all rules here, in canonical_encoding and in arrow_digest: with another one, all digests differ
_BLOCK = 1 << 20  # elements of an array that is not contiguous which are copied at a time


def digest(value: Any) -> str | None:
    """Return the digest of a value, 32 hex digits; None if it is unknown, as for objects of the user's classes.

    >>> digest(np.arange(6)[::2]) == digest(np.array([0, 2, 4]))
    True
    >>> digest(object()) is None
    True
    """
    try:
        return combined((_VERSION, _ValueEncoder().encode(value)))
    except Exception:  # noqa: BLE001 - what is unknown, nested too deeply, or of a user's class that raises anything
        return None


def array_digest(array: Any, data: bytes) -> str:
    """Return the digest of a contiguous array of plain elements from the :func:`buffer_hash` of its memory."""
    return combined((_VERSION, _array_head(array) + data))


def buffer_hash(buffer: Any) -> bytes:
    """Return the SHA-256 of a contiguous buffer or array, which is not copied."""
    if isinstance(buffer, np.ndarray):
        buffer = buffer.reshape(-1).view(np.uint8) if buffer.nbytes else b""
    return hashlib.sha256(buffer).digest()


def _array_head(array: Any) -> bytes:
    head = f"{array.dtype.str} {array.shape}".encode()
    return b"a" + len(head).to_bytes(4, "little") + head


def _encoded(value: Any) -> bytes:
    return Encoder().encode(value)


class _ValueEncoder(Encoder):
    """Encodes arrays, tables and labelled arrays as well."""

    def encode_other(self, value: Any) -> bytes:
        kind = type(value)
        if kind is np.ndarray or kind is np.memmap:
            return self._array(value)
        if isinstance(value, np.generic):
            return b"g" + self._array(np.asarray(value))
        if kind is np.ma.MaskedArray:
            return self._masked(value)
        if kind is np.matrix or kind is np.recarray:
            return b"C" + _encoded(kind.__name__) + self._array(value.view(np.ndarray))
        if isinstance(value, np.dtype) and not value.metadata:
            return b"Y" + _encoded((repr(value), value.str))
        if kind is Group:
            return b"G" + self.encode((list(value), tuple(value.dropped)))
        library = kind.__module__.partition(".")[0]
        if library == "pyarrow":
            return b"A" + self.encode(arrow_parts(value))
        if library in LIBRARIES:
            return b"L" + self.encode(library_parts(value))
        return super().encode_other(value)

    def _array(self, array: Any) -> bytes:
        dtype = array.dtype
        if dtype.fields is not None:
            fields = [b"R" + _encoded((dtype.names, array.shape))]
            return b"".join([*fields, *(self._array(array[name]) for name in dtype.names)])
        if dtype.kind == "O":
            return b"P" + _encoded(array.shape) + self.encode(list(array.reshape(-1)))
        if dtype.kind == "T":
            return b"T" + _encoded((repr(dtype), array.shape)) + self.encode(array.reshape(-1).tolist())
        if dtype.kind in "fc" and np.finfo(dtype).nmant == _NMANT_80:  # with 6 bytes of each 16 that are not used
            parts = array.real, array.imag if dtype.kind == "c" else array.real[..., :0]
            used = [np.ascontiguousarray(part).reshape(-1, 1).view(np.uint8)[:, :10] for part in parts]
            return _array_head(array) + b"".join(_hash_of_elements(part) for part in used)
        return _array_head(array) + (buffer_hash(array) if array.flags.c_contiguous else _hash_of_elements(array))

    def _masked(self, array: Any) -> bytes:
        mask = np.ma.getmaskarray(array)
        plain = np.array(array.data)
        plain[mask] = np.zeros((), plain.dtype)
        fill = np.asarray(array.fill_value)
        return b"M" + self._array(plain) + self._array(mask) + self._array(fill) + self.encode(array.hardmask)


_NMANT_80 = 63


def _hash_of_elements(array: Any) -> bytes:
    """Return the SHA-256 of the elements in C order, of which some are copied at a time."""
    found = hashlib.sha256()
    if array.size:
        flags = ["external_loop", "buffered"]
        for block in np.nditer(array, flags=flags, order="C", buffersize=_BLOCK):  # type: ignore[call-overload]
            found.update(np.ascontiguousarray(block).view(np.uint8).data)
    return found.digest()
