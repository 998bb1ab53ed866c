"""Input files: find them while building, open them inside a task.

A path is local or has a protocol of fsspec (``s3://bucket/…``), whose options come from ``storage`` in the file. Local
paths do not go through fsspec: a plain ``open`` takes a tenth of the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from dask.base import tokenize

from pipeline.errors import DataError, nearest
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, constant
from pipeline.ops.collections import Items
from pipeline.ops.sources.glob import WILD, fixed_folder, matching, within
from pipeline.outputs.files import read_errors

__all__ = [
    "SUFFIXES",
    "ZARR_METADATA",
    "below",
    "files",
    "fixed_folder",
    "is_remote",
    "locate",
    "opened",
    "options_of",
    "protocol_of",
    "similar",
    "stores",
]

_PACKED = ("", ".gz", ".bz2", ".xz", ".zst", ".zip")

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "from_netcdf": (".nc", ".nc4", ".cdf", ".h5"),
    "from_npy": (".npy",),
    "read_json": tuple(f".{kind}{packed}" for kind in ("json", "jsonl", "ndjson") for packed in _PACKED),
    "read_csv": (".csv", ".tsv", ".txt", *(f".csv{packed}" for packed in _PACKED[1:])),
    "read_feather": (".feather", ".arrow", ".arrows", ".ipc"),
    "read_orc": (".orc",),
    "read_excel": (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
    "read_parquet": (".parquet", ".parq", ".pq"),
}
"""Op -> endings of the files that it reads in a folder; other ops read all."""


def files(*, path: str | Sequence[str], storage: Mapping[str, Any] | None = None) -> Items:
    """Return an item for each file: its path as text, sorted by key.

    An item's key is the path below the pattern's fixed folder, without the suffix; files whose keys would be equal keep
    their suffix.

    Raises
    ------
    DataError : there is no such file
    """
    rests: dict[str, str] = {}
    for each in [path] if isinstance(path, str) else path:
        pattern = os.path.join(each, "*") if not is_remote(each) and os.path.isdir(each) else each
        folder = fixed_folder(pattern)
        rests |= {name: below(folder, name) for name in locate(pattern, storage)}
    plain = {name: os.path.splitext(rest)[0] for name, rest in rests.items()}
    counts: dict[str, int] = {}
    for key in plain.values():
        counts[key] = counts.get(key, 0) + 1
    keys = {name: plain[name] if counts[plain[name]] == 1 else rests[name] for name in rests}
    ordered = sorted(keys, key=lambda name: keys[name])
    layer = f"files-{tokenize(ordered)}"
    tasks: dict[Key, GraphNode] = {(layer, i): constant((layer, i), name) for i, name in enumerate(ordered)}
    return Items(layer, tasks, len(ordered), tuple(keys[name] for name in ordered))


def protocol_of(path: str) -> str:
    """Return the protocol before ``://``; ``file`` if there is none.

    >>> protocol_of("s3://bucket/x"), protocol_of("/data/x")
    ('s3', 'file')
    """
    head, separator, _ = path.partition("://")
    return head.split("::")[0] if separator else "file"


def is_remote(path: str) -> bool:
    """Return whether ``path`` must be opened through fsspec."""
    return protocol_of(path) != "file"


def options_of(path: str, storage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the fsspec options in ``storage`` for the protocol of ``path``."""
    return dict((storage or {}).get(protocol_of(path), {})) if is_remote(path) else {}


def below(folder: str, name: str) -> str:
    """Return the path of a file below a folder, however the filesystem writes its root.

    >>> below("memory://box", "memory:///box/a/x.csv")
    'a/x.csv'
    """
    inner, outer = (path.partition("://")[2].lstrip("/") if is_remote(path) else path for path in (name, folder))
    return inner[len(outer) :].lstrip("/")


