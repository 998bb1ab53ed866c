"""``report.json``: all that a comparison found, for reports and programs; its schema is in ``report/document.py``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.analysis.account import Shape
from pipeline.comparison.result import without_nan
from pipeline.provenance import record
from pipeline.resolution import resolved_text

if TYPE_CHECKING:
    from pipeline.comparison.result import Comparison, Reference
    from pipeline.comparison.scaling import Scaling
    from pipeline.config import Config
    from pipeline.graph import Graph

__all__ = ["document", "write_report"]

_FORMAT = 1


def write_report(comparison: Comparison, graph: Graph, config: Config | None) -> Path:
    """Write ``report.json`` and ``report.html`` into the run folder; gives the path of the latter."""
    from pipeline.report.html import write

    told = document(comparison, graph, config)
    folder = Path(comparison.folder)
    (folder / "report.json").write_text(json.dumps(told, indent=1, default=str, allow_nan=False) + "\n")
    return write(folder)


def document(comparison: Comparison, graph: Graph, config: Config | None) -> dict[str, Any]:
    """The comparison in the types that JSON has; secrets masked."""
    plain = comparison.to_dict()
    rows = [{**row, "reason": comparison.reasons.get(row["label"], "")} for row in plain["rows"]]
    told = {
        "format": _FORMAT,
        "kind": "comparison",
        "name": comparison.name,
        "fingerprint": comparison.fingerprint,
        "n_tasks": comparison.n_tasks,
        "folder": ".",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "exit_code": comparison.exit_code,
        "problem": comparison.problem,
        "equality": comparison.equality,
        "verdict": comparison.verdict,
        "footnotes": comparison.footnotes,
        "rows": rows,
        "accounts": [account.to_dict() for account in comparison.accounts],
        "scaling": [_scaling(found) for found in comparison.scaling],
        "reference": _reference(comparison.reference),
        "measurements": plain["measurements"],
        "differences": plain["differences"],
        **record(config, graph),
        "config": resolved_text(config) if config is not None else "",
        "graph": Shape.of(graph).to_dict(),
    }
    finite: dict[str, Any] = without_nan(told)
    masked: dict[str, Any] = config.masked(finite) if config is not None else finite
    return masked


def _scaling(found: Scaling) -> dict[str, Any]:
    law = {"contention": found.contention, "coherency": found.coherency} if found.contention is not None else None
    return {
        "backend": found.backend,
        "points": [dict(point) | {"elapsed": _interval(point["elapsed"])} for point in found.points],
        "amdahl": {"serial_fraction": found.serial_fraction, "largest_speedup": found.largest_speedup},
        "usl": law,
        "curve": [dict(point) for point in found.curve],
    }


def _reference(found: Reference | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "call": found.call,
        "elapsed": _interval(found.elapsed),
        "speedup_of_serial": _interval(found.speedup),
        "equal": found.failure or found.equality,
        "cost": dict(found.cost),
    }


def _interval(interval: Any) -> dict[str, Any] | None:
    return None if interval is None else dict(vars(interval))
