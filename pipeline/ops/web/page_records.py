"""What is kept of a requested page, in memory and in the files of ``state``.

A file a page, in JSON, so that opening a folder that somebody else made runs nothing. A file that is damaged, or of
another format, counts as missing.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import OpError
from pipeline.ops.web.page_links import Link
from pipeline.worker.atomic_write import write_errors, write_text

__all__ = ["PageRecord", "PageStore"]

_MARK = "pipeline-crawl.json"
_FORMAT = 1  # 1: the first
_TYPES = {
    **dict.fromkeys(("url", "outcome", "reason"), str),
    **dict.fromkeys(("status", "size", "received"), int),
    **dict.fromkeys(("failed", "read"), bool),
    "seconds": float,
}


@dataclass(frozen=True)
class PageRecord:
    """What became of a URL.

    Parameters
    ----------
    outcome : ``asked``; ``skipped``: it may not be requested; ``later``: a limit was reached before
    status : 0 without an answer
    reason : why there is no answer, or no whole one; why it was not requested
    failed : whether no answer came, or its body broke off
    size, received : bytes of the body, as the server states it, and as read
    redirect : where the answer leads; empty if it leads nowhere
    links : of the page
    read : whether links were looked for, where there may be some
    """

    url: str
    outcome: str = "asked"
    status: int = 0
    reason: str = ""
    failed: bool = False
    seconds: float = 0.0
    size: int = 0
    received: int = 0
    redirect: Link | None = None
    links: tuple[Link, ...] = ()
    read: bool = True


class PageStore:
    """The records of earlier runs and of this one, in a folder; any number of processes may use it at once.

    Parameters
    ----------
    scope : what the records depend on besides the URL; those of another scope are not found
    max_age : seconds
    """

    def __init__(self, folder: str, scope: str, max_age: float) -> None:
        self._folder, self._scope, self._max_age = Path(folder), scope, max_age

    @staticmethod
    def require_usable(folder: str) -> None:
        """Refuse a folder that holds other files than records.

        Raises
        ------
        OpError : with the cure
        """
        path = Path(folder)
        try:
            others = (path.exists() and not path.is_dir()) or (
                path.is_dir() and any(path.iterdir()) and not (path / _MARK).is_file()
            )
        except OSError as error:
            raise OpError("state", f"{folder}: can't be read: {error.strerror}") from error
        if others:
            raise OpError("state", f"{folder}: holds something else than pages of a crawl; name a new folder")

    def begin(self) -> None:
        """Make the folder.

        Raises
        ------
        WriteError : if it can't be made
        """
        with write_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._folder / _MARK).exists():
            write_text(self._folder / _MARK, json.dumps({"format": _FORMAT}))

    def find(self, url: str, *, read: bool) -> PageRecord | None:
        """Return the record of a URL if there is one that is young enough, and with its links if ``read``."""
        path = self._path(url)
        try:
            if time.time() - path.stat().st_mtime > self._max_age:
                return None
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.pop("format") != _FORMAT or found["url"] != url:
                return None
            record = _record(found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return record if record.read or not read else None

    def add(self, record: PageRecord) -> None:
        """Keep a record.

        Raises
        ------
        WriteError : if its file can't be written
        """
        path = self._path(record.url)
        with write_errors(path):
            path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps({"format": _FORMAT, **asdict(record)}))

    def _path(self, url: str) -> Path:
        name = hashlib.sha256(f"{self._scope}\0{url}".encode()).hexdigest()
        return self._folder / name[:2] / f"{name[2:32]}.json"


def _record(found: dict[str, Any]) -> PageRecord:
    """Return the record that a file holds.

    Raises
    ------
    ValueError, TypeError, KeyError : if it holds something else
    """
    links, redirect = found.pop("links"), found.pop("redirect")
    if not isinstance(links, list) or {name: type(value) for name, value in found.items()} != _TYPES:
        raise ValueError("not a record")
    return PageRecord(**found, links=tuple(map(_link, links)), redirect=None if redirect is None else _link(redirect))


def _link(value: Any) -> Link:
    url, kind, why = value
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("not a link")
    return url, kind, why
