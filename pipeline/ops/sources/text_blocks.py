"""Text files read in blocks of whole lines as UTF-8; compressed ones, and some encodings, as one block."""

from __future__ import annotations

import codecs
import io
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

__all__ = [
    "BLOCK",
    "ROWS",
    "SAMPLE",
    "block",
    "cuts",
    "footer_start",
    "in_utf8",
    "is_cuttable",
    "is_packed",
    "lines_in",
    "n_lines",
    "no_utf8",
    "read_up_to",
    "unpacked",
    "whole_lines",
]

BLOCK = 64 * 2**20
"""Default size of a block in bytes."""
ROWS = 1000
"""Rows at the start of each file from which types are inferred."""
SAMPLE = 4 * 2**20
"""Bytes at the start of a file in which these rows, and line breaks inside quotes, are looked for."""

_PIECE = 2**16  # bytes that are read at once in search of the end of a line
_LINE_END = re.compile(rb"\r\n|\r|\n")
_PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}
_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def is_packed(path: str) -> bool:
    """Return whether a file is compressed, by its name."""
    return os.path.splitext(path)[1] in _PACKED


def is_cuttable(path: str, encoding: str) -> bool:
    """Return whether a file can be cut at lines: it is not compressed, and ASCII is itself in its encoding."""
    if is_packed(path):
        return False
    try:
        return bytes(range(128)).decode(encoding) == bytes(range(128)).decode()
    except UnicodeDecodeError:
        return False


@contextmanager
def unpacked(path: str, options: Mapping[str, Any], encoding: str = "utf-8") -> Iterator[Any]:
    """Open a file for reading, decompressed; as UTF-8 if it has an encoding in which it can't be cut.

    Raises
    ------
    DataError : the file is broken, not compressed as its name says, or not of this encoding
    """
    kind = _PACKED.get(os.path.splitext(path)[1])
    with opened(path, options) as raw:
        if kind is None and is_cuttable(path, encoding):
            yield raw
            return
        try:
            with _stream(raw, path, kind) as stream:
                yield stream if _is_utf8(encoding) else _Transcoded(stream, path, encoding)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise DataError(f"{path}: is not a {kind} file, or a broken one ({error})") from error


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"


class _Transcoded:
    """The bytes of another encoding, read as UTF-8."""

    def __init__(self, stream: Any, path: str, encoding: str) -> None:
        self._stream, self._path, self._encoding = stream, path, encoding
        self._decoder: Any = codecs.getincrementaldecoder(encoding)()
        self._ready = b""
        self._lines, self._last = 0, ""
        self._ended = False

    def read(self, n: int = -1) -> bytes:
        pieces, size = [self._ready], len(self._ready)
        while not self._ended and (n < 0 or size < n):
            data = self._stream.read(2**18)
            self._ended = not data
            pieces.append(self._decoded(data).encode())
            size += len(pieces[-1])
        whole = b"".join(pieces)
        found, self._ready = (whole, b"") if n < 0 else (whole[:n], whole[n:])
        return found

    def _decoded(self, data: bytes) -> str:
        try:
            text: str = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            kept = getattr(self._decoder, "buffer", b"")
            self._decoder.errors = "replace"
            self._count(self._decoder.decode(error.object[len(kept) : error.start]))
            raise DataError(_wrong_encoding(self._path, f":{self._lines + 1}", self._encoding, error)) from error
        self._count(text)
        return text

    def _count(self, text: str) -> None:
        self._lines += lines_in(text.encode(errors="replace")) - (self._last == "\r" and text.startswith("\n"))
        self._last = text[-1:] or self._last

    def seekable(self) -> bool:
        return False


@contextmanager
def _stream(raw: Any, path: str, kind: str | None) -> Iterator[Any]:
    if kind is None:
        yield raw
    elif kind == "zstd":
        with pa.CompressedInputStream(raw, "zstd") as stream:
            yield stream
    elif kind == "zip":
        with _member(raw, path) as stream:
            yield stream
    else:
        import fsspec

        with fsspec.compression.compr[kind](raw, mode="rb") as stream:
            yield stream


