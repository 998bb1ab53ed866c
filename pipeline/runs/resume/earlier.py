"""What earlier runs have left: which outputs are as they were committed, which checks have passed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.graph.graph import Sink
from pipeline.outputs.damage import differences
from pipeline.outputs.manifest import DamagedManifest, Manifest
from pipeline.outputs.target_paths import manifest_path
from pipeline.runs.resume.records import StepRecord, records_from_json

__all__ = ["Earlier", "EarlierOutput", "earlier_outputs"]


@dataclass(frozen=True)
class EarlierOutput:
    """What is at the path of an output.

    Parameters
    ----------
    manifest : None: there is none, or it can't be read
    problem : why what is there can't be reused, whatever it was made of: ``new``, ``missing: …`` or ``damaged: …``;
        else empty
    """

    manifest: Manifest | None
    problem: str = ""


@dataclass(frozen=True)
class Earlier:
    """What earlier runs have left of a pipeline.

    Parameters
    ----------
    outputs : by name
    records : step instance -> its record in the newest output that depends on it; writers of outputs, too
    checks : key of a check that passed -> its message
    """

    outputs: Mapping[str, EarlierOutput] = field(default_factory=dict)
    records: Mapping[str, StepRecord] = field(default_factory=dict)
    checks: Mapping[str, str] = field(default_factory=dict)


def earlier_outputs(sinks: Iterable[Sink], root: Path, *, hashes: bool = False) -> Earlier:
    """Look at the outputs of a pipeline as they are now; nothing is raised.

    Sizes are compared with those in the manifest, and hashes of files that were changed after it was written.

    Parameters
    ----------
    hashes : whether the files of all outputs are read and hashed
    """
    outputs = {sink.name: _earlier(sink, root, hashes=hashes) for sink in sinks}
    records: dict[str, StepRecord] = {}
    checks: dict[str, str] = {}
    manifests = [one.manifest for one in outputs.values() if one.manifest is not None]
    for manifest in sorted(manifests, key=lambda each: each.written):
        records |= records_from_json(manifest.record.get("steps"))
        checks |= _texts(manifest.record.get("checks"))
    return Earlier(outputs, records, checks)


def _earlier(sink: Sink, root: Path, *, hashes: bool) -> EarlierOutput:
    try:
        manifest = Manifest.load(root, sink.path)
        if manifest is None:
            return EarlierOutput(None, "new")
        written = os.stat(root / manifest_path(sink.path)).st_mtime_ns
        found = differences(manifest, root, hashes=hashes, newer=written)
    except (DamagedManifest, OSError) as error:
        return EarlierOutput(None, f"damaged: {error}")
    if not found:
        return EarlierOutput(manifest)
    kind = "missing" if found[0].kind == "missing" else "damaged"
    return EarlierOutput(manifest, f"{kind}: {found[0]}")


def _texts(value: Any) -> dict[str, str]:
    """Return the entries of a recorded map of texts; a manifest may have been edited."""
    if not isinstance(value, dict):
        return {}
    return {key: inner for key, inner in value.items() if isinstance(key, str) and isinstance(inner, str)}
