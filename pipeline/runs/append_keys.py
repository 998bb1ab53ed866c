"""What a run adds to an output that grows, as a key: a run that was made of the same adds it once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from pipeline.config.model import Config
from pipeline.graph.graph import CONTEXT, Graph
from pipeline.graph.nodes import constant, cull
from pipeline.runs.provenance.inputs import input_hashes

__all__ = ["append_keys"]


def append_keys(config: Config, graph: Graph) -> dict[str, str]:
    """Return for each output that grows a hash of its tasks, of their parameters and code, and of the files they read.

    Files that are hashed in part only, and remote ones, count by their size and time of change as well.
    """
    keys = {}
    for sink, output in zip(graph.sinks, config.outputs, strict=True):
        if not sink.append:
            continue
        wanted = sink.records
        tasks = cull({**graph.tasks, CONTEXT: constant(CONTEXT, None)}, wanted)
        tasks.pop(CONTEXT, None)
        part = replace(graph, tasks=tasks, owners={key: graph.owners[key] for key in tasks}, sinks=(), wanted=wanted)
        digest = hashlib.sha256(part.fingerprint.encode())
        files = input_hashes(config.only(output.input.instances))
        for name, file in sorted(files.items()):
            is_whole = "sha256" in file and not file.get("partial")
            about = {key: value for key, value in file.items() if not (is_whole and key == "mtime_ns")}
            digest.update(json.dumps([name, about], sort_keys=True).encode())
        keys[sink.name] = digest.hexdigest()
    return keys