@contextmanager
def _member(raw: Any, path: str) -> Iterator[Any]:
    """The one file in a zip archive."""
    import zipfile

    try:
        with zipfile.ZipFile(raw) as archive:
            names = [each for each in archive.namelist() if not each.endswith("/") and "__MACOSX" not in each]
            if len(names) != 1:
                shown = f": {', '.join(names[:3])}{', …' if len(names) > 3 else ''}" if names else ""
                raise DataError(f"{path}: has {len(names)} files{shown}; an archive that is read has one: unpack it")
            with archive.open(names[0]) as stream:
                yield stream
    except (zipfile.BadZipFile, RuntimeError) as error:
        raise DataError(f"{path}: is not a zip file, or a broken one ({error})") from error


def in_utf8(path: str, data: bytes, encoding: str, before: Any) -> bytes:
    """Return lines of a file, as :func:`unpacked` gives them, in UTF-8.

    Parameters
    ----------
    before : returns the number of lines of the file before these

    Raises
    ------
    DataError : naming the line that is not of this encoding
    """
    if _is_utf8(encoding) or not is_cuttable(path, encoding):
        return data
    try:
        return data.decode(encoding).encode()
    except UnicodeError as error:
        line = before() + lines_in(data[: getattr(error, "start", 0)]) + 1
        raise DataError(_wrong_encoding(path, f":{line}", encoding, error)) from error


def _wrong_encoding(path: str, line: str, encoding: str, error: UnicodeError) -> str:
    return f"{path}{line}: is not text in the encoding {encoding} ({getattr(error, 'reason', error)})"


def no_utf8(data: bytes) -> str:
    """Return what to say of bytes that are no UTF-8, with the cure."""
    for mark, encoding in _BOMS.items():
        if data.startswith(mark):
            return f"begins as text in UTF-16 does; cure: encoding: {encoding}"
    return "has what is no UTF-8; cure: its encoding, as encoding: latin-1, cp1252"


def cuts(n: int | None, size: int, first: int = 0) -> list[tuple[int, int | None]]:
    """Return the start and stop of each block of a file of ``n`` bytes, from ``first`` on; one block if ``n`` is None.

    >>> cuts(5, 2)
    [(0, 2), (2, 4), (4, None)]
    """
    starts = (list(range(first, n, size)) if n else []) or [first]
    return list(zip(starts, [*starts[1:], None], strict=True))


def block(file: BinaryIO, start: int, stop: int | None) -> bytes:
    """Return the lines that begin at ``start`` or later and before ``stop``; a line may end as on any system."""
    if stop is None and not file.seekable():  # of a compressed file
        return _whole(file)[start:]
    begin = _line_start(file, start) if start else 0
    if stop is not None and begin >= stop:
        return b""
    end = _line_start(file, stop) if stop is not None else None
    file.seek(begin)
    return file.read() if end is None else file.read(end - begin)


def _whole(file: BinaryIO) -> bytes:
    """All of a file; the last piece must be empty, or its end is missing."""
    pieces = io.BytesIO()
    while data := file.read(2**22):
        pieces.write(data)
    return pieces.getvalue()


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


def read_up_to(file: Any, n: int) -> bytes:
    """Return ``n`` bytes, or all that are left; streams may give fewer at once."""
    pieces, left = [], n
    while left and (data := file.read(left)):
        pieces.append(data)
        left -= len(data)
    return b"".join(pieces)


def whole_lines(data: bytes) -> bytes:
    """Return the beginning of a text up to its last line's end; all of it where no line ends."""
    stop = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    return data[:stop] or data


def footer_start(data: bytes, n: int) -> int | None:
    """Return where the last ``n`` lines that are not blank begin; None if there are fewer."""
    stop = len(data)
    for _ in range(n):
        stop = len(data[:stop].rstrip())
        if not stop:
            return None
        stop = max(data.rfind(b"\n", 0, stop), data.rfind(b"\r", 0, stop)) + 1
    return stop if stop or not n else None


def lines_in(data: bytes) -> int:
    """Return how many lines end in a text.

    >>> lines_in(b"a\\r\\nb\\rc\\nd")
    3
    """
    return len(_LINE_END.findall(data))


def n_lines(path: str, options: Mapping[str, Any], stop: int, encoding: str = "utf-8") -> int:
    """Return how many lines of a file begin before byte ``stop``."""
    n, left, data = int(stop > 0), stop, b""
    with unpacked(path, options, encoding) as file:
        while left and (piece := file.read(min(left, _PIECE))):
            left -= len(piece)
            data = piece if not data.endswith(b"\r") else b"\r" + piece
            is_open = data.endswith(b"\r") and left > 0  # LF may follow
            n += len(_LINE_END.findall(data[:-1] if is_open else data))
    return n - data.endswith((b"\r", b"\n"))
