"""Outputs that grow (``mode: append``): what is there, whether a run may add to it, and the manifest afterwards.

Each run adds files of its own, whose names begin with the run, to the folder of the output; the files that are there
are not touched. The manifest lists what each run has added under a key, which says what it was computed from: a run
whose key is there already adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pyarrow as pa

from pipeline.errors import OutputError
from pipeline.graph.column_types import type_name
from pipeline.graph.graph import Sink
from pipeline.outputs.damage import differences
from pipeline.outputs.files import read_errors
from pipeline.outputs.manifest import Addition, DamagedManifest, Manifest

__all__ = ["obstacle_of_append", "refuse_other_columns", "with_earlier"]

_TEXTS = ("run", "graph", "config", "written", "pipeline")


def obstacle_of_append(path: str, root: Path) -> str | None:
    """Return why nothing can be added to the output ``path`` below ``root``, with the cure; None if it can."""
    target = root / path
    cure = "move it, or let a run write it anew: mode: replace"
    try:
        manifest = Manifest.load(root, path)
    except DamagedManifest as error:
        return f"{error}; {cure}"
    if manifest is None:
        is_there = target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir())))
        return f"{target} has no manifest, so that nothing can be added to it; {cure}" if is_there else None
    found = differences(manifest, root)
    if not found:
        return None
    kind = f"holds {found[0].path!r}, which no run added" if found[0].kind == "extra" else str(found[0])
    return f"nothing is added to {target}, which is not as its manifest says: {kind}; restore it, or {cure}"


def refuse_other_columns(sink: Sink, root: Path) -> None:
    """Check that an output has the columns that are to be added, as far as it has files.

    Raises
    ------
    OutputError : naming the first column that differs
    """
    import pyarrow.parquet as pq  # heavy, and needed here alone

    manifest = Manifest.load(root, sink.path)
    if manifest is None or not manifest.files:
        return
    first = manifest.files[0].path
    folders = PurePosixPath(first).relative_to(sink.path).parent.parts
    by = tuple(unquote(part.partition("=")[0]) for part in folders)
    wanted_by = tuple(sink.options.get("partition_by", ()))
    if by != wanted_by:
        texts = [" ".join(names) or "no column" for names in (wanted_by, by)]
        raise OutputError(f"output {sink.name!r}: partition_by is {texts[0]}, and what it is added to has {texts[1]}")
    with read_errors(root / first):
        found = pq.read_schema(root / first)
    schema: pa.Schema = sink.value_type.schema  # type: ignore[union-attr]
    new = {field.name: field.type for field in schema if field.name not in by}
    old = {field.name: field.type for field in found}
    for name in [*new, *old]:
        kinds = [type_name(types[name]) if name in types else "no column" for types in (new, old)]
        if new.get(name) != old.get(name):
            raise OutputError(
                f"output {sink.name!r}: column {name!r} is {kinds[0]}, and in what it is added to {kinds[1]}; make it "
                "the same, or write to another path"
            )


def with_earlier(
    manifests: Mapping[str, Manifest], keys: Mapping[str, str], root: Path
) -> tuple[dict[str, Manifest], frozenset[str]]:
    """Return the manifests as they are to be committed, and the outputs to which nothing is added.

    Parameters
    ----------
    manifests : output -> manifest of what this run wrote
    keys : output that grows -> key of what this run adds to it, or would have added
    """
    found, unchanged = dict(manifests), set()
    for name, new in manifests.items():
        if name not in keys:
            continue
        key = keys[name]
        old = Manifest.load(root, new.path)
        if old is not None and any(each.key == key for each in old.appended):
            found[name] = old
            unchanged.add(name)
        else:
            found[name] = _merged(old, new, key)
    return found, frozenset(unchanged)


def _merged(old: Manifest | None, new: Manifest, key: str) -> Manifest:
    if old is None:
        return replace(new, appended=(_addition(new, key),))
    before = old.appended or (_addition(old, ""),)  # a run that replaced it wrote what is there
    files = tuple(sorted((*old.files, *new.files), key=lambda file: file.path))
    return replace(new, files=files, rows=old.rows + new.rows, appended=(*before, _addition(new, key)))


def _addition(manifest: Manifest, key: str) -> Addition:
    return Addition(key, rows=manifest.rows, files=tuple(manifest.paths()), **{n: getattr(manifest, n) for n in _TEXTS})
