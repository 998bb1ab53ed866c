"""What a web service has for a value: its URL, tries, and answers as Python values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from pipeline.errors import DataError, OpError
from pipeline.ops.web.connections import connection
from pipeline.ops.web.fetching import AGAIN
from pipeline.ops.web.http_client import Answer, HttpClient, NoAnswer
from pipeline.ops.web.lookup_tables import text_of
from pipeline.ops.web.turns import take_turn
from pipeline.ops.web.urls import Site, Unusable, normal, redirected, site_of

__all__ = ["MISSING", "Service"]

MISSING = object()
"""What a service gives where it has nothing: status 404, 410 or 204."""

_MOST_BYTES = 64_000_000
_MOST_REDIRECTS = 5
_PLACE = re.compile(r"\{([A-Za-z_]\w*(?:\.\w+)*)\}")
_ABSENT = frozenset({204, 404, 410})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"([!-~]([ -~]*[!-~])?)?")
_OWN_HEADERS = frozenset({"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"})


@dataclass(frozen=True)
class Service:
    """A URL with places for values, ``https://host/pets?owner={id}``.

    Parameters
    ----------
    names : of the places; dots lead into maps
    timeout : seconds of one try
    rate : requests per second, of all workers of a machine; None: no limit
    """

    url: str
    site: Site
    names: tuple[str, ...]
    headers: Mapping[str, str]
    timeout: float
    rate: float | None

    @classmethod
    def opened(cls, url: str, headers: Mapping[str, str], **options: Any) -> Service:
        """Return the service; nothing is requested.

        Raises
        ------
        OpError : if the URL has no place for a value, or one before the path, or can't be requested
        """
        url = url.partition("#")[0]  # the rest is never sent
        names = tuple(dict.fromkeys(_PLACE.findall(url)))
        if set(_PLACE.sub("", url)) & set("{}"):
            raise OpError("url", f"got {url!r}; a place for a value is {{name}}, or {{name.key}}")
        try:
            made, other = (normal(_PLACE.sub(value, url)) for value in "xy")
        except Unusable as error:
            raise OpError("url", f"{error.reason}; write http:// or https://, a host and a path") from error
        if made == other:
            raise OpError("url", f"got {url!r}, the same for all items; write where their values go: {{id}}")
        if site_of(made) != site_of(other):
            raise OpError("url", "got a value before the path; which host is asked must not depend on an item")
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise OpError("headers", f"{name!r} is no header: printable ASCII, without spaces around it")
            if name.lower() in _OWN_HEADERS:
                raise OpError("headers", f"{name!r} is of the connection, which a lookup makes itself; leave it out")
        return cls(url, site_of(made), names, dict(headers), **options)

    def value(self, work: object, item: Any) -> Any:
        """Return what the service has for an item, as Python values; :data:`MISSING` if it has nothing.

        Raises
        ------
        DataError : if the answer is an error, or no JSON, or leads to another site
        NoAnswer : if another try may help
        """
        url = self._url(item)
        try:
            answer = self._answer(work, url)
        except NoAnswer as error:
            raise NoAnswer(f"{url}: {error}", late=error.late) from error
        if answer.failed or answer.status in AGAIN:
            more = f", {answer.note}" if answer.failed else _shown(answer.body)
            asked = answer.headers.get("retry-after", "")
            raise NoAnswer(f"{url}: status {answer.status}{more}", late=answer.late, asked=asked)
        return self._decoded(url, answer)

    def _answer(self, work: object, url: str) -> Answer:
        client = connection(work, str(self.site), lambda: HttpClient(self.site))
        agent = {"User-Agent": f"Pipeline/{version('pipeline')}", "Accept": "application/json"}
        for _ in range(_MOST_REDIRECTS + 1):
            target = self.site.target(url)
            if target is None:
                raise DataError(f"{self.site}: redirects to another site ({url}); write that in url:")
            if self.rate is not None:
                take_turn(str(self.site), self.rate)
            answer = client.get(target, {**agent, **self.headers}, timeout=self.timeout, most=_MOST_BYTES)
            if answer.status not in (301, 302, 303, 307, 308) or not answer.headers.get("location"):
                return answer
            try:
                url = redirected(answer.headers["location"], url)
            except Unusable as error:
                raise DataError(f"{url}: redirects to what {error.reason}") from error
        raise DataError(f"{url}: more than {_MOST_REDIRECTS} redirects")

    def _decoded(self, url: str, answer: Answer) -> Any:
        if answer.status in _ABSENT:
            return MISSING
        if not 200 <= answer.status < 300:
            raise DataError(f"{url}: status {answer.status}{_shown(answer.body)}")
        if answer.note:
            raise DataError(f"{url}: {answer.note}")
        try:
            return json.loads(answer.body, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            kind = answer.headers.get("content-type", "no content type")
            raise DataError(f"{url}: is no JSON ({kind}): {error}") from error

    def _url(self, item: Any) -> str:
        """Return the URL for an item; its values are percent-encoded, so that they stay within their places."""

        def written(found: re.Match[str]) -> str:
            value = item
            if isinstance(item, Mapping):
                for name in found[1].split("."):
                    if not isinstance(value, Mapping) or name not in value:
                        raise DataError(f"the item has no {found[1]!r}, which the URL needs")
                    value = value[name]
            elif len(self.names) > 1:
                raise DataError(f"the item is no map, and the URL needs {', '.join(self.names)}")
            text = text_of(value)
            if text is None:
                raise DataError(f"the item has no value for {found[1]!r}, which the URL needs")
            if text in (".", ".."):
                raise DataError(f"got {text!r} for {found[1]!r}, which would be another path")
            return quote(text, safe="")

        url = _PLACE.sub(written, self.url)
        try:
            return normal(url)
        except Unusable as error:
            raise DataError(f"{url[:80]}…: {error.reason}; shorten the values of the item in it") from error


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is beyond all floats")
    return number


def _shown(body: bytes) -> str:
    """Return the beginning of an error's text, on one line."""
    text = " ".join(body[:2000].decode("utf-8", "replace").split())
    return f": {text[:200]}" if text and not text.startswith("<") else ""
