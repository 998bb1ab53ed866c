"""The provenance of a comparison: the machine, the versions, the user's code and the files that were read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.runs.provenance.code import code_hashes, named
from pipeline.runs.provenance.inputs import input_hashes
from pipeline.runs.provenance.machine import environment

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph

__all__ = ["record"]


def record(config: Config | None, graph: Graph, *, since: float | None = None) -> dict[str, Any]:
    """Return ``environment``, ``inputs`` and ``code`` as plain values; secrets are not masked yet.

    Parameters
    ----------
    config : None if there is no file; then no inputs are recorded, and of the code only the shipped modules
    since : when it began, in seconds since the epoch; see :func:`input_hashes`
    """
    return {
        "environment": environment(named(config)),
        "inputs": input_hashes(config, since=since) if config is not None else {},
        "code": code_hashes(graph, config),
    }
