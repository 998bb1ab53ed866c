"""The files that a run read: hashes of all for its report, and what distinguishes those of a step from others.

For the report content is hashed up to a budget, small files first. Of larger files size, time of change and both ends
are recorded, marked ``partial``; of too many of these only size and time. Of the files that a user's function or
program opens, those are recorded that its arguments name and that existed before the run began.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.ops.sources.paths import is_remote, options_of
from pipeline.runs.provenance.file_digests import FileDigest, about_remote, file_digests
from pipeline.runs.provenance.reads import Read, all_reads, named_by, reads_of, tree
from pipeline.worker.file_notes import FileNotes, FileStamp, file_stamps

if TYPE_CHECKING:
    from pipeline.config.model import Config, Step


__all__ = ["ABSENT", "UNKNOWN", "FileIdentity", "InputFiles", "StepFiles", "input_hashes", "recorded_name"]

UNKNOWN = "unknown"
"""Stands for a hash if the content is unknown."""

ABSENT = "absent"
"""The digest of a file that is not there."""

_BUDGET = 256_000_000  # bytes of files that are hashed as a whole for a report
_CHECKED = 4_000_000_000  # bytes that are hashed to recognise files; at 1.5 GB/s and core
_MOST_ENDS = 64  # files of which the ends are hashed for a report
_MOST_OPENED = 3_000  # files; opening one takes as long as hashing 100 kB
_ASKING = 2.0  # seconds after which no storage is asked about a remote file any more
_MOST_NAMED = 5_000  # texts of arguments that are looked at for a report
_MOST_REMOTE = 100_000  # files of a remote store that are listed

_FAR = os.path.join("..", "..", "..", "")
"""How the relative path of a file far from a folder begins."""


# ---------------------------------------------------------------------------------------------------------------------
# For the report of a run
# ---------------------------------------------------------------------------------------------------------------------


def input_hashes(config: Config, *, budget: int = _BUDGET, since: float | None = None) -> dict[str, dict[str, Any]]:
    """Return the files that the sources and checks of a pipeline read, by path, relative to its folder if near it.

    Each is a map of ``bytes``, ``mtime_ns`` and ``sha256``; ``partial: true`` if only a part of the content was hashed;
    ``files`` if many are recorded as one (a zarr store; a source of more than 5,000 files). A remote file has ``etag``
    and ``modified`` if its storage reports them, and the hash ``unknown``. Files that can't be read any more, and
    remote ones whose storage did not answer within two seconds, are unknown as a whole. Nothing is raised.

    Parameters
    ----------
    budget : bytes of files that are hashed as a whole; smaller files come first
    since : seconds since the epoch; files that arguments name and that have changed since then are not inputs
    """
    named = named_by(config.steps.values(), config.root, most=_MOST_NAMED)
    reads = [*all_reads(config), *(read for read in named if since is None or _modified(read.name) < since)]
    files = file_digests(
        {name for read in reads for name in read.files if not is_remote(name)},
        budget=budget,
        most_ends=_MOST_ENDS,
        most_opened=_MOST_OPENED,
        notes=FileNotes(),
    )
    deadline = time.monotonic() + _ASKING
    found: dict[str, dict[str, Any]] = {}
    for read in reads:
        for name in [read.name] if read.together else read.files:
            label = config.masked(recorded_name(name, config.root))
            if label in found:
                continue
            if is_remote(name):
                about = about_remote(name, config.storage) if time.monotonic() < deadline else None
                found[label] = {"bytes": None, "sha256": UNKNOWN} | _shown(about or {})
            else:
                found[label] = _together(read, files) if read.together else _one(files.get(name))
    return found


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return float("inf")


def _shown(about: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in about.items() if key not in ("version", "folder")}


def _one(file: FileDigest | None) -> dict[str, Any]:
    if file is None:
        return {"bytes": None, "sha256": UNKNOWN}
    found = {"bytes": file.stamp.size, "mtime_ns": file.stamp.mtime_ns, "sha256": file.sha256 or UNKNOWN}
    return found | ({} if file.whole else {"partial": True})


def _together(read: Read, files: Mapping[str, FileDigest]) -> dict[str, Any]:
    """Return many files as one: the sum of sizes, the latest change, a hash of their names, sizes and hashes."""
    own = {name: files[name] for name in read.files if name in files}
    if not own:
        return _one(None)
    top = os.path.commonpath(own)
    digest = hashlib.sha256()
    for name, file in own.items():
        digest.update(f"{os.path.relpath(name, top)}\0{file.stamp.size}\0{file.sha256}\0".encode())
    found = {
        "bytes": sum(file.stamp.size for file in own.values()),
        "mtime_ns": max(file.stamp.mtime_ns for file in own.values()),
        "sha256": digest.hexdigest(),
    }
    partial = {} if all(file.whole for file in own.values()) else {"partial": True}
    return {**found, **partial, "files": len(own)}


def recorded_name(name: str, root: str) -> str:
    """Return the path to record: relative if near the file's folder, so that it is the same in a copied project.

    User names, passwords and signatures are taken out of URLs.
    """
    if not is_remote(name):
        name = os.path.normpath(name.removeprefix("file://"))
        near = os.path.relpath(name, root)
        return name if near.startswith(_FAR) else near
    name = re.sub(r"(?<=://)[^/@]*@", "", name)
    address, mark, query = name.partition("?")
    return f"{address}?{hashlib.sha256(query.encode()).hexdigest()[:8]}" if mark else address


# ---------------------------------------------------------------------------------------------------------------------
# What a step reads
# ---------------------------------------------------------------------------------------------------------------------


class FileIdentity(NamedTuple):
    """What tells the present content of a file, or of all files of a store or folder, from another.

    Parameters
    ----------
    label : the path to record, relative if near the file's folder
    size : bytes; 0 if unknown
    mtime_ns : when it was last changed; 0 if unknown
    digest : equal for equal content; empty: unknown
    checked : whether the content was read; else size and time of change count
    """

    label: str
    size: int
    mtime_ns: int
    digest: str
    checked: bool = True


@dataclass(frozen=True)
class StepFiles:
    """The files that a step reads.

    Parameters
    ----------
    identities : path or URL of a file or store as the tasks have it, or the text of an argument -> its identity
    unknown : why the content of one of them is unknown; empty: all are known
    stamps : the state of each local file before it was read
    """

    identities: Mapping[str, FileIdentity] = field(default_factory=dict)
    unknown: str = ""
    stamps: Mapping[str, FileStamp] = field(default_factory=dict)
    reads: tuple[Read, ...] = ()

    def changed(self) -> list[str]:
        """Return the files that have changed since their identities were taken, sorted; new ones in folders as well."""
        now = file_stamps(self.stamps)
        changed = {path for path, stamp in self.stamps.items() if path not in now or now[path].state != stamp.state}
        for read in self.reads:
            if read.together and os.path.isdir(read.name):
                changed |= set(tree(read.name)) - set(read.files)
        return sorted(changed)


class InputFiles:
    """The identities of the files that the steps of a Config read; one object for each plan.

    All local files of all steps are looked at together, when the first step is asked for.

    Parameters
    ----------
    notes : where digests are kept between runs
    budget : bytes of files that are read as a whole; what the notes have is free
    """

    def __init__(self, config: Config, notes: FileNotes | None = None, *, budget: int = _CHECKED) -> None:
        self._config, self._notes, self._budget = config, notes if notes is not None else FileNotes(), budget
        self._root = os.path.abspath(config.root)
        self._reads: dict[str, tuple[Read, ...]] | None = None
        self._same: dict[tuple[str, ...], tuple[Read, ...]] = {}
        self._local: dict[str, FileDigest] = {}
        self._remote: dict[str, FileIdentity] = {}
        self._found: dict[tuple[Read, ...], StepFiles] = {}

    def of(self, step: Step) -> StepFiles:
        """Return the files that a step of the Config reads."""
        return self.files(self._of_all()[step.name])

    def files(self, reads: tuple[Read, ...]) -> StepFiles:
        """Return the files of some reads."""
        if reads not in self._found:
            self._look(reads)
            self._found[reads] = self._step_files(reads)
        return self._found[reads]

    def _of_all(self) -> dict[str, tuple[Read, ...]]:
        if self._reads is None:
            self._reads = {step.name: self._of_one(step) for step in self._config.steps.values()}
            self._look([read for reads in self._reads.values() for read in reads])
        return self._reads

    def _of_one(self, step: Step) -> tuple[Read, ...]:
        reads = reads_of(step, self._config)
        # of a remote store all files count; for the report its metadata are enough
        is_store = step.kind == "op" and step.function == "from_zarr"
        own = (
            Read(read.name, (read.name,), together=True) if is_store and is_remote(read.name) else read
            for read in reads
        )
        return (*own, *named_by([step], self._root, folders=True))

    def _look(self, reads: Iterable[Read]) -> None:
        """Take the digests of all files that were not looked at before."""
        names = dict.fromkeys(name for read in reads for name in read.files)
        local = [name for name in names if not is_remote(name) and name not in self._local]
        if local:
            self._local |= file_digests(local, budget=self._budget, notes=self._notes, note_ends=True)
        remote = [read.name if read.together else name for read in reads for name in read.files if is_remote(name)]
        asked = [name for name in dict.fromkeys(remote) if name not in self._remote]
        if asked:
            with ThreadPoolExecutor(min(len(asked), 16), thread_name_prefix="ask") as pool:
                self._remote |= dict(zip(asked, pool.map(self._remote_identity, asked), strict=True))

    def _step_files(self, reads: tuple[Read, ...]) -> StepFiles:
        identities: dict[str, FileIdentity] = {}
        for read in reads:
            if read.together:
                identities[read.given or read.name] = self._of_many(read)
            else:
                identities |= {read.given or name: self._identity(name) for name in read.files}
        lost = next((one.label for one in identities.values() if not one.digest), None)
        stamps = {name: self._local[name].stamp for read in reads for name in read.files if name in self._local}
        unknown = f"the content of {lost} is unknown" if lost is not None else ""
        return StepFiles(identities, unknown, stamps, reads)

    def _label(self, name: str) -> str:
        return str(self._config.masked(recorded_name(name, self._root)))

    def _identity(self, name: str) -> FileIdentity:
        if is_remote(name):
            return self._remote[name]
        found = self._local.get(name)
        if found is None:  # a file that is not there is a fact as well: it may be one beside another, or come later
            return FileIdentity(self._label(name), 0, 0, ABSENT if not os.path.lexists(name) else "")
        digest = found.identity if found.sha256 else ""
        return FileIdentity(self._label(name), found.stamp.size, found.stamp.mtime_ns, digest, found.whole)

    def _of_many(self, read: Read) -> FileIdentity:
        """Return the files of a store, a folder or a long list as one."""
        if is_remote(read.name):
            return self._remote[read.name]
        digest, size, modified, checked = hashlib.sha256(), 0, 0, True
        top = read.name if os.path.isdir(read.name) else os.path.dirname(read.name)
        for name in read.files:
            one = self._identity(name)
            if not one.digest:
                return one._replace(label=self._label(read.name))
            part = f"{os.path.relpath(name, top)}\0{one.size}\0{one.digest}".encode("utf-8", "surrogateescape")
            digest.update(b"%d:%b" % (len(part), part))
            size, modified, checked = size + one.size, max(modified, one.mtime_ns), checked and one.checked
        return FileIdentity(self._label(read.name), size, modified, digest.hexdigest()[:32], checked)

    def _remote_identity(self, name: str) -> FileIdentity:
        """Return the identity of a remote file, or of all files below a remote folder, as their storage reports it."""
        about = about_remote(name, self._config.storage) or {}
        if about.pop("folder", False):
            return FileIdentity(self._label(name), 0, 0, _listing_digest(name, self._config.storage))
        if about.get("version") or about.get("etag") or about.get("modified"):
            mark = about.get("version") or about.get("etag")
            parts = [str(about["bytes"]), str(mark or about["modified"])]
            digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
            return FileIdentity(self._label(name), about["bytes"] or 0, 0, digest, bool(mark))
        return FileIdentity(self._label(name), about.get("bytes") or 0, 0, "")


def _listing_digest(name: str, storage: Mapping[str, Any]) -> str:
    """Return a digest of the names, sizes and versions of all files below a remote folder; empty if it has none."""
    import fsspec

    try:
        filesystem, inner = fsspec.core.url_to_fs(name, **options_of(name, storage))
        listed = filesystem.find(inner, detail=True)
    except Exception:  # noqa: BLE001  (a library of its own for each storage)
        return ""
    digest = hashlib.sha256()
    marks = ("VersionId", "version_id", "generation", "ETag", "etag", "LastModified", "updated", "mtime", "created")
    for path, about in sorted(listed.items()):
        mark = next((about[key] for key in marks if about.get(key)), None)
        if mark is None or len(listed) > _MOST_REMOTE:
            return ""
        digest.update(f"{path[len(inner) :]}\0{about.get('size')}\0{mark}\0".encode())
    return digest.hexdigest()[:32] if listed else ""