def locate(
    path: str | Sequence[str], storage: Mapping[str, Any] | None = None, *, suffixes: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Return the files of ``path``: the file itself, the matches of a pattern, or the files in a folder; each sorted.

    Parameters
    ----------
    path : a file, a pattern with ``* ? [] **``, a folder, or a list of these
    suffixes : of the files of a folder, at any depth; empty: all. Hidden ones (``_metadata``, ``.x``) never count

    Raises
    ------
    DataError : there is no file for one of the paths
    """
    if not isinstance(path, str):
        return tuple(name for each in path for name in locate(each, storage, suffixes=suffixes))
    found = _locate_remote(path, storage, suffixes) if is_remote(path) else _locate_local(path, suffixes)
    if found:
        return tuple(found)
    if WILD.search(path):
        raise DataError(f"{path}: no file matches this pattern{similar(fixed_folder(path))}")
    kinds = " or ".join(suffixes) or "any kind"
    if os.path.isdir(path):
        raise DataError(f"{path}: a folder without files ({kinds})")
    raise DataError(f"{path}: no such file{similar(path)}")


def similar(path: str) -> str:
    """Return ``; did you mean …?`` for the first part of a local path that is not there; empty if none is similar."""
    path = path.removeprefix("file://").rstrip("/")
    if is_remote(path) or os.path.exists(path):
        return ""
    while (folder := os.path.dirname(path)) and not os.path.isdir(folder):
        path = folder
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return ""
    return nearest(os.path.basename(path), names)


ZARR_METADATA = ("zarr.json", ".zmetadata", ".zgroup", ".zarray")
"""Files of which each zarr store has one in its own folder."""


def stores(path: str | Sequence[str], storage: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Return the zarr stores of ``path``: a path as it is, or the folders that match a pattern, sorted by name.

    Raises
    ------
    DataError : no store matches a pattern
    """
    if not isinstance(path, str):
        return tuple(name for each in path for name in stores(each, storage))
    if not WILD.search(path):
        return (path,)
    pattern, found = path.rstrip("/"), set()
    for name in ZARR_METADATA:
        try:
            found |= {file.rpartition("/")[0] for file in locate(f"{pattern}/{name}", storage)}
        except DataError:
            continue
    if not found:
        raise DataError(f"{path}: no zarr store matches this pattern")
    return tuple(sorted(found))


def _locate_local(path: str, suffixes: tuple[str, ...]) -> list[str]:
    path = path.removeprefix("file://")
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        return sorted(name for name in within(path) if not suffixes or name.endswith(suffixes))
    return matching(path) if WILD.search(path) else []


def _locate_remote(path: str, storage: Mapping[str, Any] | None, suffixes: tuple[str, ...]) -> list[str]:
    import fsspec

    try:
        filesystem, inner = fsspec.core.url_to_fs(path, **options_of(path, storage))
    except (ImportError, OSError) as error:
        raise DataError(f"{path}: {error}") from error
    if WILD.search(inner):
        names = sorted(name for name in filesystem.glob(inner) if filesystem.isfile(name))
    elif filesystem.isfile(inner):
        names = [inner]
    else:
        names = _in_folder(inner, filesystem.find(inner), suffixes) if filesystem.isdir(inner) else []
    return [str(filesystem.unstrip_protocol(name)) for name in names]


def _in_folder(folder: str, names: Sequence[str], suffixes: tuple[str, ...]) -> list[str]:
    def visible(name: str) -> bool:
        return not any(part.startswith((".", "_")) for part in name[len(folder) :].strip("/").split("/"))

    return sorted(name for name in names if visible(name) and (not suffixes or name.endswith(suffixes)))


@contextmanager
def opened(path: str, options: Mapping[str, Any]) -> Iterator[BinaryIO]:
    """Open ``path`` for reading bytes.

    Raises
    ------
    DataError : it can't be read
    """
    with read_errors(path):
        if not is_remote(path):
            with open(path, "rb") as file:
                yield file
            return
        import fsspec

        with fsspec.open(path, "rb", **options) as remote:
            yield remote
