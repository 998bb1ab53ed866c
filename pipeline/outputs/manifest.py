"""The manifest of a committed output: its files with sizes and hashes, and the run that wrote them.

It is a hidden file beside the output, ``.scores.csv.manifest.json`` beside ``scores.csv``, written last. It shows
whether an output is complete, which a listing of its folder does not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.graph.graph import Sink
from pipeline.outputs.files import FileRecord, PartRecord, hash_file
from pipeline.outputs.target_paths import manifest_path

__all__ = ["Manifest", "stale_files"]

# 1: output, format, path, files (path, bytes, sha256), rows, dropped, run, graph, config, written, pipeline.
_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """One committed output.

    Parameters
    ----------
    output, format, path : name; format; path below the output root
    files : sorted by their path below the output root
    rows : of a frame, cells of an array, number of items
    dropped : keys of items that were dropped and therefore have no file
    run : name of the run that wrote it
    graph : fingerprint of its Graph
    config : SHA-256 of the text of its YAML file
    written : time of the commit, ISO 8601, UTC
    pipeline : version of this package
    """

    output: str
    format: str
    path: str
    files: tuple[FileRecord, ...]
    rows: int
    dropped: tuple[str, ...] = ()
    run: str = ""
    graph: str = ""
    config: str = ""
    written: str = ""
    pipeline: str = ""

    @classmethod
    def of(cls, sink: Sink, records: Sequence[PartRecord], **about: str) -> Manifest:
        """Make the manifest of an output from the records of its writer tasks."""
        files = sorted((file for record in records for file in record.files), key=lambda file: file.path)
        dropped = tuple(key for record in records for key in record.dropped)
        rows = sum(record.rows for record in records)
        return cls(sink.name, sink.format, sink.path, tuple(files), rows, dropped, **about)

    @property
    def nbytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest in JSON types, with the version of its format."""
        files = [{"path": file.path, "bytes": file.bytes, "sha256": file.hash} for file in self.files]
        return {"version": _FORMAT, **vars(self), "files": files, "dropped": list(self.dropped)}

    def to_bytes(self) -> bytes:
        return (json.dumps(self.to_dict(), indent=1) + "\n").encode()

    @classmethod
    def load(cls, root: str | Path, path: str) -> Manifest | None:
        """Read the manifest of the output ``path`` below ``root``; return None if there is none.

        Raises
        ------
        ValueError : if the file is not a manifest, or has another format
        """
        place = Path(root, manifest_path(path))
        try:
            found = json.loads(place.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        version = found.pop("version", None) if isinstance(found, dict) else None
        if version != _FORMAT:
            raise ValueError(f"{place}: got manifest format {version}; this version reads {_FORMAT}")
        files = tuple(FileRecord(file["path"], file["bytes"], file["sha256"]) for file in found.pop("files"))
        return cls(files=files, dropped=tuple(found.pop("dropped")), **found)

    def damage(self, root: str | Path) -> list[str]:
        """Return one line for each file that is not as it was committed; reads every file."""
        found = []
        for file in self.files:
            place = Path(root, file.path)
            if not place.is_file():
                found.append(f"{file.path} is missing")
            elif place.stat().st_size != file.bytes:
                found.append(f"{file.path} has {place.stat().st_size} bytes; it was committed with {file.bytes}")
            elif hash_file(place) != file.hash:
                found.append(f"{file.path} has changed")
        return found


def stale_files(root: str | Path, new: Manifest) -> list[str]:
    """Return the files of items that an earlier run of this output wrote and this one did not, as paths below root."""
    if "${key}" not in new.path:
        return []  # replaced as a whole
    old = Manifest.load(root, new.path)
    if old is None:
        return []
    written = {file.path for file in new.files}
    return [file.path for file in old.files if file.path not in written]
