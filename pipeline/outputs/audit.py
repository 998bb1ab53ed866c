"""Compare committed outputs with their manifests as a whole, and accept an output that was changed on purpose."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config.sections.formats import FOLDERS
from pipeline.errors import DataError, OutputError
from pipeline.outputs.damage import Difference, differences, scanned, unreadable_manifest
from pipeline.outputs.files import STAGING, FileRecord, hash_file
from pipeline.outputs.locks import Lock
from pipeline.outputs.manifest import DamagedManifest, Manifest
from pipeline.outputs.target_paths import HIDDEN, lock_path, manifest_path
from pipeline.worker.atomic_write import replacing

__all__ = ["Audit", "verify"]


@dataclass(frozen=True)
class Audit:
    """One committed output, compared with its manifest.

    Parameters
    ----------
    root : the folder of its manifest
    manifest : as it was found
    differences : files that are not as the manifest records
    accepted : whether the manifest was rewritten, so that the output is now as it records
    """

    root: Path
    manifest: Manifest
    differences: tuple[Difference, ...]
    accepted: bool = False

    @property
    def path(self) -> Path:
        """The path of the output."""
        return self.root / self.manifest.path

    @property
    def ok(self) -> bool:
        """Whether the output is as its manifest records."""
        return self.accepted or not self.differences

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        return {
            "path": str(self.path),
            "ok": self.ok,
            "accepted": self.accepted,
            "files": len(self.manifest.files),
            "bytes": self.manifest.nbytes,
            "differences": [{**each._asdict(), "path": str(self.root / each.path)} for each in self.differences],
        }


def verify(paths: Iterable[str | os.PathLike[str]], *, accept: bool = False) -> Iterator[Audit]:
    """Compare files, sizes and hashes of outputs with their manifests; yield one result for each output.

    Parameters
    ----------
    paths : outputs, parts of outputs (the output that it is part of is compared), or folders (all outputs in them)
    accept : whether to rewrite the manifests of those that differ, after which they are what a reader expects

    Raises
    ------
    DataError : there is no output at a path, or its manifest is damaged
    OutputError : a run is writing an output that is to be accepted
    """
    seen: set[str] = set()
    for path in paths:
        places = list(_places(os.path.abspath(path)))
        if not places:
            why = "has no manifest beside it, above it or in it" if os.path.exists(path) else "no such file"
            raise DataError(f"{os.fspath(path)}: {why}")
        for place in places:
            if os.path.realpath(place) not in seen:
                seen.add(os.path.realpath(place))
                yield _audit(place, accept=accept)


def _places(path: str) -> Iterator[str]:
    """Yield the manifests of the outputs that are at, around or below a path."""
    if os.path.basename(path).endswith(HIDDEN[0]):
        yield from [path] if os.path.isfile(path) else []
        return
    for whole in dict.fromkeys((path, os.path.realpath(path))):
        folder, inner = os.path.split(whole)
        while inner:
            direct = os.path.join(folder, manifest_path(inner.split("/")[0]))
            if os.path.isfile(direct):
                yield direct
            yield from (place for place in _of_items(folder) if _has(place, inner))
            if folder == os.path.dirname(folder):
                break
            inner = f"{os.path.basename(folder)}/{inner}"
            folder = os.path.dirname(folder)
    for top, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(STAGING))
        yield from (os.path.join(top, name) for name in sorted(names) if name[0] == "." and name.endswith(HIDDEN[0]))


def _of_items(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [os.path.join(folder, name) for name in sorted(names) if "{key}" in name and name.endswith(HIDDEN[0])]


def _has(place: str, path: str) -> bool:
    """Return whether the manifest of items names a file, or has this path with ``${key}``."""
    manifest = _loaded(place)
    return path in manifest.by_path or path == manifest.path


def _loaded(place: str) -> Manifest:
    try:
        manifest = Manifest.beside(Path(place))
    except DamagedManifest as error:
        raise unreadable_manifest(error) from None
    if manifest is None:
        raise DataError(f"{place}: no such file")
    return manifest


def _audit(place: str, *, accept: bool) -> Audit:
    root = Path(os.path.dirname(place))
    manifest = _loaded(place)
    found = tuple(differences(manifest, root, hashes=True))
    if not accept or not found:
        return Audit(root, manifest, found)
    lock = Lock(root / lock_path(manifest.path), manifest.output)
    dead = lock.acquire()
    try:
        if dead is not None:
            raise OutputError(
                f"{root / manifest.path}: a run that died left this output unfinished; run that pipeline again first"
            )
        _accept(Path(place), root, manifest)
    finally:
        lock.release(clean=dead is None)
    return Audit(root, manifest, found, accepted=True)


def _accept(place: Path, root: Path, manifest: Manifest) -> None:
    """Make the manifest say what is there; of an output that is gone, remove it."""
    if manifest.format in FOLDERS:
        there = [path for path, _ in scanned(root, manifest.path)]
    else:
        there = [path for path in manifest.paths() if (root / path).is_file()]
    if not there and not (root / manifest.path).is_dir():
        place.unlink()
        return
    files = tuple(FileRecord(path, (root / path).stat().st_size, hash_file(root / path)) for path in sorted(there))
    with replacing(place) as partial:
        partial.write_bytes(replace(manifest, files=files, key="").to_bytes())  # the next run writes it anew
