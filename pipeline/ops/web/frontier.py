"""What a crawl has found so far: depths, the URLs to request next, the table of links.

The depth of a URL is its number of clicks from the start page; a redirect is no click. Depths only become smaller, and
everything is done in the order of depth and URL, so that a crawl gives the same on every back end.
"""

from __future__ import annotations

import hashlib
import http.client
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa

from pipeline.errors import DataError
from pipeline.graph.column_types import schema_of
from pipeline.graph.pandas_frames import held
from pipeline.ops.web.fetching import Bucket, Crawl
from pipeline.ops.web.page_links import Link
from pipeline.ops.web.page_records import PageRecord
from pipeline.ops.web.robots import Rules

__all__ = ["COLUMNS", "EXTRA_ROUNDS", "Found", "advance", "begin", "next_buckets", "table"]

EXTRA_ROUNDS = 5
"""Rounds for redirects, besides one for each depth."""

COLUMNS = schema_of(
    {
        "url": pa.string(),
        "result": pa.string(),
        "status": pa.int64(),
        "reason": pa.string(),
        "kind": pa.string(),
        "found_on": pa.string(),
        "n_found": pa.int64(),
        "depth": pa.int64(),
        "seconds": pa.float64(),
        "bytes": pa.int64(),
        "redirect": pa.string(),
    },
    nullable=False,
)
"""The columns of the table of links."""

_MOST_REDIRECTS = 10  # of one link
_MOST_REPEATS = 3  # of one segment in a path
_MOST_TEXT = 100_000_000  # characters of all links of all pages
_FOLLOWED = frozenset({"page", "link"})


@dataclass
class Found:
    """What a crawl has found after some rounds.

    Parameters
    ----------
    began : seconds since the epoch
    depths : URLs of the site that may be requested -> clicks from the start page
    kinds : the same URLs -> whether their links are wanted
    records : the URLs that were asked for, or may not be
    left : the other ones -> the limit that was reached
    n_requests, received, n_text : so far; bytes of bodies, and characters of links
    """

    began: float
    depths: dict[str, int]
    followed: set[str]
    records: dict[str, PageRecord] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    n_requests: int = 0
    received: int = 0
    n_text: int = 0

    def copy(self) -> Found:
        """Return a copy that can be changed."""
        return replace(
            self,
            depths=dict(self.depths),
            followed=set(self.followed),
            records=dict(self.records),
            left=dict(self.left),
        )


def begin(crawl: Crawl, rules: tuple[Rules, float]) -> Found:
    """Return what is known before the first request."""
    return Found(rules[1], {crawl.start: 0}, {crawl.start})


def advance(crawl: Crawl, before: Found, fetched: Sequence[Sequence[PageRecord]]) -> Found:
    """Return what is known after a round."""
    found = before.copy()
    for record in sorted((r for records in fetched for r in records), key=lambda r: (found.depths[r.url], r.url)):
        if record.outcome == "later":
            found.left[record.url] = record.reason
            continue
        if record.outcome == "asked":
            found.n_requests += 1
        found.received += record.received
        n_text = sum(len(url) for url, _, _ in record.links)
        if found.n_text + n_text > _MOST_TEXT:
            record = replace(record, links=(), reason="its links are left out: there are too many in all")
            n_text = 0
        found.n_text += n_text
        found.left.pop(record.url, None)
        found.records[record.url] = record
        _spread(crawl, found, record.url)
    return found


def _spread(crawl: Crawl, found: Found, url: str) -> None:
    """Set the depths of what a record leads to, and of what that leads to where it becomes less deep."""
    todo = deque([url])
    while todo:
        url = todo.popleft()
        depth, record = found.depths[url], found.records[url]
        reached = [(link, depth + 1, link[1] in _FOLLOWED) for link in record.links]
        if record.redirect is not None:
            reached.append((record.redirect, depth, url in found.followed))
        for link, deep, is_followed in reached:
            other = link[0]
            if deep > crawl.depth or link[2] or _refusal(crawl, other):
                continue
            changed = deep < found.depths.get(other, deep + 1)
            if changed:
                found.depths[other] = deep
            if is_followed and other not in found.followed:
                found.followed.add(other)
                changed = True
            if changed and other in found.records:
                todo.append(other)


def _refusal(crawl: Crawl, url: str) -> str:
    """Return why a URL is never requested; empty if it may be."""
    if crawl.site.target(url) is None:
        return "another site"
    segments = Counter(segment for segment in urlsplit(url).path.split("/") if segment)
    most = max(segments.values(), default=0)
    return f"its path repeats a segment {most} times" if most > _MOST_REPEATS else ""


