"""Write a comparison as ``report.json`` into its run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.report.verdicts import ComparisonReport
from pipeline.runs import report_json
from pipeline.runs.folders import began

if TYPE_CHECKING:
    from pipeline.experiments.comparison.result import Comparison, Reference, Scaling


__all__ = ["document", "write_report"]


def write_report(comparison: Comparison) -> None:
    """Write ``report.json``, from which ``report.html`` is drawn."""
    report_json.write(Path(comparison.folder), document(comparison))


def document(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison in the types that JSON has; secrets are masked."""
    assert comparison.graph is not None, "a comparison of saved numbers has its report already"
    found, config = ComparisonReport.of(comparison), comparison.config
    plain = found.to_dict()
    folder = comparison.folder  # the folder may be moved: paths in the report are relative to it
    measurements = [{**m, "trace": m["trace"].removeprefix(f"{folder}/")} for m in plain["measurements"]]
    report = report_json.document(
        "comparison",
        report_json.about(comparison.graph, config, since=began(Path(folder))),
        rows=[
            {**row, "reason": plain["reasons"].get(row["label"], ""), "cause": plain["causes"].get(row["label"])}
            for row in plain["rows"]
        ],
        accounts=comparison.accounts,
        exit_code=comparison.exit_code,
        problem=found.problem,
        equality=found.equality,
        verdict=found.verdict,
        advice=plain["advice"],
        warnings=[one._asdict() for one in found.warnings],
        recommendation=plain["recommendation"],
        footnotes=[*found.footnotes, f"Graph {comparison.fingerprint}. The traces are in this folder."],
        scaling=[_scaling(law) for law in comparison.scaling],
        reference=_reference(comparison.reference),
        measurements=measurements,
        differences=plain["differences"],
        claims=plain["claims"],
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
