"""Write files that appear only when they are complete; the context of a run's writers, and the records they return."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, OutputError, PipelineError
from pipeline.worker.atomic_write import replacing, write_errors
from pipeline.worker.tracebacks import one_line

__all__ = [
    "FRAGMENTS",
    "STAGING",
    "Context",
    "FileRecord",
    "Hashing",
    "PartRecord",
    "final_path",
    "hash_file",
    "make_parents",
    "packing",
    "read_errors",
    "sync_folder",
    "unpacking",
    "write_bytes",
]

STAGING = ".staging-"
"""Staging folders, hidden siblings of the outputs, are named ``.staging-RUN``."""

FRAGMENTS = ".fragments"
"""Folder below the staging folder for parts that are joined into one file later; it is never committed."""

_BLOCK = 1 << 20
_LONGEST = 300  # characters of what a library says about a file


@dataclass(frozen=True)
class Context:
    """What writer tasks need to know of one run; bound to :data:`pipeline.graph.graph.CONTEXT`, in no fingerprint.

    Parameters
    ----------
    staging : path of the staging folder; every worker must be able to write there
    run : name of the run
    storage : fsspec options by protocol
    """

    staging: str
    run: str = ""
    storage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One written file: path below the output root with ``/``, size in bytes, SHA-256 in hex."""

    path: str
    bytes: int
    hash: str


@dataclass(frozen=True, slots=True)
class PartRecord:
    """What one writer task wrote.

    Parameters
    ----------
    index : chunk or partition number
    files : the files it wrote below the staging folder
    rows : rows of a frame, cells of an array, number of items or values
    dropped : keys of the items that had been dropped, so that there was nothing to write
    """

    index: tuple[int, ...]
    files: tuple[FileRecord, ...]
    rows: int
    dropped: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def hash(self) -> str:
        """Return one hash over all its files."""
        if len(self.files) == 1:
            return self.files[0].hash
        return hashlib.sha256("".join(file.hash for file in self.files).encode()).hexdigest()


class Hashing(io.RawIOBase):
    """A new file, for writing only, that hashes and counts the bytes written to it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by close()
        self._digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += self._file.write(view[done:]) or 0
        self._digest.update(view)
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size

    @property
    def hash(self) -> str:
        return self._digest.hexdigest()

    def sync(self) -> None:
        """Force the written data to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        super().close()


class _Written:
    """A file that is being written; its record is complete once :func:`writing` is left."""

    def __init__(self, file: Hashing, path: str) -> None:
        self.file, self.path = file, path

    @property
    def record(self) -> FileRecord:
        return FileRecord(self.path, self.file.size, self.file.hash)


def make_parents(staging: Path, folder: Path) -> None:
    """Make the folders that lead to a file, but never the staging folder: a worker may outlive its run.

    Raises
    ------
    OutputError : if the staging folder is gone
    """
    missing = []
    while folder != staging and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
        staging.stat()
    except FileNotFoundError:
        raise OutputError(
            f"the staging folder {staging} is gone: its run is over, or it was deleted meanwhile"
        ) from None


@contextmanager
def read_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise what a library reports while the block reads a file as an error that names the file.

    Raises
    ------
    DataError : instead of what the system or a library raises for a file that is damaged or can't be read; the block
        should hold little of our own code, whose bugs it would hide
    """
    try:
        yield
    except (PipelineError, MemoryError):
        raise
    except Exception as error:  # libraries raise anything for a damaged file
        why = " ".join(one_line(error).split())[:_LONGEST]
        cure = "restore it, or write it again; for outputs of Pipeline, pipeline verify says what has changed"
        raise DataError(f"{os.fspath(path)}: can't be read ({why}): {cure}") from error


@contextmanager
def writing(context: Context, path: str) -> Iterator[_Written]:
    """Open the file ``path`` below the staging folder for writing; it appears once it is complete and on the disk.

    A task may run twice (its worker was lost): the second file replaces the first in one step.
    """
    target, shown = Path(context.staging, path), final_path(context, path)
    with write_errors(shown):
        make_parents(Path(context.staging), target.parent)
    with replacing(target, shown=shown) as partial, Hashing(partial) as file:
        yield _Written(file, path)
        file.sync()


def final_path(context: Context, path: str) -> Path:
    """Return where a file or fragment below the staging folder is going to be, for messages."""
    parts = Path(path).parts
    return Path(context.staging).parent.joinpath(*(parts[1:-1] if parts[0] == FRAGMENTS else parts))


def write_bytes(context: Context, path: str, chunks: Iterable[Any]) -> FileRecord:
    """Write ``chunks`` of bytes, one after the other, as the file ``path`` below the staging folder."""
    with writing(context, path) as written:
        for chunk in chunks:
            written.file.write(chunk)
    return written.record


def packing(file: Any, path: str) -> AbstractContextManager[Any]:
    """Return a stream that writes to ``file``, compressed by the ending of ``path``; the result has no time stamp."""
    if path.endswith(".gz"):
        return gzip.GzipFile("", "wb", 6, file, mtime=0)
    if path.endswith(".bz2"):
        return bz2.BZ2File(file, "wb")
    return lzma.LZMAFile(file, "wb") if path.endswith(".xz") else nullcontext(file)


def unpacking(path: Path) -> Any:
    """Open a file for reading, decompressed by the ending of its name."""
    openers: Mapping[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return openers.get(path.suffix, open)(path, "rb")


def read_blocks(path: str | Path) -> Iterator[bytes]:
    """Yield the bytes of a file, one MiB at a time."""
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            yield block


def hash_file(path: str | Path) -> str:
    """Return the SHA-256 of a file in hex, as ``sha256sum`` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(path: str | Path) -> None:
    """Force the names in a folder to the disk (new, renamed and removed files)."""
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
