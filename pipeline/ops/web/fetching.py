"""The task that requests some pages of a site, within the limits of the crawl."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from importlib.metadata import version

from pipeline.ops.web.connections import connection
from pipeline.ops.web.http_client import Answer, HttpClient, NoAnswer
from pipeline.ops.web.page_links import Link, is_page, links_of, text_of_page
from pipeline.ops.web.page_records import PageRecord, PageStore
from pipeline.ops.web.robots import MOST_BYTES, PRODUCT, Rules, fetch_rules
from pipeline.ops.web.turns import pause, postpone, take_turn
from pipeline.ops.web.urls import Site, Unusable, redirected

__all__ = ["Bucket", "Crawl", "fetch_pages", "read_rules", "retry_delay"]

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which another try may help."""

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 60.0
_LONGEST_ASKED = 300.0  # seconds that a Retry-After may ask for
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Crawl:
    """What all tasks of a crawl share: its parameters, as of ``pipeline ops crawl``."""

    start: str
    site: Site
    depth: int
    pages: int
    bytes: int
    page_bytes: int
    rate: float
    time: float
    split: int
    contact: str
    timeout: float
    retries: int
    seed: int
    state: str | None = None
    max_age: float = 86400.0

    @property
    def agent(self) -> str:
        """The header that names the product and who uses it."""
        return f"{PRODUCT}/{version('pipeline')}" + (f" (+{self.contact})" if self.contact else "")

    def store(self) -> PageStore | None:
        """Return the files of ``state``; None without it."""
        scope = f"{PRODUCT} {self.contact} {self.page_bytes}"
        return None if self.state is None else PageStore(self.state, scope, self.max_age)


@dataclass(frozen=True)
class Bucket:
    """The URLs that one task requests, each with whether its links are wanted.

    Parameters
    ----------
    most : bytes of all bodies
    began : when the crawl began, in seconds since the epoch
    """

    urls: tuple[tuple[str, bool], ...]
    most: int
    began: float


def read_rules(crawl: Crawl) -> tuple[Rules, float]:
    """Return the rules of the site, and when the crawl began, in seconds since the epoch."""
    began = time.time()
    store = crawl.store()
    if store is not None:
        store.begin()
    client = _client(crawl)

    def get(target: str) -> Answer:
        take_turn(str(crawl.site), crawl.rate)
        headers = {"User-Agent": crawl.agent, "Accept": "text/plain, */*;q=0.5"}
        return client.get(target, headers, timeout=crawl.timeout, most=MOST_BYTES)

    return fetch_rules(crawl.site, get), began


def fetch_pages(crawl: Crawl, rules: tuple[Rules, float], buckets: Sequence[Bucket], number: int) -> list[PageRecord]:
    """Return a record for each URL of a bucket; what the server does is no error."""
    fetch = _Fetch(crawl, rules[0], buckets[number])
    return [fetch.record(url, read) for url, read in buckets[number].urls]


def retry_delay(attempt: int, seed: int, key: str, asked: str = "") -> float | None:
    """Return the seconds before the next try: 0.5, 1, 2, … up to 60, each times a factor in [0.5, 1.5).

    Parameters
    ----------
    attempt : number of tries that have failed, from 1
    seed, key : what the factor depends on, so that it is the same in each run
    asked : the header Retry-After; the delay is at least that

    Returns
    -------
    float | None : None if the server asks for more than 5 minutes
    """
    factor = 0.5 + random.Random(f"{seed} {key} {attempt}").random()
    delay = min(_FIRST_DELAY * 2 ** (attempt - 1), _LONGEST_DELAY) * factor
    if re.fullmatch(r"\s*[0-9]+\s*", asked):
        wait = float(asked.strip()[:9])
    else:
        try:
            wait = parsedate_to_datetime(asked).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            wait = 0.0
    return None if wait > _LONGEST_ASKED else max(delay, wait)


def _client(crawl: Crawl) -> HttpClient:
    return connection(crawl, str(crawl.site), lambda: HttpClient(crawl.site))


