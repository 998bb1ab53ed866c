"""``report.json``: all that is known of a run or a comparison, for reports and programs.

Its schema is published (``pipeline schema --report``) and stands in ``report/document.py``. What has no number in JSON
(nan, infinity) is null; secrets are masked.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.resolved_yaml import resolved_text, without_nan
from pipeline.errors import Bug, OutputError, is_full
from pipeline.runs.provenance.record import record
from pipeline.trace.account import Account, Shape

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph


__all__ = ["FAILURE", "FILE", "document", "noted_failure", "write"]

FILE, FAILURE = "report.json", "failure.json"
# 1: as the schema says.
_FORMAT = 1


def document(
    kind: str,
    graph: Graph,
    config: Config | None,
    *,
    rows: Iterable[Mapping[str, Any]],
    accounts: Iterable[Account],
    since: float | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """The document, in the types that JSON has.

    Parameters
    ----------
    kind : ``run`` or ``comparison``
    since : when it began, in seconds since the epoch
    fields : what a comparison has besides; see the schema
    """
    told = {
        "format": _FORMAT,
        "kind": kind,
        "name": graph.name if config is None else config.name,
        "fingerprint": graph.fingerprint,
        "n_tasks": len(graph),
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
        **record(config, graph, since=since),
        "config": resolved_text(config) if config is not None else "",
        "graph": Shape.of(graph).to_dict(),
        **fields,
    }
    finite: dict[str, Any] = without_nan(told)
    masked: dict[str, Any] = config.masked(finite) if config is not None else finite
    return masked


@contextlib.contextmanager
def noted_failure(folder: Path, kind: str, config: Config | None) -> Iterator[None]:
    """Leave ``failure.json`` in a run folder where what is done inside raises; secrets are masked.

    Parameters
    ----------
    kind : ``run`` or ``comparison``
    """
    try:
        yield
    except BaseException as error:
        told: Any = {
            "kind": kind,
            "type": type(error).__name__,
            "message": str(error),
            "exit_code": getattr(error, "exit_code", _exit_code(error)),
            "traceback": getattr(error, "traceback", ""),
        }
        with contextlib.suppress(OSError):  # that there is no room, too
            text = json.dumps(config.masked(told) if config is not None else told, indent=1, default=str)
            (folder / FAILURE).write_text(text + "\n", encoding="utf-8")
        raise


def _exit_code(error: BaseException) -> int:
    """Of an exception that is none of ours."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return OutputError.exit_code if is_full(error) else Bug.exit_code


def write(folder: Path, told: Mapping[str, Any]) -> Path:
    """Write a document into a run folder."""
    path = folder / FILE
    path.write_text(json.dumps(told, indent=1, default=str, allow_nan=False) + "\n", encoding="utf-8")
    return path
