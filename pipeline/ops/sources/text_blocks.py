"""Text files that are read in blocks of whole lines, packed ones as one block."""

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
"""Bytes of a block, about, where nothing is said."""
SAMPLE = 4 * 2**20
"""Bytes of a file's head that types are taken from."""

_PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}


def is_packed(path: str) -> bool:
    """Whether the file's name says that it is compressed."""
    return os.path.splitext(path)[1] in _PACKED


@contextmanager
def unpacked(path: str, options: Mapping[str, Any]) -> Iterator[Any]:
    """The file's bytes, decompressed.

    Raises
    ------
    DataError : if it is not what its name says, or broken
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
            raise DataError(f"{path}: is no {kind} file, or a broken one ({error})") from error


def _stream(raw: Any, kind: str) -> Any:
    if kind == "zstd":
        return pa.CompressedInputStream(raw, "zstd")
    import fsspec

    return fsspec.compression.compr[kind](raw, mode="rb")


def cuts(n: int | None, size: int, first: int = 0) -> list[tuple[int, int | None]]:
    """Where the blocks of a file of ``n`` bytes begin, from ``first`` on, and end; one block where ``n`` is None.

    >>> cuts(5, 2)
    [(0, 2), (2, 4), (4, None)]
    """
    starts = (list(range(first, n, size)) if n else []) or [first]
    return list(zip(starts, [*starts[1:], None], strict=True))


def block(file: BinaryIO, start: int, stop: int | None) -> bytes:
    """The lines that begin at ``start`` or later, and before ``stop``."""
    if start and stop is None and not file.seekable():  # of a packed file
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
