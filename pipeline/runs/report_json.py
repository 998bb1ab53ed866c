"""``report.json``: everything about a run or a comparison, for reports and other programs.

Its schema is published (``pipeline schema --report``) and defined in ``report_model.py``. Numbers that JSON lacks
(nan, infinity) are null; secrets are masked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.json_values import without_nan
from pipeline.config.resolved_yaml import resolved_text
from pipeline.runs.folders import REPORT
from pipeline.runs.provenance.record import record
from pipeline.trace.account import Account
from pipeline.trace.shape import Shape
from pipeline.worker.atomic_write import write_json

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph


__all__ = ["about", "document", "write"]

# 1: the first format.
_FORMAT = 1


def about(graph: Graph, config: Config | None, *, since: float | None) -> dict[str, Any]:
    """Return what was run and where: the part of the document that does not depend on what happened.

    Parameters
    ----------
    since : when it began, in seconds since the epoch
    """
    return {
        "name": graph.name if config is None else config.name,
        "fingerprint": graph.fingerprint,
        "n_tasks": len(graph),
        **record(config, graph, since=since),
        "config": resolved_text(config) if config is not None else "",
        "graph": Shape.of(graph).to_dict(),
    }


def document(
    kind: str,
    about: Mapping[str, Any],
    *,
    rows: Iterable[Mapping[str, Any]],
    accounts: Iterable[Account],
    **fields: Any,
) -> dict[str, Any]:
    """Return the document as plain values; secrets are not masked here.

    Parameters
    ----------
    kind : ``run`` or ``comparison``
    about : see :func:`about`
    fields : what a comparison has besides; see the schema
    """
    found: dict[str, Any] = without_nan(
        {
            "format": _FORMAT,
            "kind": kind,
            "folder": ".",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "exit_code": 0,
            "problem": "",
            "equality": "",
            "verdict": [],
            "footnotes": [],
            "rows": list(rows),
            "accounts": [account.to_dict() for account in accounts],
            "scaling": [],
            "reference": None,
            "measurements": [],
            "differences": {},
            **about,
            **fields,
        }
    )
    return found


def write(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write a document into a run folder, and return its path."""
    path = folder / REPORT
    write_json(path, report)
    return path