def next_buckets(crawl: Crawl, found: Found) -> list[Bucket]:
    """Return the URLs of the next round, each in the bucket of its hash."""
    urls = [url for url in found.depths if _is_open(crawl, found, url)]
    urls.sort(key=lambda url: (found.depths[url], url))
    buckets: list[list[tuple[str, bool]]] = [[] for _ in range(crawl.split)]
    for url in urls[: max(crawl.pages - found.n_requests, 0)]:
        number = int.from_bytes(hashlib.sha256(url.encode()).digest()[:8], "big") % crawl.split
        buckets[number].append((url, _wants(crawl, found, url)))
    n_used = sum(map(bool, buckets))
    share = (crawl.bytes - found.received) // max(n_used, 1)
    return [Bucket(tuple(urls), share, found.began) for urls in buckets]


def _wants(crawl: Crawl, found: Found, url: str) -> bool:
    """Return whether the links of a page are wanted."""
    return found.depths[url] < crawl.depth and url in found.followed


def _is_open(crawl: Crawl, found: Found, url: str) -> bool:
    record = found.records.get(url)
    return record is None or (not record.read and record.outcome == "asked" and _wants(crawl, found, url))


# ---------------------------------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------------------------------


class _End(NamedTuple):
    """What became of a link in the end."""

    result: str
    status: int = 0
    reason: str = ""
    seconds: float = 0.0
    bytes: int = 0
    redirect: str = ""


def table(crawl: Crawl, found: Found) -> pa.Table:
    """Return a row for each link, in the order of depth and URL.

    Raises
    ------
    DataError : if the start page could not be read
    """
    start = _end(crawl, found, (crawl.start, "page", ""))
    if start.result == "off-site":
        raise DataError(f"{crawl.start} leads to another site; write url: {start.redirect}")
    if start.result != "ok":
        status = f"status {start.status}" if start.status else ""
        reason = ", ".join(one for one in (status, start.reason) if one)
        raise DataError(f"{crawl.start} can't be crawled: {reason}")
    rows: dict[str, list[Any]] = {crawl.start: [(crawl.start, "page", ""), "", 0, 0]}
    for page, link in _all_links(found):
        row = rows.setdefault(link[0], [link, page, 0, found.depths[page] + 1])
        row[2] += 1
    made = []
    for url, (link, page, n, depth) in rows.items():
        end = _end(crawl, found, link)
        depth = found.depths.get(url, depth)
        made.append(
            (url, end.result, end.status, end.reason, link[1], page, n, depth, end.seconds, end.bytes, end.redirect)
        )
    made.sort(key=lambda row: (row[7], row[0]))
    columns = [held(values, field, "the crawl") for field, values in zip(COLUMNS, zip(*made, strict=True), strict=True)]
    return pa.Table.from_arrays(columns, schema=COLUMNS)


def _all_links(found: Found) -> Iterator[tuple[str, Link]]:
    """Yield each page with each of its links, in the order of depth and URL of the pages."""
    for url in sorted(found.records, key=lambda url: (found.depths[url], url)):
        for link in found.records[url].links:
            yield url, link


def _end(crawl: Crawl, found: Found, link: Link) -> _End:
    """Return what became of a link, through its redirects."""
    seen: list[str] = []
    seconds, status = 0.0, 0
    while True:
        url, _, why = link
        redirect = url if seen else ""
        before = f"redirects to {url}, which " if seen and not why else ""
        if why:
            return _End("dead" if why.endswith("!") else "skipped", status, why.removesuffix("!"), seconds, 0, redirect)
        if crawl.site.target(url) is None:
            return _End("off-site", status, "redirects to another site" if seen else "", seconds, 0, redirect)
        if refusal := _refusal(crawl, url):
            return _End("skipped", status, before + refusal, seconds, 0, redirect)
        if url in seen:
            return _End("dead", status, "redirects in a loop", seconds, 0, redirect)
        record = found.records.get(url)
        if record is None:
            return _End("skipped", status, _limit(crawl, found, url), seconds, 0, redirect)
        seconds += record.seconds
        if record.outcome == "skipped":
            return _End("skipped", status, record.reason, seconds, 0, redirect)
        status = record.status
        if record.redirect is None or len(seen) == _MOST_REDIRECTS:
            break
        seen.append(url)
        link = record.redirect
    if record.redirect is not None:
        return _End("dead", status, f"more than {_MOST_REDIRECTS} redirects", seconds, 0, redirect)
    is_dead = record.failed or not 0 < status < 400
    reason = record.reason or (http.client.responses.get(status, "") if is_dead else "")
    return _End("dead" if is_dead else "ok", status, reason, seconds, record.size, redirect)


def _limit(crawl: Crawl, found: Found, url: str) -> str:
    """Return the limit because of which a URL was not requested."""
    if url in found.left:
        return found.left[url]
    if found.n_requests >= crawl.pages:
        return f"limit: {crawl.pages:,} pages"
    return f"limit: {EXTRA_ROUNDS} redirects on the way to a page"
