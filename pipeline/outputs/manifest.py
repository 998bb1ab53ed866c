"""The manifest of a committed output: its files with sizes and hashes, and the run that wrote them.

It is a hidden file beside the output, ``.scores.csv.manifest.json`` beside ``scores.csv``, written last. It shows
whether an output is complete, which a listing of its folder does not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.graph.graph import Sink
from pipeline.outputs.files import FileRecord, PartRecord
from pipeline.outputs.target_paths import HIDDEN, fixed_folder, is_below, item_pattern, manifest_path

__all__ = ["Addition", "DamagedManifest", "Manifest", "stale_files"]

# 1: output, format, path, files (path, bytes, sha256), rows, dropped, run, graph, config, written, pipeline.
#    There may be key and record, which earlier versions pass over.
# 2: also appended (key, run, graph, config, written, pipeline, rows, files); only of outputs that grow.
_FORMATS = (1, 2)
_OF_ADDITION = ("key", "run", "graph", "config", "written", "pipeline")
_TEXTS = ("output", "format", "path", "run", "graph", "config", "written", "pipeline")


class DamagedManifest(ValueError):
    """A manifest that can't be read, or that names files outside its output."""


@dataclass(frozen=True)
class Addition:
    """What one run added to an output that grows.

    Parameters
    ----------
    key : of what it was computed from; empty for what was there before the first run that added something
    rows, files : number of its rows, and the paths of its files
    run, graph, config, written, pipeline : as of a :class:`Manifest`
    """

    key: str
    rows: int
    files: tuple[str, ...]
    run: str
    graph: str
    config: str
    written: str
    pipeline: str


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
    appended : of an output that grows, what each run has added; the texts above are of the last one
    key : hash of all that determines its files, see :mod:`pipeline.runs.resume`; empty if that is unknown
    record : what the key was made of, in the types of JSON, for the reasons why a later run writes the output again
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
    appended: tuple[Addition, ...] = ()
    key: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, sink: Sink, records: Sequence[PartRecord], **about: Any) -> Manifest:
        """Make the manifest of an output from the records of its writer tasks."""
        files = sorted((file for record in records for file in record.files), key=lambda file: file.path)
        dropped = tuple(key for record in records for key in record.dropped)
        rows = sum(record.rows for record in records)
        made = cls(sink.name, sink.format, sink.path, tuple(files), rows, dropped)
        return replace(made, **about)

    @cached_property
    def by_path(self) -> Mapping[str, FileRecord]:
        """Its files by their paths."""
        return {file.path: file for file in self.files}

    @property
    def nbytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def paths(self) -> list[str]:
        """Return the paths of its files."""
        return [file.path for file in self.files]

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest in JSON types, with the version of its format."""
        files = [{"path": file.path, "bytes": file.bytes, "sha256": file.hash} for file in self.files]
        texts = {key: getattr(self, key) for key in _TEXTS}
        found = {"version": 1, **texts, "files": files, "rows": self.rows, "dropped": list(self.dropped)}
        if self.appended:
            found |= {"version": 2, "appended": [{**vars(each), "files": list(each.files)} for each in self.appended]}
        if self.key or self.record:
            found |= {"key": self.key, "record": dict(self.record)}
        return found

    def to_bytes(self) -> bytes:
        """Return the text of its file; the record, which may be long, is one line of it."""
        found = self.to_dict()
        record = found.pop("record", None)
        text = json.dumps(found, indent=1)
        if record is not None:
            text = f'{text[:-2]},\n "record": {json.dumps(record, separators=(",", ":"))}\n}}'
        return f"{text}\n".encode()

    @classmethod
    def load(cls, root: str | Path, path: str) -> Manifest | None:
        """Read the manifest of the output ``path`` below ``root``; return None if there is none.

        The output may have been moved with its manifest: paths are relative to the manifest's folder. They are not
        trusted: each must be inside the output.

        Raises
        ------
        DamagedManifest : if the file is not a manifest, has another format, or names a file outside the output
        """
        manifest = _read(Path(root, manifest_path(path)))
        return None if manifest is None else _moved(manifest, path)

    @classmethod
    def beside(cls, place: Path) -> Manifest | None:
        """Read the manifest in the file ``place``, as :meth:`load` does; the paths are relative to its folder."""
        manifest = _read(place)
        if manifest is None or "${key}" not in manifest.path:
            name = place.name[1:].removesuffix(HIDDEN[0])
        else:
            name = str(PurePosixPath(manifest.path).relative_to(fixed_folder(manifest.path)))
        return None if manifest is None else _moved(manifest, name)


def _read(place: Path) -> Manifest | None:
    """Return a manifest as it was committed; None if there is none.

    Raises
    ------
    DamagedManifest : as :meth:`Manifest.load` says
    """
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedManifest(f"{place}: the manifest is damaged: {error or 'it is empty'}") from None
    version = found.pop("version", None) if isinstance(found, dict) else None
    if version not in _FORMATS:
        raise DamagedManifest(f"{place}: got manifest format {version}; this version reads 1 and 2")
    if not _is_manifest(found):
        raise DamagedManifest(f"{place}: the manifest is damaged: keys are missing, or of another type")
    files = tuple(FileRecord(file["path"], file["bytes"], file["sha256"]) for file in found.pop("files"))
    texts = {key: found[key] for key in _TEXTS}
    appended = tuple(Addition(**{**each, "files": tuple(each["files"])}) for each in found.get("appended", ()))
    key, record = found.get("key"), found.get("record")
    manifest = Manifest(
        files=files,
        dropped=tuple(found["dropped"]),
        rows=found["rows"],
        appended=appended,
        key=key if isinstance(key, str) else "",
        record=record if isinstance(record, dict) else {},
        **texts,
    )
    outside = next((file.path for file in files if not _is_part(file.path, manifest.path)), None)
    if outside is not None or not is_below(manifest.path):
        raise DamagedManifest(
            f"{place}: the manifest names {outside or manifest.path!r}, which is not inside {manifest.path!r}"
        )
    return manifest


def _moved(manifest: Manifest, path: str) -> Manifest:
    """Return the manifest of an output that is at ``path`` now."""
    if path == manifest.path:
        return manifest
    items = "${key}" in path or "${key}" in manifest.path
    old, new = (_folder_prefix(p) if items else p for p in (manifest.path, path))
    files = tuple(FileRecord(f"{new}{file.path[len(old) :]}", file.bytes, file.hash) for file in manifest.files)
    appended = tuple(
        replace(each, files=tuple(f"{new}{file[len(old) :]}" for file in each.files)) for each in manifest.appended
    )
    return replace(manifest, path=path, files=files, appended=appended)


def _folder_prefix(path: str) -> str:
    folder = str(fixed_folder(path))
    return "" if folder == "." else f"{folder}/"


def _is_manifest(found: Mapping[str, Any]) -> bool:
    """Return whether decoded JSON has the keys of a manifest, with their types."""
    files, dropped = found.get("files"), found.get("dropped")
    return (
        all(isinstance(found.get(key), str) for key in _TEXTS)
        and type(found.get("rows")) is int
        and isinstance(dropped, list)
        and all(isinstance(key, str) for key in dropped)
        and isinstance(files, list)
        and all(isinstance(file, dict) and _is_record(file) for file in files)
        and isinstance(found.get("appended", []), list)
        and all(map(_is_addition, found.get("appended", [])))
    )


def _is_addition(each: Any) -> bool:
    return (
        isinstance(each, dict)
        and set(each) == {*_OF_ADDITION, "rows", "files"}
        and all(isinstance(each[name], str) for name in _OF_ADDITION)
        and type(each["rows"]) is int
        and isinstance(each["files"], list)
        and all(isinstance(file, str) for file in each["files"])
    )


def _is_record(file: Mapping[str, Any]) -> bool:
    path, size, digest = (file.get(key) for key in ("path", "bytes", "sha256"))
    return isinstance(path, str) and type(size) is int and isinstance(digest, str)


def _is_part(file: str, output: str) -> bool:
    """Return whether a file belongs to an output, both as paths below the root."""
    if not (is_below(file) and is_below(output)):
        return False
    if "${key}" in output:
        return item_pattern(output).fullmatch(file) is not None
    return file == output or file.startswith(f"{output}/")


def stale_files(root: str | Path, new: Manifest) -> list[str]:
    """Return the files of items that an earlier run of this output wrote and this one did not, as paths below root.

    A file in a folder that is a link leading out of the output is not touched.
    """
    if "${key}" not in new.path:
        return []  # replaced as a whole
    try:
        old = Manifest.load(root, new.path)
    except DamagedManifest:  # refused before the run, but for overwrite: true
        return []
    if old is None:
        return []
    written = {file.path for file in new.files}
    top = os.path.realpath(Path(root, fixed_folder(new.path)))
    return [
        file.path
        for file in old.files
        if file.path not in written and Path(os.path.realpath(Path(root, file.path).parent)).is_relative_to(top)
    ]