class _Fetch:
    """The work of one task. State: bytes that are left, until they or the time are used up."""

    def __init__(self, crawl: Crawl, rules: Rules, bucket: Bucket) -> None:
        self.crawl, self.rules, self.left = crawl, rules, bucket.most
        self.until = bucket.began + crawl.time
        self.rate = min(crawl.rate, 1 / rules.delay) if rules.delay > 0 else crawl.rate
        self.store = crawl.store()

    def record(self, url: str, read: bool) -> PageRecord:
        """Return what becomes of a URL; ``read``: whether its links are wanted."""
        if self.rules.reason:
            return PageRecord(url, "skipped", reason=self.rules.reason)
        if not self.rules.allows(url):
            return PageRecord(url, "skipped", reason="robots.txt disallows it")
        kept = self.store.find(url, read=read) if self.store is not None else None
        if kept is not None:
            return replace(kept, received=0)
        for attempt in range(1, self.crawl.retries + 2):
            found, asked = self._once(url, read)
            again = found.outcome == "asked" and (found.failed or found.status in AGAIN)
            if not again or attempt > self.crawl.retries:
                break
            delay = retry_delay(attempt, self.crawl.seed, url, asked)
            if delay is None or time.time() + delay > self.until:
                break
            if asked:
                postpone(str(self.crawl.site), delay)
            pause(delay)
        if self.store is not None and found.outcome == "asked" and not found.failed:
            self.store.add(found)
        return found

    def _once(self, url: str, read: bool) -> tuple[PageRecord, str]:
        """Return the record of one try, and the header Retry-After."""
        crawl, left = self.crawl, self.until - time.time()
        if self.left <= 0:
            return PageRecord(url, "later", reason=f"limit: {crawl.bytes:,} bytes"), ""
        if left <= 0 or not take_turn(str(crawl.site), self.rate, within=left):
            return PageRecord(url, "later", reason=f"limit: {crawl.time:g} s"), ""
        target = crawl.site.target(url)
        assert target is not None, "only URLs of the site are given to tasks"

        def wanted(status: int, headers: Mapping[str, str]) -> bool:
            return read and 200 <= status < 300 and is_page(headers)

        headers = {"User-Agent": crawl.agent, "Accept": "text/html, */*;q=0.5"}
        most = min(crawl.page_bytes, self.left)
        began = time.monotonic()
        try:
            answer = _client(crawl).get(target, headers, timeout=crawl.timeout, most=most, wanted=wanted)
        except NoAnswer as error:
            seconds = time.monotonic() - began
            return PageRecord(url, reason=str(error), failed=True, seconds=seconds, read=read), ""
        self.left -= answer.received
        asked = answer.headers.get("retry-after", "")
        return self._of(url, answer, read, is_wanted=wanted(answer.status, answer.headers)), asked

    def _of(self, url: str, answer: Answer, read: bool, *, is_wanted: bool) -> PageRecord:
        redirect, links = None, list[Link]()
        note = answer.note if is_wanted else ""
        if answer.status in _REDIRECTS:
            redirect = _redirect(answer.headers.get("location", ""), url)
        if is_wanted and not answer.failed:
            text, encoding = text_of_page(answer.body, answer.headers.get("content-type", ""))
            links, more = links_of(text, url, encoding=encoding)
            note = "; ".join(one for one in (note, more) if one)
        return PageRecord(
            url,
            status=answer.status,
            reason=note,
            failed=answer.failed and is_wanted,
            seconds=answer.seconds,
            size=answer.size,
            received=answer.received,
            redirect=redirect,
            links=tuple(links),
            read=read,
        )


def _redirect(location: str, url: str) -> Link:
    """Return where an answer leads, without the fragment; with why it is not followed."""
    if not location:
        return "", "redirect", "redirects to no URL!"
    try:
        return redirected(location, url), "redirect", ""
    except Unusable as error:
        return error.shown, "redirect", f"redirects to what {error.reason}" + ("!" if error.broken else "")
