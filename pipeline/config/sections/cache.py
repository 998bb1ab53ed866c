"""The section ``cache``: the folder where values are kept for later runs, and its limits."""

from __future__ import annotations

from pipeline.config.absolute_paths import absolute_path
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Scope, interpolate
from pipeline.config.model import Cache
from pipeline.config.sections.keys import CacheKeys
from pipeline.config.sections.validation import read
from pipeline.config.yaml_nodes import Node

__all__ = ["read_cache"]


def read_cache(node: Node | None, scope: Scope, faults: FaultCollector) -> Cache | None:
    """Return the cache of a file; None if it has none, or one with errors, which are noted."""
    if node is None:
        return None
    if node.is_map:
        keys = read(CacheKeys, node, "cache", scope, faults)
        if keys is None:
            return None
        return Cache(absolute_path(keys.dir, node.value["dir"].folder), keys.bytes, keys.entries, keys.age)
    with faults.caught():
        path = interpolate(node, "cache", scope)
        if not isinstance(path, str) or not path.strip():
            message = f"got {node.shown}; write the path of a folder, or a map: {{dir: cache, bytes: 20GB}}"
            raise ConfigFault(node.location, "cache", message)
        return Cache(absolute_path(path, node.folder))
    return None
