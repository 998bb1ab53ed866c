"""A comparison as ``report.json`` and ``report.html``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.runs import report_json
from pipeline.runs.folders import began

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.experiments.comparison.result import Comparison, Reference, Scaling
    from pipeline.graph.graph import Graph


__all__ = ["document", "write_report"]


def write_report(comparison: Comparison, graph: Graph, config: Config | None) -> None:
    """Write ``report.json`` into the run folder."""
    report_json.write(Path(comparison.folder), document(comparison, graph, config))


def document(comparison: Comparison, graph: Graph, config: Config | None) -> dict[str, Any]:
    """The comparison in the types that JSON has; secrets masked."""
    plain = comparison.to_dict()
    folder = comparison.folder  # a report is passed on: paths in it are relative to itself
    measurements = [{**m, "trace": m["trace"].removeprefix(f"{folder}/")} for m in plain["measurements"]]
    report = report_json.document(
        "comparison",
        report_json.about(graph, config, since=began(Path(folder))),
        rows=[{**row, "reason": comparison.reasons.get(row["label"], "")} for row in plain["rows"]],
        accounts=comparison.accounts,
        exit_code=comparison.exit_code,
        problem=comparison.problem,
        equality=comparison.equality,
        verdict=comparison.verdict,
        footnotes=[line.replace(folder, "this folder") for line in comparison.footnotes],
        scaling=[_scaling(found) for found in comparison.scaling],
        reference=_reference(comparison.reference),
        measurements=measurements,
        differences=plain["differences"],
    )
    masked: dict[str, Any] = config.masked(report) if config is not None else report
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
