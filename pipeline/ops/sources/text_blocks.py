"""Text files read in blocks of whole lines, compressed ones as one block."""

from __future__ import annotations

import lzma
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline.errors import DataError
from pipeline.ops.sources.paths import opened

__all__ = ["BLOCK", "SAMPLE", "block", "cuts", "is_packed", "n_lines", "unpacked", "whole_lines"]

BLOCK = 64 * 2**20
"""Default size of a block in bytes."""
SAMPLE = 4 * 2**20
"""Bytes at the start of a file from which types are inferred."""

_PIECE = 2**16  # bytes that are read at once in search of the end of a line
_LINE_END = re.compile(rb"\r\n|\r|\n")
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
    """Return the lines that begin at ``start`` or later and before ``stop``; a line may end as on any system."""
    if start and stop is None and not file.seekable():  # of a compressed file
        file.read(start)
        return file.read()
    begin = _line_start(file, start) if start else 0
    if stop is not None and begin >= stop:
        return b""
    end = _line_start(file, stop) if stop is not None else None
    file.seek(begin)
    return file.read() if end is None else file.read(end - begin)


def _line_start(file: BinaryIO, position: int) -> int:
    """Return where the first line begins at ``position`` or later: after LF, CR LF, or a CR alone."""
    file.seek(position - 1)
    at = position - 1
    while data := file.read(_PIECE):
        found = _LINE_END.search(data)
        if found and found.end() == len(data) and found[0] == b"\r":  # is it followed by LF?
            return at + found.end() + (file.read(1) == b"\n")
        if found:
            return at + found.end()
        at += len(data)
    return at


def whole_lines(data: bytes) -> bytes:
    """Return the beginning of a text up to its last line's end; all of it where no line ends."""
    stop = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    return data[:stop] or data


def n_lines(path: str, options: Mapping[str, Any], stop: int) -> int:
    """Return how many lines of a file begin before byte ``stop``."""
    n, left, data = int(stop > 0), stop, b""
    with unpacked(path, options) as file:
        while left and (piece := file.read(min(left, _PIECE))):
            left -= len(piece)
            data = piece if not data.endswith(b"\r") else b"\r" + piece
            is_open = data.endswith(b"\r") and left > 0  # LF may follow
            n += len(_LINE_END.findall(data[:-1] if is_open else data))
    return n - data.endswith((b"\r", b"\n"))
