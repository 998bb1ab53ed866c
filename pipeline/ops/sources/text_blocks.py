"""Text files read in blocks of whole lines, compressed ones as one block."""

from __future__ import annotations

import lzma
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline.errors import DataError
from pipeline.ops.sources.paths import opened

__all__ = ["BLOCK", "SAMPLE", "block", "cuts", "is_packed", "unpacked"]

BLOCK = 64 * 2**20
"""Default size of a block in bytes."""
SAMPLE = 4 * 2**20
"""Bytes at the start of a file from which types are inferred."""

_PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}


def is_packed(path: str) -> bool:
    """Return whether a file is compressed, by its name."""
    return os.path.splitext(path)[1] in _PACKED


@contextmanager
def unpacked(path: str, options: Mapping[str, Any]) -> Iterator[Any]:
    """Open a file for reading, decompressed.

    Raises
    ------
    DataError : the file is broken, or not compressed as its name says
    """
    kind = _PACKED.get(os.path.splitext(path)[1])
    with opened(path, options) as raw:
        if kind is None:
            yield raw
            return
        try:
            with _stream(raw, kind) as stream:
                yield stream
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise DataError(f"{path}: is not a {kind} file, or a broken one ({error})") from error


def _stream(raw: Any, kind: str) -> Any:
    if kind == "zstd":
        return pa.CompressedInputStream(raw, "zstd")
    import fsspec

    return fsspec.compression.compr[kind](raw, mode="rb")


def cuts(n: int | None, size: int, first: int = 0) -> list[tuple[int, int | None]]:
    """Return the start and stop of each block of a file of ``n`` bytes, from ``first`` on; one block if ``n`` is None.

    >>> cuts(5, 2)
    [(0, 2), (2, 4), (4, None)]
    """
    starts = (list(range(first, n, size)) if n else []) or [first]
    return list(zip(starts, [*starts[1:], None], strict=True))


def block(file: BinaryIO, start: int, stop: int | None) -> bytes:
    """Return the lines that begin at ``start`` or later and before ``stop``."""
    if start and stop is None and not file.seekable():  # of a compressed file
        file.read(start)
        return file.read()
    if start:
        file.seek(start - 1)
        file.readline()
    begin = file.tell() if start else 0
    if stop is None:
        return file.read()
    if begin >= stop:
        return b""
    data = file.read(stop - begin)
    return data if data.endswith(b"\n") else data + file.readline()
