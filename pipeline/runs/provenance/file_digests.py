"""Digests of the content of input files; of those that have not changed since, from the notes of an earlier run.

Files are hashed in threads, small ones first, up to a number of bytes. Of larger ones both ends are hashed: with size
and time of change they tell whether a file was replaced, but not every change of its content.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

from pipeline.ops.sources.paths import options_of
from pipeline.worker.file_notes import FileNotes, FileStamp, file_stamps

__all__ = ["FileDigest", "about_remote", "file_digests"]

_END = 1_000_000  # bytes hashed at each end of a file that is not hashed as a whole
_THREADS = 8
_BATCH = 64  # files a thread takes at once, if they are small
_WHOLE, _ENDS = "sha256-1", "sha256-ends-1"  # kinds of notes


class FileDigest(NamedTuple):
    """The content of a local file.

    Parameters
    ----------
    stamp : its state before it was read
    sha256 : in hex; empty if nothing of it was read
    whole : whether all of it was hashed; else both ends
    """

    stamp: FileStamp
    sha256: str
    whole: bool

    @property
    def identity(self) -> str:
        """What distinguishes this content from others: of a file that is not hashed as a whole also size and time."""
        if self.whole:
            return self.sha256[:32]
        return f"{self.stamp.size}-{self.stamp.mtime_ns}-{self.sha256[:32]}"


def file_digests(
    paths: Iterable[str],
    *,
    budget: int,
    most_ends: int | None = None,
    most_opened: int | None = None,
    notes: FileNotes | None = None,
    note_ends: bool = False,
) -> dict[str, FileDigest]:
    """Return the digests of those files that are there and can be read.

    Parameters
    ----------
    budget : bytes that are read of files that are hashed as a whole; what the notes have is free
    most_ends : how many larger files have their ends hashed; None: all
    most_opened : how many files are opened, the smallest first; None: all
    notes : where digests are kept between runs
    note_ends : whether a file is taken as larger than the budget again while it does not change, so that its identity
        does not depend on how many other files there are
    """
    stamps = file_stamps(paths)
    found: dict[str, FileDigest] = {}
    if notes is not None:
        for kind, whole in ((_WHOLE, True), *([(_ENDS, False)] if note_ends else [])):
            known = notes.get(kind, [path for path in stamps if path not in found])
            found |= {path: FileDigest(stamps[path], fact.hex(), whole) for path, fact in known.items()}
    order = sorted((path for path in stamps if path not in found), key=lambda path: (stamps[path].size, path))
    plan: dict[str, bool] = {}
    left, ends = budget, most_ends
    for path in order[:most_opened]:
        whole = stamps[path].size <= left
        if not whole and ends is not None:
            if not ends:
                break
            ends -= 1
        left = left - stamps[path].size if whole else 0
        plan[path] = whole
    hashed = {path: FileDigest(stamps[path], sha256, plan[path]) for path, sha256 in _hashed(plan, stamps).items()}
    if notes is not None:
        for kind, whole in ((_WHOLE, True), *([(_ENDS, False)] if note_ends else [])):
            notes.put(kind, {p: bytes.fromhex(d.sha256) for p, d in hashed.items() if d.whole == whole}, stamps)
    found |= hashed
    unread = {path: FileDigest(stamps[path], "", False) for path in order if path not in hashed and path not in plan}
    return {path: digest for path in stamps if (digest := found.get(path) or unread.get(path)) is not None}


def _hashed(plan: Mapping[str, bool], stamps: Mapping[str, FileStamp]) -> dict[str, str]:
    """Return the digest of each file that can be read, whole or of both ends."""
    paths = [*plan]
    found: dict[str, str] = {}

    def hash_some(some: list[str]) -> list[tuple[str, str]]:
        done = []
        for path in some:
            with suppress(OSError):
                done.append((path, _whole(path) if plan[path] else _ends(path, stamps[path].size)))
        return done

    threads = min(_THREADS, os.cpu_count() or 1)
    if len(paths) < 2 or threads < 2 or sum(stamps[path].size for path in paths) < _END:
        return dict(hash_some(paths))
    batches = _batches(paths, lambda path: min(stamps[path].size, 2 * _END) if not plan[path] else stamps[path].size)
    with ThreadPoolExecutor(threads, thread_name_prefix="hash") as pool:
        for done in pool.map(hash_some, batches):
            found.update(done)
    return found


def _batches(paths: list[str], size: Callable[[str], int]) -> Iterable[list[str]]:
    batch: list[str] = []
    nbytes = 0
    for path in paths:
        batch.append(path)
        nbytes += size(path)
        if len(batch) == _BATCH or nbytes > 8 * _END:
            yield batch
            batch, nbytes = [], 0
    if batch:
        yield batch


def _whole(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ends(path: str, size: int) -> str:
    """Return the hash of the first and the last bytes of a file."""
    with open(path, "rb", buffering=0) as file:
        digest = hashlib.sha256(file.read(_END))
        file.seek(max(_END, size - _END))
        digest.update(file.read(_END))
    return digest.hexdigest()


def about_remote(path: str, storage: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the storage reports about a file, without reading it: ``bytes``, ``etag``, ``version``, ``modified``,
    ``folder: True`` of a folder.

    None if it does not answer; ``bytes`` is None, and the others are left out, where they are unknown.
    """
    import fsspec

    try:
        filesystem, inner = fsspec.core.url_to_fs(path, **options_of(path, storage))
        about = filesystem.info(inner)
    except Exception:  # noqa: BLE001  (a library of its own for each storage)
        return None
    found: dict[str, Any] = {"bytes": about["size"] if isinstance(about.get("size"), int) else None}
    if about.get("type") == "directory":
        found["folder"] = True
    keys = {
        "etag": ("ETag", "etag"),
        "version": ("VersionId", "version_id", "generation"),
        "modified": ("LastModified", "last_modified", "updated", "mtime", "created"),
    }
    for key, names in keys.items():
        value = next((about[name] for name in names if about.get(name)), None)
        if value is not None:
            found[key] = str(value).strip('"')
    return found
