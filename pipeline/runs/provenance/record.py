"""Where the numbers of a run came from: the machine, the versions, the user's code, the files that were read.

===========  ===========================================================
here         :func:`record`: all of it, as it stands in ``report.json``
``machine``  the machine, and the versions
``code``     hashes of the code that ran
``inputs``   hashes of what was read
===========  ===========================================================

It is taken once, when a run or a comparison has ended, and costs little beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.runs.provenance.code import code_hashes, named
from pipeline.runs.provenance.inputs import UNKNOWN, input_hashes
from pipeline.runs.provenance.machine import PACKAGES, environment, versions

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph

__all__ = ["PACKAGES", "UNKNOWN", "code_hashes", "environment", "input_hashes", "record", "versions"]


def record(config: Config | None, graph: Graph, *, since: float | None = None) -> dict[str, Any]:
    """``environment``, ``inputs`` and ``code`` of a run, in the types that JSON has; secrets are not masked yet.

    Parameters
    ----------
    config : None where there is no file: then nothing is known of inputs, and shipped modules alone of the code
    since : when the run began, in seconds since the epoch; see :func:`input_hashes`
    """
    return {
        "environment": environment(named(config)),
        "inputs": input_hashes(config, since=since) if config is not None else {},
        "code": code_hashes(graph, config),
    }
