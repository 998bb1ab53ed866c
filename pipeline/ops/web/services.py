"""What a web service has for a value: its URL, tries, and answers as Python values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from pipeline.errors import DataError, OpError, TaskTimeout
from pipeline.ops.web.connections import connection
from pipeline.ops.web.fetching import AGAIN, retry_delay
from pipeline.ops.web.http_client import Answer, HttpClient, NoAnswer
from pipeline.ops.web.lookup_tables import text_of
from pipeline.ops.web.turns import pause, postpone, take_turn
from pipeline.ops.web.urls import Site, Unusable, normal, redirected, site_of

__all__ = ["MISSING", "Service"]

MISSING = object()
"""What a service gives where it has nothing: status 404, 410 or 204."""

_MOST_BYTES = 64_000_000
_MOST_REDIRECTS = 5
_PLACE = re.compile(r"\{([A-Za-z_]\w*(?:\.\w+)*)\}")
_ABSENT = frozenset({204, 404, 410})


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
    retries: int
    seed: int
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
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or not value.isprintable() or not value.isascii():
                raise OpError("headers", f"{name!r} is no header: printable ASCII")
        return cls(url, site_of(made), names, dict(headers), **options)

    def value(self, work: object, item: Any, key: str) -> Any:
        """Return what the service has for an item, as Python values; :data:`MISSING` if it has nothing.

        Raises
        ------
        DataError : if the answer is an error, or no JSON, or leads to another site
        TaskTimeout : if there was no answer in any try
        """
        url = self._url(item)
        for attempt in range(1, self.retries + 2):
            why, asked = "", ""
            try:
                answer = self._answer(work, url)
            except NoAnswer as error:
                why = str(error)
            else:
                if answer.status not in AGAIN and not answer.failed:
                    return self._decoded(url, answer)
                why, asked = f"status {answer.status}", answer.headers.get("retry-after", "")
                why += f", {answer.note}" * bool(answer.note)
            if attempt > self.retries:
                break
            delay = retry_delay(attempt, self.seed, key, asked)
            if delay is None:
                why += f"; it asks to wait for {asked} s, and at most 300 s are waited"
                break
            if asked and self.rate is not None:
                postpone(str(self.site), delay)
            pause(delay)
        tries = f" in {attempt} tries" if attempt > 1 else ""
        raise TaskTimeout(f"{url}: {why}{tries}; retries: {max(2 * self.retries, 3)} on the step asks more often")

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
            return json.loads(answer.body)
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

        return normal(_PLACE.sub(written, self.url))


def _shown(body: bytes) -> str:
    """Return the beginning of an error's text, on one line."""
    text = " ".join(body[:2000].decode("utf-8", "replace").split())
    return f": {text[:200]}" if text and not text.startswith("<") else ""
