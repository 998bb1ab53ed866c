"""The files that the writer tasks of a run have completed, for the next run if this one does not end.

A file is kept by a second name (a hard link) in the run folder: this takes no space while it is staged, and what
removes the staging folder leaves it. Beside it is its record as JSON. The next run gives it a name in its own staging
folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import EntryDamaged, PipelineError
from pipeline.outputs.files import FileRecord, PartRecord, hash_file, make_parents
from pipeline.worker.atomic_write import replacing, write_text
from pipeline.worker.cache_entries import untrusted

__all__ = ["WrittenParts"]

_RECORD = ".json"


@dataclass(frozen=True)
class WrittenParts:
    """Where the parts of outputs are kept: a store of values (:class:`pipeline.worker.kept_tasks.ValueStore`) whose
    values are the records of writer tasks. Cheap to make and to pickle; state is in the folder alone.

    Parameters
    ----------
    folder : absolute path, on the file system of the staging folder (else nothing is kept); :meth:`prepare` makes it
    staging : path of the staging folder of the run
    """

    folder: str
    staging: str

    def prepare(self) -> None:
        """Make the folder, for this user only.

        Raises
        ------
        OSError : it can't be made
        """
        os.makedirs(self.folder, mode=0o700, exist_ok=True)

    def keys(self) -> frozenset[str]:
        """Return the keys of what is kept."""
        with contextlib.suppress(OSError):
            if not self._untrusted():
                names = os.listdir(self.folder)
                return frozenset(name.removesuffix(_RECORD) for name in names if name.endswith(_RECORD))
        return frozenset()

    def keep(self, key: str, value: Any, *, seconds: float = 0.0, step: str = "", pipeline: str = "") -> str:
        """Keep the files of a writer task; return why that failed, empty if it did not."""
        if not isinstance(value, PartRecord) or value.dropped:
            return "items were left out" if isinstance(value, PartRecord) else "it has written no files"
        if why := self._untrusted():
            return why
        try:
            for i, file in enumerate(value.files):
                with replacing(Path(self.folder, f"{key}.{i}")) as partial:
                    os.link(Path(self.staging, file.path), partial)
            text = json.dumps({"key": key, **asdict(value)})
            write_text(Path(self.folder, f"{key}{_RECORD}"), f"{_hash(text)}\n{text}")
        except (OSError, PipelineError) as error:
            return str(error)
        return ""

    def load(self, key: str) -> PartRecord:
        """Put the files of a part into the staging folder; return its record. All bytes are compared with the record.

        Raises
        ------
        EntryDamaged : it is not there, or not as it was written
        """
        record = self._record(key)
        for i, file in enumerate(record.files):
            kept, target = Path(self.folder, f"{key}.{i}"), Path(self.staging, file.path)
            try:
                status = os.lstat(kept)
                is_whole = stat.S_ISREG(status.st_mode) and status.st_size == file.bytes
                is_whole = is_whole and hash_file(kept) == file.hash
                if is_whole:
                    make_parents(Path(self.staging), target.parent)
                    with replacing(target) as partial:
                        os.link(kept, partial)
            except (OSError, PipelineError) as error:
                raise EntryDamaged(f"{file.path}: {error}") from error
            if not is_whole:
                raise EntryDamaged(f"{file.path}: it is not as it was written")
        return record

    def outcome(self, key: str, seconds: float) -> str:
        """Return what a task reports of a part that it has kept."""
        return "kept"

    def link(self, key: str, target: str) -> str:
        """Do nothing: the keys of parts are known before they are written."""
        return "parts have no links"

    def remove(self, key: str) -> bool:
        """Remove a part; return whether there was one."""
        try:
            os.unlink(f"{self.folder}/{key}{_RECORD}")
        except OSError:
            return False
        return True

    def remove_others(self, keys: Collection[str]) -> None:
        """Remove the parts that have other keys."""
        wanted = frozenset(keys)
        with contextlib.suppress(OSError):
            if self._untrusted():
                return
            for name in os.listdir(self.folder):
                if name.partition(".")[0] not in wanted:
                    with contextlib.suppress(OSError):
                        os.unlink(f"{self.folder}/{name}")

    def remove_if_large(self) -> None:
        """Remove all parts if they take more bytes than are free beside them."""
        with contextlib.suppress(OSError):
            with os.scandir(self.folder) as files:
                nbytes = sum(file.stat(follow_symlinks=False).st_size for file in files)
            if nbytes > shutil.disk_usage(self.folder).free:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _untrusted(self) -> str:
        return "the folder is a link" if os.path.islink(self.folder) else untrusted(self.folder)

    def _record(self, key: str) -> PartRecord:
        try:
            if why := self._untrusted():
                raise EntryDamaged(why)
            written, _, text = Path(self.folder, f"{key}{_RECORD}").read_text(encoding="utf-8").partition("\n")
            found = json.loads(text)
            if written != _hash(text) or found["key"] != key:
                raise EntryDamaged("its record is not as it was written")
            files = tuple(FileRecord(str(f["path"]), int(f["bytes"]), str(f["hash"])) for f in found["files"])
            record = PartRecord(tuple(map(int, found["index"])), files, int(found["rows"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EntryDamaged(f"its record can't be read: {type(error).__name__}: {error}") from error
        if any(PurePosixPath(file.path).is_absolute() or ".." in PurePosixPath(file.path).parts for file in files):
            raise EntryDamaged("its record leads out of the staging folder")
        return record


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
